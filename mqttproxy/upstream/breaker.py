"""Whether to try a broker at all: closed (traffic flows), open (nothing is tried), half-open (one trial).

It counts links: a failure is a link that fell silent, was lost, or was turned away because the broker is busy. A
broker's "not authorised" is an answer, not a failure of the link, and never opens it.
"""

from collections import deque
from enum import Enum
from math import inf
from typing import Final

from attrs import frozen

WINDOW: Final = 30.0  # seconds that the ratio of failures looks back
WINDOW_ATTEMPTS: Final = 20  # attempts within the window before the ratio says anything
WINDOW_KEPT: Final = 1000  # attempts remembered at most, whatever the window holds
OPEN_CEILING: Final = 300.0  # longest time open, in seconds
HALF_OPEN_LIMIT: Final = 60.0  # a trial without a verdict after so many seconds has failed


class BreakerState(Enum):
    """Traffic flows, is stopped, or one trial is made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@frozen
class BreakerStatus:
    """What an operator sees. `next_trial` on the caller's clock, None unless open; `reason`: why it opened."""

    state: BreakerState
    reason: str | None
    next_trial: float | None


class Breaker:
    """One upstream's breaker. `now` is monotonic seconds, from the same clock in every call.

    Args:
        failures: failures in a row that open it.
        ratio: share of failures, of at least 20 attempts within 30 s, that opens it.
        open_for: seconds it stays open at first; doubles with every failed trial, up to 300.

    """

    def __init__(self, *, failures: int, ratio: float, open_for: float) -> None:
        self._failures = failures
        self._ratio = ratio
        self._first_open = open_for
        self._open_for = open_for
        self._in_a_row = 0
        self._attempts: deque[tuple[float, bool]] = deque(maxlen=WINDOW_KEPT)
        self._next_trial = inf
        self._trial_ends = inf
        self._reason: str | None = None
        self.state = BreakerState.CLOSED

    def admit(self, now: float) -> bool:
        """Say whether a link may be tried now; in the open state, a True begins the one trial."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.HALF_OPEN and now >= self._trial_ends:
            self.failed(now, "the trial came to no end")
        if self.state is BreakerState.OPEN and now >= self._next_trial:
            self.state = BreakerState.HALF_OPEN
            self._trial_ends = now + HALF_OPEN_LIMIT
            return True
        return False

    def admits_at(self, now: float) -> float:
        """Return when `admit` is worth asking again: `now` or later."""
        if self.state is BreakerState.CLOSED:
            return now
        return max(now, self._next_trial if self.state is BreakerState.OPEN else self._trial_ends)

    @property
    def trial_ends(self) -> float:
        """When the running trial must have come to a verdict; infinity when there is none."""
        return self._trial_ends

    def succeeded(self, now: float) -> None:
        """Count a link that has proved itself: it carried something to the end, or it lasted."""
        self._attempts.append((now, False))
        self._in_a_row = 0
        self.answered()

    def answered(self) -> None:
        """End a trial because the broker answered, if only to refuse us: it is there. Counts as nothing else."""
        if self.state is BreakerState.CLOSED:
            return
        self.state = BreakerState.CLOSED
        self._open_for = self._first_open
        self._in_a_row = 0
        self._attempts.clear()
        self._next_trial = self._trial_ends = inf
        self._reason = None

    def failed(self, now: float, reason: str) -> None:
        """Count a link that fell silent, was lost, or was turned away as busy."""
        if self.state is BreakerState.OPEN:
            return
        self._attempts.append((now, True))
        self._in_a_row += 1
        if self.state is BreakerState.HALF_OPEN:
            self._open_for = min(self._open_for * 2, OPEN_CEILING)
            self._open(now, reason)
        elif self._in_a_row >= self._failures or self._too_many(now):
            self._open(now, reason)

    def status(self) -> BreakerStatus:
        """Return a snapshot."""
        trial = self._next_trial if self.state is BreakerState.OPEN else None
        return BreakerStatus(self.state, self._reason, trial)

    def _open(self, now: float, reason: str) -> None:
        self.state = BreakerState.OPEN
        self._reason = reason
        self._next_trial = now + self._open_for
        self._trial_ends = inf

    def _too_many(self, now: float) -> bool:
        attempts = self._attempts
        while attempts[0][0] <= now - WINDOW:
            attempts.popleft()
        failed = sum(was_failure for _, was_failure in attempts)
        return len(attempts) >= WINDOW_ATTEMPTS and failed >= self._ratio * len(attempts)
