"""Chapters 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP. What they do to an exchange is in `test_4_3_qos.py`."""

import pytest

from tests.bad_input.wire import V5
from tests.conformance.device import Server
from tests.conformance.packets import Kind, Prop, ack, prop, publish
from tests.conformance.statements import holds_5

REASONED = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]


@pytest.mark.parametrize("qos", [1, 2])
@holds_5("3.4.2-1", "3.5.2-1", "3.4.2-2", "3.4.2-3", "3.5.2-2", "3.5.2-3", "3.1.2-24")
def test_a_refusal_is_no_larger_than_the_device_takes(server: Server, qos: int) -> None:
    sizes = []
    for most in (128, 140, 200, 300, 100_000):
        sender = server.join(fields=[prop(Prop.MAXIMUM_PACKET_SIZE, most)])
        answer = sender.publish("numbers/x", b"not a number", qos=qos)
        assert answer.reason == 0x99
        assert len(answer.raw) <= most
        sizes.append(len(answer.raw))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1], "nothing had to be left out"


@holds_5("3.4.2-1", "3.5.2-1", "3.6.2-1", "3.7.2-1", "3.6.2-2", "3.6.2-3", "3.7.2-2", "3.7.2-3")
def test_acknowledgements_have_reasons_of_their_own_kind(server: Server) -> None:
    sender = server.join()
    assert sender.publish("t", qos=1).reason in REASONED
    assert sender.publish("t", qos=2).reason in REASONED
    assert sender.publish("$SYS/mine", qos=1).reason in (0x87, 0x90)
    assert sender.publish("$SYS/mine", qos=2).reason in (0x87, 0x90)
    sender.send(ack(Kind.PUBREC, 77), ack(Kind.PUBREL, 78))
    assert (answer := sender.expect(Kind.PUBREL)).raw == b"\x62\x03\x00\x4d\x92"
    assert answer.properties == ()
    assert (answer := sender.expect(Kind.PUBCOMP)).raw == b"\x70\x03\x00\x4e\x92"
    assert answer.properties == ()


@pytest.mark.parametrize("kind", [Kind.PUBACK, Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP])
@holds_5("3.4.2-1", "3.5.2-1", "3.6.2-1", "3.7.2-1", "4.13.1-1")
def test_an_acknowledgement_with_a_reason_that_it_does_not_have_ends_the_connection(server: Server, kind: Kind) -> None:
    device = server.join()
    device.send(ack(kind, 1, 0x8E))
    heard = device.rest()
    assert [one.kind for one in heard] == [Kind.DISCONNECT]
    assert heard[0].reason in (0x81, 0x82)


@pytest.mark.parametrize("reason", REASONED)
@holds_5("3.4.2-1", "4.4.0-2", "4.3.2-3")
def test_puback_of_the_device_ends_the_exchange_whatever_its_reason(server: Server, reason: int) -> None:
    topic = server.new_topic()
    reader = server.stay(fields=[prop(Prop.RECEIVE_MAXIMUM, 1)])
    reader.subscribe(topic, options=1)
    sender = server.join()
    sender.publish(topic, b"1")
    sender.publish(topic, b"2")
    first = reader.message()
    assert reader.fence() == []
    reader.send(ack(Kind.PUBACK, first.packet_id, reason))
    second = reader.message()
    assert second.payload == b"2"
    reader.acknowledge(second)
    reader.leave()
    assert server.stay(V5, reader.client_id).fence() == []


@holds_5("3.5.2-1", "4.4.0-2", "4.3.3-3", "4.3.3-4")
def test_a_pubrec_that_refuses_ends_the_exchange(server: Server) -> None:
    topic = server.new_topic()
    reader = server.stay(fields=[prop(Prop.RECEIVE_MAXIMUM, 1)])
    reader.subscribe(topic)
    sender = server.join()
    sender.publish(topic, b"1", qos=2)
    sender.publish(topic, b"2", qos=2)
    reader.send(ack(Kind.PUBREC, reader.message().packet_id, 0x97))
    second = reader.next()  # no PUBREL before it
    assert second.payload == b"2"
    reader.acknowledge(second)
    reader.leave()
    assert server.stay(V5, reader.client_id).fence() == []


@holds_5("3.5.2-1", "4.3.3-4")
def test_a_pubrec_with_no_matching_subscribers_is_a_success(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join().publish(topic, qos=2)
    heard = reader.message()
    reader.send(ack(Kind.PUBREC, heard.packet_id, 0x10))
    assert reader.next().raw == ack(Kind.PUBREL, heard.packet_id)


@holds_5("3.4.2-1")
def test_a_puback_may_carry_properties(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, options=1)
    sender = server.join()
    sender.publish(topic, b"1")
    first = reader.message()
    fields = prop(Prop.REASON_STRING, "why") + prop(Prop.USER_PROPERTY, ("a", "b"))
    body = first.packet_id.to_bytes(2, "big") + b"\x97" + bytes([len(fields)]) + fields
    reader.send(bytes([0x40, len(body)]) + body)
    sender.publish(topic, b"2")
    assert reader.next().payload == b"2"


@holds_5("3.4.2-1")
def test_a_puback_without_a_reason_is_a_success(server: Server) -> None:
    sender = server.join()
    sender.send(publish(V5, "t", qos=1, packet_id=1))
    assert sender.next().reason in (0x00, 0x10)
