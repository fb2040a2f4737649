"""What is on record of the spool: the rows that the journal keeps for it."""

from typing import ClassVar

from mqttproxy.journal import Key, Row
from mqttproxy.spool.encoding import Batch, seal


class RunRow(Row, frozen=True, gc=False):
    """Messages with consecutive numbers for the same destinations, each stored once.

    `mask` has a bit for each destination's number, `at` is when they came. `batch` is encoded as it is written.
    """

    first: int
    last: int
    mask: int
    epoch: int
    at: float
    messages: int
    size: int  # payload bytes
    batch: Batch

    @property
    def key(self) -> Key:
        """The number of the first message."""
        return self.first

    @property
    def data(self) -> bytearray:
        """The messages as bytes, to be read by `Run.decode`."""
        return self.batch.encode(seal(self.first, self.last, self.mask, self.epoch, self.at, self.messages, self.size))


class ConsumedRow(Row, frozen=True, gc=False):
    """Says that runs for the destinations of `mask` are needed by none of them, up to the message `upto`."""

    is_heavy: ClassVar = True  # there may be many

    mask: int
    upto: int

    @property
    def key(self) -> Key:
        """The destinations."""
        return self.mask


class DestinationRow(Row, frozen=True, gc=False):
    """A destination: it needs no message up to `cursor`. `account`: whose session its `InFlightRow`s are of."""

    number: int
    name: str
    cursor: int
    account: str

    @property
    def key(self) -> Key:
        """Its number, which is its place among the bits of a mask."""
        return self.number


class InFlightRow(Row, frozen=True, gc=False):
    """A message sent to a destination at QoS 2. `released`: PUBREC came. `message`: 0, it is not in the spool."""

    destination: int
    packet_id: int
    message: int
    released: bool

    @property
    def key(self) -> Key:
        """Where, and under which packet identifier."""
        return self.destination, self.packet_id
