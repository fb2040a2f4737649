"""One task that watches the keep alive of all devices, so that reading a message sets no timer."""

import heapq
from itertools import count
from typing import Final, NoReturn, Protocol

import trio

LATE: Final = 1.0  # seconds behind its time from which on the process has stood still, and what it waits then


class Watched(Protocol):
    """A device as the watch sees it."""

    @property
    def deadline(self) -> float:
        """When it must have been heard of, monotonic seconds; it only moves later. Infinity: watch no more."""

    def expire(self) -> None:
        """Hear that the deadline has passed."""


class Watch:
    """What stands for a watched device; it is let go of by `end`, though this may stay in the heap for hours."""

    __slots__ = ("at", "device", "number")

    def __init__(self, at: float, number: int, device: Watched) -> None:
        self.at = at
        self.number = number  # decides between equal times
        self.device: Watched | None = device

    def __lt__(self, other: "Watch") -> bool:
        """Put the sooner one first."""
        return (self.at, self.number) < (other.at, other.number)


class KeepAliveWatch:
    """Devices by the earliest time at which they can have fallen silent.

    Deadlines move with every packet, but here they are looked at only when an old one passes: most of the time that
    is once in 1.5 keep alives for each device.
    """

    def __init__(self) -> None:
        self._due: list[Watch] = []
        self._ended = 0  # of them
        self._numbers = count()
        self._sooner = trio.Event()

    def watch(self, device: Watched) -> Watch:
        """Watch a device until its deadline passes or becomes infinite, or `end` is called."""
        watch = Watch(device.deadline, next(self._numbers), device)
        if not self._due or watch.at < self._due[0].at:
            self._sooner.set()
        heapq.heappush(self._due, watch)
        return watch

    def end(self, watch: Watch) -> None:
        """Watch a device no more. Those that ended are taken out once they are more than the others."""
        if watch.device is None:
            return
        watch.device = None
        self._ended += 1
        if self._ended > 100 + len(self._due) // 2:
            self._due = [watch for watch in self._due if watch.device is not None]
            heapq.heapify(self._due)
            self._ended = 0

    async def run(self) -> NoReturn:
        """Expire devices, for ever."""
        while True:
            self._sooner = trio.Event()
            due = self._due[0].at if self._due else float("inf")
            with trio.CancelScope(deadline=due):
                await self._sooner.wait()
            if trio.current_time() > due + LATE:  # what devices said meanwhile may be in the kernel, and not read yet
                await trio.sleep(LATE)
            self._look(trio.current_time())

    def _look(self, now: float) -> None:
        while self._due and self._due[0].at <= now:
            watch = heapq.heappop(self._due)
            device = watch.device
            if device is None:
                self._ended -= 1
                continue
            watch.at = device.deadline
            if watch.at > now and watch.at < float("inf"):
                heapq.heappush(self._due, watch)
                continue
            watch.device = None
            if watch.at <= now:
                device.expire()
