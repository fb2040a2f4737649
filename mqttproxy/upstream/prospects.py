"""When a broker is dialled again: what its failures so far say, by backoff, breaker and the kind of failure."""

from collections.abc import Callable
from math import inf
from typing import Final

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.upstream.backoff import Backoff
from mqttproxy.upstream.breaker import Breaker, BreakerState, BreakerStatus
from mqttproxy.upstream.errors import LinkError, Trouble

SHORTEST_ROUND: Final = 1.0  # seconds from one try to the next, unless the first backoff is set shorter
TAKEOVERS: Final = 3  # in a row: somebody else lives under our client identifier, and dialling at once only annoys both


class Prospects:
    """One upstream's prospects. `now` is monotonic seconds, from the same clock in every call.

    Attributes:
        last_error: the last failure in words; None once a link has proved itself since.
        last_trouble: of which kind it was.

    """

    def __init__(self, settings: UpstreamSettings, chance: Callable[[], float]) -> None:
        self._chance = chance
        self.last_error: str | None = None
        self.last_trouble: Trouble | None = None
        self.begin_anew(settings)

    def begin_anew(self, settings: UpstreamSettings) -> None:
        """Forget all failures, because the settings changed."""
        self._backoff = Backoff(
            first=settings.backoff_first,
            ceiling=settings.backoff_ceiling,
            reset=settings.backoff_reset,
            chance=self._chance,
        )
        self._breaker = Breaker(
            failures=settings.breaker_failures, ratio=settings.breaker_ratio, open_for=settings.breaker_open
        )
        self._reset = settings.backoff_reset
        self._shortest_round = min(SHORTEST_ROUND, settings.backoff_first)
        self._next_try = -inf
        self._takeovers = 0

    @property
    def state(self) -> BreakerState:
        """Where the breaker stands."""
        return self._breaker.state

    @property
    def trial_ends(self) -> float:
        """When the running trial must have come to a verdict; infinity when there is none."""
        return self._breaker.trial_ends

    def breaker(self) -> BreakerStatus:
        """Return a snapshot of the breaker."""
        return self._breaker.status()

    def due(self, now: float) -> float:
        """Return when `admit` is worth asking."""
        return max(self._next_try, self._breaker.admits_at(now))

    def admit(self, now: float) -> bool:
        """Say whether to dial now; True begins a try, which must end in `failed` or go on for good."""
        if now < self._next_try or not self._breaker.admit(now):
            return False
        self._next_try = now + self._shortest_round
        return True

    def proved(self, now: float) -> None:
        """Count a link that carried a message to the end, or lasted."""
        self.last_error = self.last_trouble = None
        self._breaker.succeeded(now)

    def failed(self, error: LinkError, lasted: float, now: float) -> None:
        """Count a failure, after a link that lasted so many seconds (0: none came up)."""
        self.last_error = str(error)
        delay = self._backoff.next_delay(lasted)
        self.last_trouble = error.trouble
        if lasted >= self._reset:
            self._takeovers = 0
        if error.trouble is Trouble.TAKEN_OVER:
            self._takeovers += 1
        if error.trouble is Trouble.REFUSED or self.is_contested:
            delay = max(delay, self._backoff.ceiling, SHORTEST_ROUND)
        self._next_try = max(self._next_try, now + delay)
        if error.trouble.counts:
            self._breaker.failed(now, str(error))
        else:
            self._breaker.answered()

    @property
    def is_contested(self) -> bool:
        """True while somebody else takes our session over again and again."""
        return self._takeovers >= TAKEOVERS
