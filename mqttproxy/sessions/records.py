"""What is on record of sessions: the rows that the journal keeps for them."""

from collections.abc import Mapping

from mqttproxy.journal import Key, Row
from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties, Subscription


class SessionRow(Row, frozen=True, gc=False):
    """A session. `ended_at`: when its last connection ended, None: it is on. `owner`: as in `Session`."""

    number: int
    client_id: str
    expiry: float
    ended_at: float | None
    owner: str | None = None

    @property
    def key(self) -> Key:  # noqa: D102 - as in `Row`
        return self.number


class SubscriptionRow(Row, frozen=True, gc=False):
    """A subscription of a session."""

    session: int
    subscription: Subscription
    identifier: int

    @property
    def key(self) -> Key:  # noqa: D102 - as in `Row`
        return self.session, self.subscription.topic_filter


class MessageRow(Row, frozen=True, gc=False):
    """What queued messages have in common, however many sessions they wait for."""

    number: int
    topic: str
    payload: bytes
    properties: Properties = NO_PROPERTIES
    expires_at: float | None = None

    @property
    def key(self) -> Key:  # noqa: D102 - as in `Row`
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
    def key(self) -> Key:  # noqa: D102 - as in `Row`
        return self.number


class IncomingRow(Row, frozen=True, gc=False):
    """A QoS 2 message from the device that was acknowledged with PUBREC; PUBREL has not come."""

    session: int
    packet_id: int

    @property
    def key(self) -> Key:  # noqa: D102 - as in `Row`
        return self.session, self.packet_id


class RetainedRow(Row, frozen=True, gc=False):
    """The retained message of a topic. `sender`: the client identifier of who published it; empty: not known."""

    topic: str
    payload: bytes
    qos: int
    properties: Properties = NO_PROPERTIES
    expires_at: float | None = None
    sender: str = ""

    @property
    def key(self) -> Key:  # noqa: D102 - as in `Row`
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
    attributes: Mapping[str, str] = {}  # msgspec gives each its own

    @property
    def key(self) -> Key:  # noqa: D102 - as in `Row`
        return self.number
