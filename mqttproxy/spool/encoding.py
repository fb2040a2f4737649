"""Messages of one run as bytes and back, a few of them with one checksum, so that damage costs few.

A run is a row of frames: length, checksum, content. The first frame has the senders, each other one up to `FRAME`
messages. A checksum is of the frame's place in the row as well: behind a length that is damaged, no frame is taken for
another. And it is of the numbers that stand beside the run, which say whose it is and how much: see `seal`.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from struct import Struct as Layout
from typing import Final, TypeVar
from zlib import crc32

import msgspec
from msgspec import Struct

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties, Publish, Timed

T = TypeVar("T")

FRAME: Final = 8  # messages
_HEAD: Final = Layout("<II")  # length and checksum of what follows
_NUMBERS: Final = Layout("<qqqqdqq")
_encode: Final = msgspec.msgpack.Encoder().encode


def seal(first: int, last: int, mask: int, epoch: int, at: float, messages: int, size: int) -> int:  # noqa: PLR0917 # a row
    """Return what the checksums of a run begin with: if one of its numbers is damaged, none of them fits."""
    return crc32(_NUMBERS.pack(first, last, mask, epoch, at, messages, size))


class Sender(Struct, frozen=True, array_like=True):
    """Who sent a message: what a quarantine must know of them, and what policies choose by when it is released."""

    client_id: str
    username: str | None
    address: str
    listener: str
    attributes: Mapping[str, str] = {}  # not there in runs of earlier versions


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
    """Messages that are encoded when they are written.

    Attributes:
        items: messages, each with whatever token.
        senders: who sent them: from which message on.
        wall: what the wall clock is ahead of the monotonic one, in seconds.

    """

    items: Sequence[tuple[Message, object]]
    senders: Sequence[tuple[int, Sender]]
    wall: float = 0.0

    def encode(self, sealed: int = 0) -> bytearray:
        """Return the bytes of the run. `sealed`: from `seal`."""
        out = bytearray()
        _add(out, sealed, _encode([sender for _, sender in self.senders]))
        records: list[tuple[object, ...]] = []
        ends = [*(start for start, _ in self.senders[1:]), len(self.items)]
        begin = 0
        for sender, end in enumerate(ends):
            records += [
                (message.topic, message.payload, message.qos, sender)
                if type(message) is Publish and message.properties is NO_PROPERTIES and not message.retain
                else self._whole(message, sender)
                for message, _ in self.items[begin:end]
            ]
            begin = end
        for frame, place in enumerate(range(0, len(records), FRAME), 1):
            _add(out, sealed + frame, _encode(records[place : place + FRAME]))
        return out

    def _whole(self, message: Message, sender: int) -> tuple[object, ...]:
        expires_at = message.expires_at + self.wall if isinstance(message, Timed) else inf
        over = None if expires_at == inf else expires_at
        return message.topic, message.payload, message.qos, sender, message.retain, over, message.properties


def _add(out: bytearray, begin: int, content: bytes) -> None:
    out += _HEAD.pack(len(content), crc32(content, begin & 0xFFFFFFFF))
    out += content


_decode_records: Final = msgspec.msgpack.Decoder(list[Record]).decode
_decode_senders: Final = msgspec.msgpack.Decoder(tuple[Sender, ...]).decode
UNKNOWN: Final = Sender("", None, "", "spool")  # the frame of the senders is damaged


def decode_run(data: bytes, messages: int, skip: int = 0, sealed: int = 0) -> list[tuple[Record, Sender] | None]:
    """Return the messages of a run, None for each that is damaged.

    Args:
        data: from `Batch.encode`.
        messages: how many there were.
        skip: of these the first are not wanted, and left out.
        sealed: as for `Batch.encode`.

    """
    first, *frames = _frames(data, 1 + -(-messages // FRAME), sealed)
    senders = _decoded(first, _decode_senders) or ()
    found: list[tuple[Record, Sender] | None] = []
    for place, frame in zip(range(0, messages, FRAME), frames, strict=True):
        size = min(FRAME, messages - place)
        if place + size <= skip:
            continue
        records = _decoded(frame, _decode_records)
        if records is None or len(records) != size:
            found += [None] * size
        else:
            found += [
                (record, senders[record.sender] if 0 <= record.sender < len(senders) else UNKNOWN) for record in records
            ]
    return found[len(found) - (messages - skip) :] if skip < messages else []


def _decoded(frame: bytes | None, decode: Callable[[bytes], T]) -> T | None:
    if frame is None:
        return None
    try:
        return decode(frame)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None


def _frames(data: bytes, count: int, sealed: int) -> list[bytes | None]:
    """Return the contents of frames, None where the checksum does not fit; behind a length that cannot be, all are."""
    view = memoryview(data)
    frames: list[bytes | None] = []
    place = 0
    while len(frames) < count and place + _HEAD.size <= len(view):
        length, checksum = _HEAD.unpack_from(view, place)
        place += _HEAD.size
        content = bytes(view[place : place + length])
        place += length
        begin = (sealed + len(frames)) & 0xFFFFFFFF
        frames.append(content if len(content) == length and crc32(content, begin) == checksum else None)
    return frames + [None] * (count - len(frames))
