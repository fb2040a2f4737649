"""Failed attempts of each address: after some of them it waits, longer each time (`BAD-INPUT` D10).

So many devices behind one address share its fate that a few failures cost nothing; and that whoever waits is told so
before any password is looked at.
"""

from collections import OrderedDict
from typing import Final

from mqttproxy.transport.addresses import counted_as

FIRST_WAIT: Final = 1.0  # seconds
MOST_DOUBLINGS: Final = 40
SWEPT: Final = 2  # entries whose time is over that one failure sweeps out; more than it adds


class Throttle:
    """See the module. Times are monotonic seconds."""

    def __init__(self, *, failures: int, window: float, ban: float, most: int = 100_000) -> None:
        """Make it.

        Args:
            failures: that cost nothing.
            window: seconds without one after which all are forgotten.
            ban: longest wait.
            most: addresses that are remembered; those that failed longest ago are forgotten.

        """
        self.failures, self.window, self.ban = failures, window, ban
        self._most = most
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()  # failures, and when the last one was

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._known)

    def wait_of(self, address: str, now: float) -> float:
        """Return the seconds that an address must wait before it may try; 0: it may."""
        count, last = self._known.get(counted_as(address), (0, 0.0))
        return max(0.0, last + self._wait(count) - now)

    def failed(self, address: str, now: float) -> None:
        """Count a failed attempt."""
        self._sweep(now)
        key = counted_as(address)
        count, last = self._known.pop(key, (0, now))
        if now - last >= self.window + self._wait(count):
            count = 0
        self._known[key] = (count + 1, now)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def _wait(self, count: int) -> float:
        over = count - self.failures
        return min(self.ban, FIRST_WAIT * 2 ** min(over, MOST_DOUBLINGS)) if over >= 0 else 0.0

    def _sweep(self, now: float) -> None:
        for _ in range(SWEPT):
            key = next(iter(self._known), None)
            if key is None:
                return
            count, last = self._known[key]
            if now - last < self.window + self._wait(count):
                return
            del self._known[key]
