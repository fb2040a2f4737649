"""The client's end: what a server may say, and how its terms are kept."""

import pytest

from mqttproxy.mqtt.client import ClientConnection, ClientLimits, ServerTerms, State
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.events import Sent
from mqttproxy.mqtt.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    Publish,
    RetainHandling,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import SessionState
from tests.mqtt.machines import V5, V311, hear, message, new_client, open_client, publish, said

both_versions = pytest.mark.parametrize("version", [V311, V5])
SUCCESS = ReasonCode.SUCCESS


def failed(conn: ClientConnection) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        conn.next_batch(1.0)
    conn.fail(caught.value)
    assert conn.state is State.CLOSED
    return caught.value


@both_versions
def test_connect_is_there_to_be_sent_from_the_start(version: ProtocolVersion) -> None:
    connect = Connect(client_id="c", version=version, keep_alive=60, username="u", password=b"p")
    conn = ClientConnection(connect, SessionState(), ClientLimits(), now=0.0)
    assert conn.state is State.AWAITING_CONNACK
    assert said(conn) == [conn.connect]


def test_connect_tells_our_limits_unless_the_caller_told_others() -> None:
    limits = ClientLimits(packet_size=1000, receive_maximum=5, topic_alias_maximum=2)
    conn = ClientConnection(Connect(client_id="c"), SessionState(), limits, now=0.0)
    told = conn.connect.properties
    assert (told.maximum_packet_size, told.receive_maximum, told.topic_alias_maximum) == (1000, 5, 2)
    own = Properties(receive_maximum=7, session_expiry_interval=60)
    told = new_client(properties=own, limits=limits).connect.properties
    assert (told.maximum_packet_size, told.receive_maximum, told.session_expiry_interval) == (1000, 7, 60)


def test_the_terms_of_an_mqtt_5_server() -> None:
    terms = Properties(
        receive_maximum=5,
        maximum_qos=1,
        retain_available=0,
        maximum_packet_size=500,
        topic_alias_maximum=9,
        server_keep_alive=30,
        session_expiry_interval=7,
        assigned_client_identifier="made-up",
        wildcard_subscription_available=0,
        subscription_identifier_available=0,
        shared_subscription_available=0,
    )
    assert open_client(terms=terms).server == ServerTerms(
        receive_maximum=5,
        maximum_qos=1,
        retain_available=False,
        maximum_packet_size=500,
        topic_alias_maximum=9,
        keep_alive=30,
        session_expiry_interval=7,
        assigned_client_id="made-up",
        wildcard_subscriptions=False,
        subscription_identifiers=False,
        shared_subscriptions=False,
    )


def test_the_terms_that_nothing_was_said_of() -> None:
    assert open_client(V5).server == ServerTerms(keep_alive=60)
    assert open_client(V311).server == ServerTerms(
        keep_alive=60, subscription_identifiers=False, shared_subscriptions=False
    )


@both_versions
def test_a_refusal_is_an_event_and_the_end(version: ProtocolVersion) -> None:
    conn = new_client(version)
    refusal = ConnAck(ReasonCode.NOT_AUTHORIZED)
    hear(conn, refusal, publish(1))
    assert conn.next_batch(1.0) == [refusal]
    assert conn.state is State.CLOSED
    assert conn.next_batch(1.0) == []


@both_versions
def test_h1_a_session_after_a_clean_start_is_an_error(version: ProtocolVersion) -> None:
    conn = new_client(version)
    hear(conn, ConnAck(session_present=True))
    assert failed(conn).reason is ReasonCode.PROTOCOL_ERROR
    assert conn.data_to_send() == b""  # nothing is said before an accepting CONNACK


@pytest.mark.parametrize(
    "packet", [publish(1), SubAck(1, (SUCCESS,)), PingResp(), Disconnect(), Connect(client_id="x")]
)
def test_nothing_may_come_before_connack(packet: Packet) -> None:
    conn = new_client()
    hear(conn, packet)
    failed(conn)


@pytest.mark.parametrize("packet", [ConnAck(), PingReq(), Subscribe(1, (Subscription("t"),))])
def test_a_server_that_sends_what_only_clients_send_is_told_and_left(packet: Packet) -> None:
    conn = open_client()
    hear(conn, packet)
    error = failed(conn)
    assert said(conn) == [Disconnect(ReasonCode.PROTOCOL_ERROR, Properties(reason_string=str(error)))]


def test_packets_behind_connack_in_the_same_read_are_events() -> None:
    conn = new_client(session=SessionState())
    hear(conn, ConnAck(session_present=True), publish(1), publish(0, 0))
    assert conn.next_batch(1.0) == [ConnAck(session_present=True), publish(1), publish(0, 0)]


