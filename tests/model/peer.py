"""A client as bytes: what it sends for each step, and what it makes of what it hears. Both ends of no socket."""

from collections.abc import Sequence

from attrs import define, field

from tests.bad_input.wire import V5, unsubscribe
from tests.conformance.packets import Kind, Packet, Prop, Will, ack, connect, prop, publish, read, subscribe
from tests.model import steps


@define(eq=False)
class Peer:
    """One client, over all its connections.

    Attributes:
        prefix: before all its topics, filters and its name, so that many conversations can share a server.
        unreleased: its messages of QoS 2 without PUBREL.
        owed: what it will answer, in the order in which it came.

    """

    name: str
    prefix: str = ""
    version: int = V5
    is_open: bool = False
    unreleased: dict[int, tuple[str, bytes, bool]] = field(factory=dict)
    owed: list[tuple[Kind, int]] = field(factory=list)
    _packet_id: int = 0
    _heard: bytes = b""

    # What it sends.

    def write(self, step: steps.Step, number: int) -> bytes:
        """Return what the client sends for a step; a cut is no packet.

        Args:
            step: of this client.
            number: what it publishes has this as its payload.

        """
        data = b""
        match step:
            case steps.Connect():
                data = self._connect(step, number)
            case steps.Leave():
                data = b"\xe0\x01\x04" if step.keeps_will and self.version == V5 else b"\xe0\x00"
            case steps.Subscribe():
                data = self._subscribe(step.wanted, step.identifier)
            case steps.Unsubscribe():
                data = unsubscribe(self.version, self._filter(step.topic_filter), packet_id=self._next_id())
            case steps.Publish():
                data = self._publish(step, number)
            case steps.Again():
                data = self._again()
            case steps.Release():
                data = self._release()
            case steps.Answer():
                data = self._answer(step.count)
        self.is_open &= not isinstance(step, steps.Leave | steps.Cut)
        return data

    def _connect(self, step: steps.Connect, number: int) -> bytes:
        self.version, self.is_open, self._heard = step.version, True, b""
        self.owed.clear()
        will, fields = None, []
        if step.will is not None:
            topic = self.prefix + step.will.topic
            will = Will(topic, b"%d" % number, step.will.qos, step.will.retain)
        if step.version == V5:
            fields.append(prop(Prop.SESSION_EXPIRY_INTERVAL, step.expiry))
            if step.window:
                fields.append(prop(Prop.RECEIVE_MAXIMUM, step.window))
        name = self.prefix.replace("/", "") + self.name
        return connect(step.version, name, clean=step.clean, keep_alive=0, fields=fields, will=will)

    def _subscribe(self, wanted: Sequence[steps.Wanted], identifier: int) -> bytes:
        fields = [prop(Prop.SUBSCRIPTION_IDENTIFIER, identifier)] if identifier and self.version == V5 else []
        filters = [(self._filter(one.topic_filter), one.in_version(self.version).options) for one in wanted]
        return subscribe(self.version, *filters, packet_id=self._next_id(), fields=fields)

    def _publish(self, step: steps.Publish, number: int) -> bytes:
        data = b""
        topic = self.prefix + step.topic
        for payload in step.payloads(number):
            packet_id = self._next_id() if step.qos else 0
            if step.qos == 2:
                self.unreleased[packet_id] = topic, payload, step.retain
            data += publish(self.version, topic, payload, qos=step.qos, packet_id=packet_id, retain=step.retain)
        return data

    def _again(self) -> bytes:
        return b"".join(
            publish(self.version, topic, payload, qos=2, packet_id=packet_id, retain=retain, dup=True)
            for packet_id, (topic, payload, retain) in self.unreleased.items()
        )

    def _release(self) -> bytes:
        released = b"".join(ack(Kind.PUBREL, packet_id) for packet_id in self.unreleased)
        self.unreleased.clear()
        return released

    def _answer(self, count: int) -> bytes:
        now, self.owed[:count] = self.owed[:count], []
        return b"".join(ack(kind, packet_id) for kind, packet_id in now)

    def _next_id(self) -> int:
        """Return one that is free. They come again soon."""
        self._packet_id = self._packet_id % 10 + 1
        while self._packet_id in self.unreleased:
            self._packet_id += 1
        return self._packet_id

    def _filter(self, topic_filter: str) -> str:
        if not topic_filter.startswith("$share/"):
            return self.prefix + topic_filter
        share, group, plain = topic_filter.split("/", 2)
        return f"{share}/{group}/{self.prefix}{plain}"

    # What it hears.

    def hear(self, data: bytes) -> list[Packet]:
        """Take bytes; return what is complete."""
        self._heard += data
        heard: list[Packet] = []
        while True:
            packet, size = read(self._heard, self.version)
            if packet is None:
                return heard
            self._heard = self._heard[size:]
            self._note(packet)
            heard.append(packet)

    def _note(self, packet: Packet) -> None:
        if packet.kind is Kind.CONNACK and not packet.session_present:
            self.unreleased.clear()
        elif packet.kind is Kind.PUBLISH and packet.qos:
            self.owed.append((Kind.PUBACK if packet.qos == 1 else Kind.PUBREC, packet.packet_id))
        elif packet.kind is Kind.PUBREL:
            self.owed.append((Kind.PUBCOMP, packet.packet_id))
