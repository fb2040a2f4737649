"""What operators and metrics see of one upstream."""

from attrs import frozen

from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.upstream.books import Books
from mqttproxy.upstream.breaker import BreakerStatus


@frozen(kw_only=True)
class UpstreamStatus:
    """What an operator sees of one upstream. Times on trio's clock."""

    name: str
    url: str
    connected: bool
    since: float  # when it became connected, or ceased to be
    last_error: str | None  # in words; stays until a link has proved itself
    next_try: float | None  # when it is dialled again; None: connected, or being dialled
    breaker: BreakerStatus
    contested: bool  # somebody else uses our client identifier
    paused: str | None  # why nothing is published for a while, in words: the broker said "not now"
    resumes: float | None  # when it is tried again
    suspects: int  # messages that go alone, because links were lost with them
    insecure: bool  # its certificate is not checked
    queued: int
    in_flight: int

    @property
    def ill(self) -> str:
        """Say in words what is wrong with it; empty: nothing."""
        parts = []
        if not self.connected:
            parts.append(self.last_error or "connecting")
        if self.contested:
            parts.append("somebody else uses our client identifier")
        if self.paused is not None:
            parts.append(f"paused: {self.paused}")
        if self.breaker.state.value != "closed":
            parts.append(f"breaker {self.breaker.state.value}")
        return "; ".join(parts)


def as_snapshot(
    status: UpstreamStatus, books: Books, *, queued_bytes: int, unplaced: int, unclaimed: int
) -> DestinationSnapshot:
    """Return the numbers that metrics tell."""
    return DestinationSnapshot(
        name=status.name,
        kind="mqtt",
        connected=status.connected,
        breaker_state=status.breaker.state.value,
        breaker_reason=status.breaker.reason or "",
        queued=status.queued,
        queued_bytes=queued_bytes,
        in_flight=status.in_flight,
        offered=books.offered,
        delivered=books.delivered,
        refused=books.refused,
        dropped=dict(books.dropped),
        reconnects=max(0, books.connects - 1),
        insecure=status.insecure,
        unplaced=unplaced,
        unclaimed=unclaimed,
        contested=status.contested,
        paused=status.paused is not None,
        pauses=books.pauses,
        put_back=books.put_back,
        suspects=status.suspects,
        poisoned=books.poisoned,
    )
