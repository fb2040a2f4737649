"""How long to wait before dialling again: exponential, with full jitter."""

from collections.abc import Callable


class Backoff:
    """Counts the waits of one upstream.

    Full jitter (any part of the current ceiling) spreads a thousand proxies that lost the same broker at the same
    moment.

    Args:
        first: ceiling of the first wait, in seconds; it doubles with every further one.
        ceiling: highest such ceiling, in seconds.
        reset: a link that lasted this many seconds starts again at `first`. One that is accepted and dropped
            at once does not, or a broker in a crash loop would be dialled every second.
        chance: gives a number from 0 up to 1, as `random.random` does.

    """

    def __init__(self, *, first: float, ceiling: float, reset: float, chance: Callable[[], float]) -> None:
        self._first = min(first, ceiling)
        self._ceiling = ceiling
        self._reset = reset
        self._chance = chance
        self._bound = self._first

    @property
    def ceiling(self) -> float:
        """The longest wait, in seconds."""
        return self._ceiling

    def next_delay(self, lasted: float) -> float:
        """Return the seconds to wait, after a link that lasted so many seconds (0: it never came up)."""
        if lasted >= self._reset:
            self._bound = self._first
        delay = self._bound * self._chance()
        # Doubling under a ceiling, not `first * 2**n`, which overflows after some hours of outage.
        self._bound = min(self._bound * 2, self._ceiling)
        return delay
