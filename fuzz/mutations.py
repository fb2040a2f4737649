"""Inputs made of others: cheap changes to bytes, because millions of inputs an hour are wanted."""

import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

LONGEST: Final = 4096  # bytes of an input, all but a few
LONGEST_BLOWN: Final = 64 * 1024 - 1  # of those few, which look for work that grows faster than its input
BLOWN: Final = 1 / 500  # their share
_INTERESTING: Final = (
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff",
    b"\x80\x80",
    b"\0\0",
    b"+",
    b"#",
    b"/",
    b"$",
)


class Mutator:
    """Makes inputs of a pool of them."""

    def __init__(
        self, rng: random.Random, pool: list[bytes], words: Sequence[bytes] = (), largest: int = LONGEST_BLOWN
    ) -> None:
        """Make it.

        Args:
            rng: all that is left to chance.
            pool: inputs, at least one; others may join.
            words: what means something to the target.
            largest: bytes of an input.

        """
        self._rng = rng
        self._pool = pool
        self._largest = largest
        self._words = (*_INTERESTING, *words)
        self._changes: tuple[Callable[[bytearray, int], None], ...] = (
            self._flip, self._count, self._put, self._put, self._drop, self._repeat, self._splice,
        )  # fmt: skip

    def next(self) -> bytes:
        """Return one of the pool with one to four changes, or, seldom, with a piece of it many times."""
        chance = self._rng.random
        data = bytearray(self._any(self._pool) or b"\0")
        if chance() < BLOWN:
            return self._blown(data)
        for _ in range(1 + int(chance() * 4)):
            self._any(self._changes)(data, int(chance() * (len(data) + 1)))
        return bytes(data[: min(LONGEST, self._largest)])

    def _any(self, among: Sequence[T]) -> T:
        return among[int(self._rng.random() * len(among))]

    def _flip(self, data: bytearray, place: int) -> None:
        if place < len(data):
            data[place] ^= 1 << int(self._rng.random() * 8)

    def _count(self, data: bytearray, place: int) -> None:
        if place < len(data):
            data[place] = (data[place] + (1, 255, 2, 254)[int(self._rng.random() * 4)]) & 255

    def _put(self, data: bytearray, place: int) -> None:
        piece = self._any(self._words)
        data[place : place + (len(piece) if self._rng.random() < 0.5 else 0)] = piece

    def _drop(self, data: bytearray, place: int) -> None:
        del data[place : place + 1 + int(self._rng.random() * 8)]

    def _repeat(self, data: bytearray, place: int) -> None:
        data[place:place] = data[place : place + 1 + int(self._rng.random() * 64)]

    def _splice(self, data: bytearray, place: int) -> None:
        other = self._any(self._pool)
        data[place:] = other[int(self._rng.random() * (len(other) + 1)) :]

    def _blown(self, data: bytearray) -> bytes:
        start = int(self._rng.random() * len(data))
        piece = data[start : start + 1 + int(self._rng.random() ** 3 * 64)]
        data[start:start] = piece * (int(self._rng.random() ** 2 * self._largest) // len(piece))
        return bytes(data[: self._largest])
