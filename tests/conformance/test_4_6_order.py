"""Chapters 4.6 and 4.9: order, and flow control."""

import pytest

from tests.bad_input.wire import V5, subscribe
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, Prop, ack, prop, publish
from tests.conformance.statements import holds_5, holds_311


@BOTH
@holds_5("4.6.0-2", "4.6.0-3")
@holds_311("4.6.0-2", "4.6.0-3")
def test_acknowledgements_come_in_the_order_of_the_messages(server: Server, version: int) -> None:
    sender = server.join(version)
    topics = ["t", "$SYS/refused", "numbers/refused", "u", "numbers/refused/too", "v"] * 5
    for qos, kind in ((1, Kind.PUBACK), (2, Kind.PUBREC)):
        sender.send(*(publish(version, topic, b"x", qos=qos, packet_id=i) for i, topic in enumerate(topics, 1)))
        assert [sender.expect(kind).packet_id for _ in topics] == list(range(1, 31))


@BOTH
@holds_5("4.6.0-4")
@holds_311("4.6.0-4")
def test_pubrels_come_in_the_order_of_the_pubrecs(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    sender = server.join(version)
    for number in range(1, 11):
        sender.publish(topic, b"%d" % number, qos=2)
    sent = [one.packet_id for one in reader.messages(10)]
    order = sent[::2] + sent[1::2]
    reader.send(*(ack(Kind.PUBREC, packet_id) for packet_id in order))
    assert [reader.next().packet_id for _ in sent] == order


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
@holds_5("4.6.0-5", "4.6.0-6")
@holds_311("4.6.0-5", "4.6.0-6")
def test_messages_come_in_the_order_in_which_they_were_sent(server: Server, version: int, qos: int) -> None:
    topic = server.new_topic()
    readers = [server.subscriber(wanted, version) for wanted in (topic, "+" + topic[5:], f"{topic}/#")]
    sender = server.join(version)
    sent = [b"%d" % number for number in range(1, 101)]
    sender.send(*(publish(version, topic, one, qos=qos, packet_id=int(one)) for one in sent))
    for reader in readers:
        assert [one.payload for one in reader.messages(100)] == sent


@BOTH
@holds_5("4.6.0-5")
@holds_311("4.6.0-6")
def test_messages_of_several_senders_keep_the_order_of_each(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    senders = [server.join(version) for _ in range(4)]
    for number in range(1, 51):
        for index, sender in enumerate(senders):
            sender.send(publish(version, topic, b"%d %d" % (index, number), qos=1, packet_id=number))
    heard = [tuple(map(int, one.payload.split())) for one in reader.messages(200)]
    for index in range(4):
        assert [number for sender, number in heard if sender == index] == list(range(1, 51))


@BOTH
@holds_5("4.6.0-5", "4.5.0-1")
@holds_311("4.6.0-6")
def test_what_waited_for_a_device_keeps_its_order(server: Server, version: int) -> None:
    topic = server.new_topic()
    fields = [prop(Prop.RECEIVE_MAXIMUM, 3)] if version == V5 else []
    reader = server.stay(version, fields=fields)
    reader.subscribe(topic)
    reader.leave()
    sender = server.join(version)
    for number in range(1, 31):
        sender.publish(topic, b"%d" % number, qos=1 + number % 2)
    again = server.stay(version, reader.client_id, fields=fields)
    heard = []
    for _ in range(30):
        heard.append(again.message())
        again.acknowledge(heard[-1])
    for qos in (1, 2):
        numbers = [int(one.payload) for one in heard if one.qos == qos]
        assert numbers == sorted(numbers)
        assert len(numbers) == 15


# Flow control.


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("most", [1, 3])
@holds_5("3.3.4-9", "4.9.0-1", "4.9.0-2")
def test_no_more_messages_are_in_flight_than_the_device_takes(server: Server, qos: int, most: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, fields=[prop(Prop.RECEIVE_MAXIMUM, most)])
    sender = server.join()
    for number in range(1, 8):
        sender.publish(topic, b"%d" % number, qos=qos)
    in_flight = reader.messages(most)
    assert reader.fence() == []
    for number in range(most + 1, 8):
        reader.acknowledge(in_flight.pop(0))
        in_flight.append(reader.message())
        assert in_flight[-1].payload == b"%d" % number
        assert reader.fence() == []


@holds_5("3.3.4-9", "4.9.0-2")
def test_a_pubrec_does_not_yet_make_room(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, fields=[prop(Prop.RECEIVE_MAXIMUM, 1)])
    sender = server.join()
    sender.publish(topic, b"1", qos=2)
    sender.publish(topic, b"2", qos=2)
    first = reader.message()
    reader.send(ack(Kind.PUBREC, first.packet_id))
    assert [one.kind for one in reader.fence()] == [Kind.PUBREL]
    reader.send(ack(Kind.PUBCOMP, first.packet_id))
    assert reader.message().payload == b"2"


@holds_5("3.3.4-10", "4.9.0-3")
def test_a_full_receive_maximum_delays_nothing_but_messages(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, fields=[prop(Prop.RECEIVE_MAXIMUM, 1)])
    sender = server.join()
    for number in range(1, 4):
        sender.publish(topic, b"%d" % number)
    reader.message()
    reader.send(subscribe(V5, server.new_topic(), packet_id=1))
    assert reader.next().kind is Kind.SUBACK
    reader.send(publish(V5, "t", qos=2, packet_id=2))
    assert reader.next().kind is Kind.PUBREC
    reader.send(ack(Kind.PUBREL, 2))
    assert reader.next().kind is Kind.PUBCOMP
    reader.send(b"\xc0\x00")
    assert reader.next().kind is Kind.PINGRESP


@holds_5("4.9.0-1", "3.3.4-9", "4.4.0-1")
def test_the_receive_maximum_of_the_new_connection_counts_for_what_is_sent_again(server: Server) -> None:
    topic = server.new_topic()
    reader = server.stay(fields=[prop(Prop.RECEIVE_MAXIMUM, 5)])
    reader.subscribe(topic)
    sender = server.join()
    for number in range(1, 8):
        sender.publish(topic, b"%d" % number)
    reader.messages(5)
    reader.leave()
    again = server.stay(V5, reader.client_id, fields=[prop(Prop.RECEIVE_MAXIMUM, 2)])
    for number in range(1, 8, 2):
        heard = again.messages(2 if number < 7 else 1)
        assert [one.payload for one in heard] == [b"%d" % n for n in (number, number + 1) if n < 8]
        assert again.fence() == []
        for one in heard:
            again.send(ack(Kind.PUBACK, one.packet_id))


@holds_5("4.9.0-2")
def test_qos_0_needs_no_place_in_the_receive_maximum(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, fields=[prop(Prop.RECEIVE_MAXIMUM, 1)])
    sender = server.join()
    sender.publish(topic, b"0", qos=0)
    sender.publish(topic, b"1", qos=1)
    assert [one.payload for one in reader.messages(2)] == [b"0", b"1"]


@holds_5("3.3.4-7", "3.3.4-8", "4.13.1-1")
def test_a_device_that_sends_more_than_we_take_is_cut(server: Server) -> None:
    device = server.join()
    most = device.connack.value(Prop.RECEIVE_MAXIMUM)
    for number in range(1, most + 1):
        device.send(publish(V5, "t", qos=2, packet_id=number))
        assert device.next().kind is Kind.PUBREC
    assert device.fence() == []  # packets that are no messages are welcome
    device.send(publish(V5, "t", qos=2, packet_id=most + 1))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x93)]


@holds_5("4.9.0-3", "3.3.4-7")
def test_a_device_may_have_as_much_in_flight_as_we_said(server: Server) -> None:
    device = server.join()
    most = device.connack.value(Prop.RECEIVE_MAXIMUM)
    numbers = range(1, most + 1)
    device.send(*(publish(V5, "t", qos=2, packet_id=number) for number in numbers))
    assert [device.next().packet_id for _ in numbers] == list(numbers)
    device.send(*(ack(Kind.PUBREL, number) for number in numbers))
    assert [device.next().kind for _ in numbers] == [Kind.PUBCOMP] * most
