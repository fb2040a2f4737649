"""What an input may cost, and what many of them may leave behind."""

import gc
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import thread_time
from types import FrameType
from typing import Final

from attrs import define, field

LONGEST_CPU: Final = 0.05  # seconds of work: others may keep us waiting
TRIES: Final = 5  # the shortest counts: a collection of garbage or a cold cache is no fault of the input
HANGS: Final = 10.0  # seconds of CPU after which an input is given up
OBJECTS: Final = 5_000  # more than this, over a run, is growth
RESIDENT: Final = 24 * 1024 * 1024  # bytes, likewise: allocators keep some, so that it has to be much
SAMPLES: Final = 16  # over the part of a run in which it may not grow

_PAGE: Final = resource.getpagesize()


class HangError(BaseException):
    """An input takes for ever. No Exception: whatever the target catches, it must not catch this."""


@contextmanager
def watched() -> Iterator[None]:
    """Raise HangError in whatever goes on for more than HANGS seconds of CPU."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"more than {HANGS:g} s of CPU")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, HANGS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def wind() -> None:
    """Begin the time of `watched` anew."""
    signal.setitimer(signal.ITIMER_PROF, HANGS)


@define
class Growth:
    """Memory at intervals, after everything has been met once."""

    every: float  # seconds between two samples
    _due: float = 0.0
    _samples: list[tuple[int, int]] = field(factory=list)  # objects and resident bytes

    def look(self, now: float, *, own: int) -> None:
        """Take a sample if it is time to. `own`: objects that the run itself keeps."""
        if now < self._due:
            return
        self._due = now + self.every
        gc.collect()
        self._samples.append((len(gc.get_objects()) - own, resident()))

    @property
    def objects(self) -> int:
        """How many more there are at the end than at the beginning; the fewest of each third count."""
        return self._grown(0)

    @property
    def resident(self) -> int:
        """How many more bytes, likewise."""
        return self._grown(1)

    def fault(self) -> str:
        """Return in words what has grown, or nothing. What has been the same for the last third does not grow."""
        if len(self._samples) < SAMPLES // 2:
            return ""
        if self.objects > OBJECTS and self._still_grows(0):
            return f"{self.objects} objects more than at the beginning"
        if self.resident > RESIDENT and self._still_grows(1):
            return f"{self.resident >> 20} MiB more than at the beginning"
        return ""

    def _grown(self, which: int) -> int:
        third = len(self._samples) // 3
        if not third:
            return 0
        values = [sample[which] for sample in self._samples]
        return min(values[-third:]) - min(values[:third])

    def _still_grows(self, which: int) -> bool:
        values = [sample[which] for sample in self._samples]
        third = len(values) // 3
        return min(values[-third:]) > max(values[:third]) and min(values[-third:]) > min(values[third:-third])


def resident() -> int:
    """Return how many bytes of memory this process has."""
    return int(Path(f"/proc/{os.getpid()}/statm").read_bytes().split()[1]) * _PAGE


def cpu() -> float:
    """Return how many seconds this thread has worked."""
    # Not the process: its clock goes by ticks of some milliseconds while the timer of `watched` is set.
    return thread_time()
