"""Chapter 4.3: the exchanges of QoS 0, 1 and 2. Over several connections they are in `test_4_1_sessions.py`."""

import pytest

from tests.bad_input.wire import V5, V311
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, Prop, ack, prop, publish
from tests.conformance.statements import holds_5, holds_311


@BOTH
@holds_5("4.3.1-1", "3.3.1-2")
@holds_311("4.3.1-1", "3.3.1-2")
def test_qos_0_is_sent_once_without_dup(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version, options=0)
    server.join(version).publish(topic, b"x", qos=2)
    heard = reader.fence()
    assert [(one.flags, one.payload) for one in heard] == [(0, b"x")]


@BOTH
@holds_5("4.3.2-1", "4.3.2-2", "4.3.2-3")
@holds_311("4.3.2-1", "2.3.1-4")
def test_a_packet_identifier_is_used_again_only_when_its_message_is_acknowledged(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    sender = server.join(version)
    in_flight: set[int] = set()
    for number in range(300):
        sender.publish(topic, b"%d" % number, qos=1 + number % 2)
        heard = reader.message()
        assert heard.packet_id not in in_flight
        if number % 3:
            reader.acknowledge(heard)
        else:
            in_flight.add(heard.packet_id)
            if heard.qos == 2 and number % 2:
                reader.send(ack(Kind.PUBREC, heard.packet_id))  # still in use until PUBCOMP
                assert reader.expect(Kind.PUBREL).packet_id == heard.packet_id


@BOTH
@holds_5("4.3.2-4", "4.3.2-5")
@holds_311("4.3.2-2", "2.3.1-3")
def test_after_puback_the_packet_identifier_stands_for_a_new_message(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    sender = server.join(version)
    sender.publish(topic, b"1", qos=1, packet_id=7)
    sender.publish(topic, b"2", qos=1, packet_id=7, dup=True)
    assert [one.payload for one in reader.messages(2)] == [b"1", b"2"]


@BOTH
@holds_5("4.3.3-4", "4.3.3-5", "4.3.3-2")
@holds_311("4.3.3-1")
def test_qos_2_to_a_device_takes_four_packets(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    server.join(version).publish(topic, b"x", qos=2)
    heard = reader.next()
    assert (heard.kind, heard.qos, heard.dup) == (Kind.PUBLISH, 2, False)
    reader.send(ack(Kind.PUBREC, heard.packet_id))
    assert reader.next().raw == ack(Kind.PUBREL, heard.packet_id)
    reader.send(ack(Kind.PUBCOMP, heard.packet_id))
    assert reader.fence() == []


@BOTH
@holds_5("4.3.3-8", "4.3.3-10", "4.3.3-11", "4.3.3-12")
@holds_311("4.3.3-2")
def test_qos_2_from_a_device_is_handed_on_once(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    sender = server.join(version)
    for dup in (False, True, False, True):
        sender.send(publish(version, topic, b"1", qos=2, packet_id=7, dup=dup))
        assert ((answer := sender.next()).kind, answer.packet_id) == (Kind.PUBREC, 7)
    sender.send(ack(Kind.PUBREL, 7))
    assert sender.next().raw == ack(Kind.PUBCOMP, 7)
    assert [one.payload for one in reader.fence()] == [b"1"]
    sender.publish(topic, b"2", qos=2, packet_id=7, dup=True)
    assert [one.payload for one in reader.fence()] == [b"2"]


@BOTH
@holds_5("4.3.3-10")
@holds_311("4.3.3-2")
def test_qos_2_sent_again_before_its_pubrec_is_handed_on_once(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    sender = server.join(version)
    sender.send(*(publish(version, topic, b"1", qos=2, packet_id=7, dup=bool(again)) for again in range(3)))
    assert sender.next().kind is Kind.PUBREC
    sender.fence()
    assert [one.payload for one in reader.fence()] == [b"1"]


@holds_5("4.3.3-9", "3.5.2-1")
def test_after_a_refusing_pubrec_the_packet_identifier_stands_for_a_new_message(server: Server) -> None:
    topic = f"numbers/{server.new_id()}"
    reader = server.subscriber(topic)
    sender = server.join()
    sender.send(publish(V5, topic, b"not a number", qos=2, packet_id=7))
    assert sender.next().reason == 0x99
    sender.send(publish(V5, topic, b"1", qos=2, packet_id=7))
    assert sender.next().reason < 0x80
    assert [one.payload for one in reader.fence()] == [b"1"]
    sender.send(ack(Kind.PUBREL, 7))
    assert sender.next().raw == ack(Kind.PUBCOMP, 7)


@BOTH
@holds_5("4.3.3-11")
@holds_311("4.3.3-2")
def test_a_pubrel_for_nothing_is_answered(server: Server, version: int) -> None:
    device = server.join(version)
    device.send(ack(Kind.PUBREL, 1234))
    answer = device.next()
    assert (answer.kind, answer.packet_id) == (Kind.PUBCOMP, 1234)
    assert answer.reason == (0x92 if version == V5 else 0)


@BOTH
@pytest.mark.parametrize("kind", [Kind.PUBACK, Kind.PUBCOMP])
@holds_5("4.3.2-3", "4.3.3-5")
@holds_311("4.3.2-1", "4.3.3-1")
def test_an_acknowledgement_for_nothing_changes_nothing(server: Server, version: int, kind: Kind) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    reader.send(ack(kind, 4321))
    server.join(version).publish(topic, b"x")
    assert reader.next().payload == b"x"


@holds_311("4.3.2-1", "4.3.3-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_an_acknowledgement_of_the_wrong_kind_leaves_the_message_unacknowledged(server: Server, qos: int) -> None:
    topic = server.new_topic()
    reader = server.stay(V311)
    reader.subscribe(topic)
    server.join(V311).publish(topic, b"x", qos=qos)
    heard = reader.message()
    reader.send(ack(Kind.PUBREC if qos == 1 else Kind.PUBACK, heard.packet_id))
    reader.cut()
    again = server.stay(V311, reader.client_id)
    assert (repeated := again.next()).payload == b"x"
    assert (repeated.qos, repeated.packet_id) == (qos, heard.packet_id)


@BOTH
@holds_5("4.3.3-10", "4.9.0-3")
@holds_311("4.3.3-2")
def test_packet_identifiers_of_the_two_directions_are_apart(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.subscriber(topic, version)
    server.join(version).publish(topic, b"to us", qos=2)
    heard = device.message()
    device.send(publish(version, topic, b"from us", qos=2, packet_id=heard.packet_id))
    assert device.expect(Kind.PUBREC).packet_id == heard.packet_id
    device.send(ack(Kind.PUBREC, heard.packet_id), ack(Kind.PUBREL, heard.packet_id))
    assert device.expect(Kind.PUBREL).packet_id == heard.packet_id
    assert device.expect(Kind.PUBCOMP).packet_id == heard.packet_id
    assert device.message().payload == b"from us"


@holds_5("4.3.3-7", "4.3.3-13")
def test_expiry_does_not_break_an_exchange_that_has_begun(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join().publish(topic, b"x", qos=2, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 1)])
    heard = reader.message()
    reader.send(ack(Kind.PUBREC, heard.packet_id))
    assert reader.next().raw == ack(Kind.PUBREL, heard.packet_id)
