"""A network of our own that does what networks do: a TCP proxy whose two directions can be made bad while they run.

    async with trio.open_nursery() as nursery:
        chaos = await nursery.start(Chaos.serve, "127.0.0.1", broker.port)
        ...dial(f"mqtt://127.0.0.1:{chaos.port}")...
        chaos.up.stalled = True     # the broker hears nothing more; the device's kernel fills up
        chaos.vanish()              # half open: both ends think that they are connected
        chaos.reset_at(up=100)      # RST when byte 100 of a connection's way up has come
        chaos.heal()

Up is from whoever dials here to the server behind, down is the way back. What is set holds for connections that are
there and for those that come; offsets count from the first byte of each connection.
"""

import math
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

import trio
from attrs import define, field

CHUNK: Final = 16 * 1024  # bytes that are under way here in each direction; the rest waits in the kernels
KERNEL: Final = 16 * 1024  # bytes of each socket buffer, so that a stall is felt soon
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST

End = Callable[["_Pair"], None]


@define(eq=False)
class Way:
    """One direction. Every attribute may be changed at any time; a change is felt by all connections at once.

    Attributes:
        delay: seconds that each chunk waits here.
        rate: most bytes a second, of each connection.
        stalled: nothing is read; nothing is closed, and the sender's kernel fills up.
        swallows: what comes is read and thrown away, as beyond a peer that has vanished.
        single: forward byte by byte, each with a write of its own.
        cut_at: end the connection in order after so many bytes.
        reset_at: end it with RST, to both sides, after so many bytes.
        flip_at: turn the lowest bit of the byte at this offset.

    """

    delay: float = 0.0
    rate: float = math.inf
    stalled: bool = False
    swallows: bool = False
    single: bool = False
    cut_at: float = math.inf
    reset_at: float = math.inf
    flip_at: float = math.inf
    carried: int = 0  # bytes of all connections so far
    _changed: trio.Event = field(factory=trio.Event)

    def set(self, **changes: float | bool) -> None:
        """Change attributes, and let those that wait look again."""
        for name, value in changes.items():
            if not hasattr(self, name):
                raise AttributeError(name)
            setattr(self, name, value)
        self._changed.set()
        self._changed = trio.Event()

    def heal(self) -> None:
        """Carry everything again, at once."""
        self.set(
            delay=0.0,
            rate=math.inf,
            stalled=False,
            swallows=False,
            single=False,
            cut_at=math.inf,
            reset_at=math.inf,
            flip_at=math.inf,
        )

    async def wait_open(self) -> None:
        """Wait until it is not stalled."""
        while self.stalled:
            await self._changed.wait()


@define(eq=False)
class _Pair:
    """A connection: the two sockets, and the task that carries it."""

    sockets: tuple[trio.socket.SocketType, trio.socket.SocketType]
    scope: trio.CancelScope = field(factory=trio.CancelScope)

    def reset(self) -> None:
        """End both sides with RST."""
        for one in self.sockets:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()

    def close(self) -> None:
        """End both sides in order."""
        self.scope.cancel()


@define(eq=False)
class Chaos:
    """A listener on loopback that carries each connection to a server.

    Attributes:
        port: where it listens.
        up: towards the server.
        down: towards whoever dialled.
        refuses: new connections end at once, with RST.
        connections: how many have come.

    """

    port: int
    _target: tuple[str, int]
    up: Way = field(factory=Way)
    down: Way = field(factory=Way)
    refuses: bool = False
    connections: int = 0
    _pairs: list[_Pair] = field(factory=list)

    @classmethod
    async def serve(
        cls, host: str, port: int, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Carry connections to a server until cancelled. Give it to `nursery.start`, which returns the chaos."""
        listener = trio.socket.socket()
        with listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)  # those that it accepts have it too
            await listener.bind(("127.0.0.1", 0))
            listener.listen(1000)
            chaos = cls(listener.getsockname()[1], (host, port))
            task_status.started(chaos)
            async with trio.open_nursery() as nursery:
                while True:
                    ours, _ = await listener.accept()
                    chaos.connections += 1
                    nursery.start_soon(chaos._connect, ours)

    @property
    def open_connections(self) -> int:
        return len(self._pairs)

    # What can be done to it, besides `up.set(...)` and `down.set(...)`.

    def stall(self) -> None:
        """Carry nothing in either direction, and close nothing."""
        self.up.set(stalled=True)
        self.down.set(stalled=True)

    def vanish(self) -> None:
        """Let each side's peer be gone without a word: what it sends is taken by nobody."""
        self.up.set(swallows=True)
        self.down.set(swallows=True)

    def reset(self) -> None:
        """End every connection with RST."""
        for pair in list(self._pairs):
            pair.reset()

    def cut(self) -> None:
        """End every connection in order."""
        for pair in list(self._pairs):
            pair.close()

    def heal(self) -> None:
        """Carry everything again. Connections whose bytes were swallowed or flipped stay as they are: cut them."""
        self.refuses = False
        self.up.heal()
        self.down.heal()

    # How it carries.

    async def _connect(self, ours: trio.socket.SocketType) -> None:
        theirs = trio.socket.socket()
        with ours, theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
            pair = _Pair((ours, theirs))
            if self.refuses:
                pair.reset()
                return
            for one in pair.sockets:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
            try:
                await theirs.connect(self._target)
            except OSError:
                pair.reset()
                return
            self._pairs.append(pair)
            try:
                await self._carry_both(pair)
            finally:
                self._pairs.remove(pair)

    async def _carry_both(self, pair: _Pair) -> None:
        ours, theirs = pair.sockets
        with pair.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, self.up, ours, theirs, pair)
                nursery.start_soon(self._carry, self.down, theirs, ours, pair)

    async def _carry(
        self, way: Way, source: trio.socket.SocketType, target: trio.socket.SocketType, pair: _Pair
    ) -> None:
        """Carry one direction to its end. An end in order is passed on, a RST ends both sides with RST."""
        offset = 0
        try:
            while True:
                await way.wait_open()
                data = await source.recv(_size(way))
                await way.wait_open()  # stalled meanwhile: what was taken waits here
                if not data:
                    if not way.swallows:
                        target.shutdown(socket.SHUT_WR)
                    return
                # As they are now: were it healed between the last byte and the end, bytes would be missing in between.
                reset_at, cut_at = way.reset_at, way.cut_at
                offset = await _pass_on(way, target, _first(data, min(reset_at, cut_at) - offset), offset)
                if offset >= reset_at:
                    pair.reset()
                elif offset >= cut_at:
                    pair.close()
        except (OSError, trio.BrokenResourceError):
            pair.reset()


def _size(way: Way) -> int:
    """Return how much to take at once: a tenth of a second's worth where that is less."""
    return 1 if way.single else int(max(1, min(CHUNK, way.rate / 10)))


def _first(data: bytes, number: float) -> bytes:
    return data[: int(max(0, min(len(data), number)))]


async def _pass_on(way: Way, target: trio.socket.SocketType, data: bytes, offset: int) -> int:
    """Write a chunk as the way is now; returns the offset after it."""
    if way.delay:
        await trio.sleep(way.delay)
    if way.rate < math.inf:
        await trio.sleep(len(data) / way.rate)
    if offset <= way.flip_at < offset + len(data):
        place = int(way.flip_at) - offset
        data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    if not way.swallows:
        stream = trio.SocketStream(target)
        await stream.send_all(data)
    way.carried += len(data)
    return offset + len(data)
