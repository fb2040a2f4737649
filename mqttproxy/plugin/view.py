"""What a plug-in check is given of a message, and how it travels to the check's process and back.

A frame is its length, four bytes with the highest first, and so many bytes of MessagePack.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

GROUP: Final = "mqttproxy.checks"  # of entry points
HEADER: Final = 4  # bytes before each frame
MOST_FAILURES: Final = 32  # that a check tells of one message; what it says beyond is left out
LONGEST_TEXT: Final = 1000  # characters of each


class Properties(Struct, frozen=True):
    """What a message is beside its payload; None: the device did not say. `expiry` in seconds."""

    qos: int
    retain: bool
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    payload_format_indicator: int | None = None
    expiry: int | None = None
    user: tuple[tuple[str, str], ...] = ()


class Sender(Struct, frozen=True):
    """Who sent it."""

    client_id: str
    username: str | None
    address: str
    listener: str
    attributes: Mapping[str, str]


class View(Struct, frozen=True, kw_only=True, dict=True):
    """A message as a check sees it.

    `captures` are the named levels of the policy's topic filter. `text` is the JSON text of `document`, None: the
    payload is that text where `has_document` is set, and there is no document where it is not.
    """

    topic: str
    payload: bytes
    captures: Mapping[str, str]
    properties: Properties
    sender: Sender
    has_document: bool
    text: bytes | None = None

    @cached_property
    def document(self) -> Any:
        """What a JSON, Protobuf or Avro payload says; of any other format there is none, and this raises ValueError."""
        if not self.has_document:
            raise ValueError("the policy's format has no document: ask for the payload")
        return json.loads(self.payload if self.text is None else self.text)


class Request(Struct, frozen=True, array_like=True):
    """One message to be judged. `seconds`: after which nobody listens any more."""

    seconds: float
    view: View


class Reply(Struct, frozen=True, array_like=True):
    """What came of it: pointers and texts; none: it is good. `fault`: the check could not tell."""

    fault: str | None = None
    failures: tuple[tuple[str, str], ...] = ()


ENCODER: Final = Encoder()
REQUESTS: Final = Decoder(Request)
REPLIES: Final = Decoder(Reply)


def framed(body: bytes) -> bytes:
    """Return a frame."""
    return len(body).to_bytes(HEADER) + body
