"""Rows by rule: every length, flag, identifier and character that can be wrong, each by itself in a good packet.

Where two faults may be told for one, because the rest of a packet reads otherwise then, any of them will do.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from attrs import evolve

from tests.bad_input.rows import (
    CLIENT_ID,
    MALFORMED,
    PROTOCOL,
    TOO_LARGE,
    Row,
    broken,
    nothing,
    unwelcome,
)
from tests.bad_input.samples import ACKS, ALL, BOOLEANS, PLACES, PROPERTIES, Place, Sample
from tests.bad_input.wire import V5, V311, connect, frame, optional, properties, publish, subscribe, text

VERSION_ENDS: Final = 7  # bytes of CONNECT: before, nobody knows in which words to refuse
VERSIONS: Final = (V311, V5)
# The first byte of every packet, as it must be; at QoS 1 for PUBLISH.
FIRSTS: Final = (0x10, 0x20, 0x32, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0)
EMPTY: Final = (0xC0, 0xD0, 0xE0, 0xF0)  # those that may be empty


def any_of(rows: Iterable[Row]) -> Iterator[Row]:
    """Let each of the reasons do."""
    return (evolve(row, any_of=True) for row in rows)


def wrong(identifier: str, name: str, sample: Sample, data: bytes, *, is_known: bool = True) -> Iterator[Row]:
    """Give a row for a sample that was made wrong; `is_known`: the version of a CONNECT can still be read."""
    name = f"{sample.name} {name}"
    if not sample.is_first:
        yield from any_of(broken(identifier, name, {sample.version: data}, MALFORMED, PROTOCOL))
    elif is_known:
        yield from any_of(unwelcome(identifier, name, {sample.version: data}, MALFORMED, PROTOCOL, CLIENT_ID))
    else:
        yield evolve(next(nothing(identifier, name, data)), version=sample.version)


def remaining_lengths() -> Iterator[Row]:
    for first in FIRSTS:
        for name, length in {"zeros": b"\x80\x80\x80\x80\x00", "all bits": b"\xff\xff\xff\xff\xff"}.items():
            sent = {version: bytes([first]) + length for version in VERSIONS}
            yield from broken("A1", f"{first:#04x} length of five bytes, {name}", sent, MALFORMED)
        sent = {version: bytes([first]) + b"\xff\xff\xff\x7f" for version in VERSIONS}
        yield from broken("A3", f"{first:#04x} and 256 MB", sent, TOO_LARGE)
    for first in EMPTY:
        for size in (2, 3, 4):
            sent = {version: bytes([first]) + b"\x80" * (size - 1) + b"\x00" for version in VERSIONS}
            yield from broken("A2", f"{first:#04x} of no bytes in {size} bytes", sent, MALFORMED)
    for sample in ALL:
        least = len(sample.body) & 0x7F, len(sample.body) >> 7
        assert least[1] < 128
        for more in range(1, 3 if least[1] else 4):
            digits = [*least[: 1 + bool(least[1])], *[0] * more]
            written = bytes(byte | 0x80 for byte in digits[:-1]) + bytes(digits[-1:])
            data = bytes([sample.first]) + written + sample.body
            yield from wrong("A2", f"with {more} bytes of length too many", sample, data, is_known=False)


def property_lengths() -> Iterator[Row]:
    for sample in ALL:
        for number, length in enumerate(sample.lengths):
            if length.of != "properties":
                continue
            size = length.end - length.at - 1
            for row, name, value in (
                ("A4", "one more than there is", bytes([size + 1])),
                ("A4", "one less than there is", bytes([size - 1])),
                ("A4", "127", b"\x7f"),
                ("A4", "256 MB", b"\xff\xff\xff\x7f"),
                ("A2", "in two bytes", bytes([size | 0x80, 0])),
                ("A2", "in four bytes", bytes([size | 0x80, 0x80, 0x80, 0])),
                ("A2", "in five bytes", bytes([size | 0x80, 0x80, 0x80, 0x80, 0])),
            ):
                data = frame(sample.first, sample.with_length(length, value))
                yield from wrong(row, f"properties at {number} of length {name}", sample, data)


def field_lengths() -> Iterator[Row]:
    for sample in ALL:
        for number, length in enumerate(sample.lengths):
            if length.of != "field":
                continue
            room = len(sample.body) - length.at - 2
            for name, size in (("one more than is left", room + 1), ("256", 256), ("65535", 65_535)):
                data = frame(sample.first, sample.with_length(length, size.to_bytes(2, "big")))
                yield from wrong("A4" if length.inside else "A5", f"field {number} of {name}", sample, data)


def cut_bodies() -> Iterator[Row]:
    """Every packet ends after each of its bytes."""
    for sample in ALL:
        for size in range(len(sample.body)):
            if size not in sample.whole:
                data = frame(sample.first, sample.body[:size])
                yield from wrong("A5", f"of {size} bytes", sample, data, is_known=size >= VERSION_ENDS)
        if sample.name != "publish":  # which has a payload then
            yield from wrong("A5", "and a byte more", sample, frame(sample.first, sample.body + b"\x00"))


def first_bytes() -> Iterator[Row]:
    for first in range(256):
        if first & 0xF0 != 0x10:
            yield from nothing("A7", f"{first:#04x}", bytes([first, 0]))
        elif first != 0x10:
            yield from nothing("A6", f"{first:#04x} first", bytes([first]) + connect(V5)[1:])


def flags_of_headers() -> Iterator[Row]:
    for sample in ALL:
        if sample.name not in {"connect", "publish"}:
            for flags in range(16):
                if flags != sample.first & 0x0F:
                    data = frame(sample.first & 0xF0 | flags, sample.body)
                    yield from wrong("A6", f"with flags {flags:04b}", sample, data)
    for first in EMPTY:
        for flags in (1, 2, 4, 8, 15):
            sent = {version: bytes([first | flags, 0]) for version in VERSIONS}
            yield from broken("A6", f"{first | flags:#04x}", sent, MALFORMED)
    for flags in range(16):
        yield from broken("A6", f"type 0 with flags {flags:04b}", dict.fromkeys(VERSIONS, bytes([flags, 0])), MALFORMED)


# Packets of MQTT 5 by where their properties stand.
_WITH: Final[dict[Place, Callable[[bytes], bytes]]] = {
    "connect": lambda own: frame(0x10, text("MQTT") + b"\x05\x02\x00\x3c" + own + text("row")),
    "will": lambda own: connect(V5, flags=0x06, payload=own + text("will") + text("gone")),
    "publish": lambda own: frame(0x30, text("t") + own),
    "ack": lambda own: frame(0x40, b"\x00\x05\x00" + own),
    "subscribe": lambda own: frame(0x82, b"\x00\x05" + own + text("t") + b"\x01"),
    "unsubscribe": lambda own: frame(0xA2, b"\x00\x05" + own + text("t")),
    "disconnect": lambda own: frame(0xE0, b"\x00" + own),
}


def ill(name: str, place: Place, *fields: bytes, told: tuple[int, ...] = (PROTOCOL,)) -> Iterator[Row]:
    """Give the row for properties that may not be."""
    make = unwelcome if place in {"connect", "will"} else broken
    return any_of(make("A12", f"{place}: {name}", {V5: _WITH[place](properties(*fields))}, *told))


def ill_properties() -> Iterator[Row]:
    unknown = [identifier for identifier in range(256) if identifier not in PROPERTIES]
    for place in PLACES:
        for identifier, (value, places) in PROPERTIES.items():
            field, name = bytes([identifier]) + value, f"property {identifier:#04x}"
            if place not in places:
                yield from ill(f"{name} is of another packet", place, field, told=(MALFORMED, PROTOCOL))
                continue
            yield from ill(f"{name} is cut short", place, field[:-1], told=(MALFORMED,))
            if identifier != 0x26:
                yield from ill(f"{name} stands twice", place, field, field)
        for identifier in unknown[::4] if place == "publish" else (0x00, 0x04, 0x2B, 0x7F, 0x80, 0xFF):
            field = bytes([identifier]) + b"\x00\x00\x00\x00"
            yield from ill(f"property {identifier:#04x} is none", place, field, told=(MALFORMED, PROTOCOL))
    for identifier, places in BOOLEANS.items():
        for place in sorted(places):
            for number in (2, 3, 0x80, 0xFF):
                yield from ill(f"property {identifier:#04x} is {number}", place, bytes([identifier, number]))


def ill_characters() -> Iterator[Row]:
    """Every byte that begins no character, every control character, every non-character."""
    for lead in (*range(0x80, 0xC2), *range(0xF5, 0x100)):
        yield from broken("B1", f"topic with byte {lead:#04x}", {V5: publish(V5, bytes([0x61, lead, 0x62]))}, MALFORMED)
    controls = [*range(1, 32), *range(127, 160)]
    planes = [plane + end for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF)]
    for number, code in enumerate([*controls, *range(0xFDD0, 0xFDF0), *planes]):
        version = VERSIONS[number % 2]
        sent = {version: publish(version, f"a{chr(code)}b")}
        yield from broken("B2", f"topic with U+{code:04X}", sent, MALFORMED)


def ill_filters() -> Iterator[Row]:
    for version in VERSIONS:
        reserved = (0x40, 0x80, 0xC0) if version == V5 else (0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC)
        for bits in reserved:
            for qos in range(3):
                sent = {version: subscribe(version, "t", options=bits | qos)}
                yield from broken("B6", f"reserved options {bits | qos:#04x}", sent, MALFORMED)
    for options in (0x03, 0x07, 0x0B, 0x13, 0x23, 0x30, 0x31, 0x32, 0x3F):
        yield from broken("B6", f"options {options:#04x}", {V5: subscribe(V5, "t", options=options)}, PROTOCOL)


def ill_flags_of_connect() -> Iterator[Row]:
    """All 256 flags, each with the fields that they promise."""
    for flags in range(256):
        has_will, will = flags & 0x04, flags & 0x38
        is_ill = flags & 0x01 or (will & 0x18 == 0x18 if has_will else will)
        for version in VERSIONS:
            if is_ill or (version == V311 and flags & 0xC0 == 0x40):
                payload = (optional(version) + text("will") + text("gone") if has_will else b"") + b"".join(
                    text(value) for bit, value in ((0x80, "user"), (0x40, "secret")) if flags & bit
                )
                sent = {version: connect(version, flags=flags, payload=payload)}
                yield from unwelcome("C2", f"flags {flags:08b}", sent, MALFORMED)


def ill_steps() -> Iterator[Row]:
    """Everything that can be wrong with identifiers and reasons of acknowledgements."""
    for name, first in ACKS.items():
        good = {0x00, 0x92} if first >= 0x60 else {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
        for reason in range(256):
            stands_elsewhere = reason < 3 or reason in (0x04, 0x10, 0x11, 0x18, 0x19) or 0x80 <= reason <= 0xA2
            if reason not in good and (stands_elsewhere or reason in (0x03, 0x7F, 0xA3, 0xFF)):
                sent = {V5: frame(first, b"\x00\x05" + bytes([reason]))}
                yield from any_of(broken("C8", f"{name} with reason {reason:#04x}", sent, PROTOCOL, MALFORMED))
    for first in range(0x30, 0x40):
        qos = first >> 1 & 3
        if qos == 3 or (qos == 0 and first & 0x08):
            sent = {v: frame(first, text("t/1") + b"\x00\x05" + optional(v) + b"x") for v in VERSIONS}
            yield from broken("C3", f"publish {first:#04x}", sent, MALFORMED)
        elif qos:
            sent = {v: frame(first, text("t/1") + b"\x00\x00" + optional(v) + b"x") for v in VERSIONS}
            yield from any_of(broken("C3", f"publish {first:#04x} of identifier 0", sent, PROTOCOL, MALFORMED))
    nothing_wanted = {v: frame(0x82, b"\x00\x05" + optional(v)) for v in VERSIONS}
    yield from any_of(broken("A5", "subscribe to nothing", nothing_wanted, PROTOCOL, MALFORMED))
    nothing_left = {v: frame(0xA2, b"\x00\x05" + optional(v)) for v in VERSIONS}
    yield from any_of(broken("A5", "unsubscribe from nothing", nothing_left, PROTOCOL, MALFORMED))


SYSTEMATIC: Final = [
    row
    for rows in (
        remaining_lengths,
        property_lengths,
        field_lengths,
        cut_bodies,
        first_bytes,
        flags_of_headers,
        ill_properties,
        ill_characters,
        ill_filters,
        ill_flags_of_connect,
        ill_steps,
    )
    for row in rows()
]
