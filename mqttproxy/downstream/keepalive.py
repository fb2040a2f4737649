"""One task that watches the keep alive of all devices, so that reading a message sets no timer."""

import heapq
from itertools import count
from typing import NoReturn, Protocol

import trio


class Watched(Protocol):
    """A device as the watch sees it."""

    @property
    def deadline(self) -> float:
        """When it must have been heard of, monotonic seconds; it only moves later. Infinity: watch no more."""

    def expire(self) -> None:
        """Hear that the deadline has passed."""


class KeepAliveWatch:
    """Devices by the earliest time at which they can have fallen silent.

    Deadlines move with every packet, but here they are looked at only when an old one passes: most of the time that
    is once in 1.5 keep alives for each device. Devices that are gone may stay until then, but never more of them than
    of the others.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Watched]] = []
        self._gone = 0  # of them, told by `forget`
        self._numbers = count()  # decides between equal times
        self._sooner = trio.Event()

    def watch(self, device: Watched) -> None:
        """Watch a device until its deadline passes or becomes infinite."""
        at = device.deadline
        if not self._due or at < self._due[0][0]:
            self._sooner.set()
        heapq.heappush(self._due, (at, next(self._numbers), device))

    def forget(self) -> None:
        """Hear that a device which was watched has no deadline any more."""
        self._gone += 1
        if self._gone > 100 + len(self._due) // 2:
            self._due = [entry for entry in self._due if entry[2].deadline < float("inf")]
            heapq.heapify(self._due)
            self._gone = 0

    async def run(self) -> NoReturn:
        """Expire devices, for ever."""
        while True:
            self._sooner = trio.Event()
            with trio.CancelScope(deadline=self._due[0][0] if self._due else float("inf")):
                await self._sooner.wait()
            self._look(trio.current_time())

    def _look(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, number, device = heapq.heappop(self._due)
            if device.deadline <= now:
                device.expire()
            elif device.deadline < float("inf"):
                heapq.heappush(self._due, (device.deadline, number, device))
            else:
                self._gone -= 1
