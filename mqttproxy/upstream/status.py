"""What operators and metrics see of one upstream."""

from math import inf

from attrs import frozen

from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.upstream.books import Books
from mqttproxy.upstream.breaker import BreakerStatus
from mqttproxy.upstream.errors import Trouble


@frozen(kw_only=True)
class UpstreamStatus:
    """What an operator sees of one upstream. Times on trio's clock."""

    name: str
    url: str
    connected: bool
    since: float  # when it became connected, or ceased to be
    last_error: str | None  # in words; stays until a link has proved itself
    last_trouble: Trouble | None  # of which kind that was
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


def as_json(status: UpstreamStatus, now: float) -> dict[str, object]:
    """Return what programs read of it: moments as seconds from now, or since."""
    breaker = status.breaker
    return {
        "name": status.name,
        "kind": "mqtt",
        "url": status.url,
        "connected": status.connected,
        "since": _seconds(now - status.since if status.since > -inf else None),
        "last_error": status.last_error,
        "next_try": _until(status.next_try, now),
        "breaker": {
            "state": breaker.state.value,
            "reason": breaker.reason,
            "next_trial": _until(breaker.next_trial, now),
        },
        "paused": status.paused,
        "resumes": _until(status.resumes, now),
        "contested": status.contested,
        "insecure": status.insecure,
        "suspects": status.suspects,
        "queued": status.queued,
        "in_flight": status.in_flight,
    }


def _until(moment: float | None, now: float) -> float | None:
    return None if moment is None else _seconds(max(0.0, moment - now))


def _seconds(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def as_snapshot(
    status: UpstreamStatus, books: Books, *, now: float, queued_bytes: int, unplaced: int, unclaimed: int
) -> DestinationSnapshot:
    """Return the numbers that metrics tell."""
    breaker, trouble = status.breaker, status.last_trouble
    return DestinationSnapshot(
        name=status.name,
        kind="mqtt",
        connected=status.connected,
        breaker_state=breaker.state.value,
        breaker_reason=breaker.reason or "",
        breaker_next_trial=_until(breaker.next_trial, now) or 0.0,
        trouble="" if trouble is None else trouble.value.replace(" ", "_"),
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
