"""Bytes of MQTT put together by hand, so that no rule of our own encoder stands between a test and the proxy."""

from collections.abc import Sequence
from typing import Final

V311: Final = 4
V5: Final = 5


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: bytes | str) -> bytes:
    """Return a string or binary field: two bytes of length, then the bytes."""
    value = value.encode() if isinstance(value, str) else value
    return len(value).to_bytes(2, "big") + value


def frame(first: int, body: bytes = b"") -> bytes:
    return bytes([first]) + varint(len(body)) + body


def properties(*fields: bytes) -> bytes:
    body = b"".join(fields)
    return varint(len(body)) + body


def pair(name: str = "k", value: str = "v") -> bytes:
    """Return one user property."""
    return b"\x26" + text(name) + text(value)


def optional(version: int, *fields: bytes) -> bytes:
    """Return the properties where the version has them."""
    return properties(*fields) if version == V5 else b""


def connect(
    version: int,
    client_id: bytes | str = "row",
    *,
    flags: int = 0x02,
    fields: Sequence[bytes] = (),
    payload: bytes = b"",
    name: bytes = b"MQTT",
) -> bytes:
    """Return CONNECT; `payload` is what follows the client identifier."""
    head = text(name) + bytes([version, flags]) + b"\x00\x3c" + optional(version, *fields)
    return frame(0x10, head + text(client_id) + payload)


def connect_with_will(version: int, topic: bytes | str, payload: bytes = b"x") -> bytes:
    return connect(version, flags=0x06, payload=optional(version) + text(topic) + text(payload))


def publish(
    version: int,
    topic: bytes | str = "t",
    payload: bytes = b"",
    *,
    qos: int = 0,
    packet_id: int = 1,
    fields: Sequence[bytes] = (),
) -> bytes:
    number = packet_id.to_bytes(2, "big") if qos else b""
    return frame(0x30 | qos << 1, text(topic) + number + optional(version, *fields) + payload)


def subscribe(
    version: int, *filters: bytes | str, packet_id: int = 1, fields: Sequence[bytes] = (), options: int = 1
) -> bytes:
    wanted = b"".join(text(one) + bytes([options]) for one in filters)
    return frame(0x82, packet_id.to_bytes(2, "big") + optional(version, *fields) + wanted)


def unsubscribe(version: int, *filters: bytes | str, packet_id: int = 1) -> bytes:
    return frame(0xA2, packet_id.to_bytes(2, "big") + optional(version) + b"".join(map(text, filters)))


def suback(version: int, packet_id: int, *reasons: int) -> bytes:
    return frame(0x90, packet_id.to_bytes(2, "big") + optional(version) + bytes(reasons))


def without_reasons(packet: bytes) -> bytes:
    """Return a SUBACK of MQTT 5 without its properties, which no row is about; another packet as it is."""
    if packet[0] != 0x90:
        return packet
    position, found = 1, []  # the lengths of the packet and, behind its identifier, of its properties
    for skipped in (2, 0):
        size = shift = 0
        while True:
            byte = packet[position]
            size |= (byte & 127) << shift
            shift += 7
            position += 1
            if byte < 128:
                break
        position += skipped
        found.append((position, size))
    (identifier_ends, _), (start, size) = found
    reasons = packet[start + size :]
    return frame(0x90, packet[identifier_ends - 2 : identifier_ends] + b"\0" + reasons)


def frames(data: bytes) -> list[bytes]:
    """Cut what the proxy sent into packets; an incomplete one at the end is left out."""
    found: list[bytes] = []
    start = 0
    while True:
        size, shift, position = 0, 0, start + 1
        while position < len(data):
            size |= (data[position] & 127) << shift
            shift += 7
            position += 1
            if data[position - 1] < 128:
                break
        else:
            return found
        if position + size > len(data):
            return found
        found.append(data[start : position + size])
        start = position + size
