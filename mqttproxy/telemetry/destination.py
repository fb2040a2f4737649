"""One destination as metrics tell it, and the books that it must balance."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from attrs import frozen

BreakerState = Literal["closed", "open", "half-open"]
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


@frozen(kw_only=True)
class DestinationSnapshot:
    """One destination at one moment. The room that carries to it keeps the numbers; counts are since its start."""

    name: str
    kind: str  # "mqtt", "local"
    connected: bool  # a link is up
    breaker_state: BreakerState = "closed"
    breaker_reason: str = ""  # for people: not a label
    breaker_next_trial: float = 0.0  # in so many seconds; 0: it is not open
    trouble: str = ""  # the kind of failure that was the last; empty: since then it works
    queued: int = 0  # messages that wait for the link
    queued_bytes: int = 0
    in_flight: int = 0  # sent, not yet acknowledged
    waiting: int = 0  # in the hands of devices, until there is a place in the outbox
    spooled: int = 0  # on disk, or on their way there, and not in the outbox yet
    spooled_bytes: int = 0
    lagging: bool = False  # what it gets is read from the disk, because it could not keep up
    offered: int = 0  # meant for it
    delivered: int = 0  # acknowledged by the destination; QoS 0: written
    refused: int = 0  # answered negatively, or too large for it
    dropped: Mapping[str, int] = _NONE  # given up, by reason
    reconnects: int = 0
    insecure: bool = False  # its certificate is not checked
    unplaced: int = 0  # messages it sent whose topics have no name here
    unclaimed: int = 0  # messages it sent that nobody waited for: retained, or for former subscriptions
    contested: bool = False  # somebody else uses our client identifier there
    paused: bool = False  # it said "not now" to a message, and nothing is published for a while
    pauses: int = 0
    put_back: int = 0  # messages it said so of, which wait again
    suspects: int = 0  # messages that go alone, because links were lost with them
    poisoned: int = 0  # of those refused, taken out because they kill links

    def books(self) -> tuple[int, int]:
        """Return offered, and everything that became of it. They are equal or there is a bug."""
        held = self.waiting + self.spooled + self.queued + self.in_flight
        return self.offered, self.delivered + held + self.refused + sum(self.dropped.values())
