"""The server's end: what comes in which state, and the last words for each error."""

import pytest

from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits, State
from mqttproxy.mqtt.session_state import SessionState
from tests.mqtt.machines import V5, V311, greeted_server, hear, message, open_server, publish, said

both_versions = pytest.mark.parametrize("version", [V311, V5])
SUCCESS = ReasonCode.SUCCESS


def new_server() -> ServerConnection:
    return ServerConnection(ServerLimits(), now=0.0)


def failed(conn: ServerConnection) -> RemoteProtocolError:
    """Take the error that is next, and let the connection end with it."""
    with pytest.raises(RemoteProtocolError) as caught:
        conn.next_batch(1.0)
    conn.fail(caught.value)
    assert conn.state is State.CLOSED
    return caught.value


@both_versions
def test_connect_comes_alone_and_nothing_is_decoded_until_accepted(version: ProtocolVersion) -> None:
    connect = Connect(client_id="d", version=version, keep_alive=60)
    conn = new_server()
    conn.receive_data(encode(connect, version) + encode(publish(1), version) + b"\x00\x00", 0.0)
    assert conn.next_batch(0.0) == [connect]
    assert conn.connect == connect
    assert conn.version is version
    assert conn.state is State.DECIDING
    assert conn.next_batch(0.0) == []
    conn.accept(SessionState(), session_present=False, client_id="d")
    assert conn.next_batch(0.0) == [publish(1)]
    with pytest.raises(RemoteProtocolError):
        conn.next_batch(0.0)


def test_a9_connect_may_come_byte_by_byte() -> None:
    connect = Connect(client_id="d", username="u", password=b"p", keep_alive=60)
    conn = new_server()
    events: list[Event] = []
    for byte in encode(connect, V5):
        assert events == []
        conn.receive_data(bytes((byte,)), 0.0)
        events = conn.next_batch(0.0)
    assert events == [connect]


@both_versions
def test_a10_what_was_sent_behind_a_refused_connect_has_no_effect(version: ProtocolVersion) -> None:
    conn = greeted_server(Connect(client_id="d", version=version))
    hear(conn, publish(1))
    conn.refuse(ReasonCode.NOT_AUTHORIZED, "no")
    assert conn.next_batch(0.0) == []
    properties = Properties(reason_string="no") if version is V5 else NO_PROPERTIES
    assert said(conn) == [ConnAck(ReasonCode.NOT_AUTHORIZED, properties=properties)]


def test_what_is_stored_while_deciding_is_bounded() -> None:
    conn = greeted_server()
    for _ in range(5):
        conn.receive_data(bytes(64 * 1024), 0.0)
    assert failed(conn).reason is ReasonCode.QUOTA_EXCEEDED
    assert said(conn) == [
        ConnAck(ReasonCode.QUOTA_EXCEEDED, properties=Properties(reason_string="too much was sent before CONNACK"))
    ]


def test_connack_tells_the_terms() -> None:
    conn = greeted_server(
        Connect(client_id="", keep_alive=0, properties=Properties(session_expiry_interval=100)),
        ServerLimits(receive_maximum=7, packet_size=1000, topic_alias_maximum=3, keep_alive=50.0),
    )
    conn.accept(SessionState(), session_present=False, client_id="made-up")
    assert said(conn) == [
        ConnAck(
            properties=Properties(
                assigned_client_identifier="made-up",
                server_keep_alive=50,
                receive_maximum=7,
                maximum_packet_size=1000,
                topic_alias_maximum=3,
            )
        )
    ]


def test_connack_is_silent_where_all_is_available() -> None:
    asked = Properties(request_response_information=1, session_expiry_interval=100)
    conn = greeted_server(Connect(client_id="d", keep_alive=50, properties=asked))
    conn.accept(SessionState(), session_present=False, client_id="d")
    [connack] = said(conn)
    assert isinstance(connack, ConnAck)
    told = connack.properties
    assert (told.maximum_qos, told.retain_available, told.session_expiry_interval) == (None, None, None)
    assert (told.wildcard_subscription_available, told.subscription_identifier_available) == (None, None)
    assert (told.shared_subscription_available, told.response_information) == (None, None)