def test_resuming_is_for_an_open_connection() -> None:
    with pytest.raises(LocalProtocolError):
        new_client().resume()


def test_with_nothing_unfinished_publishing_needs_no_resume() -> None:
    conn = open_client()
    conn.publish([(message(1), 1)])
    assert len(said(conn)) == 1


def test_before_resume_nothing_new_may_overtake() -> None:
    session = SessionState()
    session.outgoing[1] = message(1), 1
    conn = open_client(session=session)
    assert conn.send_quota == 0
    with pytest.raises(LocalProtocolError):
        conn.publish([(message(2), 2)])


@both_versions
def test_requests_are_answered_by_their_packet_identifier(version: ProtocolVersion) -> None:
    conn = open_client(version)
    first = conn.subscribe([Subscription("a"), Subscription("b", 1)])
    second = conn.unsubscribe(["a"])
    assert said(conn) == [
        Subscribe(first, (Subscription("a"), Subscription("b", 1))),
        Unsubscribe(second, ("a",)),
    ]
    answers: list[Packet] = [
        UnsubAck(second, (SUCCESS,) if version is V5 else ()),
        SubAck(first, (SUCCESS, ReasonCode.UNSPECIFIED_ERROR)),
    ]
    hear(conn, *answers)
    assert conn.next_batch(1.0) == answers
    hear(conn, *answers)
    assert conn.next_batch(1.0) == []
    assert conn.strays == 2


def test_requests_and_messages_share_the_packet_identifiers() -> None:
    conn = open_client()
    conn.publish([(message(1), 1)])
    assert conn.subscribe([Subscription("a")]) == 2
    conn.publish([(message(2), 2)])
    assert list(conn.session.outgoing) == [1, 3]


@pytest.mark.parametrize("answer", [SubAck(1, (SUCCESS,)), SubAck(1, (SUCCESS,) * 3)])
def test_h1_an_answer_with_the_wrong_number_of_reasons_is_an_error(answer: SubAck) -> None:
    conn = open_client()
    conn.subscribe([Subscription("a"), Subscription("b")])
    hear(conn, answer)
    assert failed(conn).reason is ReasonCode.PROTOCOL_ERROR


def test_h2_an_answer_of_the_wrong_type_is_ignored() -> None:
    conn = open_client()
    packet_id = conn.subscribe([Subscription("a")])
    hear(conn, UnsubAck(packet_id, (SUCCESS,)), SubAck(packet_id, (SUCCESS,)))
    assert conn.next_batch(1.0) == [SubAck(packet_id, (SUCCESS,))]


def test_what_a_version_or_server_has_no_place_for_is_left_out_of_subscribe() -> None:
    wanted = Subscription("a", 1, no_local=True, retain_as_published=True, retain_handling=RetainHandling.DO_NOT_SEND)
    user = (("k", "v"),)
    conn = open_client(V5)
    conn.subscribe([wanted], 7, user)
    assert said(conn) == [
        Subscribe(1, (wanted,), Properties(subscription_identifiers=(7,), user_properties=user)),
    ]
    conn = open_client(V5, terms=Properties(subscription_identifier_available=0))
    conn.subscribe([wanted], 7)
    assert said(conn) == [Subscribe(1, (wanted,))]
    conn = open_client(V311)
    conn.subscribe([wanted], 7, user)
    assert said(conn) == [Subscribe(1, (Subscription("a", 1),))]


def test_h3_a_request_larger_than_the_server_takes_is_not_sent() -> None:
    conn = open_client(terms=Properties(maximum_packet_size=20))
    assert conn.subscribe([Subscription("x" * 20)]) == 0
    assert conn.unsubscribe(["x" * 20]) == 0
    assert conn.data_to_send() == b""
    assert conn.unsendable == 2


def test_a_request_without_a_free_packet_identifier_is_not_sent() -> None:
    conn = open_client(V311)
    conn.publish([(message(1), 1)] * 65_534)
    conn.data_to_send()
    assert conn.subscribe([Subscription("a")]) == 65_535
    assert conn.send_quota == 0
    conn.data_to_send()
    assert conn.subscribe([Subscription("a")]) == 0
    assert conn.data_to_send() == b""


def test_a_request_is_for_an_open_connection() -> None:
    with pytest.raises(LocalProtocolError):
        new_client().subscribe([Subscription("a")])


