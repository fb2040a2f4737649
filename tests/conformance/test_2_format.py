"""Chapter 2: how packets are built."""

import pytest

from tests.bad_input.wire import V5, V311, frame, text, unsubscribe
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, ack, connect, publish, subscribe
from tests.conformance.statements import holds_5, holds_311

# Each packet a client may send that has a reserved flag, with one that it must not have.
WRONG_FLAGS = {
    "PUBACK": b"\x41\x02\x00\x01",
    "PUBREC": b"\x52\x02\x00\x01",
    "PUBREL": b"\x60\x02\x00\x01",
    "PUBREL with more": b"\x66\x02\x00\x01",
    "PUBCOMP": b"\x74\x02\x00\x01",
    "SUBSCRIBE": b"\x80" + subscribe(V311, ("t", 0))[1:],
    "SUBSCRIBE with more": b"\x83" + subscribe(V311, ("t", 0))[1:],
    "UNSUBSCRIBE": b"\xa0" + unsubscribe(V311, "t")[1:],
    "UNSUBSCRIBE with more": b"\xaa" + unsubscribe(V311, "t")[1:],
    "PINGREQ": b"\xc8\x00",
    "DISCONNECT": b"\xe1\x00",
}


@BOTH
@pytest.mark.parametrize("data", WRONG_FLAGS.values(), ids=WRONG_FLAGS)
@holds_5("2.1.3-1", "3.6.1-1", "3.8.1-1", "3.10.1-1", "3.14.1-1", "4.13.1-1", "4.13.2-1")
@holds_311("2.2.2-1", "2.2.2-2", "3.6.1-1", "3.8.1-1", "3.10.1-1", "3.14.1-1", "4.8.0-1")
def test_a_reserved_flag_of_the_fixed_header_ends_the_connection(server: Server, version: int, data: bytes) -> None:
    device = server.join(version)
    device.send(data)
    assert [(packet.kind, packet.reason) for packet in device.rest()] == [(Kind.DISCONNECT, 0x81)] * (version == V5)


@BOTH
@holds_5("2.1.3-1", "3.1.4-1")
@holds_311("2.2.2-2", "3.1.4-1")
def test_a_connect_with_a_reserved_flag_of_the_fixed_header_is_not_answered(server: Server, version: int) -> None:
    assert server.refused(b"\x11" + connect(version, "c")[1:], version) == []


@BOTH
@holds_5("2.2.1-2")
@holds_311("2.3.1-5")
def test_a_message_at_qos_0_has_no_packet_identifier(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version, options=0)
    server.join(version).publish(topic, b"payload", qos=2)
    assert reader.message().raw == publish(version, topic, b"payload")


@BOTH
@holds_5("2.2.1-3", "4.13.1-1")
@holds_311("2.3.1-1", "4.8.0-1")
def test_packet_identifier_0_ends_the_connection(server: Server, version: int) -> None:
    wrong = (
        publish(version, "t", qos=1, packet_id=0),
        publish(version, "t", qos=2, packet_id=0),
        subscribe(version, ("t", 0), packet_id=0),
        unsubscribe(version, "t", packet_id=0),
        ack(Kind.PUBACK, 0),
        ack(Kind.PUBREL, 0),
    )
    for data in wrong:
        device = server.join(version)
        device.send(data)
        assert all(packet.reason in (0x81, 0x82) for packet in device.rest())


@BOTH
@pytest.mark.parametrize("qos", [1, 2])
@holds_5("2.2.1-4", "4.3.2-1", "4.3.3-1", "4.3.2-2", "4.3.3-2")
@holds_311("2.3.1-4", "2.3.1-1", "4.3.2-1", "4.3.3-1")
def test_messages_in_flight_have_packet_identifiers_of_their_own(server: Server, version: int, qos: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version, options=qos)
    sender = server.join(version)
    for number in range(1, 6):
        sender.publish(topic, b"%d" % number, qos=qos, packet_id=number)
    heard = reader.messages(5)
    assert len({one.packet_id for one in heard} - {0}) == 5
    assert {(one.qos, one.dup) for one in heard} == {(qos, False)}
    assert [one.payload for one in heard] == [b"1", b"2", b"3", b"4", b"5"]


@BOTH
@holds_5("2.2.1-5", "3.3.4-1", "4.3.2-4", "4.3.3-8", "4.3.3-11")
@holds_311("2.3.1-6", "3.3.4-1", "4.3.2-2", "4.3.3-2")
def test_acknowledgements_have_the_packet_identifier_of_the_message(server: Server, version: int) -> None:
    sender = server.join(version)
    for packet_id in (1, 255, 256, 65535):
        sender.send(publish(version, "t", qos=1, packet_id=packet_id))
        assert (answer := sender.next()).kind is Kind.PUBACK
        assert answer.packet_id == packet_id
    for packet_id in (1, 255, 256, 65535):
        sender.send(publish(version, "t", qos=2, packet_id=packet_id))
        assert (answer := sender.next()).kind is Kind.PUBREC
        assert answer.packet_id == packet_id
        sender.send(ack(Kind.PUBREL, packet_id))
        assert (answer := sender.next()).kind is Kind.PUBCOMP
        assert answer.packet_id == packet_id


@BOTH
@holds_5("2.2.1-6", "3.8.4-2", "3.10.4-5")
@holds_311("2.3.1-7", "3.8.4-2", "3.10.4-4")
def test_suback_and_unsuback_have_the_packet_identifier_of_the_request(server: Server, version: int) -> None:
    device = server.join(version)
    for packet_id in (1, 255, 256, 65535):
        device.send(subscribe(version, ("nobody/there", 0), packet_id=packet_id))
        assert ((answer := device.next()).kind, answer.packet_id) == (Kind.SUBACK, packet_id)
        device.send(unsubscribe(version, "nobody/there", packet_id=packet_id))
        assert ((answer := device.next()).kind, answer.packet_id) == (Kind.UNSUBACK, packet_id)


@holds_5("2.2.2-1")
def test_no_properties_are_said_by_a_length_of_zero(server: Server) -> None:
    topic = server.new_topic()
    device = server.join(V5)
    assert device.subscribe(topic, options=1).raw == b"\x90\x04\x00\x63\x00\x01"
    server.join(V311).publish(topic, b"x", qos=0)
    assert device.message().raw == frame(0x30, text(topic) + b"\x00x")
    assert device.unsubscribe(topic).raw == b"\xb0\x04\x00\x62\x00\x00"


@holds_5("2.2.2-1", "4.13.1-1")
def test_packets_that_lack_the_length_of_their_properties_end_the_connection(server: Server) -> None:
    for data in (frame(0x30, text("t")), frame(0x82, b"\x00\x01"), frame(0xA2, b"\x00\x01")):
        device = server.join(V5)
        device.send(data)
        assert [packet.reason for packet in device.rest()] == [0x81]