def test_what_the_caller_says_in_connack_goes_before_our_terms() -> None:
    conn = greeted_server(
        Connect(client_id="d", keep_alive=50), ServerLimits(receive_maximum=65_535, topic_alias_maximum=0)
    )
    extra = Properties(session_expiry_interval=7, maximum_packet_size=500, response_information="x")
    conn.accept(SessionState(), session_present=False, client_id="d", extra=extra)
    [connack] = said(conn)
    assert connack == ConnAck(
        properties=Properties(session_expiry_interval=7, maximum_packet_size=500, response_information="x")
    )


def test_connack_of_mqtt_3_1_1_has_no_terms() -> None:
    conn = greeted_server(Connect(client_id="d", version=V311, clean_start=False))
    conn.accept(SessionState(), session_present=True, client_id="d")
    assert said(conn) == [ConnAck(session_present=True)]


def test_an_impossible_acceptance_is_our_bug() -> None:
    conn = greeted_server(Connect(client_id="d", clean_start=True))
    with pytest.raises(LocalProtocolError):
        conn.accept(SessionState(), session_present=True, client_id="d")
    session = SessionState()
    session.incoming_qos2.add(1)
    with pytest.raises(LocalProtocolError):
        conn.accept(session, session_present=False, client_id="d")
    conn.accept(SessionState(), session_present=False, client_id="d")
    with pytest.raises(LocalProtocolError):
        conn.refuse(ReasonCode.NOT_AUTHORIZED)


def test_before_accepting_larger_packets_are_refused_than_after() -> None:
    limits = ServerLimits(packet_size_before_connect=100, packet_size=1000)
    conn = ServerConnection(limits, 0.0)
    conn.receive_data(encode(Connect(client_id="d" * 100), V5)[:20], 0.0)
    assert failed(conn).reason is ReasonCode.PACKET_TOO_LARGE
    conn = open_server(limits=limits)
    hear(conn, publish(1, payload=b"x" * 900))
    assert len(conn.next_batch(1.0)) == 1
    hear(conn, publish(2, payload=b"x" * 1000))
    assert failed(conn).reason is ReasonCode.PACKET_TOO_LARGE


@pytest.mark.parametrize(
    ("asked", "limit", "in_force", "told"),
    [(60, 3600.0, 60.0, None), (0, 3600.0, 3600.0, 3600), (65_535, 3600.0, 3600.0, 3600), (60, 0.5, 0.5, 1)],
)
def test_c10_the_keep_alive_in_force_is_never_above_the_limit(
    asked: int, limit: float, in_force: float, told: int | None
) -> None:
    conn = ServerConnection(ServerLimits(keep_alive=limit), now=5.0)
    assert conn.deadline == float("inf")
    conn.receive_data(encode(Connect(client_id="d", keep_alive=asked), V5), 10.0)
    conn.next_batch(10.0)
    assert conn.keep_alive == in_force
    assert conn.deadline == 10.0 + 1.5 * in_force
    conn.accept(SessionState(), session_present=False, client_id="d")
    [connack] = said(conn)
    assert isinstance(connack, ConnAck)
    assert connack.properties.server_keep_alive == told
    hear(conn, PingReq(), now=20.0)
    conn.next_batch(20.0)
    assert conn.deadline == 20.0 + 1.5 * in_force
    conn.receive_data(b"\xc0", 30.0)  # half a packet is no packet
    conn.next_batch(30.0)
    assert conn.deadline == 20.0 + 1.5 * in_force


@both_versions
def test_a_ping_is_answered_by_the_machine(version: ProtocolVersion) -> None:
    conn = open_server(version)
    hear(conn, PingReq(), PingReq())
    assert conn.next_batch(1.0) == []
    assert said(conn) == [PingResp(), PingResp()]


