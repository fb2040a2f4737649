"""TCP: one non-blocking socket, read and written by hand.

Every message passes here, so the order of calls is measured (CPU of a bare echo of 110 bytes, 1,000 connections,
20,000 messages a second): `wait_readable`, then `recv_into` one shared buffer 11.4 µs; `recv_into` first, waiting only
when there is nothing, 14.6 µs: the try after each message fails, and a checkpoint is due in any case, so that a
flooding peer cannot keep the loop. Trying first wins only if the next message is already there after one turn
of the loop, as in a closed loop without a broker behind it (6.5 against 10.0 µs).
"""

import fcntl
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio

from mqttproxy.transport.poller import Poller, current_poller
from mqttproxy.transport.stream import RECEIVE_BYTES, Peer, Spawn, Take, TransportError, receive_each, words

CLOSE_TIMEOUT: Final = 2.0  # seconds that aclose() may take
WRITE_TIMEOUT: Final = 30.0  # seconds without the peer taking a byte, unless the caller says otherwise

_BUFFER: Final = bytearray(RECEIVE_BYTES)  # shared: nothing is kept in it over an await
_VIEW: Final = memoryview(_BUFFER)
_HUNG_UP: Final = b"\7\x08"  # states of the kernel: TCP_CLOSE, TCP_CLOSE_WAIT
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class TcpStream:
    """A connected TCP socket as a `ByteStream`. An idle one has no task, event or buffer of its own."""

    __slots__ = ("_backlog", "_closed", "_ended", "_failure", "_flushing", "_is_first_there", "_parked", "_poller",
                 "_receives", "_socket", "_spawn", "peer", "write_timeout")  # fmt: skip

    def __init__(self, sock: socket.socket, peer: Peer, *, write_timeout: float = WRITE_TIMEOUT) -> None:
        sock.setblocking(False)
        # The kernel may have lost the peer already; the first receive() tells.
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A peer that vanished with bytes under way: without it the kernel tries for a quarter of an hour.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(write_timeout * 1000))
        self.peer = peer
        self.write_timeout = write_timeout
        self._socket = sock
        self._backlog = bytearray()
        self._closed = False
        self._receives = False  # a task waits for bytes
        self._is_first_there = False  # for the next receive(), which need not wait
        self._ended = False  # the peer has sent FIN
        self._failure: str | None = None  # in words: an error that is kept would keep the frames it went through
        self._flushing = False
        self._parked: trio.Event | None = None  # set at each step that a parked writer or waiter may want to know
        self._spawn: Spawn | None = None
        self._poller: Poller | None = None  # it watches the socket now

    @property
    def unsent(self) -> int:
        """Bytes taken by send_nowait and not yet given to the kernel."""
        return len(self._backlog)

    @property
    def is_silent(self) -> bool:
        """Whether a task receives, and nothing has come: the peer lets us wait."""
        if not self._receives or self._closed:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass  # the task will be told
        return False

    @property
    def has_hung_up(self) -> bool:
        """Whether the peer sends no more. What it has sent before may still be unread."""
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _HUNG_UP
        except OSError:
            return True

    async def wait_first(self) -> bool:
        """Wait for the first byte, and leave it unread; False: the peer has hung up before it.

        Raises:
            TransportError: the connection broke.

        """
        while not self._closed:
            try:
                # Most often it has come with the connection, and each wait costs a turn of the loop.
                self._is_first_there = bool(self._socket.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._fail(words(error)) from error
            else:
                return self._is_first_there
            with suppress(trio.ClosedResourceError):
                await self._wait_readable()
        return False

    async def receive(self) -> bytes | memoryview:
        """Wait for bytes and return all that is there, as a view of the shared buffer; b"": the peer is gone."""
        while not self._closed:
            try:
                if self._is_first_there:
                    self._is_first_there = False
                else:
                    await self._wait_readable()
                count = self._socket.recv_into(_BUFFER)
            except BlockingIOError:
                continue  # woken for nothing
            except trio.ClosedResourceError:
                break
            except OSError as error:
                raise self._fail(words(error)) from error
            if count:
                return _VIEW[:count]
            self._ended = True
            break
        # What the peer had sent before sending to it failed was returned first.
        if self._failure is not None:
            raise TransportError(self._failure)
        return b""

    async def receive_head(self, size_of: Callable[[bytes], int | None]) -> bytes:
        """Wait for the first bytes and return them, as many as `size_of` says of them; what follows stays unread.

        Args:
            size_of: is given what is there so far, and returns the size of the head, or None: more must be seen.

        Returns:
            the head; b"": the peer has hung up and sent nothing.

        Raises:
            TransportError: the connection broke, or ended within the head.
            Exception: whatever `size_of` raised.

        """
        head = b""
        while not self._closed:
            try:
                await self._wait_readable()
                seen = self._socket.recv(RECEIVE_BYTES, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except trio.ClosedResourceError:
                break
            except ConnectionResetError as error:
                if head:
                    raise self._fail(words(error)) from error
                break  # as load balancers hang up that only look
            except OSError as error:
                raise self._fail(words(error)) from error
            if not seen:
                break
            size = size_of(head + seen)
            # What is only looked at would wake us again and again: it is taken as far as it is the head's for sure.
            wanted = len(seen) if size is None else size - len(head)
            head += self._socket.recv(wanted)
            if len(head) == size:
                return head
        if head:
            raise TransportError(f"{self.peer}: hung up within {head[:16]!r}")
        return b""

    async def receive_each(self, take: Take) -> bool:
        """Hand all that arrives to `take`, without waking this task for it if the process runs a poller."""
        poller = current_poller()
        if poller is None:
            return await receive_each(self, take)
        self._poller = poller
        try:
            has_more = await poller.watch(self._socket, take)
        except OSError as error:
            if isinstance(error, TransportError):
                raise  # of `take`
            raise self._fail(words(error)) from error
        finally:
            self._poller = None
        if not has_more:
            self._ended = True
            if self._failure is not None:
                raise TransportError(self._failure)
        return has_more

    def interrupt(self) -> None:
        """End a `receive_each` that waits, as if its `take` had returned False."""
        if self._poller is not None:
            self._poller.interrupt(self._socket.fileno())

    def tell_hangup(self, call: Callable[[bool], None] | None) -> None:
        """Tell when the peer hangs up while nobody receives, if the process runs a poller."""
        poller = current_poller()
        if poller is not None and not self._closed:
            poller.tell_hangup(self._socket, call)
            self._poller = None if call is None else poller

    def send_nowait(self, data: bytes | bytearray) -> None:
        """Take all of data, and give the kernel at once what it has room for."""
        if self._backlog:
            self._backlog += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if not self._closed:
                self._fail(words(error))
            return
        if sent < len(data):
            self._backlog += memoryview(data)[sent:]
            self._call_writer()

    async def run(self) -> None:
        """Write what send_nowait could not place, until cancelled or the connection is closed."""
        while not self._closed:
            if self._failure is not None:
                raise TransportError(self._failure)
            if self._backlog and not self._flushing:
                await self._write(0)
            else:
                await self._park()
        if self._failure is not None:
            raise TransportError(self._failure)

    def flush_with(self, spawn: Spawn) -> None:
        """Start a writer by `spawn` whenever there is a backlog, instead of run()."""
        self._spawn = spawn
        if self._backlog:
            self._call_writer()

    async def wait_drained(self, below: int = 0) -> None:
        """Wait until `unsent <= below`; writes by itself if nobody else is writing."""
        while len(self._backlog) > below:
            if self._flushing:
                await self._park()
            else:
                await self._write(below)
        if self._failure is not None:
            raise TransportError(self._failure)

    async def aclose(self) -> None:
        """Write what is unsent, send FIN, wait a little for the peer's, close."""
        # Busy: another task of ours still receives, and reads what would have been discarded.
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True), suppress(OSError, trio.BusyResourceError):
            await self.wait_drained()
            if not self._ended and not self._closed:
                self._socket.shutdown(socket.SHUT_WR)
                await self._discard_received()
        self._close()

    def abort(self) -> None:
        """Close at once; the peer sees a reset."""
        if not self._closed:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._close()

    async def _wait_readable(self) -> None:
        self._receives = True
        await trio.lowlevel.wait_readable(self._socket)
        self._receives = False

    async def _discard_received(self) -> None:
        # Closing a socket that holds unread bytes makes the kernel send RST, which may overtake the DISCONNECT that
        # told the peer why. So read on until it hangs up.
        while not self._closed:
            await self._wait_readable()
            with suppress(BlockingIOError):
                if self._socket.recv_into(_BUFFER) == 0:
                    return

    async def _flush(self) -> None:
        # Cancelled, it is not started anew: the nursery is ending, and would cancel each new one, for ever.
        spawn, self._spawn = self._spawn, None
        with suppress(TransportError):  # receive() tells it
            await self.wait_drained()
        self._spawn = spawn

    async def _write(self, below: int) -> None:
        # Every byte of the backlog goes out here, by one task at a time.
        with self._writing():
            while len(self._backlog) > below:
                try:
                    await self._wait_writable()
                    sent = self._socket.send(self._backlog)
                except BlockingIOError:
                    continue
                except trio.ClosedResourceError:  # ours: by abort() or aclose()
                    return
                except TransportError:
                    raise
                except OSError as error:
                    raise self._fail(words(error)) from error
                del self._backlog[:sent]
                self._unpark()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._flushing = True
        try:
            yield
        finally:
            self._flushing = False
            if self._backlog:  # cancelled, or only asked to write some of it: the next writer goes on
                self._call_writer()
            else:
                self._unpark()

    async def _wait_writable(self) -> None:
        queued = _unacknowledged(self._socket)
        while True:
            with trio.move_on_after(self.write_timeout):
                await trio.lowlevel.wait_writable(self._socket)
                return
            # The kernel calls a socket writable only when a third of its buffer is free, which can take minutes on
            # a thin line. So a peer is stuck only if it has not acknowledged a byte of what the kernel holds.
            still_queued = _unacknowledged(self._socket)
            if still_queued >= queued:
                failure = self._fail(f"took no byte for {self.write_timeout:g} s")
                self.abort()
                raise failure
            queued = still_queued

    def _call_writer(self) -> None:
        self._unpark()
        if self._spawn is not None and not self._flushing:
            self._spawn(self._flush)

    async def _park(self) -> None:
        if self._parked is None:
            self._parked = trio.Event()
        await self._parked.wait()

    def _unpark(self) -> None:
        if self._parked is not None:
            self._parked.set()
            self._parked = None

    def _fail(self, what: str) -> TransportError:
        if self._failure is None:
            self._failure = f"{self.peer}: {what}"
        self._backlog.clear()
        self._unpark()
        return TransportError(self._failure)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            if self._poller is not None:
                self._poller.closing(self._socket.fileno())
            self._socket.close()
            self._backlog.clear()
            self._unpark()


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes in the kernel's send buffer that the peer has not acknowledged."""
    try:
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), "little")
    except OSError:
        return 0
