"""Packets of both versions, written and read by hand: nothing of the proxy's own language stands in between."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

from attrs import field, frozen

from tests.bad_input.wire import V5, V311, frame, optional, text, varint

__all__ = ["V5", "V311", "Kind", "Packet", "Prop", "Will", "ack", "connect", "prop", "publish", "read", "subscribe"]


class Kind(IntEnum):
    """Type of a packet: the upper four bits of its first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Prop(IntEnum):
    """Identifier of a property of MQTT 5.0."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


# Bytes of the integers; 0 for a variable byte integer. What is not here is a string, binary data, or a pair.
_WIDTH: Final = {
    Prop.PAYLOAD_FORMAT_INDICATOR: 1,
    Prop.MESSAGE_EXPIRY_INTERVAL: 4,
    Prop.SUBSCRIPTION_IDENTIFIER: 0,
    Prop.SESSION_EXPIRY_INTERVAL: 4,
    Prop.SERVER_KEEP_ALIVE: 2,
    Prop.REQUEST_PROBLEM_INFORMATION: 1,
    Prop.WILL_DELAY_INTERVAL: 4,
    Prop.REQUEST_RESPONSE_INFORMATION: 1,
    Prop.RECEIVE_MAXIMUM: 2,
    Prop.TOPIC_ALIAS_MAXIMUM: 2,
    Prop.TOPIC_ALIAS: 2,
    Prop.MAXIMUM_QOS: 1,
    Prop.RETAIN_AVAILABLE: 1,
    Prop.MAXIMUM_PACKET_SIZE: 4,
    Prop.WILDCARD_SUBSCRIPTION_AVAILABLE: 1,
    Prop.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 1,
    Prop.SHARED_SUBSCRIPTION_AVAILABLE: 1,
}
_BINARY: Final = (Prop.CORRELATION_DATA, Prop.AUTHENTICATION_DATA)

# Reason codes that MQTT 5.0 has for each packet that a server sends.
REASONS: Final = {
    Kind.CONNACK: {
        *(0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99),
        *(0x9A, 0x9B, 0x9C, 0x9D, 0x9F),
    },
    Kind.PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    Kind.PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    Kind.PUBREL: {0x00, 0x92},
    Kind.PUBCOMP: {0x00, 0x92},
    Kind.SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    Kind.UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    Kind.DISCONNECT: {
        *(0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98),
        *(0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2),
    },
}
_CONNACK_311: Final = {0, 1, 2, 3, 4, 5}
_SUBACK_311: Final = {0, 1, 2, 0x80}
# First bytes of what a server may send, PUBLISH apart.
_FIRST: Final = {0x20, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0}


# What we send.


def prop(which: Prop, value: int | str | bytes | tuple[str, str]) -> bytes:
    """Return one property."""
    if isinstance(value, int):
        width = _WIDTH[which]
        return bytes([which]) + (value.to_bytes(width, "big") if width else varint(value))
    if isinstance(value, tuple):
        return bytes([which]) + text(value[0]) + text(value[1])
    return bytes([which]) + text(value)


@frozen
class Will:
    """What CONNECT says to publish when the device is gone."""

    topic: str | bytes
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False
    fields: Sequence[bytes] = ()


def connect(
    version: int,
    client_id: str | bytes,
    *,
    clean: bool = True,
    keep_alive: int = 60,
    fields: Sequence[bytes] = (),
    will: Will | None = None,
    username: str | bytes | None = None,
    password: bytes | None = None,
    flags: int | None = None,
    level: int | None = None,
) -> bytes:
    """Return CONNECT; `flags` and `level` stand for those that are computed."""
    payload = text(client_id)
    made = clean << 1
    if will is not None:
        made |= 4 | will.qos << 3 | will.retain << 5
        payload += optional(version, *will.fields) + text(will.topic) + text(will.payload)
    if username is not None:
        made |= 0x80
        payload += text(username)
    if password is not None:
        made |= 0x40
        payload += text(password)
    head = text("MQTT") + bytes([version if level is None else level, made if flags is None else flags])
    return frame(0x10, head + keep_alive.to_bytes(2, "big") + optional(version, *fields) + payload)


def publish(
    version: int,
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
    fields: Sequence[bytes] = (),
) -> bytes:
    """Return PUBLISH."""
    number = packet_id.to_bytes(2, "big") if qos else b""
    body = text(topic) + number + optional(version, *fields) + payload
    return frame(0x30 | dup << 3 | qos << 1 | retain, body)


def subscribe(
    version: int, *wanted: tuple[str | bytes, int], packet_id: int = 1, fields: Sequence[bytes] = ()
) -> bytes:
    """Return SUBSCRIBE of (filter, options)."""
    body = b"".join(text(topic_filter) + bytes([options]) for topic_filter, options in wanted)
    return frame(0x82, packet_id.to_bytes(2, "big") + optional(version, *fields) + body)


def ack(kind: Kind, packet_id: int, reason: int | None = None) -> bytes:
    """Return PUBACK, PUBREC, PUBREL or PUBCOMP; short unless there is a reason."""
    end = b"" if reason is None else bytes([reason])
    return frame(kind << 4 | (2 if kind is Kind.PUBREL else 0), packet_id.to_bytes(2, "big") + end)


# What we get.


@frozen
class Packet:
    """One packet from the proxy. Reading it checks all that every packet of its kind must be."""

    kind: Kind
    raw: bytes = field(repr=lambda raw: raw.hex(" "))
    flags: int = 0
    packet_id: int = 0
    reasons: tuple[int, ...] = ()
    properties: tuple[tuple[Prop, Any], ...] = ()
    topic: str = ""
    payload: bytes = b""
    session_present: bool = False

    @property
    def reason(self) -> int:
        """The only reason code."""
        (reason,) = self.reasons
        return reason

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    def all_of(self, which: Prop) -> list[Any]:
        """Return the values of a property, in order."""
        return [value for found, value in self.properties if found is which]

    def value(self, which: Prop) -> Any:
        """Return the value of a property that stands once, or None."""
        return next(iter(self.all_of(which)), None)


class _Body:
    """A cursor over the body of a packet."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        assert len(taken) == size, "the proxy's packet is too short"
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def varint(self) -> int:
        value, size = read_varint(self.data)
        self.data = self.data[size:]
        return value

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def string(self) -> str:
        return self.binary().decode()

    def properties(self) -> tuple[tuple[Prop, Any], ...]:
        inner = _Body(self.take(self.varint()))
        found: list[tuple[Prop, Any]] = []
        while inner.data:
            which = Prop(inner.number(1))
            if which in _WIDTH:
                value: Any = inner.number(_WIDTH[which]) if _WIDTH[which] else inner.varint()
            elif which is Prop.USER_PROPERTY:
                value = (inner.string(), inner.string())
            else:
                value = inner.binary() if which in _BINARY else inner.string()
            found.append((which, value))
        return tuple(found)


