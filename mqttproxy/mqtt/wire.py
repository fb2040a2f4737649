"""The primitive fields of both versions (MQTT 5.0, section 1.5): integers, strings, binary data.

`Reader` is a cursor that cannot leave its packet: whatever the bytes are, it gives a value or a RemoteProtocolError.
"""

import re
from typing import Final

from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.reasons import ReasonCode

MALFORMED: Final = ReasonCode.MALFORMED_PACKET
VARINT_MAX: Final = 268_435_455
STRING_MAX: Final = 65_535

# NUL and surrogates must not be there [MQTT-1.5.4-1, -2], control characters and non-characters should not. Mosquitto
# refuses all of them: letting one through would cost the link to the broker for one device's message.
_UNWANTED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
    + "]"
)


def unwanted_character(text: str) -> str | None:
    """Return the first character that no MQTT string may hold, or None."""
    if text.isprintable():  # no unwanted character is printable, and this is ten times faster than the expression
        return None
    found = _UNWANTED.search(text)
    return found.group() if found else None


def malformed(message: str) -> RemoteProtocolError:
    """Make the error for bytes that cannot be read as the standard wants them."""
    return RemoteProtocolError(message, MALFORMED)


class Reader:
    """A cursor over `data[position:stop]`; every read checks that it stays inside."""

    __slots__ = ("data", "position", "stop")

    def __init__(self, data: bytes, position: int, stop: int) -> None:
        self.data = data
        self.position = position
        self.stop = stop

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        start = self.position
        end = start + size
        if end > self.stop:
            raise malformed("a field runs over the end of its packet")
        self.position = end
        return self.data[start:end]

    def byte(self) -> int:
        """Return the next byte."""
        position = self.position
        if position >= self.stop:
            raise malformed("the packet ends before its last field")
        self.position = position + 1
        return self.data[position]

    def uint16(self) -> int:
        """Return a two byte integer."""
        end = self.position + 2
        if end > self.stop:
            raise malformed("the packet ends before its last field")
        self.position = end
        return self.data[end - 2] << 8 | self.data[end - 1]

    def uint32(self) -> int:
        """Return a four byte integer."""
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """Return a variable byte integer, which must be minimal. [MQTT-1.5.5-1]."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise malformed("a variable byte integer is longer than 4 bytes")
        if shift and not byte:
            raise malformed("a variable byte integer is not minimal")
        return value

    def binary(self) -> bytes:
        """Return binary data: two bytes of length, then the bytes."""
        start = self.position + 2
        if start > self.stop:
            raise malformed("the packet ends before its last field")
        end = start + (self.data[start - 2] << 8 | self.data[start - 1])
        if end > self.stop:
            raise malformed("a field runs over the end of its packet")
        self.position = end
        return self.data[start:end]

    def string(self) -> str:
        """Return a UTF-8 string without characters that MQTT forbids or advises against."""
        return decode_string(self.binary())

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.stop - self.position)

    def end(self) -> None:
        """Check that nothing is left."""
        if self.position != self.stop:
            raise malformed("bytes follow the last field of the packet")


def decode_string(raw: bytes) -> str:
    """Return the text of a UTF-8 field whose bytes were cut out already."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise malformed("a string is not UTF-8") from None
    if not text.isprintable() and (character := unwanted_character(text)) is not None:
        raise malformed(f"a string holds {character!r}")
    return text


def write_varint(out: bytearray, value: int) -> None:
    """Append a variable byte integer."""
    if not 0 <= value <= VARINT_MAX:
        raise LocalProtocolError(f"{value} does not fit a variable byte integer")
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def write_binary(out: bytearray, value: bytes) -> None:
    """Append binary data with its length."""
    if len(value) > STRING_MAX:
        raise LocalProtocolError(f"{len(value)} bytes do not fit a field of at most {STRING_MAX}")
    out += len(value).to_bytes(2, "big")
    out += value


def write_string(out: bytearray, text: str) -> None:
    """Append a UTF-8 string with its length."""
    if not text.isprintable() and (character := unwanted_character(text)) is not None:
        raise LocalProtocolError(f"a string must not hold {character!r}")
    write_binary(out, text.encode())


def write_uint(out: bytearray, value: int, size: int) -> None:
    """Append an integer of `size` bytes."""
    try:
        out += value.to_bytes(size, "big")
    except OverflowError:
        raise LocalProtocolError(f"{value} does not fit {size} bytes") from None
