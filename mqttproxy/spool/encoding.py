"""Messages of one run as bytes and back: each with a checksum of its own, so that damage costs no other.

A run is a row of frames: length, checksum, content. The first frame has the senders, each other one a message. A
checksum is of the frame's place in the row as well: behind a length that is damaged, no frame is taken for another.
"""

from collections.abc import Sequence
from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties

_HEAD: Final = Layout("<II")  # length and checksum of what follows
_encode: Final = msgspec.msgpack.Encoder().encode


class Sender(Struct, frozen=True, array_like=True):
    """Who sent a message: what a quarantine must know of them."""

    client_id: str
    username: str | None
    address: str
    listener: str


class Record(Struct, frozen=True, array_like=True, omit_defaults=True):
    """One message on disk. `sender` is a place among the run's senders, `expires_at` by the wall clock."""

    topic: str
    payload: bytes
    qos: int
    sender: int
    retain: bool = False
    expires_at: float | None = None
    properties: Properties = NO_PROPERTIES


class Batch(Struct, frozen=True, gc=False):
    """Messages that are encoded when they are written, in the thread that writes."""

    messages: Sequence[tuple[Message, int, float | None]]  # with the place of the sender, and the end by the wall clock
    senders: Sequence[Sender]

    def encode(self) -> bytearray:
        """Return the bytes of the run."""
        out = bytearray()
        senders = _encode(self.senders)
        out += _HEAD.pack(len(senders), crc32(senders))
        out += senders
        for place, (message, sender, expires_at) in enumerate(self.messages, 1):
            properties = message.properties
            if not (message.retain or expires_at is not None or properties is not NO_PROPERTIES):
                content = _encode((message.topic, message.payload, message.qos, sender))
            else:
                fields = (message.retain, expires_at, properties)
                content = _encode((message.topic, message.payload, message.qos, sender, *fields))
            out += _HEAD.pack(len(content), crc32(content, place))
            out += content
        return out


_decode_record: Final = msgspec.msgpack.Decoder(Record).decode
_decode_senders: Final = msgspec.msgpack.Decoder(tuple[Sender, ...]).decode
UNKNOWN: Final = Sender("", None, "", "spool")  # the frame of the senders is damaged


def decode_run(data: bytes, messages: int, skip: int = 0) -> list[tuple[Record, Sender] | None]:
    """Return the messages of a run, None for each that is damaged.

    Args:
        data: from `Batch.encode`.
        messages: how many there were.
        skip: of these the first are not wanted, and left out.

    """
    frames = _frames(data, messages + 1)
    try:
        senders = () if frames[0] is None else _decode_senders(frames[0])
    except (msgspec.DecodeError, msgspec.ValidationError):
        senders = ()
    found: list[tuple[Record, Sender] | None] = []
    for frame in frames[1 + skip :]:
        record = None
        if frame is not None:
            try:
                record = _decode_record(frame)
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
                record = None
        if record is None:
            found.append(None)
        else:
            found.append((record, senders[record.sender] if record.sender < len(senders) else UNKNOWN))
    return found


def _frames(data: bytes, count: int) -> list[bytes | None]:
    """Return the contents of frames, None where the checksum does not fit; behind a length that cannot be, all are."""
    view = memoryview(data)
    frames: list[bytes | None] = []
    place = 0
    while len(frames) < count and place + _HEAD.size <= len(view):
        length, checksum = _HEAD.unpack_from(view, place)
        place += _HEAD.size
        content = bytes(view[place : place + length])
        place += length
        frames.append(content if len(content) == length and crc32(content, len(frames)) == checksum else None)
    return frames + [None] * (count - len(frames))
