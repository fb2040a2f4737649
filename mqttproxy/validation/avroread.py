"""Avro's binary encoding read strictly and within bounds, with the place of whatever is wrong.

fastavro reads faster, but not what a hostile device may send: it takes a negative symbol of an enum and any byte for a
boolean, lets an `int` hold 64 bits, makes a million items of four bytes, and ends the process on deep nesting. Two
decoders that read the same payload differently are a way around the judge, so every value has one encoding here.
"""

import math
import struct
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import MESSAGE_LENGTH, Json, pointer, printable

_LONGEST: Final = 10  # bytes of a number
_FLOAT: Final = struct.Struct("<f")
_DOUBLE: Final = struct.Struct("<d")
_RANGES: Final = {"int": 1 << 31, "long": 1 << 63}

Read = Callable[["Cursor"], Json]


class MisreadError(Exception):
    """The payload is not what the schema says. The place grows while the error goes up."""

    def __init__(self, keyword: str, words: str) -> None:
        super().__init__(words)
        self.keyword, self.words = keyword, words
        self.place: list[str | int] = []  # from the inside out

    def failure(self) -> Failure:
        """Return it as a failure."""
        return Failure(pointer(reversed(self.place)), self.keyword, printable(self.words, MESSAGE_LENGTH))


@define
class Cursor:
    """Where in a payload the reading is, and how much more it may read."""

    data: bytes
    items: int  # values that may still come
    depth: int  # levels that may still open
    at: int = 0

    def number(self) -> int:
        """Return the next number, zigzag decoded."""
        value = 0
        for index in range(_LONGEST):
            if self.at >= len(self.data):
                raise MisreadError("avro", "the payload ends within a number")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if index and not byte:
                    raise MisreadError("avro", "a number that is longer than it needs to be")
                return (value >> 1) ^ -(value & 1)
        raise MisreadError("avro", f"a number of more than {_LONGEST} bytes")

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size < 0:
            raise MisreadError("avro", f"a length of {size}")
        end = self.at + size
        if end > len(self.data):
            raise MisreadError("avro", f"{size} bytes are announced, {len(self.data) - self.at} are there")
        found = self.data[self.at : end]
        self.at = end
        return found

    def text(self) -> str:
        """Return the next text."""
        begin = self.at
        data = self.take(self.number())
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            words = f"byte 0x{data[error.start]:02x} in the text at offset {begin} is not UTF-8"
            raise MisreadError("utf-8", words) from None

    def count(self, values: int) -> None:
        """Count values before they are made."""
        self.items -= values
        if self.items < 0:
            raise MisreadError("items", "too many values")


def reader_of(schema: Any, names: dict[str, Any]) -> Read:
    """Return what reads one schema. `names`: of types by full name, as `fastavro.parse_schema` found them."""
    return _Readers(names).of(schema)


@define
class _Readers:
    names: dict[str, Any]
    made: dict[str, list[Read]] = field(factory=dict)  # of named types; empty while one is being made

    def of(self, schema: Any) -> Read:
        if isinstance(schema, list):
            return self._union([self.of(branch) for branch in schema])
        kind = schema if isinstance(schema, str) else schema["type"]
        if isinstance(kind, dict | list):
            return self.of(kind)
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind == "array":
            return _array(self.of(schema["items"]))
        if kind == "map":
            return _map(self.of(schema["values"]))
        return self._named(schema if isinstance(schema, dict) and "name" in schema else self.names[kind])

    def _union(self, branches: list[Read]) -> Read:
        def read(cursor: Cursor) -> Json:
            index = cursor.number()
            if not 0 <= index < len(branches):
                raise MisreadError("union", f"branch {index} of a union of {len(branches)}")
            return branches[index](cursor)

        return read

    def _named(self, schema: dict[str, Any]) -> Read:
        name = schema["name"]
        made = self.made.get(name)
        if made is None:
            made = self.made[name] = []
            made.append(self._made(schema))
        elif not made:  # inside of itself

            def later(cursor: Cursor) -> Json:
                return made[0](cursor)

            return later
        return made[0]

    def _made(self, schema: dict[str, Any]) -> Read:
        if schema["type"] == "enum":
            return _enum(schema["symbols"])
        if schema["type"] == "fixed":
            size = schema["size"]
            return lambda cursor: cursor.take(size).decode("latin-1")
        return _record([(one["name"], self.of(one["type"])) for one in schema["fields"]])


def _record(fields: list[tuple[str, Read]]) -> Read:
    def read(cursor: Cursor) -> Json:
        _open(cursor)
        cursor.count(len(fields))
        document: dict[str, Json] = {}
        name = ""
        try:
            for name, of_field in fields:
                document[name] = of_field(cursor)
        except MisreadError as error:
            error.place.append(name)
            raise
        cursor.depth += 1
        return document

    return read


def _array(of_item: Read) -> Read:
    def read(cursor: Cursor) -> Json:
        _open(cursor)
        items: list[Json] = []
        try:
            while count := _block(cursor):
                for _ in range(count):
                    items.append(of_item(cursor))  # noqa: PERF401 - its length is the place of an error
        except MisreadError as error:
            error.place.append(len(items))
            raise
        cursor.depth += 1
        return items

    return read


def _map(of_value: Read) -> Read:
    def read(cursor: Cursor) -> Json:
        _open(cursor)
        members: dict[str, Json] = {}
        while count := _block(cursor):
            for _ in range(count):
                key = cursor.text()
                if key in members:
                    error = MisreadError("duplicate-key", "the key stands twice")
                    error.place.append(key)
                    raise error
                try:
                    members[key] = of_value(cursor)
                except MisreadError as error:
                    error.place.append(key)
                    raise
        cursor.depth += 1
        return members

    return read


def _block(cursor: Cursor) -> int:
    """Return how many items the next block has. A negative count comes with the size of the block in bytes."""
    count = cursor.number()
    if count < 0:
        count = -count
        if not 0 <= (size := cursor.number()) <= len(cursor.data) - cursor.at:
            raise MisreadError("avro", f"a block of {size} bytes, {len(cursor.data) - cursor.at} are there")
    cursor.count(count)
    return count


def _open(cursor: Cursor) -> None:
    cursor.depth -= 1
    if cursor.depth < 0:
        raise MisreadError("depth", "nested too deeply")


def _enum(symbols: list[str]) -> Read:
    def read(cursor: Cursor) -> Json:
        index = cursor.number()
        if not 0 <= index < len(symbols):
            raise MisreadError("enum", f"symbol {index} of {len(symbols)}")
        return symbols[index]

    return read


def _whole(kind: str) -> Read:
    bound = _RANGES[kind]

    def read(cursor: Cursor) -> Json:
        value = cursor.number()
        if not -bound <= value < bound:
            raise MisreadError("integer", f"the integer {value} is no {kind}")
        return value

    return read


def _real(form: struct.Struct) -> Read:
    def read(cursor: Cursor) -> Json:
        value: float = form.unpack(cursor.take(form.size))[0]
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    return read


def _flag(cursor: Cursor) -> Json:
    byte = cursor.take(1)[0]
    if byte > 1:
        raise MisreadError("boolean", f"the byte 0x{byte:02x}, which is neither true nor false")
    return bool(byte)


_PLAIN: Final[dict[str, Read]] = {
    "null": lambda _: None,
    "boolean": _flag,
    "int": _whole("int"),
    "long": _whole("long"),
    "float": _real(_FLOAT),
    "double": _real(_DOUBLE),
    "string": Cursor.text,
    "bytes": lambda cursor: cursor.take(cursor.number()).decode("latin-1"),
}
