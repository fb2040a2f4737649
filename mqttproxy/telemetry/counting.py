"""What numbers are made of: a count for each label, bounded; and how often a value fell into each range."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

OTHER: Final = "other"  # the label that stands for all labels beyond the limit of a BoundedCounter
MAX_LABELS: Final = 64


class BoundedCounter(dict[str, int]):
    """A count for each label; what comes after the first `limit` labels is counted together as "other".

    Labels are never removed, so a gauge kept in here goes down under the same label under which it went up.
    """

    __slots__ = ("limit",)

    def __init__(self, limit: int = MAX_LABELS) -> None:
        super().__init__()
        self.limit = limit

    def add(self, label: str, n: int = 1) -> None:
        """Count `n` more (or, for a gauge, fewer when negative) under the label."""
        if label not in self and len(self) >= self.limit:
            label = OTHER  # one more than the limit, so that the books stay whole
        self[label] = self.get(label, 0) + n

    def total(self) -> int:
        """Return the sum over all labels."""
        return sum(self.values())


class Histogram:
    """How often a value fell into each of some ranges; the shape of a Prometheus histogram without its price."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Make an empty one.

        Args:
            bounds: upper ends of the ranges, inclusive, rising; the range above the last is added by itself.

        """
        if not bounds or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("the bounds of a histogram must rise")
        self.bounds: Final = tuple(bounds)
        self.counts: Final = [0] * (len(bounds) + 1)
        self.total: float = 0.0

    def observe(self, value: float, n: int = 1) -> None:
        """Count `n` things that measured `value` each: a batch is observed as its mean and its length."""
        self.counts[bisect_left(self.bounds, value)] += n
        self.total += value * n

    def count(self) -> int:
        """Return how many were observed."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Return each bound with how many were at most that; the last bound is infinity."""
        told, so_far = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            so_far += count
            told.append((bound, so_far))
        return told