@both_versions
def test_subscribing_is_the_caller_s_to_answer(version: ProtocolVersion) -> None:
    conn = open_server(version)
    asked: list[Event] = [Subscribe(1, (Subscription("a/#", 1),)), Unsubscribe(2, ("a/#",))]
    conn.receive_data(b"".join(encode(packet, version) for packet in asked), 1.0)  # type: ignore[arg-type]  # packets all
    assert conn.next_batch(1.0) == asked
    conn.send(SubAck(1, (ReasonCode.GRANTED_QOS_1,)))
    conn.send(UnsubAck(2, (SUCCESS,)))
    assert said(conn) == [SubAck(1, (ReasonCode.GRANTED_QOS_1,)), UnsubAck(2, (SUCCESS,) if version is V5 else ())]


def test_an_answer_that_the_device_cannot_take_is_dropped_and_counted() -> None:
    conn = open_server(properties=Properties(maximum_packet_size=128))
    conn.send(SubAck(1, (SUCCESS,) * 200))
    assert conn.data_to_send() == b""
    assert conn.unsendable == 1


def test_an_answer_is_for_an_open_connection() -> None:
    conn = greeted_server()
    with pytest.raises(LocalProtocolError):
        conn.send(SubAck(1, (SUCCESS,)))
    conn.disconnect(ReasonCode.SERVER_SHUTTING_DOWN)
    conn.send(SubAck(1, (SUCCESS,)))  # a DISCONNECT in the same read has overtaken it
    assert conn.data_to_send() == b""


# Errors, and what is said of them.


@pytest.mark.parametrize("packet", [publish(1), PingReq(), ConnAck(), SubAck(1, (SUCCESS,)), PubAck(1), Disconnect()])
@both_versions
def test_a7_who_does_not_begin_with_connect_is_told_nothing(packet: Packet, version: ProtocolVersion) -> None:
    conn = new_server()
    connect = encode(Connect(client_id="d", version=version), version)
    conn.receive_data(encode(packet, V5) + connect, 0.0)
    failed(conn)
    assert conn.data_to_send() == b""


@pytest.mark.parametrize("packet", [ConnAck(), SubAck(1, (SUCCESS,)), PingResp(), Connect(client_id="d")])
def test_a7_a8_packets_that_are_not_a_device_s_to_send_end_the_connection(packet: Packet) -> None:
    conn = open_server(V5)
    hear(conn, packet)
    error = failed(conn)
    assert error.reason is ReasonCode.PROTOCOL_ERROR
    assert said(conn) == [Disconnect(ReasonCode.PROTOCOL_ERROR, Properties(reason_string=str(error)))]


def test_mqtt_3_1_1_has_no_last_words_after_connack() -> None:
    conn = open_server(V311)
    hear(conn, Connect(client_id="d", version=V311))
    failed(conn)
    assert conn.data_to_send() == b""
    conn = open_server(V311)
    conn.disconnect(ReasonCode.SESSION_TAKEN_OVER, "gone")
    assert conn.data_to_send() == b""
    assert conn.state is State.CLOSED


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\x10\x0c\0\x04MQTT\x07\x02\0\x3c\0\0", b"\x20\x03\0\x84\0"),  # level 7
        (b"\x10\x0c\0\x04MQTT\x02\x02\0\x3c\0\0", b"\x20\x02\0\x01"),  # level 2
        (b"\x10\x0c\0\x04MQTT\x84\x02\0\x3c\0\0", b"\x20\x02\0\x01"),  # a Mosquitto bridge's first try
        (b"\x10\x0c\0\x04MQTT\x04\0\0\x3c\0\0", b"\x20\x02\0\x02"),  # a session to keep, and no client identifier
        (b"\x10\x0c\0\x04MQTT\x04\x03\0\x3c\0\0", b""),  # the reserved flag
        (b"\x10\x0d\0\x04MQTT\x05\x03\0\x3c\0\0\0", b"\x20\x03\0\x81\0"),
        (b"\x10\x06\0\x04MQTT", b""),  # no version to answer in
        (b"\x10\xff\xff\xff\xff", b""),
    ],
)
def test_c2_a_connect_that_cannot_be_read_is_refused_in_its_own_version(sent: bytes, answer: bytes) -> None:
    conn = new_server()
    conn.receive_data(sent, 0.0)
    error = failed(conn)
    said_bytes = bytes(conn.data_to_send())
    if answer[3:] in (b"\x84\0", b"\x81\0"):  # MQTT 5 has room for the reason in words
        reason = Properties(reason_string=str(error))
        assert said_bytes == encode(ConnAck(ReasonCode(answer[3]), properties=reason), V5)
    else:
        assert said_bytes == answer


