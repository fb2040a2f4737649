"""How tests wait for what other processes and threads do: until it is done, with patience for the slowest machine."""

import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

# Seconds for anything that must happen, on a slow machine that does something else too. Only a failure takes so long:
# where it matters how long something takes, the test says so itself.
PATIENCE: Final = 60.0

SHORTEST: Final = 0.005  # seconds between two looks
LONGEST: Final = 0.1

T = TypeVar("T")


def wait_until(look: Callable[[], T], what: str = "", patience: float = PATIENCE) -> T:
    """Return what `look` returns as soon as it is true. For what happens in another process: nothing tells us."""
    end = time.monotonic() + patience
    for pause in _pauses():
        if found := look():
            return found
        assert time.monotonic() < end, f"waited {patience:g} s for {what or look}"
        time.sleep(pause)
    raise AssertionError


def wait_for_none(count: Callable[[], float], what: str, patience: float = PATIENCE) -> None:
    """Wait until none are left. Patience begins anew whenever there are fewer: how many there were is no matter."""
    least, end = count(), time.monotonic() + patience
    for pause in _pauses():
        if not least:
            return
        assert time.monotonic() < end, f"{least:g} {what} are left since {patience:g} s"
        time.sleep(pause)
        if (left := count()) < least:
            least, end = left, time.monotonic() + patience


def _pauses() -> Iterator[float]:
    """Yield how long to wait before each look: those who look all the time slow down what they wait for."""
    pause = SHORTEST
    while True:
        yield pause
        pause = min(LONGEST, pause * 1.2)
