"""A network in memory: connections that are slow, stalled, half-open, cut, or come in pieces."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final, cast

import trio
from attrs import define, field

from mqttproxy.config.model import Address, ListenerSettings
from mqttproxy.transport.listen import Listener
from mqttproxy.transport.stream import Peer, TransportError
from tests.fakes import KERNEL_BYTES, MemoryByteStream

PROXY: Final = Peer("192.0.2.1", 1883)


class SimulatedStream(MemoryByteStream):
    """One end. `delay`: seconds until what arrives is seen; `is_stalled`: no byte moves; `is_void`: all are lost."""

    delay = 0.0
    is_stalled = False
    is_void = False

    async def receive(self) -> bytes | memoryview:
        if self.delay:
            await trio.sleep(self.delay)
        return await super().receive()

    def _move(self) -> None:
        if self.is_void:
            self._backlog.clear()
            self._notify()
        elif not self.is_stalled:
            super()._move()

    def set_stalled(self, stalled: bool) -> None:
        self.is_stalled = stalled
        if not stalled:
            self._room()


@define(eq=False)
class Wire:
    """A connection: the proxy's end, the other's, between whom, and which process of the proxy has it."""

    ours: SimulatedStream
    theirs: SimulatedStream
    name: str
    owner: object

    @property
    def is_open(self) -> bool:
        return self.ours.closed is None and self.theirs.closed is None

    def cut(self) -> None:
        """Both ends see a reset."""
        self.ours.break_with("connection reset by peer")
        self.theirs.break_with("connection reset by peer")

    def stall(self, stalled: bool) -> None:
        self.ours.set_stalled(stalled)
        self.theirs.set_stalled(stalled)

    def lose(self) -> None:
        """Half-open: neither end hears of the other any more, and neither knows."""
        self.ours.is_void = self.theirs.is_void = True

    def crumble(self, size: int) -> None:
        """Each read gives so many bytes at most."""
        self.ours.receive_bytes = self.theirs.receive_bytes = size

    def delay(self, seconds: float) -> None:
        self.ours.delay = self.theirs.delay = seconds


class SimulatedListener:
    """A `transport.Listener`: accepts what `Network.connect` brings."""

    is_behind_balancers = False
    revoked = None

    def __init__(self, settings: ListenerSettings) -> None:
        self.settings = settings
        self.is_closed = False
        self._send, self._receive = trio.open_memory_channel[SimulatedStream](1_000)

    def arrive(self, stream: SimulatedStream) -> None:
        self._send.send_nowait(stream)

    async def accept(self) -> SimulatedStream:
        return await self._receive.receive()

    async def handshake(self, raw: SimulatedStream) -> SimulatedStream:
        await trio.lowlevel.checkpoint()
        return raw

    def close(self) -> None:
        self.is_closed = True
        with suppress(trio.WouldBlock):
            while True:
                self._receive.receive_nowait().abort()


Serve = Callable[[SimulatedStream], object]


@define(eq=False)
class Network:
    """All connections. `brokers` and `door` say who answers; knobs apply to connections made later, too.

    Attributes:
        shape: is called with each new connection.

    """

    chance: Random
    wires: list[Wire] = field(factory=list)
    door: SimulatedListener | None = None
    door_owner: object = None
    shape: Callable[[Wire], None] = lambda _: None
    ports: int = 50_000

    def pair(self, name: str, owner: object, *, inward: bool, write_timeout: float = 30.0) -> Wire:
        self.ports += 1
        host = f"192.0.2.{10 + self.ports % 200}"
        ours = SimulatedStream(Peer(host, self.ports), kernel_bytes=KERNEL_BYTES, write_timeout=write_timeout)
        theirs = SimulatedStream(PROXY, kernel_bytes=KERNEL_BYTES)
        ours._other, theirs._other = theirs, ours
        wire = Wire(ours, theirs, name, owner)
        self.wires = [known for known in self.wires if known.is_open]
        self.wires.append(wire)
        if inward:
            self.shape(wire)
        return wire

    async def connect(self, name: str) -> SimulatedStream:
        """Connect a device."""
        await trio.sleep(0.001)
        if self.door is None or self.door.is_closed:
            raise TransportError("connection refused")
        wire = self.pair(name, self.door_owner, inward=True)
        self.door.arrive(wire.ours)
        return wire.theirs

    async def listen(self, owner: object, settings: ListenerSettings) -> Listener:
        await trio.lowlevel.checkpoint()
        self.door, self.door_owner = SimulatedListener(settings), owner
        return cast("Listener", self.door)

    def drop(self, owner: object, *, silently: bool) -> None:
        """Let a process be gone: its ends are closed, and the others see it, or silence."""
        if self.door_owner is owner:
            self.door = None
        for wire in self.wires:
            if wire.owner is owner and wire.is_open:
                if silently:
                    wire.lose()
                else:
                    wire.ours.abort()

    def open_wires(self, name: str = "") -> list[Wire]:
        return [wire for wire in self.wires if wire.is_open and wire.name.startswith(name)]


LISTENER: Final = ListenerSettings(name="plain", bind=Address("127.0.0.1:0"))
