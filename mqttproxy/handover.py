"""Between a device's acknowledgement and the destinations: tickets, the lane to each destination, the plan for a topic.

Messages of QoS 1 and 2 go through the spool, those of QoS 0 and of routes with `ack = "memory"` straight to their
destinations: what the spool or an outbox has no room for waits in the device's hands (its acknowledgement withheld, its
socket not read).
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import trio
from attrs import field, frozen
from msgspec import Struct

from mqttproxy.access import may_publish
from mqttproxy.config.model import LOCAL, Ack, Quorum, UpstreamSettings
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.spool import Entry, Spool, SpoolLane
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation.identity import Identity


class Origin(Protocol):
    """A device as the pipeline sees it."""

    identity: Identity
    pending: "deque[Ticket]"
    unacknowledged: int  # payload bytes of `pending`

    def acknowledge(self, now: float) -> None:
        """Acknowledge, in arrival order, every ticket at the head of `pending` that is done. `now`: monotonic."""

    def promise(self, packet_id: int) -> None:
        """Hear that a QoS 2 message is safe with the next commit of the sessions, and acknowledged after it."""

    def disconnect(self, reason: ReasonCode, words: str) -> None:
        """End the connection, telling an MQTT 5 device why."""


class Ticket(Struct):
    """One message whose acknowledgement waits. `needed` settlements are missing, `open` destinations have not answered.

    A QoS 0 message has one only while it waits for the quarantine commit.
    """

    origin: Origin
    packet_id: int
    qos: int
    size: int  # payload bytes
    received_at: float  # monotonic
    needed: int
    open: int
    may_drop: bool = False  # from an outbox, for a newer one
    number: int = 0  # of the message, unless it goes through the spool
    done: bool = False
    reason: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES

    def settle(self) -> bool:
        """Count one destination that has the message; returns whether the device can be acknowledged now."""
        self.open -= 1
        self.needed = needed = self.needed - 1
        if needed:
            return False
        self.done = True
        return True

    def await_one_more(self, *, instead: bool) -> None:
        """Count one more destination: the commit of the local sessions. `instead`: of waiting for all, any will do."""
        self.open += 1
        self.needed = 1 if instead else self.needed + 1

    def refuse(self) -> bool:
        """Count one destination that refused it; returns whether the device must be told, now or with the others."""
        needed = self.needed
        self.give_up()
        return self.needed < needed

    def give_up(self) -> bool:
        """Count one destination that will not get it: it was dropped, as the route says."""
        self.open -= 1
        if self.needed > self.open:
            self.needed = self.open
            if self.needed == 0:
                self.done = True
                return True
        return False


# A message and whom its fate is told to: its ticket. Of QoS 0, at first nobody, then the number of the message.
Item = tuple[Message, Ticket | int | None]


class Commits(Protocol):
    """The sessions' journal as the corridor sees it (`sessions.Journal`)."""

    noted: int  # changes since the start; more of them than before: something waits for a commit

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call it once everything noted so far is on disk; at once if it is."""


class Destination(Protocol):
    """An upstream as the lane sees it (`upstream.Upstream`)."""

    settings: UpstreamSettings

    @property
    def is_live(self) -> bool:
        """A link is up."""

    def offer(self, items: Sequence[tuple[Message, object]]) -> int:
        """Take the longest prefix that fits; return its length."""

    def force_oldest(
        self, items: Sequence[tuple[Message, object]], may_drop: Callable[[tuple[Message, object]], bool]
    ) -> list[object]:
        """Take all by dropping the oldest that may be dropped (and are counted there); return the tokens of those."""

    def count_dropped(self, messages: int, reason: str) -> None:
        """Count messages for it that were given up before it could take them."""

    async def wait_room(self) -> None:
        """Return when an offer may be taken again."""


class Lane:
    """The way to one destination, and how many messages wait in the hands of devices for a place in its outbox."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.waiting = 0
        self._congested = False  # a link that is up has not made room for QoS 0 in time

    def place(self, items: Sequence[Item], when_full: str) -> tuple[Sequence[Item], Sequence[Ticket]]:
        """Offer items; return those that must wait, and the tickets of those dropped."""
        taken = self.destination.offer(items)
        if taken == len(items):
            self._congested = False
            return (), ()
        rest = items[taken:]
        if when_full == "drop_oldest":
            return (), _tickets(self.destination.force_oldest(rest, _may_drop))
        if when_full == "drop_newest":
            self.destination.count_dropped(len(rest), "queue_full")
            return (), _tickets(token for _, token in rest)
        if self._congested or not self.destination.is_live:
            rest = self._shed(rest)
        self.waiting += len(rest)
        return rest, ()

    async def wait_and_place(self, items: Sequence[Item]) -> None:
        """Offer what had to wait until all is taken, in order.

        QoS 0 waits only a moment, and only for a link that is up: a device must not be held up by messages that nobody
        promised to keep.
        """
        rest = items
        try:
            with trio.move_on_after(self.destination.settings.qos0_patience):
                while rest:
                    await self.destination.wait_room()
                    rest = self._place_some(rest)
                return
            self._congested = True
            kept = self._shed(rest)
            self.waiting -= len(rest) - len(kept)
            rest = kept
            while rest:
                await self.destination.wait_room()
                rest = self._place_some(rest)
        finally:
            self.give_up(len(rest))  # the device is gone: what it was not acknowledged for it will send again

    def give_up(self, count: int) -> None:
        """Drop messages that were waiting, because nobody waits for them any more."""
        if count:
            self.waiting -= count
            self.destination.count_dropped(count, "connection_lost")

    def _place_some(self, rest: Sequence[Item]) -> Sequence[Item]:
        taken = self.destination.offer(rest)
        self.waiting -= taken
        return rest[taken:]

    def _shed(self, items: Sequence[Item]) -> Sequence[Item]:
        """Drop what is QoS 0."""
        kept = [item for item in items if item[0].qos]
        if len(kept) < len(items):
            self.destination.count_dropped(len(items) - len(kept), "queue_full")
        return kept