@pytest.mark.parametrize(
    ("asked", "told", "after"), [(60, None, 45.0), (60, 20, 15.0), (60, 0, float("inf")), (0, None, float("inf"))]
)
def test_pings_are_due_after_three_quarters_of_the_keep_alive(asked: int, told: int | None, after: float) -> None:
    conn = new_client(keep_alive=asked)
    assert conn.ping_due == float("inf")
    conn.receive_data(encode(ConnAck(properties=Properties(server_keep_alive=told)), V5), 10.0)
    conn.next_batch(10.0)
    assert conn.ping_due == 10.0 + after
    conn.ping(100.0)
    assert said(conn) == [PingReq()]
    assert conn.ping_due == 100.0 + after


def test_the_silence_of_a_server_ends_with_any_byte() -> None:
    conn = open_client()
    assert conn.silent_since(7.0) == 7.0
    hear(conn, PingResp(), now=8.0)
    assert conn.next_batch(8.0) == []
    assert conn.silent_since(10.0) == 2.0


def test_h6_the_server_s_goodbye_is_an_event_and_the_end() -> None:
    conn = open_client()
    goodbye = Disconnect(ReasonCode.SERVER_MOVED, Properties(server_reference="elsewhere"))
    hear(conn, goodbye, publish(1))
    assert conn.next_batch(1.0) == [goodbye]
    assert conn.state is State.CLOSED
    conn = open_client(V311)
    hear(conn, Disconnect())
    failed(conn)  # MQTT 3.1.1 servers have none


def test_saying_goodbye() -> None:
    conn = open_client(V5)
    conn.disconnect(ReasonCode.SERVER_SHUTTING_DOWN, "done")
    assert said(conn) == [Disconnect(ReasonCode.SERVER_SHUTTING_DOWN, Properties(reason_string="done"))]
    conn.disconnect()
    conn.ping(1.0)
    assert conn.data_to_send() == b""
    conn = open_client(V311)
    conn.disconnect()
    assert said(conn) == [Disconnect()]
    conn = open_client(V311)
    conn.disconnect(ReasonCode.DISCONNECT_WITH_WILL)
    assert conn.data_to_send() == b""


def test_h8_more_than_our_receive_maximum_is_an_error() -> None:
    conn = open_client(limits=ClientLimits(receive_maximum=2))
    hear(conn, publish(1), publish(2), publish(3))
    assert len(conn.next_batch(1.0)) == 2
    assert failed(conn).reason is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


def test_h8_the_server_s_topic_aliases_are_taken_as_far_as_we_allowed() -> None:
    alias = Properties(topic_alias=1)
    conn = open_client(limits=ClientLimits(topic_alias_maximum=1))
    hear(conn, Publish("long/topic", b"1", properties=alias), Publish("", b"2", properties=alias))
    assert [event.topic for event in conn.next_batch(1.0) if isinstance(event, Publish)] == ["long/topic"] * 2
    conn = open_client()
    hear(conn, Publish("long/topic", b"1", properties=alias))
    assert failed(conn).reason is ReasonCode.TOPIC_ALIAS_INVALID


def test_auth_goes_both_ways_if_connect_has_a_method() -> None:
    method = Properties(authentication_method="m")
    challenge = Auth(ReasonCode.CONTINUE_AUTHENTICATION, method)
    conn = new_client(properties=method)
    hear(conn, challenge)
    assert conn.next_batch(1.0) == [challenge]
    conn.send(challenge)
    assert said(conn) == [challenge]
    hear(conn, ConnAck())
    assert conn.next_batch(1.0) == [ConnAck()]
    conn = new_client()
    hear(conn, challenge)
    failed(conn)


def test_a_message_from_a_server_keeps_its_subscription_identifiers() -> None:
    conn = open_client()
    publish_ = Publish("t", b"", properties=Properties(subscription_identifiers=(1, 2)))
    hear(conn, publish_)
    assert conn.next_batch(1.0) == [publish_]


def test_bytes_of_a_server_that_never_end_a_packet_are_bounded() -> None:
    conn = open_client(limits=ClientLimits(packet_size=1000))
    conn.receive_data(b"\x30\xff\x7f", 1.0)
    assert failed(conn).reason is ReasonCode.PACKET_TOO_LARGE


def test_a_goodbye_in_the_same_read_as_connack_is_no_error_of_ours() -> None:
    session = SessionState()
    session.outgoing[1] = message(1), 1
    conn = new_client(session=session)
    hear(conn, ConnAck(session_present=True), Disconnect(ReasonCode.SERVER_BUSY))
    assert len(conn.next_batch(1.0)) == 2
    assert conn.resume() == Sent([], [])
    assert conn.subscribe([Subscription("a")]) == conn.unsubscribe(["a"]) == 0
    assert conn.data_to_send() == b""
    assert list(session.outgoing) == [1]
