"""One task that waits for the bytes of all plain TCP connections, and hands them over without waking their tasks.

Waking a task for each message costs more than all that is done with the message: with 1,000 devices that have one
message in flight each, it is the difference between half of a Mosquitto bridge's throughput and all of it
(`docs/decisions/0006-one-poller.md`). So a task that only wants to look at what arrives gives a function here, and
sleeps until there is something to wait for.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

import trio
from attrs import define
from outcome import Error, Outcome, Value

from mqttproxy.transport.stream import RECEIVE_BYTES, Take

EVENTS_AT_ONCE: Final = 256  # handed over before the time is looked at: about 4 ms
TURN: Final = 0.001  # seconds after which nothing more is looked for before other tasks have their turn

# Tasks woken in one turn because their peers have hung up. To end a connection costs as much as to carry ten messages:
# when thousands are cut at once, those that stay do not wait for the end of all of them.
HANGUPS_AT_ONCE: Final = 16

# Told once for what arrives, so that the kernel need not look again at every socket that it has told before. All is
# read when less came than there was room for (epoll(7)); the peer's end is told by EPOLLRDHUP.
_READABLE: Final = select.EPOLLIN
_EDGE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET

_BUFFER: Final = bytearray(RECEIVE_BYTES)  # shared: nothing is kept in it once `take` has returned
_VIEW: Final = memoryview(_BUFFER)


@define(eq=False)
class _Watched:
    socket: socket.socket
    take: Take
    task: trio.lowlevel.Task


class Poller:
    """The sockets whose tasks sleep. All of it runs in the Trio thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, _Watched] = {}
        self._to_tell: dict[int, tuple[socket.socket, Callable[[bool], None]]] = {}  # of a hang-up, and of nothing else
        self._hung_up: deque[tuple[int, _Watched, Outcome[bool]]] = deque()
        self._is_turn = False
        self._due: list[Callable[[], None]] = []

    async def watch(self, sock: socket.socket, take: Take) -> bool:
        """Give everything that arrives to `take`, until it returns False (True) or the peer has hung up (False).

        Raises:
            OSError: the connection broke.
            BaseException: whatever `take` raised.

        """
        descriptor = sock.fileno()
        if descriptor < 0:
            await trio.lowlevel.checkpoint()
            return False
        self.tell_hangup(sock, None)
        self._epoll.register(descriptor, _EDGE)
        self._watched[descriptor] = _Watched(sock, take, trio.lowlevel.current_task())

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._forget(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        result: bool = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def tell_hangup(self, sock: socket.socket, call: Callable[[bool], None] | None) -> None:
        """Call it once when the peer of a socket that is not watched hangs up; None: no more.

        Nothing is read. It is called with True if there are bytes that still can be.
        """
        descriptor = sock.fileno()
        if self._to_tell.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
        if call is not None and descriptor >= 0:
            self._epoll.register(descriptor, select.EPOLLRDHUP)
            self._to_tell[descriptor] = (sock, call)

    def closing(self, descriptor: int) -> None:
        """Hear that a socket is about to be closed: whoever watches it is told that the peer is gone."""
        if descriptor in self._watched:
            self._end(descriptor, Value(False))
        elif self._to_tell.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def interrupt(self, descriptor: int) -> None:
        """End `watch` for a socket as if its `take` had returned False."""
        if descriptor in self._watched:
            self._end(descriptor, Value(True))

    def at_end_of_turn(self, call: Callable[[], None]) -> bool:
        """Call it once all that has arrived is handed over. False: no turn is on, and it will not be called.

        So what the messages of many connections leave to do is done once for all of them, without waking a task.
        """
        if self._is_turn:
            self._due.append(call)
        return self._is_turn

    async def run(self) -> NoReturn:
        """Hand over what arrives, for ever."""
        try:
            while True:
                if self._hung_up:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._turn()
                self._tell_hung_up()
        finally:
            self._epoll.close()

    def _turn(self) -> None:
        """Hand over what has arrived and do what that leaves to do, until nothing is left or the time is up."""
        poll, clock = self._epoll.poll, time.perf_counter
        ends = clock() + TURN
        self._is_turn = True
        try:
            while True:
                events = poll(0, EVENTS_AT_ONCE)
                if events:
                    self._hand_over(events)
                is_over = clock() >= ends
                if events and not is_over:
                    continue
                if not self._due:
                    return
                while self._due:
                    due, self._due = self._due, []
                    for call in due:
                        call()
                if is_over:
                    return
        finally:
            self._is_turn = False

    def _hand_over(self, events: list[tuple[int, int]]) -> None:
        """Read the sockets that have something, and give it to those who watch them."""
        watched, now = self._watched, trio.current_time()
        for descriptor, flags in events:
            one = watched.get(descriptor)
            if one is None:
                self._tell_other(descriptor)
                continue
            result: Outcome[bool]
            try:
                count = one.socket.recv_into(_BUFFER)
            except BlockingIOError:
                continue
            except OSError as error:
                self._hung_up.append((descriptor, one, Error(error)))
                continue
            if not count:
                self._hung_up.append((descriptor, one, Value(False)))
                continue
            try:
                if one.take(_VIEW[:count], now):
                    if (count == RECEIVE_BYTES or flags != _READABLE) and watched.get(descriptor) is one:
                        self._epoll.modify(descriptor, _EDGE)  # there is more: bytes, the peer's end, or an error
                    continue
                result = Value(True)
            except BaseException as error:  # noqa: BLE001 # it is the watching task's, which is told
                result = Error(error)
            if watched.get(descriptor) is one:  # `take` may have closed the socket, or cancelled its task
                self._end(descriptor, result)

    def _tell_other(self, descriptor: int) -> None:
        """Tell of a hang-up who does not watch the socket, but wants to know that."""
        if descriptor in self._to_tell:
            sock, tell = self._to_tell[descriptor]
            self.tell_hangup(sock, None)
            tell(_has_unread(sock))

    def _tell_hung_up(self) -> None:
        for _ in range(min(len(self._hung_up), HANGUPS_AT_ONCE)):
            descriptor, one, result = self._hung_up.popleft()
            if self._watched.get(descriptor) is one:  # not closed or cancelled meanwhile
                self._end(descriptor, result)

    def _end(self, descriptor: int, result: Outcome[bool]) -> None:
        task = self._watched[descriptor].task
        self._forget(descriptor)
        trio.lowlevel.reschedule(task, result)

    def _forget(self, descriptor: int) -> None:
        del self._watched[descriptor]
        if not self._epoll.closed:  # an error of ours has ended the poller: who watches is cancelled after it
            self._epoll.unregister(descriptor)


def _has_unread(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


_of_this_run: Final = trio.lowlevel.RunVar[Poller | None]("poller", None)


def current_poller() -> Poller | None:
    """Return the poller of this Trio run, None: nobody runs one, and tasks wait for themselves."""
    return _of_this_run.get()


async def run_poller(task_status: trio.TaskStatus[Poller] = trio.TASK_STATUS_IGNORED) -> NoReturn:
    """Run one poller for all connections of this Trio run; started with it."""
    poller = Poller()
    _of_this_run.set(poller)
    task_status.started(poller)
    try:
        await poller.run()
    finally:
        _of_this_run.set(None)
