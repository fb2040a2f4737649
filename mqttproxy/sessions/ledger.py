"""The books of all sessions' queues, and the record of what waits in them: a message for many is stored once."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from mqttproxy.config.model import LimitSettings
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.sessions.copies import SharedMessage
from mqttproxy.sessions.records import MessageRow, QueuedRow


class Stored:
    """A message on record, and how many queued rows refer to it."""

    __slots__ = ("number", "payload", "references")

    def __init__(self, number: int, payload: int = 0) -> None:
        self.number = number
        self.payload = payload  # its identity, see `Ledger`
        self.references = 0


class Kept:
    """The token of a message that a durable session has on record until it is settled."""

    __slots__ = ("is_settled", "row", "stored", "weight")

    def __init__(self, row: QueuedRow, stored: Stored, weight: int) -> None:
        self.row = row
        self.stored = stored
        self.weight = weight
        self.is_settled = False


Token = Kept | int  # of what waits or is on its way at QoS 1 and 2; what is not on record is only weighed


class Ledger:
    """What all sessions share: the journal, their common bound, and the books.

    Attributes:
        queued_messages: what waits for all devices, or is on its way to them at QoS 1 and 2.
        queued_bytes: the same, as it counts in `limits.queues_bytes`.

    """

    def __init__(
        self,
        journal: Journal,
        limits: LimitSettings,
        *,
        now: Callable[[], float],
        dropped: Callable[[str, int], None],
    ) -> None:
        """Make it.

        Args:
            journal: where to note what must not be lost.
            limits: of queues; may be exchanged at any time.
            now: monotonic seconds.
            dropped: told why and how many messages were dropped.

        """
        self.journal: Final = journal
        self.limits = limits
        self.now: Final = now
        self.dropped: Final = dropped
        self.queued_messages = 0
        self.queued_bytes = 0
        self.last_queued = 0  # numbers given to rows
        self.last_message = 0
        # Messages of the journal's present batch by the identity of their payload, so that what goes to many sessions
        # is written once. The payload stands beside, so that the identity is not given to another object.
        self._recent: dict[int, tuple[Stored, MessageRow]] = {}
        self._recent_batch = 0

    def count(self, weight: int) -> None:
        """Count a message that waits from now on."""
        self.queued_messages += 1
        self.queued_bytes += weight

    def uncount(self, weight: int) -> None:
        """Count one less."""
        self.queued_messages -= 1
        self.queued_bytes -= weight

    def keep(self, session: int, message: Message, weight: int) -> Kept:
        """Put a message for a session on record."""
        stored = self._store(message)
        stored.references += 1
        self.last_queued += 1
        row = QueuedRow(
            self.last_queued,
            session,
            stored.number,
            message.qos,
            message.retain,
            message.properties.subscription_identifiers,
            message.shared_filter if isinstance(message, SharedMessage) else "",
        )
        self.journal.add(row)
        return Kept(row, stored, weight)

    def settle(self, kept: Kept) -> None:
        """Strike a message off the record; more than once does no harm."""
        if kept.is_settled:
            return
        kept.is_settled = True
        self.uncount(kept.weight)
        self.journal.remove(QueuedRow, kept.row.number)
        stored = kept.stored
        stored.references -= 1
        if not stored.references:
            self.journal.remove(MessageRow, stored.number)
            recent = self._recent.get(stored.payload)
            if recent is not None and recent[0] is stored:
                del self._recent[stored.payload]

    def _store(self, message: Message) -> Stored:
        if self._recent_batch != self.journal.batches:
            self._recent_batch = self.journal.batches
            self._recent.clear()
        properties = message.properties
        if properties.subscription_identifiers:
            properties = replace(properties, subscription_identifiers=())
        expires_at = self.journal.to_wall(message)
        recent = self._recent.get(id(message.payload))
        if recent is not None and _is_same(recent[1], message, properties, expires_at):
            return recent[0]
        self.last_message += 1
        stored = Stored(self.last_message, id(message.payload))
        row = MessageRow(stored.number, message.topic, message.payload, properties, expires_at)
        self.journal.add(row)
        self._recent[id(message.payload)] = (stored, row)
        return stored


def _is_same(row: MessageRow, message: Message, properties: Properties, expires_at: float | None) -> bool:
    return (
        row.payload is message.payload
        and row.topic == message.topic
        and row.expires_at == expires_at
        and (row.properties is properties or row.properties == properties)
    )
