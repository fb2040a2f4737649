"""A peer that talks: packets in and out over any transport, each wait with a deadline."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import trio
from attrs import define, field

from mqttproxy.transport.stream import ByteStream, TransportError
from tests.bad_input.conftest import Victim, dialled
from tests.conformance.packets import V5, Kind, Packet, Prop, ack, connect, prop, publish, read, subscribe
from tests.waiting import PATIENCE, wait_until

FOR_LONG: Final = prop(Prop.SESSION_EXPIRY_INTERVAL, 300)
PINGREQ: Final = b"\xc0\x00"
FENCE: Final = 65_000  # packet identifier

_numbers = count(1)


def new_id(name: str) -> str:
    """Return a client identifier, or a topic, that no other test has."""
    return f"{name}-{next(_numbers)}"


@define(eq=False)
class Peer:
    """One connection to the proxy; what comes is read by other rules than the proxy's own."""

    stream: ByteStream
    version: int
    connack: Packet | None = None
    _data: bytes = b""
    _arrived: list[Packet] = field(factory=list)

    def send(self, *data: bytes) -> None:
        self.stream.send_nowait(b"".join(data))

    async def next(self) -> Packet:
        """Return the next packet."""
        while not self._arrived:
            assert await self._read(), "closed by the proxy"
        return self._arrived.pop(0)

    async def expect(self, kind: Kind) -> Packet:
        """Return the next packet, which must be of this kind."""
        packet = await self.next()
        assert packet.kind is kind, packet
        return packet

    async def rest(self) -> list[Packet]:
        """Return all that comes until the proxy closes the connection."""
        while await self._read():
            pass
        heard, self._arrived = self._arrived, []
        assert not self._data, "the last packet is cut short"
        return heard

    async def fence(self) -> list[Packet]:
        """Return all that the proxy had for us, up to the acknowledgement of a message that it gets now.

        An answer to PINGREQ would not do: it overtakes messages that are read in the same turn.
        """
        self.send(publish(self.version, "fence", qos=1, packet_id=FENCE))
        return await self._until(lambda packet: packet.kind is Kind.PUBACK and packet.packet_id == FENCE)

    async def ping(self) -> list[Packet]:
        """Return what comes before the answer to a PINGREQ."""
        self.send(PINGREQ)
        return await self._until(lambda packet: packet.kind is Kind.PINGRESP)

    async def _until(self, is_last: Callable[[Packet], bool]) -> list[Packet]:
        heard = []
        while not is_last(packet := await self.next()):
            heard.append(packet)
        return heard

    async def subscribe(self, *filters: str, options: int = 2) -> tuple[int, ...]:
        """Subscribe, and return the reason codes of SUBACK."""
        self.send(subscribe(self.version, *((one, options) for one in filters)))
        return (await self.expect(Kind.SUBACK)).reasons

    async def publish(self, topic: str, payload: bytes = b"x", *, packet_id: int = 1, **more: Any) -> int:
        """Publish at QoS 1, and return the reason code of PUBACK."""
        self.send(publish(self.version, topic, payload, qos=1, packet_id=packet_id, **more))
        answer = await self.expect(Kind.PUBACK)
        assert answer.packet_id == packet_id
        return answer.reason

    async def acknowledge(self, message: Packet) -> None:
        """Take a message to the end of its exchange."""
        if message.qos == 1:
            self.send(ack(Kind.PUBACK, message.packet_id))
        elif message.qos == 2:
            self.send(ack(Kind.PUBREC, message.packet_id))
            assert (await self.expect(Kind.PUBREL)).packet_id == message.packet_id
            self.send(ack(Kind.PUBCOMP, message.packet_id))

    async def _read(self) -> bool:
        with trio.fail_after(PATIENCE):
            try:
                data = bytes(await self.stream.receive())
            except TransportError:  # reset
                data = b""
        self._data += data
        while True:
            packet, size = read(self._data, self.version)
            if packet is None:
                return bool(data)
            self._data = self._data[size:]
            self._arrived.append(packet)


@asynccontextmanager
async def joined(
    victim: Victim, version: int, client_id: str = "", transport: str = "tcp", *, stays: bool = False, **more: Any
) -> AsyncIterator[Peer]:
    """Connect; at the end the connection is cut without a goodbye.

    Args:
        victim: the proxy.
        version: protocol level.
        client_id: by default one that nobody else has.
        transport: name of the listener.
        stays: the session is to be kept, and goes on if there is one.
        more: as for `connect`.

    """
    if stays:
        more["clean"] = False
        if version == V5:
            more["fields"] = [FOR_LONG, *more.get("fields", ())]
    async with dialled(victim, transport) as stream:
        peer = Peer(stream, version)
        peer.send(connect(version, client_id or new_id("peer"), **more))
        peer.connack = await peer.expect(Kind.CONNACK)
        assert peer.connack.reason == 0, peer.connack
        yield peer


async def refused(victim: Victim, version: int, data: bytes, transport: str = "tcp") -> list[Packet]:
    """Send bytes over a new connection, which the proxy closes; return what it said before."""
    async with dialled(victim, transport) as stream:
        peer = Peer(stream, version)
        peer.send(data)
        return await peer.rest()


def reasons(packets: list[Packet]) -> list[tuple[Kind, int]]:
    """Return kind and reason of each, for last words."""
    return [(packet.kind, packet.reason) for packet in packets]


async def wait_for(victim: Victim, name: str, value: float, **labels: str) -> None:
    """Wait until a number of the proxy is at least this, while our own connections go on."""
    await trio.to_thread.run_sync(wait_until, lambda: victim.proxy.metric(name, **labels) >= value, name)


def payloads(packets: list[Packet]) -> list[bytes]:
    assert {packet.kind for packet in packets} <= {Kind.PUBLISH}, packets
    return [packet.payload for packet in packets]