def test_a_device_that_takes_only_tiny_packets_is_refused() -> None:
    conn = new_server()
    conn.receive_data(encode(Connect(client_id="d", properties=Properties(maximum_packet_size=20)), V5), 0.0)
    assert failed(conn).reason is ReasonCode.PACKET_TOO_LARGE
    assert conn.data_to_send() == b"\x20\x03\x00\x95\x00"
    conn = new_server()
    conn.receive_data(encode(Connect(client_id="d", properties=Properties(maximum_packet_size=1)), V5), 0.0)
    failed(conn)
    assert conn.data_to_send() == b""


def test_a_refusal_without_a_code_in_mqtt_3_1_1_sends_nothing() -> None:
    conn = greeted_server(Connect(client_id="d", version=V311))
    conn.refuse(ReasonCode.PAYLOAD_FORMAT_INVALID)
    assert conn.data_to_send() == b""
    assert conn.state is State.CLOSED


def test_a_reason_that_a_packet_cannot_say_becomes_protocol_error() -> None:
    conn = greeted_server()
    conn.refuse(ReasonCode.SESSION_TAKEN_OVER)
    assert said(conn) == [ConnAck(ReasonCode.PROTOCOL_ERROR)]
    conn = open_server()
    conn.disconnect(ReasonCode.PACKET_IDENTIFIER_IN_USE)
    assert said(conn) == [Disconnect(ReasonCode.PROTOCOL_ERROR)]


def test_nothing_is_said_twice() -> None:
    conn = open_server()
    conn.disconnect(ReasonCode.SERVER_BUSY)
    conn.data_to_send()
    conn.disconnect(ReasonCode.SERVER_BUSY)
    conn.fail(RemoteProtocolError("too late"))
    assert conn.data_to_send() == b""


def test_a_device_may_not_send_a_subscription_identifier_with_a_message() -> None:
    conn = open_server()
    hear(conn, Publish("t", b"", properties=Properties(content_type="x")))
    assert len(conn.next_batch(1.0)) == 1
    hear(conn, Publish("t", b"", properties=Properties(subscription_identifiers=(1,))))
    assert failed(conn).reason is ReasonCode.PROTOCOL_ERROR


def test_c17_auth_needs_a_method_in_connect() -> None:
    auth = Auth(ReasonCode.REAUTHENTICATE, Properties(authentication_method="m"))
    conn = open_server()
    hear(conn, auth)
    assert failed(conn).reason is ReasonCode.PROTOCOL_ERROR
    conn = open_server(properties=Properties(authentication_method="m"))
    hear(conn, auth)
    assert conn.next_batch(1.0) == [auth]
    conn.send(Auth(SUCCESS, Properties(authentication_method="m")))
    assert said(conn) == [Auth(SUCCESS, Properties(authentication_method="m"))]


AUTH_M = Properties(authentication_method="m")


