"""Identifiers of held messages, also used as names of payload files: ULIDs, so that they sort by time."""

import os
from collections.abc import Callable
from itertools import product
from typing import Final

_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_PAIRS: Final = tuple("".join(pair) for pair in product(_LETTERS, repeat=2))
_CHANCE_BITS: Final = 80


class IdFactory:
    """Makes ULIDs: 48 bits of milliseconds, 80 bits of chance, written with 26 letters.

    They increase strictly within one factory, also within a millisecond and when the clock is set back.
    """

    def __init__(self, now: Callable[[], float], chance: Callable[[int], bytes] = os.urandom) -> None:
        """Make one.

        Args:
            now: seconds since 1970.
            chance: returns that many random bytes.

        """
        self._now: Final = now
        self._chance: Final = chance
        self._last = 0

    def __call__(self) -> str:
        """Return a new identifier."""
        milliseconds = int(self._now() * 1000)
        if milliseconds > self._last >> _CHANCE_BITS:
            self._last = milliseconds << _CHANCE_BITS | int.from_bytes(self._chance(_CHANCE_BITS // 8), "big")
        else:
            self._last += 1
        rest = self._last
        return "".join([_PAIRS[rest >> shift & 1023] for shift in range(120, -1, -10)])
