"""What destinations answer, and the spool's commit: told to the tickets, and through them to the devices."""

from collections.abc import Iterable, Sequence

import trio

from mqttproxy.handover import Origin, Ticket, release
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.spool import Entry, Spool


class Settling:
    """One for the process."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        spool.acknowledged, spool.accepted, spool.lost = self.spooled, release, self.lost

    def settled(self, destination: str, tokens: Iterable[object]) -> None:
        """Hear that a destination has acknowledged: everything that one read of its link said."""
        entries: list[Entry] = []
        origins: dict[Origin, None] = {}
        for token in tokens:
            if type(token) is Entry:
                entries.append(token)
                ticket = token.ticket
                if ticket is not None and ticket.settle():
                    self._spool.release(token)
                    origins[ticket.origin] = None
            elif type(token) is Ticket and token.settle():
                origins[token.origin] = None
        if entries:
            self._spool.settled(destination, entries)
        now = trio.current_time()
        for origin in origins:
            origin.acknowledge(now)

    def spooled(self, tickets: Iterable[Ticket]) -> None:
        """Hear that messages are on disk, which is what their devices wait for."""
        origins: dict[Origin, None] = {}
        last: Origin | None = None
        for ticket in tickets:
            if ticket.needed == 1:  # nobody else is waited for
                ticket.needed, ticket.done = 0, True
            elif not ticket.settle():
                continue
            if ticket.origin is not last:
                last = ticket.origin
                origins[last] = None
        now = trio.current_time()
        for origin in origins:
            origin.acknowledge(now)

    def lost(self, tickets: Iterable[Ticket]) -> None:
        """Hear that a destination will never get these from the spool: for their devices, as if it had refused them.

        Left waiting, they would hold back everything that their devices are to be told after them.
        """
        refused = [ticket for ticket in tickets if not ticket.done and ticket.refuse()]
        for ticket in refused:
            ticket.reason = ReasonCode.UNSPECIFIED_ERROR
        release([ticket for ticket in refused if ticket.done])

    def dropped(self, destination: str, tokens: Sequence[object]) -> None:
        """Hear that messages were over before they could go; that is not held against the device."""
        entries = [token for token in tokens if isinstance(token, Entry)]
        self.give_up([token.ticket if isinstance(token, Entry) else token for token in tokens])
        if entries:
            self._spool.settled(destination, entries)

    def give_up(self, tickets: Iterable[object]) -> None:
        """Count one destination less for these messages."""
        release([ticket for ticket in tickets if isinstance(ticket, Ticket) and ticket.give_up()])
