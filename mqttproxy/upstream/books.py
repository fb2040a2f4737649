"""The books of one upstream: every message taken is somewhere, or was given up for a reason that has a name."""

from collections.abc import Iterable

from mqttproxy.upstream.outbox import Item


class Books:
    """Plain counters since the start of the process. Bytes are payload bytes.

    At every moment: offered == delivered + queued + in flight + dropped of every reason + refused.
    """

    __slots__ = (
        "answers",
        "connects",
        "delivered",
        "delivered_bytes",
        "dropped",
        "failures",
        "in_flight_bytes",
        "offered",
        "pauses",
        "poisoned",
        "put_back",
        "received",
        "received_bytes",
        "refused",
    )

    def __init__(self) -> None:
        self.offered = 0  # taken from the pipeline
        self.delivered = 0  # acknowledged by the broker, or written at QoS 0
        self.delivered_bytes = 0
        self.refused = 0  # answered in the negative by the broker, too large for it, or taken out as poison
        self.poisoned = 0  # of these, taken out because they kill links
        self.dropped: dict[str, int] = {}  # reason to count
        self.in_flight_bytes = 0  # of messages sent and not yet acknowledged; the session has the messages themselves
        self.received = 0  # messages the broker sent
        self.received_bytes = 0
        self.answers = 0  # reads that settled something
        self.pauses = 0  # times that the broker said "not now"
        self.put_back = 0  # messages it said so of, which wait again
        self.connects = 0  # links that came up
        self.failures = 0  # links that were lost, and attempts that led to none

    def drop(self, messages: int, reason: str) -> None:
        """Count messages that were given up."""
        self.dropped[reason] = self.dropped.get(reason, 0) + messages

    def check(self, *, queued: int, in_flight: int) -> None:
        """Raise AssertionError unless the books balance. For tests."""
        accounted = self.delivered + queued + in_flight + sum(self.dropped.values()) + self.refused
        assert self.offered == accounted, (self.offered, accounted)  # noqa: S101  # the very purpose


def size_of(items: Iterable[Item]) -> int:
    """Return the payload bytes of these items."""
    return sum([len(item[0].payload) for item in items])
