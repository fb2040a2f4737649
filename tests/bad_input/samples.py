"""Good packets of which it is known where each length in them stands: what is made from them breaks one thing only."""

from collections.abc import Iterator
from typing import Final, Literal

from attrs import frozen

from tests.bad_input.wire import V5, V311, pair, text, varint

ACKS: Final = {"puback": 0x40, "pubrec": 0x50, "pubrel": 0x62, "pubcomp": 0x70}
Place = Literal["connect", "will", "publish", "ack", "subscribe", "unsubscribe", "disconnect"]


class Field(bytes):
    """A string or binary field: two bytes of length, then the bytes."""

    __slots__ = ()


@frozen
class Properties:
    """The properties of a packet of MQTT 5; of at most 127 bytes, so that their length is one byte."""

    parts: tuple[bytes, ...]


@frozen
class Length:
    """Where a length stands in a body.

    Attributes:
        at: offset of its first byte.
        end: offset behind what it measures.
        of: a field of two bytes of length; the properties, whose length is one byte.
        inside: whether it is a field among the properties.

    """

    at: int
    end: int
    of: Literal["field", "properties"]
    inside: bool = False


@frozen
class Sample:
    """A packet that the proxy takes.

    Attributes:
        name: of the packet.
        version: protocol level.
        first: its first byte.
        body: what comes behind the remaining length.
        lengths: every length in the body.
        whole: how many bytes of the body would be a packet too.

    """

    name: str
    version: int
    first: int
    body: bytes
    lengths: tuple[Length, ...]
    whole: tuple[int, ...]

    @property
    def is_first(self) -> bool:
        """Whether it opens a connection."""
        return self.first == 0x10

    def with_length(self, length: Length, value: bytes) -> bytes:
        """Return the body with other bytes in the place of a length."""
        size = 2 if length.of == "field" else 1
        return self.body[: length.at] + value + self.body[length.at + size :]


def _field(value: str) -> Field:
    return Field(text(value))


def _prop(identifier: int, value: bytes) -> tuple[bytes, ...]:
    return bytes([identifier]), value


def _pair() -> tuple[bytes, ...]:
    return b"\x26", _field("key"), _field("value")


def _reason() -> tuple[bytes, ...]:
    return *_prop(0x1F, _field("words")), *_pair()


def _sample(version: int, name: str, first: int, *parts: bytes | Properties, whole: tuple[int, ...] = ()) -> Sample:
    """Put a body together; properties are left out where the version has none."""
    body, lengths = bytearray(), []
    for part in parts:
        if isinstance(part, Properties):
            if version == V311:
                continue
            size = sum(map(len, part.parts))
            assert size < 128
            lengths.append(Length(len(body), len(body) + 1 + size, "properties"))
            body += varint(size)
            for one in part.parts:
                if isinstance(one, Field):
                    lengths.append(Length(len(body), len(body) + len(one), "field", inside=True))
                body += one
        else:
            if isinstance(part, Field):
                lengths.append(Length(len(body), len(body) + len(part), "field"))
            body += part
    return Sample(name, version, first, bytes(body), tuple(lengths), whole)


def samples(version: int) -> Iterator[Sample]:
    """Give one packet of each kind that a client sends and that has a body, with all that may stand in it."""
    only_5 = version == V5
    message = (
        *_prop(0x01, b"\x00"),
        *_prop(0x02, b"\x00\x00\x00\x09"),
        *_prop(0x03, _field("type")),
        *_prop(0x08, _field("answer")),
        *_prop(0x09, _field("data")),
        *_pair(),
    )
    yield _sample(
        version,
        "connect",
        0x10,
        text("MQTT") + bytes([version]) + b"\xc6\x00\x3c",
        Properties((*_prop(0x11, b"\x00\x00\x00\x00"), *_prop(0x21, b"\x00\x09"), *_pair())),
        _field("row"),
        Properties((*_prop(0x18, b"\x00\x00\x00\x00"), *message)),
        _field("will"),
        _field("gone"),
        _field("user"),
        _field("secret"),
    )
    yield _sample(version, "publish", 0x32, _field("t/1"), b"\x00\x05", Properties(message))
    for name, first in ACKS.items():
        more = (b"\x00", Properties(_reason())) if only_5 else ()
        yield _sample(version, name, first, b"\x00\x05", *more, whole=(2, 3))
    number = Properties((*_prop(0x0B, b"\x05"), *_pair()))
    wanted: tuple[bytes | Properties, ...] = (b"\x00\x05", number, _field("a/b"), b"\x01", _field("c"), b"\x00")
    yield _sample(version, "subscribe", 0x82, *wanted, whole=(_size(version, *wanted[:4]),))
    left: tuple[bytes | Properties, ...] = (b"\x00\x05", Properties(_pair()), _field("a/b"), _field("c"))
    yield _sample(version, "unsubscribe", 0xA2, *left, whole=(_size(version, *left[:3]),))
    if only_5:
        yield _sample(version, "disconnect", 0xE0, b"\x00", Properties(_reason()), whole=(0, 1))


def _size(version: int, *parts: bytes | Properties) -> int:
    return len(_sample(version, "", 0, *parts).body)


ALL: Final = tuple(sample for version in (V311, V5) for sample in samples(version))

# Section 2.2.2.2 of MQTT 5.0: a value that is good, and where a client may say it. In CONNACK and the answers to
# SUBSCRIBE only a server speaks.
_MESSAGE: Final[frozenset[Place]] = frozenset({"publish", "will"})
_CONNECT: Final[frozenset[Place]] = frozenset({"connect"})
_NOWHERE: Final[frozenset[Place]] = frozenset()
PLACES: Final[tuple[Place, ...]] = ("connect", "will", "publish", "ack", "subscribe", "unsubscribe", "disconnect")
PROPERTIES: Final[dict[int, tuple[bytes, frozenset[Place]]]] = {
    0x01: (b"\x01", _MESSAGE),
    0x02: (b"\x00\x00\x00\x09", _MESSAGE),
    0x03: (text("type"), _MESSAGE),
    0x08: (text("answer"), _MESSAGE),
    0x09: (text("data"), _MESSAGE),
    0x0B: (b"\x05", frozenset({"subscribe"})),
    0x11: (b"\x00\x00\x00\x00", frozenset({"connect", "disconnect"})),
    0x12: (text("name"), _NOWHERE),
    0x13: (b"\x00\x09", _NOWHERE),
    0x15: (text("method"), _CONNECT),
    0x16: (text("data"), _CONNECT),
    0x17: (b"\x01", _CONNECT),
    0x18: (b"\x00\x00\x00\x00", frozenset({"will"})),
    0x19: (b"\x01", _CONNECT),
    0x1A: (text("words"), _NOWHERE),
    0x1C: (text("server"), frozenset({"disconnect"})),
    0x1F: (text("words"), frozenset({"ack", "disconnect"})),
    0x21: (b"\x00\x09", _CONNECT),
    0x22: (b"\x00\x09", _CONNECT),
    0x23: (b"\x00\x01", frozenset({"publish"})),
    0x24: (b"\x01", _NOWHERE),
    0x25: (b"\x01", _NOWHERE),
    0x26: (pair()[1:], frozenset(PLACES)),
    0x27: (b"\x00\x00\x10\x00", _CONNECT),
    0x28: (b"\x01", _NOWHERE),
    0x29: (b"\x01", _NOWHERE),
    0x2A: (b"\x01", _NOWHERE),
}
BOOLEANS: Final[dict[int, frozenset[Place]]] = {0x01: _MESSAGE, 0x17: _CONNECT, 0x19: _CONNECT}
