"""When a broker says "not now" to a message: how long nothing is published, and how it begins again.

What it refused so goes back to the head of the outbox. After the pause, and once everything that is in flight is
answered, one message is tried; when the broker takes it, all goes on, and the next pause is short again.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.backoff import Backoff

# What a PUBACK or PUBREC says of the broker's state, not of the message. Every other failure is final. Server busy
# (0x89) is not among what they may say [MQTT 5.0, 3.4.2.1]: a broker that says it breaks the protocol.
TRANSIENT: Final = frozenset({
    ReasonCode.UNSPECIFIED_ERROR,
    ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
    ReasonCode.QUOTA_EXCEEDED,
})  # fmt: skip

FIRST_PAUSE: Final = 1.0  # ceiling of the first pause, in seconds; full jitter
SHORTEST_PAUSE: Final = 0.1  # seconds, whatever chance says
NO_LIMIT: Final = 1 << 62


class Pause:
    """One upstream's pauses. `now` is monotonic seconds, from the same clock in every call.

    Attributes:
        reason: in words why nothing is published; None: it is.
        until: when it is tried again; infinity: there is no pause.

    Args:
        ceiling: longest pause, in seconds.
        chance: as `random.random`.

    """

    def __init__(self, *, ceiling: float, chance: Callable[[], float]) -> None:
        self._backoff = Backoff(first=FIRST_PAUSE, ceiling=ceiling, reset=inf, chance=chance)
        self._worked = False  # since the last pause
        self.reason: str | None = None
        self.until = inf

    def begin(self, reason: ReasonCode, now: float) -> bool:
        """Pause because of this answer. False: that pause is on already."""
        if self.reason is not None and now < self.until:
            return False
        delay = self._backoff.next_delay(inf if self._worked else 0.0)
        self._worked = False
        self.reason = reason.name.lower().replace("_", " ")
        self.until = now + max(delay, SHORTEST_PAUSE)
        return True

    def allows(self, now: float, in_flight: int) -> int:
        """Return how many messages may be published now."""
        if self.reason is None:
            return NO_LIMIT
        return 1 if now >= self.until and not in_flight else 0

    def worked(self, now: float, in_flight: int) -> bool:
        """Hear that the broker took something; returns whether that ends the pause.

        What was in flight before says nothing: only what is taken after the pause, with nothing left in flight.
        """
        if self.reason is None:
            self._worked = True
            return False
        if now < self.until or in_flight:
            return False
        self._worked = True
        self.reason, self.until = None, inf
        return True
