"""Chapters 3.12 to 3.15: PINGREQ, DISCONNECT, AUTH."""

import pytest

from tests.bad_input.wire import V5, V311, frame, text
from tests.conformance.device import BOTH, FOR_LONG, Server
from tests.conformance.packets import Kind, Prop, Will, connect, prop, publish
from tests.conformance.statements import holds_5, holds_311


@BOTH
@holds_5("3.12.4-1")
@holds_311("3.12.4-1")
def test_every_pingreq_is_answered(server: Server, version: int) -> None:
    device = server.join(version)
    device.send(b"\xc0\x00" * 10)
    assert [device.next().raw for _ in range(10)] == [b"\xd0\x00"] * 10
    assert device.fence() == []


def last_words(*properties: bytes, reason: int = 0) -> bytes:
    """Return DISCONNECT with properties."""
    body = b"".join(properties)
    return frame(0xE0, bytes([reason, len(body)]) + body)


@BOTH
@holds_5("3.14.4-1", "3.14.4-2")
@holds_311("3.14.4-1", "3.14.4-2")
def test_nothing_behind_disconnect_is_done(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(version)
    device.send(publish(version, topic, b"before"), b"\xe0\x00", publish(version, topic, b"behind", qos=1), b"\xc0\x00")
    assert device.rest() == []
    assert [one.payload for one in reader.fence()] == [b"before"]


@holds_5("3.14.4-1", "3.14.4-2", "3.14.2-1", "3.14.2-2", "4.13.2-1")
def test_after_its_disconnect_the_proxy_says_nothing_more_and_closes(server: Server) -> None:
    device = server.join()
    device.send(publish(V5, "t", qos=1), b"\x00\x00", b"\xc0\x00", publish(V5, "t", qos=1, packet_id=2))
    heard = device.rest()
    assert [one.kind for one in heard][-1] is Kind.DISCONNECT
    assert {one.packet_id for one in heard} <= {0, 1}
    assert heard[-1].value(Prop.SESSION_EXPIRY_INTERVAL) is None


@BOTH
@holds_5("3.14.0-1", "3.2.0-1")
@holds_311("3.2.0-1")
def test_before_connack_the_proxy_says_no_disconnect(server: Server, version: int) -> None:
    for data in (connect(version, "c", flags=0x03), connect(version, "c")[:-1] + b"\xff\xff", b"\xe0\x00"):
        assert {one.kind for one in server.refused(data, version)} <= {Kind.CONNACK}


@holds_5("3.14.2-1", "3.14.2-3", "3.14.2-4", "3.1.2-24")
def test_disconnect_is_no_larger_than_the_device_takes(server: Server) -> None:
    wrong = (
        b"\x00\x00",
        publish(V5, "a/" * 500),
        publish(V5, "t", fields=[prop(Prop.TOPIC_ALIAS, 60_000)]),
        publish(V5, "t", fields=[prop(Prop.SUBSCRIPTION_IDENTIFIER, 1)]),
    )
    for data in wrong:
        device = server.join(fields=[prop(Prop.MAXIMUM_PACKET_SIZE, 128)])
        device.send(data)
        heard = device.rest()
        assert [one.kind for one in heard] == [Kind.DISCONNECT]
        assert all(len(one.raw) <= 128 for one in heard)


@BOTH
@holds_5("3.14.1-1", "4.13.1-1")
@holds_311("3.14.1-1", "4.8.0-1")
def test_reserved_flags_of_disconnect_end_the_connection_and_the_will_is_sent(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(version, will=Will(topic, b"gone"))
    device.send(b"\xe1\x00")
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x81)] * (version == V5)
    assert reader.message().payload == b"gone"


@pytest.mark.parametrize("reason", [0x01, 0x8E, 0xFF])
@holds_5("3.14.2-1", "4.13.1-1")
def test_a_disconnect_with_a_reason_that_there_is_not_leaves_the_will(server: Server, reason: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(will=Will(topic, b"gone"))
    device.send(bytes([0xE0, 1, reason]))
    assert {one.kind for one in device.rest()} <= {Kind.DISCONNECT}
    assert reader.message().payload == b"gone"


@pytest.mark.parametrize("reason", [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99])
@holds_5("3.1.2-8", "3.14.4-3", "3.14.2-1")
def test_a_disconnect_with_any_reason_but_success_leaves_the_will(server: Server, reason: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join(will=Will(topic, b"gone")).leave(bytes([0xE0, 1, reason]))
    assert reader.message().payload == b"gone"


@holds_5("3.14.2-2", "3.14.4-3")
def test_disconnect_may_prolong_a_session_or_end_it(server: Server) -> None:
    device = server.stay()
    device.leave(last_words(prop(Prop.SESSION_EXPIRY_INTERVAL, 0)))
    assert not server.stay(V5, device.client_id).connack.session_present
    device = server.join(clean=False, fields=[prop(Prop.SESSION_EXPIRY_INTERVAL, 1)])
    device.leave(last_words(FOR_LONG))
    assert server.stay(V5, device.client_id).connack.session_present


@holds_5("4.13.1-1")
def test_disconnect_may_not_prolong_a_session_that_was_to_end_with_the_connection(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(will=Will(topic, b"gone"))
    device.send(last_words(FOR_LONG))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x82)]
    assert reader.message().payload == b"gone"
    assert not server.stay(V5, device.client_id).connack.session_present


@holds_311("3.14.1-1", "4.8.0-1")
def test_a_disconnect_with_a_body_is_none_in_3_1_1(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(V311, will=Will(topic, b"gone"))
    device.send(b"\xe0\x01\x00")
    assert device.rest() == []
    assert reader.message().payload == b"gone"


@pytest.mark.parametrize("first", range(0xF1, 0x100))
@holds_5("3.15.1-1", "4.13.1-1")
def test_reserved_flags_of_auth_end_the_connection(server: Server, first: int) -> None:
    device = server.join()
    device.send(bytes([first, 0]))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x81)]