@pytest.mark.parametrize(
    "auth",
    [
        Auth(),
        Auth(ReasonCode.REAUTHENTICATE, Properties(authentication_method="other")),
        Auth(SUCCESS, Properties(authentication_method="m", authentication_data=b"x")),
    ],
)
def test_c17_auth_with_another_method_or_with_the_server_s_reason_is_an_error(auth: Auth) -> None:
    conn = open_server(properties=AUTH_M)
    hear(conn, auth)
    assert failed(conn).reason is ReasonCode.PROTOCOL_ERROR


def test_c17_auth_before_connect_is_told_nothing() -> None:
    conn = ServerConnection(ServerLimits(), now=0.0)
    hear(conn, Auth(ReasonCode.REAUTHENTICATE, AUTH_M))
    failed(conn)
    assert said(conn) == []


def test_c17_auth_while_deciding_waits_for_the_decision_and_is_judged_then() -> None:
    conn = greeted_server()
    hear(conn, Auth(ReasonCode.CONTINUE_AUTHENTICATION, AUTH_M))
    assert conn.next_batch(1.0) == []
    conn.accept(SessionState(), session_present=False, client_id="d")
    conn.data_to_send()
    assert failed(conn).reason is ReasonCode.PROTOCOL_ERROR


def test_c17_authentication_data_without_a_method_is_a_protocol_error() -> None:
    conn = ServerConnection(ServerLimits(), now=0.0)
    conn.receive_data(bytes.fromhex("1011 0004 4d515454 05 02 0000 04 16 0001 78 0000"), 0.0)
    error = failed(conn)
    assert said(conn) == [ConnAck(ReasonCode.PROTOCOL_ERROR, properties=Properties(reason_string=str(error)))]
    conn = open_server(properties=AUTH_M)
    conn.receive_data(bytes.fromhex("f0 06 19 04 16 0001 78"), 0.0)
    assert failed(conn).reason is ReasonCode.PROTOCOL_ERROR


def test_c17_mqtt_3_1_1_has_no_auth() -> None:
    conn = open_server(V311)
    conn.receive_data(b"\xf0\x00", 1.0)
    failed(conn)
    assert said(conn) == []


def test_a_server_reference_goes_along_with_the_end() -> None:
    conn = open_server()
    elsewhere = Properties(server_reference="b.example:1883")
    conn.disconnect(ReasonCode.USE_ANOTHER_SERVER, properties=elsewhere)
    assert said(conn) == [Disconnect(ReasonCode.USE_ANOTHER_SERVER, elsewhere)]


def test_a_disconnect_cannot_prolong_a_session_that_was_to_end_with_the_connection() -> None:
    prolong = Disconnect(SUCCESS, Properties(session_expiry_interval=5))
    conn = open_server()
    hear(conn, prolong)
    error = failed(conn)
    assert said(conn) == [Disconnect(ReasonCode.PROTOCOL_ERROR, Properties(reason_string=str(error)))]
    conn = open_server(properties=Properties(session_expiry_interval=1))
    hear(conn, prolong)
    assert conn.next_batch(1.0) == [prolong]


def test_what_the_device_takes_is_known() -> None:
    conn = open_server(properties=Properties(receive_maximum=5, maximum_packet_size=500))
    assert (conn.client_receive_maximum, conn.client_maximum_packet_size) == (5, 500)
    assert conn.wants_problem_information
    conn.publish([(message(number), number) for number in range(5)])
    assert conn.send_quota == 0


def test_topic_aliases_are_taken_up_to_the_maximum_that_was_told() -> None:
    conn = open_server(limits=ServerLimits(topic_alias_maximum=2))
    alias = Properties(topic_alias=2)
    hear(conn, Publish("long/topic", b"1", properties=alias), Publish("", b"2", properties=alias))
    assert [event.topic for event in conn.next_batch(1.0) if isinstance(event, Publish)] == ["long/topic"] * 2
    hear(conn, Publish("other", b"", properties=Properties(topic_alias=3)))
    assert failed(conn).reason is ReasonCode.TOPIC_ALIAS_INVALID
