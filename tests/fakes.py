"""Fakes shared by the rooms' tests: no sockets, no time of their own."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from mqttproxy.transport.stream import RECEIVE_BYTES, Peer, Spawn, Take, TransportError, receive_each

KERNEL_BYTES: Final = 64 * 1024


class MemoryByteStream:
    """One end of a connection in memory, a `ByteStream`. Make two with `memory_pair`.

    As with a socket, at most `kernel_bytes` are on their way to the other end; the rest is `unsent` and moves only
    while a writer is there: run(), flush_with() or wait_drained(). The knobs may be changed at any time.

    Attributes:
        kernel_bytes: how much this end may have under way, not yet received by the other.
        receive_bytes: most that one receive() gives; 1 cuts the stream into single bytes.
        write_timeout: seconds without progress after which run() and wait_drained() raise.
        sent: every byte ever handed to send_nowait.
        closed: None while open, else how this end was closed: "aclose" or "abort".

    """

    def __init__(self, peer: Peer, *, kernel_bytes: int = KERNEL_BYTES, write_timeout: float = 30.0) -> None:
        self._receiving = trio.CancelScope()
        self.peer = peer
        self.kernel_bytes = kernel_bytes
        self.receive_bytes = RECEIVE_BYTES
        self.write_timeout = write_timeout
        self.sent = bytearray()
        self.closed: str | None = None
        self._other: MemoryByteStream = self
        self._arrived = bytearray()
        self._backlog = bytearray()
        self._ended = False
        self._failure: str | None = None
        self._changed = trio.Event()
        self._writers = 0
        self._spawn: Spawn | None = None
        self._hangup: Callable[[bool], None] | None = None
        self._receives = False

    @property
    def unsent(self) -> int:
        """Bytes taken and not yet on their way."""
        return len(self._backlog)

    @property
    def is_silent(self) -> bool:
        """Whether somebody receives and nothing has come."""
        return self._receives and not self._has_news

    @property
    def has_hung_up(self) -> bool:
        """Whether nothing more comes."""
        return self._ended or self._failure is not None

    @property
    def _has_news(self) -> bool:
        return bool(self._arrived) or self._ended or self._failure is not None or self.closed is not None

    async def _wait_news(self) -> None:
        self._receives = True
        while not self._has_news:
            await self._changed.wait()
        self._receives = False

    async def wait_first(self) -> bool:
        """Wait for the first byte; False: the end."""
        await trio.lowlevel.checkpoint()
        await self._wait_news()
        if self._failure is not None and not self._arrived:
            raise TransportError(self._failure)
        return bool(self._arrived)

    async def receive(self) -> bytes | memoryview:
        """As a socket: what has arrived, b"" at the end, TransportError after a cut."""
        await trio.lowlevel.checkpoint()
        await self._wait_news()
        if self._arrived and self.closed is None:
            data = bytes(self._arrived[: self.receive_bytes])
            del self._arrived[: len(data)]
            self._other._room()
            return data
        if self._failure is not None:
            raise TransportError(self._failure)
        return b""

    async def receive_each(self, take: Take) -> bool:
        """As a TLS or WebSocket stream does it, a loop over receive(); but it can be interrupted like TCP's."""
        with trio.CancelScope() as self._receiving:
            return await receive_each(self, take)
        return True

    def interrupt(self) -> None:
        """End a receive_each that waits; what arrived stays."""
        self._receiving.cancel()

    def tell_hangup(self, call: Callable[[bool], None] | None) -> None:
        """Tell when the other end closes or cuts."""
        self._hangup = call

    def send_nowait(self, data: bytes | bytearray) -> None:
        """Take all; what the kernel has no room for waits."""
        if self.closed is not None or self._failure is not None:
            return
        self.sent += data
        idle = not self._backlog
        self._backlog += data
        if idle:
            self._move()
            if self._backlog and self._spawn is not None:
                self._spawn(self._flush)

    async def run(self) -> None:
        """Write in the background."""
        self._writers += 1
        try:
            while self.closed is None:
                await self.wait_drained()
                if self.closed is None:
                    await self._changed.wait()
            if self._failure is not None:
                raise TransportError(self._failure)
        finally:
            self._writers -= 1

    def flush_with(self, spawn: Spawn) -> None:
        """Spawn a writer on demand."""
        self._spawn = spawn

    async def wait_drained(self, below: int = 0) -> None:
        """Wait until `unsent <= below`."""
        self._writers += 1
        try:
            while len(self._backlog) > below:
                self._move()
                if len(self._backlog) > below:
                    await self._wait_progress()
        finally:
            self._writers -= 1
        if self._failure is not None:
            raise TransportError(self._failure)

    async def aclose(self) -> None:
        """Write what is unsent, for 2 s at most; the other end then receives b""."""
        with trio.move_on_after(2.0, shield=True), suppress(TransportError):
            await self.wait_drained()
        self._close("aclose")
        self._other._end(None)

    def abort(self) -> None:
        """Cut: the other end's receive() raises TransportError."""
        if self.closed is None:
            self._close("abort")
            self._other._end(TransportError(f"{self._other.peer}: connection reset by peer"))

    def break_with(self, words: str) -> None:
        """Let this end fail as a socket would: receive() and run() raise."""
        self._end(TransportError(f"{self.peer}: {words}"))

    async def _flush(self) -> None:
        with suppress(TransportError):
            await self.wait_drained()

    async def _wait_progress(self) -> None:
        before = len(self._backlog)
        with trio.move_on_after(self.write_timeout) as scope:
            while len(self._backlog) >= before and self._failure is None and self.closed is None:
                await self._changed.wait()
        if scope.cancelled_caught:
            self.break_with(f"took no byte for {self.write_timeout:g} s")

    def _room(self) -> None:
        if self._writers or self._spawn is not None:
            self._move()

    def _move(self) -> None:
        other = self._other
        room = max(0, self.kernel_bytes - len(other._arrived))
        if self._backlog and room:
            if other.closed is None:
                other._arrived += self._backlog[:room]
                other._notify()
            del self._backlog[:room]
            self._notify()

    def _end(self, failure: TransportError | None) -> None:
        self._ended = True
        if failure is not None:
            self._failure = self._failure or str(failure)
            self._backlog.clear()
        if self._hangup is not None:
            call, self._hangup = self._hangup, None
            call(bool(self._arrived))
        self._notify()

    def _close(self, how: str) -> None:
        if self.closed is None:
            self.closed = how
            self._backlog.clear()
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def memory_pair(
    *, kernel_bytes: int = KERNEL_BYTES, host: str = "192.0.2.7", port: int = 50_000
) -> tuple[MemoryByteStream, MemoryByteStream]:
    """Return the two ends of a connection: (theirs, ours). `ours.peer` is the given host and port."""
    theirs = MemoryByteStream(Peer("127.0.0.1", 1883), kernel_bytes=kernel_bytes)
    ours = MemoryByteStream(Peer(host, port), kernel_bytes=kernel_bytes)
    theirs._other, ours._other = ours, theirs
    return theirs, ours


async def receive_exactly(stream: MemoryByteStream, count: int) -> bytes:
    """Receive until `count` bytes are there; fewer if the stream ends."""
    data = b""
    while len(data) < count and (more := await stream.receive()):
        data += more
    return data
