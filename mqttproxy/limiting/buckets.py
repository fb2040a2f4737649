"""What has gone through lately, in several windows at once: the generic cell rate algorithm, one number a window.

A window of 10 in 1 s is a bucket that holds 10 and is filled again by 10 a second. So what fits a strict count over the
last second always goes through, and within any time of T seconds never more than 10 + 10 x T do.
"""

from collections.abc import Sequence
from typing import Final

from attrs import frozen

# Of a unit: what is computed from times is not exact, and 10 messages must fit into a window of 10.
_SLACK: Final = 1e-6


@frozen
class Window:
    """So much in so many seconds."""

    amount: int
    seconds: float

    @property
    def each(self) -> float:
        """Seconds after which there is room for one more."""
        return self.seconds / self.amount


class Bucket:
    """The windows of one key. Times are monotonic seconds, from the same clock in every call."""

    __slots__ = ("__weakref__", "_full_at", "_windows")

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._full_at = [float("-inf")] * len(windows)  # when there will be room for the whole amount again

    def room(self, now: float) -> int:
        """Return how much may go through now; 0 or less: nothing."""
        least = float("inf")
        for window, full_at in zip(self._windows, self._full_at, strict=True):
            free = window.amount if full_at <= now else window.amount - (full_at - now) / window.each
            least = min(least, free)
        return int(least + _SLACK) if least > -_SLACK else -1

    def wait(self, now: float, units: int = 1) -> float:
        """Return in how many seconds there is room for so much; 0: now.

        More than a window can ever hold is let through when all of it is free.
        """
        longest = 0.0
        for window, full_at in zip(self._windows, self._full_at, strict=True):
            wanted = min(units, window.amount) - _SLACK
            longest = max(longest, full_at - now - (window.amount - wanted) * window.each)
        return longest

    def take(self, now: float, units: int = 1) -> None:
        """Count what goes through, or will: who waits for its turn is counted already. It may be more than the room."""
        for index, window in enumerate(self._windows):
            self._full_at[index] = max(self._full_at[index], now) + units * window.each

    def is_full(self, now: float) -> bool:
        """Return whether nothing is remembered: it is as if it were new."""
        return all(full_at <= now for full_at in self._full_at)
