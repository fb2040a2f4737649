"""Exchanges of QoS 2 with a broker that go on after a restart of this process, so that nothing is doubled.

Before PUBLISH goes out it is on disk under which packet identifier; before PUBREL, that PUBREC came. As with devices'
sessions this is an output commit: bytes are written as always, and held back until the journal has committed.
"""

from collections.abc import Iterable, Sequence

from mqttproxy.journal import Journal
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState
from mqttproxy.spool.entry import Entry
from mqttproxy.spool.feed import Feed, Item
from mqttproxy.spool.rows import InFlightRow


class Exchanges(SessionState):
    """Our half of a session at a broker. Of messages that are not in the spool only the packet identifier is noted."""

    __slots__ = ("_ended", "_feed", "_journal", "_left", "_numbers")

    is_durable = True

    def __init__(self, journal: Journal, feed: Feed) -> None:
        super().__init__()
        self._journal = journal
        self._feed = feed
        self._numbers: dict[int, int] = {}  # of the messages on record, by packet identifier
        self._left: list[int] | None = None  # doubtful after a restart; None: all are
        self._ended: list[tuple[int, int]] = []  # number and packet identifier of what may go from the record
        feed.cursor_noted = self.cursor_noted

    def go_on(self, found: Sequence[tuple[InFlightRow, Item]], left: Sequence[int] | None) -> None:
        """Take up what the last process left, in the order of sending.

        Args:
            found: exchanges of which the message is there.
            left: packet identifiers of the others; None: the record is not of this session, and says nothing.

        """
        self._left = None if left is None else list(left)
        outgoing = {row.packet_id: item for row, item in found}
        self._numbers = {row.packet_id: row.message for row, _ in found}
        self.restore(outgoing, [row.packet_id for row, _ in found if row.released], ())

    def doubt(self) -> None:
        """See `SessionState`; with a record only those are in doubt of which the message is not there."""
        if self._left == []:
            return
        self.doubtful = bytearray(bool(self._left is None).to_bytes(1, "big")) * (PACKET_ID_MAX + 1)
        for packet_id in self._left or ():
            self.doubtful[packet_id] = 1
        for packet_id in self.outgoing:
            self.doubtful[packet_id] = 0

    def begin(self, packet_ids: Iterable[int]) -> None:
        """Note under which packet identifiers messages of QoS 2 are about to go."""
        if any([self._note(packet_id, released=False) for packet_id in packet_ids]):  # noqa: C419 # all of them
            self._hold()

    def release(self, packet_id: int) -> None:
        """Note PUBREC: sent again after PUBREL, the same PUBLISH would be a new message."""
        super().release(packet_id)
        if self._note(packet_id, released=True):
            self._hold()

    def end(self, packet_ids: Iterable[int], *, accepted: bool) -> None:
        """Hear that exchanges are over.

        Accepted ones stay on record until the cursor on disk has passed their messages: without a record, these would
        be sent again after a crash. With one, PUBREL is, which does no harm.
        """
        for packet_id in packet_ids:
            number = self._numbers.pop(packet_id, None)
            if number and accepted:
                self._ended.append((number, packet_id))
            elif number is not None:
                self._journal.remove(InFlightRow, (self._feed.number, packet_id))

    def cursor_noted(self, cursor: int) -> None:
        """Strike off the record what the cursor has passed, in the same commit."""
        left = []
        for number, packet_id in self._ended:
            if number > cursor:
                left.append((number, packet_id))
            elif packet_id not in self._numbers:  # otherwise the record is another message's by now
                self._journal.remove(InFlightRow, (self._feed.number, packet_id))
        self._ended = left

    def forget_progress(self) -> None:
        """See `SessionState`; then PUBLISH is the next step again, on disk too."""
        released = [packet_id for packet_id in self.released if packet_id in self.outgoing]
        super().forget_progress()
        self.begin(released)

    def abandon(self) -> None:
        """Strike everything off the record: the destination was removed."""
        self.end(list(self._numbers), accepted=False)

    def _note(self, packet_id: int, *, released: bool) -> bool:
        message, token = self.outgoing[packet_id]
        if message.qos != 2:
            return False
        number = token.number if isinstance(token, Entry) else 0
        self._numbers[packet_id] = number
        self._journal.put(InFlightRow(self._feed.number, packet_id, number, released))
        return True

    def _hold(self) -> None:
        self.holds += 1
        self._journal.when_durable(self._let_go)

    def _let_go(self) -> None:
        self.committed += 1
        if self.on_commit is not None:
            self.on_commit()
