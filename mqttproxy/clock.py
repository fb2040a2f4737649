"""The time of day for what is kept and expires: it does not jump by years because somebody sets the clock."""

from collections.abc import Callable
from typing import Final

from mqttproxy.telemetry.logs import get_log

FOLLOWED: Final = 86_400.0  # seconds: a larger step than this is not taken over before the next start
_LOG: Final = get_log(component="clock")


class SteadyWall:
    """Seconds since 1970, by the wall clock as long as that can be believed.

    What is too old is removed, so a clock that goes wrong by years would remove everything.
    """

    def __init__(self, wall: Callable[[], float], now: Callable[[], float]) -> None:
        """Begin by the wall clock.

        Args:
            wall: seconds since 1970.
            now: monotonic seconds.

        """
        self._wall: Final = wall
        self._now: Final = now
        self._ahead = wall() - now()
        self._told = False

    def __call__(self) -> float:
        """Return the time of day."""
        now, wall = self._now(), self._wall()
        step = wall - now - self._ahead
        if abs(step) <= FOLLOWED:
            self._ahead += step
            self._told = False
            return wall
        if not self._told:
            self._told = True
            _LOG.warning("the clock was set by more than a day: followed after the next start", seconds=step)
        return now + self._ahead
