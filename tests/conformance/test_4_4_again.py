"""Chapter 4.4: sending again, through many connections that break at any step."""

import random

import pytest

from tests.bad_input.wire import V5, V311
from tests.conformance.device import BOTH, Device, Server
from tests.conformance.packets import Kind, Packet, Prop, ack, prop, publish
from tests.conformance.statements import holds_5, holds_311

MESSAGES = 120


class Reader:
    """A subscriber that follows the rules of QoS 1 and 2, over one connection after another."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []  # (QoS, number)
        self.unreleased: set[int] = set()

    def take(self, device: Device, packet: Packet) -> None:
        """Deal with one packet."""
        if packet.kind is Kind.PUBREL:
            self.unreleased.discard(packet.packet_id)
            device.send(ack(Kind.PUBCOMP, packet.packet_id))
        elif packet.kind is Kind.PUBLISH and packet.qos == 1:
            self.got.append((1, int(packet.payload)))
            device.send(ack(Kind.PUBACK, packet.packet_id))
        elif packet.kind is Kind.PUBLISH:
            if packet.packet_id not in self.unreleased:
                self.got.append((2, int(packet.payload)))
            self.unreleased.add(packet.packet_id)
            device.send(ack(Kind.PUBREC, packet.packet_id))


@BOTH
@pytest.mark.parametrize("seed", range(4))
@holds_5("4.4.0-1", "4.3.2-3", "4.3.3-5", "4.3.3-6", "4.6.0-1", "4.6.0-5", "4.1.0-1", "4.5.0-1", "3.3.1-1")
@holds_311("4.4.0-1", "4.3.2-1", "4.3.3-1", "4.6.0-1", "4.6.0-6", "4.1.0-1", "4.5.0-1", "3.3.1-1")
def test_a_subscriber_that_breaks_off_anywhere_loses_nothing_and_gets_qos_2_once(
    server: Server, version: int, seed: int
) -> None:
    chance = random.Random(seed)  # no secret
    topic = server.new_topic()
    fields = [prop(Prop.RECEIVE_MAXIMUM, chance.choice((1, 5, 100)))] if version == V5 else []
    device = server.stay(version, fields=fields)
    device.subscribe(topic)
    sender, reader, sent = server.join(version), Reader(), 0
    while sent < MESSAGES:
        for _ in range(chance.randrange(8)):
            sent += 1
            sender.publish(topic, b"%d" % sent, qos=1 + sent % 2)
        heard = device.fence()
        taken = chance.randrange(len(heard) + 2)
        for packet in heard[:taken]:
            reader.take(device, packet)
        if taken < len(heard) or chance.random() < 0.5:
            match chance.choice(("network fails", "leaves", "is taken over")):
                case "network fails":
                    device.cut()
                case "leaves":
                    device.leave()
            device = server.stay(version, device.client_id, fields=fields)
    device.leave()
    device = server.stay(version, device.client_id, fields=fields)
    while heard := device.fence():
        for packet in heard:
            reader.take(device, packet)
    once = [number for qos, number in reader.got if qos == 2]
    assert once == [number for number in range(1, sent + 1) if number % 2]
    first = list(dict.fromkeys(number for qos, number in reader.got if qos == 1))
    assert first == [number for number in range(1, sent + 1) if not number % 2]


@BOTH
@pytest.mark.parametrize("seed", range(4))
@holds_5("4.3.3-10", "4.3.3-11", "4.3.3-12", "4.4.0-1", "4.1.0-1", "4.3.2-5")
@holds_311("4.3.3-2", "4.4.0-1", "4.1.0-1", "4.3.2-2")
def test_a_publisher_that_breaks_off_anywhere_is_heard_once_at_qos_2(server: Server, version: int, seed: int) -> None:
    chance = random.Random(seed)  # no secret
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(version)
    for number in range(1, 41):
        packet_id = 1 + number % 3
        step = Kind.PUBREC
        dup = False
        while True:
            if step is Kind.PUBREC:
                device.send(publish(version, topic, b"%d" % number, qos=2, packet_id=packet_id, dup=dup))
                dup = True
            else:
                device.send(ack(Kind.PUBREL, packet_id))
            if chance.random() < 0.3:  # the answer is lost
                if chance.random() < 0.5:
                    device.fence()
                if chance.random() < 0.5:
                    device.cut()
                device = server.stay(version, device.client_id)
                assert device.connack.session_present
                continue
            answer = device.expect(step)
            assert answer.packet_id == packet_id
            if step is Kind.PUBCOMP:
                break
            step = Kind.PUBCOMP
    heard: list[Packet] = []
    while len(heard) < 40:
        heard.append(reader.message())
        reader.acknowledge(heard[-1])
    assert [int(one.payload) for one in heard] == list(range(1, 41))
    assert reader.fence() == []


@pytest.mark.parametrize(("one", "other"), [(V311, V5), (V5, V311)])
@holds_5("4.4.0-1", "4.3.3-5")
@holds_311("4.4.0-1", "4.3.3-1")
def test_an_exchange_goes_on_in_the_other_version(server: Server, one: int, other: int) -> None:
    topic = server.new_topic()
    device = server.stay(one)
    device.subscribe(topic)
    sender = server.join()
    for number in range(1, 4):
        sender.publish(topic, b"%d" % number, qos=2, fields=[prop(Prop.CONTENT_TYPE, "text/plain")])
    first, second, third = device.messages(3)
    device.acknowledge(first)
    device.send(ack(Kind.PUBREC, second.packet_id))
    device.expect(Kind.PUBREL)
    device.leave()
    again = server.stay(other, device.client_id)
    assert again.connack.session_present
    assert again.next().raw == ack(Kind.PUBREL, second.packet_id)
    repeated = again.next()
    assert (repeated.payload, repeated.packet_id, repeated.dup) == (b"3", third.packet_id, True)
    again.send(ack(Kind.PUBCOMP, second.packet_id))
    again.acknowledge(repeated)
    again.leave()
    assert server.stay(one, device.client_id).fence() == []
