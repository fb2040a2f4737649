"""What a device leaves unfinished when its connection ends, though its session does not.

Its own QoS 2 messages that are still on their way: it sends them again when it is back, and they must not be carried
again. So they wait here for their destinations, and move on to its next connection: what was acknowledged meanwhile is
known as a duplicate by then.

What waits for it as a member of groups goes to members that are there.
"""

from collections import deque
from collections.abc import Iterable

import trio
from attrs import define, field

from mqttproxy.groups import Backlog
from mqttproxy.handover import Origin, Ticket
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.sessions import Session, SubscriptionTable
from mqttproxy.sessions.table import by_group
from mqttproxy.validation import Identity


@define(eq=False)
class Absent:
    """A device that is away, as the pipeline sees it."""

    identity: Identity
    _session: Session
    pending: deque[Ticket] = field(factory=deque)
    unacknowledged: int = 0

    def take_over(self, tickets: Iterable[Ticket], now: float) -> None:
        """Be whom they are acknowledged to, from now on."""
        move(tickets, self)
        self.acknowledge(now)

    def acknowledge(self, now: float) -> None:  # noqa: ARG002 # nobody is told
        """Remember what is where it belongs. What was refused is forgotten: sent again, it is refused again.

        But not what is in the spool: some of its destinations may have it, and those would get it twice.
        """
        left: deque[Ticket] = deque()
        for ticket in self.pending:
            if not ticket.done:
                left.append(ticket)
                continue
            self.unacknowledged -= ticket.size
            if not ticket.reason.is_failure or self._session.has_promised(ticket.packet_id):
                self._session.state.keep(ticket.packet_id)
        self.pending = left

    def promise(self, packet_id: int) -> None:
        """Do nothing: it sends nothing."""

    def disconnect(self, reason: ReasonCode, words: str) -> None:
        """Do nothing: it is away."""


def leave_behind(device: Origin, backlog: Backlog | None, session: Session, absent: dict[str, Absent]) -> None:
    """Put what a device leaves unfinished with the absent; `backlog` has no place yet."""
    left = unfinished(device.pending, backlog)
    if left:
        absent[session.client_id] = Absent(device.identity, session)
        absent[session.client_id].take_over(left, trio.current_time())


def give_up_waiting(device: Origin) -> None:
    """Let go of what a device waits for: nobody does any more."""
    for ticket in device.pending:
        ticket.done = ticket.done or ticket.origin is device
    device.pending.clear()


def take_up(device: Origin, absent: dict[str, Absent]) -> list[int]:
    """Give a device that is back what it had left unfinished; returns the packet identifiers."""
    of_it = absent.pop(device.identity.client_id, None)
    if of_it is None:
        return []
    move(of_it.pending, device)
    return [ticket.packet_id for ticket in of_it.pending]


def hand_over(session: Session, table: SubscriptionTable) -> None:
    """Give what an absent member of groups has not acknowledged to members that are connected, if any is."""
    for shared_filter, messages in by_group(session.unacknowledged()).items():
        if not table.redispatch(shared_filter, messages, session.client_id):
            session.give_away(messages)


def unfinished(pending: Iterable[Ticket], backlog: Backlog | None) -> list[Ticket]:
    """Return what is on its way at QoS 2, but what has no place yet: that is given up, and must come again."""
    given_up: set[int] = set()
    if backlog is not None:
        given_up = {id(ticket) for _, items in backlog.lanes for _, ticket in items}
        given_up |= {id(held.ticket) for _, held in backlog.holds}
    return [ticket for ticket in pending if ticket.qos == 2 and id(ticket) not in given_up]


def move(tickets: Iterable[Ticket], to: Origin) -> None:
    """Make another origin the one that tickets are acknowledged to."""
    for ticket in tickets:
        ticket.origin = to
        to.pending.append(ticket)
        to.unacknowledged += ticket.size