def release(tickets: Sequence[Ticket]) -> None:
    """Mark tickets done and let their devices be acknowledged."""
    for ticket in tickets:
        ticket.done = True
    now = trio.current_time()
    for origin in {ticket.origin for ticket in tickets}:
        origin.acknowledge(now)


def _may_drop(item: tuple[Message, object]) -> bool:
    """Tell whether a message that waits may be dropped for a newer one: not if its own route promises to wait."""
    token = item[1]
    return token.may_drop if isinstance(token, Ticket) else not isinstance(token, Entry)


def _tickets(tokens: Iterable[object]) -> list[Ticket]:
    return [token for token in tokens if isinstance(token, Ticket)]


@frozen
class Plan:
    """Where the messages of one topic go, under one ruleset."""

    lanes: tuple[Lane, ...]  # straight to each destination
    local: bool  # subscribers are served by the proxy itself
    when_full: str
    needed: int  # destinations that must acknowledge before the device is acknowledged
    refusal: ReasonCode  # SUCCESS, or why nobody may publish here
    drop: bool  # no route, and the settings say to drop
    names: tuple[str, ...]  # of all destinations, for the audit trail
    awaits_commit: bool = False  # what local sessions must not lose is on disk before the device is acknowledged
    spool: SpoolLane | None = None  # the way of QoS 1 and 2, if it is another one
    width: int = field(init=False)  # how many will answer, the spool's commit counting as one
    special: bool = field(init=False)
    may_drop: bool = field(init=False)  # its messages may be dropped from an outbox for newer ones

    @width.default
    def _count(self) -> int:
        return 1 if self.spool is not None and not self.spool.waits else len(self.lanes)

    @may_drop.default
    def _is_droppable(self) -> bool:
        return self.when_full == "drop_oldest"

    @special.default
    def _is_special(self) -> bool:
        return bool(self.refusal) or self.drop


def make_plan(
    topic: str, routes: RouteTable, lanes: Mapping[str, Lane], spool: "SpoolLanes", *, drop_unrouted: bool
) -> Plan:
    """Work out where a topic's messages go."""
    route = routes.route_for(topic)
    refusal = may_publish(topic)
    if route is None:
        drop = drop_unrouted and not refusal
        reason = refusal if refusal or drop else ReasonCode.TOPIC_NAME_INVALID
        return Plan((), False, "wait", 0, reason, drop, ())
    names = tuple(name for name in route.destinations if name != LOCAL)
    local = routes.home_of(topic) == LOCAL
    chosen = tuple(lanes[name] for name in names)
    awaits = local and route.ack != "memory"
    everywhere = (*names, LOCAL) if local else names
    if not names or route.ack == "memory":
        return Plan(chosen, local, route.when_full, 0, refusal, False, everywhere, awaits)
    # Where the local sessions have it with their commit, which is that of the spool, `any` is met.
    waits = route.ack != "spool" and not (route.ack == "any" and local)
    needed = min(_needed(route.ack, len(names)), len(names)) if waits else 1
    lane = spool.lane(names, waits=waits, patience=route.patience, may_drop=route.when_full == "drop_oldest")
    return Plan(chosen, local, route.when_full, needed, refusal, False, everywhere, awaits, lane)


def _needed(ack: Ack, destinations: int) -> int:
    """Return how many destinations must acknowledge."""
    if isinstance(ack, Quorum):
        return ack.destinations
    return destinations if ack == "all" else 1


class SpoolLanes:
    """The ways into the spool: one for all messages with the same destinations and acknowledgement."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lanes: dict[tuple[object, ...], SpoolLane] = {}

    @property
    def waiting(self) -> int:
        """Messages in the hands of devices, until the spool has room."""
        return sum(lane.waiting for lane in self._lanes.values())

    def lane(self, names: Sequence[str], *, waits: bool, patience: float | None, may_drop: bool) -> SpoolLane:
        """Return the lane, made if there is none."""
        key = (names, waits, patience, may_drop)
        found = self._lanes.get(key)
        if found is None:
            share = self._spool.share_of(names, may_drop=may_drop)
            found = self._lanes[key] = SpoolLane(self._spool, share, waits=waits, patience=patience)
        return found