METHOD = prop(Prop.AUTHENTICATION_METHOD, "SCRAM-SHA-256")


@holds_5("4.12.0-1", "3.1.4-2", "3.2.2-7", "4.12.0-4", "4.13.2-1")
def test_an_authentication_method_that_is_not_served_is_refused(server: Server) -> None:
    for fields in ([METHOD], [METHOD, prop(Prop.AUTHENTICATION_DATA, b"hello")]):
        heard = server.refused(connect(V5, "c", fields=fields))
        assert [one.kind for one in heard] == [Kind.CONNACK]
        assert heard[0].reason in (0x8C, 0x87)


@holds_5("4.12.0-6", "4.12.0-5")
def test_a_device_that_did_not_ask_for_authentication_hears_nothing_of_it(server: Server) -> None:
    connack = server.join(username="somebody", password=b"secret").connack
    assert connack.value(Prop.AUTHENTICATION_METHOD) is None
    assert connack.value(Prop.AUTHENTICATION_DATA) is None


@pytest.mark.parametrize("reason", [0x00, 0x18, 0x19])
@holds_5("4.12.0-7", "4.12.0-6", "4.12.1-2", "4.13.1-1")
def test_auth_without_a_method_in_connect_ends_the_connection(server: Server, reason: int) -> None:
    device = server.join()
    device.send(frame(0xF0, bytes([reason, len(METHOD)]) + METHOD))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x82)]


@holds_5("4.13.1-1")
def test_authentication_data_without_a_method_is_refused(server: Server) -> None:
    heard = server.refused(connect(V5, "c", fields=[prop(Prop.AUTHENTICATION_DATA, b"x")]))
    assert [(one.kind, one.reason) for one in heard] == [(Kind.CONNACK, 0x82)]


@BOTH
@pytest.mark.parametrize("data", [b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00", b"\xb0\x02\x00\x01", b"\xd0\x00"])
@holds_5("4.13.1-1")
@holds_311("4.8.0-1")
def test_packets_that_only_a_server_sends_end_the_connection(server: Server, version: int, data: bytes) -> None:
    device = server.join(version)
    device.send(data)
    heard = device.rest()
    assert [one.kind for one in heard] == [Kind.DISCONNECT] * (version == V5)
    assert all(one.reason in (0x81, 0x82) for one in heard)


@BOTH
@holds_5("4.13.1-1", "4.13.2-1")
@holds_311("4.8.0-1")
def test_what_came_before_a_fault_is_done(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(version)
    device.send(publish(version, topic, b"good"), b"\x00\x00")
    device.rest()
    assert [one.payload for one in reader.fence()] == [b"good"]


@holds_311("4.8.0-1")
def test_auth_is_no_packet_of_3_1_1(server: Server) -> None:
    device = server.join(V311)
    device.send(b"\xf0\x00")
    assert device.rest() == []


@holds_5("4.13.1-1")
def test_a_property_that_stands_twice_or_elsewhere_ends_the_connection(server: Server) -> None:
    wrong = (
        [prop(Prop.CONTENT_TYPE, "a"), prop(Prop.CONTENT_TYPE, "b")],
        [prop(Prop.MESSAGE_EXPIRY_INTERVAL, 1)] * 2,
        [prop(Prop.RECEIVE_MAXIMUM, 1)],
        [bytes([0x7F]) + text("unknown")],
        [prop(Prop.PAYLOAD_FORMAT_INDICATOR, 2)],
    )
    for fields in wrong:
        device = server.join()
        device.send(publish(V5, "t", fields=fields))
        heard = device.rest()
        assert [one.kind for one in heard] == [Kind.DISCONNECT]
        assert heard[0].reason in (0x81, 0x82)
