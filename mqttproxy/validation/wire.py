"""Protobuf payloads read tag by tag, to say which field is wrong: the library only says that something is."""

from collections.abc import Iterator
from typing import Final

from attrs import define, field
from google.protobuf.descriptor import Descriptor, FieldDescriptor as Field

from mqttproxy.validation.verdict import FAILURES_KEPT, Failure
from mqttproxy.validation.words import pointer

Place = tuple[str | int, ...]

_VARINT, _FIXED64, _BYTES, _START, _END, _FIXED32 = range(6)
_SENT_AS: Final = {
    _VARINT: "a varint",
    _FIXED64: "8 bytes",
    _BYTES: "bytes with a length",
    _START: "a group",
    _FIXED32: "4 bytes",
}
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_WIRE: Final = {
    Field.TYPE_DOUBLE: _FIXED64, Field.TYPE_FIXED64: _FIXED64, Field.TYPE_SFIXED64: _FIXED64,
    Field.TYPE_FLOAT: _FIXED32, Field.TYPE_FIXED32: _FIXED32, Field.TYPE_SFIXED32: _FIXED32,
    Field.TYPE_STRING: _BYTES, Field.TYPE_BYTES: _BYTES, Field.TYPE_MESSAGE: _BYTES, Field.TYPE_GROUP: _START,
}  # fmt: skip
TYPES: Final = {
    getattr(Field, name): name.removeprefix("TYPE_").lower() for name in dir(Field) if name.startswith("TYPE_")
}
_LONGEST_VARINT: Final = 10
_DEEPEST: Final = 100


class _BrokenError(Exception):
    """The bytes end or go wrong: what comes behind cannot be read."""


