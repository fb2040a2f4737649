"""What is on record of sessions, and what must still be written of it: states of rows, not a list of events.

A row that was changed three times is written once, and one that came and went before it was written not at all. So what
waits for a disk in trouble is never more than what there is, and written twice it does no harm.
"""

from typing import Any, Final

from msgspec import Struct

from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties, Subscription

Key = Any  # what tells the rows of one kind apart: a number, a text or a pair


class Row(Struct, frozen=True, gc=False):
    """One row of a table. Times are wall clock seconds since 1970."""

    @property
    def key(self) -> Key:
        """What tells it apart from the others of its kind."""
        raise NotImplementedError


class SessionRow(Row, frozen=True, gc=False):
    """A session. `ended_at`: when its last connection ended, None: it is on."""

    number: int
    client_id: str
    expiry: float
    ended_at: float | None

    @property
    def key(self) -> Key:  # noqa: D102 - as above
        return self.number


class SubscriptionRow(Row, frozen=True, gc=False):
    """A subscription of a session."""

    session: int
    subscription: Subscription
    identifier: int

    @property
    def key(self) -> Key:  # noqa: D102 - as above
        return self.session, self.subscription.topic_filter


class MessageRow(Row, frozen=True, gc=False):
    """What queued messages have in common, however many sessions they wait for."""

    number: int
    topic: str
    payload: bytes
    properties: Properties = NO_PROPERTIES
    expires_at: float | None = None

    @property
    def key(self) -> Key:  # noqa: D102 - as above
        return self.number


class QueuedRow(Row, frozen=True, gc=False):
    """A message that waits for a session, or is on its way: then it has a `packet_id`. `number` gives the order."""

    number: int
    session: int
    message: int
    qos: int
    retain: bool
    identifiers: tuple[int, ...] = ()
    shared_filter: str = ""
    packet_id: int = 0
    released: bool = False

    @property
    def key(self) -> Key:  # noqa: D102 - as above
        return self.number


class IncomingRow(Row, frozen=True, gc=False):
    """A QoS 2 message from the device that was acknowledged with PUBREC; PUBREL has not come."""

    session: int
    packet_id: int

    @property
    def key(self) -> Key:  # noqa: D102 - as above
        return self.session, self.packet_id


class RetainedRow(Row, frozen=True, gc=False):
    """The retained message of a topic."""

    topic: str
    payload: bytes
    qos: int
    properties: Properties = NO_PROPERTIES
    expires_at: float | None = None

    @property
    def key(self) -> Key:  # noqa: D102 - as above
        return self.topic


class WillRow(Row, frozen=True, gc=False):
    """A will and whose it is. `due`: None while its connection is on."""

    number: int
    client_id: str
    username: str | None
    address: str
    listener: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    delay: float
    due: float | None
    properties: Properties = NO_PROPERTIES

    @property
    def key(self) -> Key:  # noqa: D102 - as above
        return self.number


KINDS: Final[tuple[type[Row], ...]] = (
    SessionRow,
    SubscriptionRow,
    MessageRow,
    QueuedRow,
    IncomingRow,
    RetainedRow,
    WillRow,
)


class Changes:
    """What is to be written: for each row that changed what it is now, or None: it is gone."""

    def __init__(self) -> None:
        self.rows: Final[dict[type[Row], dict[Key, Row | None]]] = {kind: {} for kind in KINDS}
        self._new: Final[dict[type[Row], set[Key]]] = {kind: set() for kind in KINDS}
        self.count = 0

    def __len__(self) -> int:
        """Return how many rows are to be written."""
        return self.count

    def put(self, row: Row, *, is_new: bool) -> None:
        """Note what a row is now. `is_new`: there surely is none, so that if it goes again nothing need be written."""
        kind, key = type(row), row.key
        rows = self.rows[kind]
        if key not in rows:
            self.count += 1
            if is_new:
                self._new[kind].add(key)
        rows[key] = row

    def remove(self, kind: type[Row], key: Key) -> None:
        """Note that a row is gone."""
        rows, new = self.rows[kind], self._new[kind]
        if key in new:
            new.remove(key)
            del rows[key]
            self.count -= 1
        else:
            self.count += key not in rows
            rows[key] = None
