"""A recorded message: what came, who sent it, and what became of it."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties

Action = Literal["forwarded", "observed", "marked", "held", "refused", "dropped"]
Masked = Literal["no", "partly", "wholly"]

OVERHEAD: Final = 256  # bytes that a message is counted for besides what is written of it: row, indexes


class Told(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about a message but time, identifier, topic and payload.

    `failures` has pointer, keyword and message of each; `destinations` are those that it was given to; `generation` is
    the number of the configuration that judged it. `masked`: partly: what masks name is changed in the payload; wholly:
    it could not be read, and is not there.
    """

    client_id: str
    username: str | None = None
    address: str = ""
    listener: str = ""
    attributes: Mapping[str, str] = {}  # msgspec gives each its own
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES
    action: Action
    policy: str | None = None
    schema: str | None = None
    reason: int = 0
    failures: tuple[tuple[str, str, str], ...] = ()
    destinations: tuple[str, ...] = ()
    generation: int = 0
    masked: Masked = "no"


class Recorded(Struct, frozen=True, kw_only=True):
    """A message. `at`: seconds since 1970. `id`: its `mp-id`, None: it has none, as it went to no upstream."""

    id: str | None
    at: float
    topic: str
    payload: bytes
    told: Told
    seq: int = 0  # of its row, once it is on disk

    @property
    def name(self) -> str:
        """Return what it can be looked up by."""
        return self.id or f"{ROW}{self.seq}"


ROW: Final = "r"  # before the number of a row, where a message has no identifier of its own

encode_told: Final = msgspec.json.Encoder().encode
decode_told: Final = msgspec.json.Decoder(Told).decode


# Identifier, time, weight in bytes, topic, `Told` as JSON, payload.
Row = tuple[str | None, float, int, str, str, bytes]


def row_of(recorded: Recorded) -> Row:
    """Return a message as it is stored.

    Raises:
        UnicodeEncodeError: there is text in it that is not Unicode.

    """
    told = encode_told(recorded.told)
    weight = len(recorded.payload) + len(recorded.topic.encode()) + len(told) + OVERHEAD
    return recorded.id, recorded.at, weight, recorded.topic, told.decode(), recorded.payload