@define
class Reading:
    """One payload being read. `unknown`: fields that the schema does not know are failures too."""

    data: bytes
    unknown: bool
    broken: bool  # the library could not read it
    steps: int  # that may still be taken
    found: list[Failure] = field(init=False, factory=list)

    def message(self, descriptor: Descriptor, start: int, end: int, place: Place) -> int:
        """Read a message and add what is wrong with it; return where it ends."""
        seen: dict[int, int] = {}
        position = start
        while position < end:
            self.steps -= 1
            if self.steps < 0:
                raise _BrokenError
            tag, position = self._varint(position, end, place)
            number, wire = tag >> 3, tag & 7
            known = descriptor.fields_by_number.get(number)
            if wire == _END:
                return position
            if not 0 < number < 1 << 29 or wire > _FIXED32:
                raise self._broken(place, "wire", f"no field can begin with the number {tag} at offset {position}")
            inner = (*place, *_steps(known, seen)) if known else place
            position = self._field(known, tag, position, end, inner)
            if len(self.found) >= FAILURES_KEPT:
                raise _BrokenError
        return position

    def _field(self, known: Field | None, tag: int, position: int, end: int, place: Place) -> int:
        number, wire = tag >> 3, tag & 7
        if len(place) > 2 * _DEEPEST:
            raise self._broken(place, "depth", f"nested deeper than {_DEEPEST} levels")
        if known is None:
            if self.unknown:
                self._add(place, "unknown-field", f"the schema has no field {number}, sent as {_SENT_AS[wire]}")
            return self._skip(number, wire, position, end, place)
        wanted = _WIRE.get(known.type, _VARINT)
        if wire == _BYTES == wanted:
            begin, stop = self._length(position, end, place)
            self._contents(known, begin, stop, place)
            return stop
        if wire == _BYTES and known.is_repeated and wanted in (_VARINT, *_FIXED):
            begin, stop = self._length(position, end, place)
            self._packed(known, wanted, begin, stop, place)
            return stop
        if wire != wanted:
            words = f"sent as {_SENT_AS[wire]}, which is no {TYPES[known.type]}"
            self._add(place, "type", words)
        elif wire == _START and known.message_type is not None:
            return self.message(known.message_type, position, end, place)
        elif wire == _VARINT and known.enum_type is not None:
            self._enum(known, self._varint(position, end, place)[0], place)
        return self._skip(number, wire, position, end, place)

    def _contents(self, known: Field, start: int, end: int, place: Place) -> None:
        if known.message_type is not None:
            self.message(known.message_type, start, end, place)
        elif known.type == Field.TYPE_STRING and self.broken:
            try:
                self.data[start:end].decode()
            except UnicodeDecodeError as error:
                words = f"byte 0x{self.data[start + error.start]:02x} at offset {start + error.start} is not UTF-8"
                self._add(place, "utf-8", words)

    def _packed(self, known: Field, wanted: int, start: int, end: int, place: Place) -> None:
        size = _FIXED.get(wanted)
        if size is not None:
            if (end - start) % size:
                words = f"{end - start} bytes cannot be values of {size} bytes each"
                raise self._broken(place, "wire", words)
            return
        while start < end:
            self.steps -= 1
            if self.steps < 0:
                raise _BrokenError
            value, start = self._varint(start, end, place)
            if known.enum_type is not None:
                self._enum(known, value, place)

    def _enum(self, known: Field, value: int, place: Place) -> None:
        kind = known.enum_type
        number = (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)
        if kind is not None and (kind.is_closed or self.unknown) and number not in kind.values_by_number:
            self._add(place, "enum", f"{number} is not a value of {kind.full_name}")

    def _skip(self, number: int, wire: int, position: int, end: int, place: Place) -> int:
        if wire == _VARINT:
            return self._varint(position, end, place)[1]
        if wire == _BYTES:
            return self._length(position, end, place)[1]
        if wire == _START:
            return self._skip_group(number, position, end, place)
        if position + _FIXED[wire] > end:
            raise self._broken(place, "wire", f"the payload ends within {_SENT_AS[wire]}")
        return position + _FIXED[wire]

    def _skip_group(self, number: int, position: int, end: int, place: Place) -> int:
        open_groups = [number]
        while open_groups:
            self.steps -= 1
            if self.steps < 0 or len(open_groups) > _DEEPEST:
                raise _BrokenError
            tag, position = self._varint(position, end, place)
            if tag & 7 == _END:
                if open_groups.pop() != tag >> 3:
                    raise self._broken(place, "wire", "a group that ends as another one")
            elif tag & 7 == _START:
                open_groups.append(tag >> 3)
            elif tag & 7 > _FIXED32:
                raise self._broken(place, "wire", f"no field can begin with the number {tag}")
            else:
                position = self._skip(tag >> 3, tag & 7, position, end, place)
        return position

    def _length(self, position: int, end: int, place: Place) -> tuple[int, int]:
        length, position = self._varint(position, end, place)
        if length > end - position:
            raise self._broken(place, "wire", f"{length} bytes are announced, {end - position} are there")
        return position, position + length

    def _varint(self, position: int, end: int, place: Place) -> tuple[int, int]:
        value = 0
        for index in range(_LONGEST_VARINT):
            if position + index >= end:
                raise self._broken(place, "wire", "the payload ends within a number")
            byte = self.data[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position + index + 1
        raise self._broken(place, "wire", "a number of more than 10 bytes")

    def _broken(self, place: Place, keyword: str, words: str) -> _BrokenError:
        self._add(place, keyword, words)
        return _BrokenError()

    def _add(self, place: Place, keyword: str, words: str) -> None:
        self.found.append(Failure(pointer(place), keyword, words))


def findings(
    descriptor: Descriptor,
    payload: bytes,
    *,
    unknown: bool,
    broken: bool,
    most_steps: int,
    beyond: Failure | None = None,
) -> tuple[Failure, ...]:
    """Return what is wrong with the encoding of a payload, field by field.

    Args:
        descriptor: of the message.
        payload: its bytes.
        unknown: fields and values of enums that the schema does not know count.
        broken: the library could not read it, so texts are looked at too.
        most_steps: fields that are looked at.
        beyond: is the answer where there are more of them, and nothing was wrong so far.

    """
    reading = Reading(payload, unknown, broken, most_steps)
    try:
        end = reading.message(descriptor, 0, len(payload), ())
        if end < len(payload):
            reading.found.append(Failure("", "wire", "a group ends that never began"))
    except _BrokenError:
        if beyond is not None and not reading.found:
            reading.found.append(beyond)
    if broken and not reading.found:
        reading.found.append(Failure("", "wire", f"not the message {descriptor.full_name}"))
    return tuple(dict.fromkeys(reading.found))[:FAILURES_KEPT]


def _steps(known: Field, seen: dict[int, int]) -> Iterator[str | int]:
    yield known.name
    if known.is_repeated and known.message_type is not None:
        seen[known.number] = index = seen.get(known.number, -1) + 1
        yield index