def read_varint(data: bytes) -> tuple[int, int]:
    """Return a variable byte integer and its size; size 0: more bytes are needed."""
    value = 0
    for size, byte in enumerate(data[:4], 1):
        value |= (byte & 127) << 7 * (size - 1)
        if byte < 128:
            assert size == 1 or byte, "the proxy's integer is not minimal"
            return value, size
    assert len(data) < 4, "the proxy's integer is too long"
    return 0, 0


def read(data: bytes, version: int) -> tuple[Packet | None, int]:
    """Read the first packet of these bytes; return it and its size, or None and 0: more are needed."""
    length, size = read_varint(data[1:])
    end = 1 + size + length
    if not size or end > len(data):
        return None, 0
    raw = data[:end]
    kind, flags, body = Kind(raw[0] >> 4), raw[0] & 15, _Body(raw[1 + size :])
    v5 = version == V5
    if kind is Kind.PUBLISH:
        assert flags & 6 != 6, "the proxy has sent QoS 3"
        assert flags & 14 != 8, "the proxy has sent DUP at QoS 0"
        topic = body.string()
        packet_id = body.number(2) if flags & 6 else 0
        fields = body.properties() if v5 else ()
        assert packet_id or not flags & 6, "the proxy has used packet identifier 0"
        return Packet(kind, raw, flags, packet_id, (), fields, topic, body.data), end
    assert raw[0] in _FIRST, f"the proxy has sent a packet that starts with {raw[0]:#04x}"
    return _read_other(kind, raw, body, v5=v5), end


def _read_other(kind: Kind, raw: bytes, body: _Body, *, v5: bool) -> Packet:
    packet_id, reasons, fields, present = 0, (0,), (), False  # type: tuple[int, tuple[int, ...], Any, bool]
    match kind:
        case Kind.CONNACK:
            present_flags = body.number(1)
            assert present_flags in (0, 1)
            present = bool(present_flags)
            reasons = (body.number(1),)
            fields = body.properties() if v5 else ()
            assert v5 or reasons[0] in _CONNACK_311
        case Kind.SUBACK | Kind.UNSUBACK:
            packet_id = body.number(2)
            fields = body.properties() if v5 else ()
            reasons = tuple(body.take(len(body.data)))
            assert v5 or _SUBACK_311.issuperset(reasons)
        case Kind.PINGRESP:
            pass
        case _:
            assert v5 or kind in (Kind.PUBACK, Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP)
            if kind not in (Kind.DISCONNECT, Kind.AUTH):
                packet_id = body.number(2)
            if v5 and body.data:
                reasons = (body.number(1),)
                fields = body.properties() if body.data else ()
    assert not body.data, f"bytes follow in {raw.hex(' ')}"
    if v5:
        assert REASONS.get(kind, {0}).issuperset(reasons), f"{kind.name} with a reason it does not have: {reasons}"
    return Packet(kind, raw, 0, packet_id, reasons, fields, session_present=present)
