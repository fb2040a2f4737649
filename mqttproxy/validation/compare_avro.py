"""Whether one Avro schema reads what another one writes, by the rules of schema resolution, in words."""

from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field

from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.avro import names_of
from mqttproxy.validation.comparing import Difference, contracts_of
from mqttproxy.validation.registry import Registry, Version
from mqttproxy.validation.words import listed, pointer

Place = tuple[str | int, ...]

# What a reader takes besides its own type.
_PROMOTED: Final = {
    "long": ("int",),
    "float": ("int", "long"),
    "double": ("int", "long", "float"),
    "string": ("bytes",),
    "bytes": ("string",),
}
_RECORDS: Final = ("record", "error")


def differences(registry: Registry, reader: Version, writer: Version, settings: PayloadSettings) -> list[Difference]:
    """Return why the reader cannot read all that the writer writes, see `comparing`."""
    reading, writing = contracts_of(registry, (reader, writer), settings)
    return compare_schemas(reading.schema, writing.schema, f"v{reader.number}", f"v{writer.number}")


def compare_schemas(reader: Any, writer: Any, reads: str, writes: str) -> list[Difference]:
    """Return the same for two parsed schemas. `reads`, `writes`: what the versions are called."""
    return list(_Resolution(names_of(reader), names_of(writer), reads, writes).of(reader, writer, ()))


@define
class _Resolution:
    reader_names: dict[str, Any]
    writer_names: dict[str, Any]
    reads: str
    writes: str
    seen: set[tuple[str, str]] = field(init=False, factory=set)  # pairs of records being looked at

    def of(self, reader: Any, writer: Any, place: Place) -> Iterator[Difference]:
        reader, writer = _plain(reader, self.reader_names), _plain(writer, self.writer_names)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.of(reader, branch, place)
        elif isinstance(reader, list):
            yield from self._union(reader, writer, place)
        else:
            yield from self._types(reader, writer, place)

    def _union(self, reader: list[Any], writer: Any, place: Place) -> Iterator[Difference]:
        nearest: list[Difference] | None = None
        for branch in reader:
            found = list(self.of(branch, writer, place))
            if not found:
                return
            same = _plain(branch, self.reader_names)["type"] == writer["type"]
            nearest = found if same and nearest is None else nearest
        if nearest is not None:
            yield from nearest
        else:
            yield self._unlike(" or ".join(_called(_plain(one, self.reader_names)) for one in reader), writer, place)

    def _types(self, reader: dict[str, Any], writer: dict[str, Any], place: Place) -> Iterator[Difference]:
        kind, sent = reader["type"], writer["type"]
        if kind in _RECORDS and sent in _RECORDS and _same_name(reader, writer):
            yield from self._record(reader, writer, place)
        elif kind != sent:
            if sent not in _PROMOTED.get(kind, ()):
                yield self._unlike(_called(reader), writer, place)
        elif kind == "array":
            yield from self.of(reader["items"], writer["items"], (*place, "*"))
        elif kind == "map":
            yield from self.of(reader["values"], writer["values"], (*place, "*"))
        elif kind == "enum":
            yield from self._enum(reader, writer, place)
        elif kind == "fixed" and not (_same_name(reader, writer) and reader["size"] == writer["size"]):
            yield self._unlike(f"{reader['size']} bytes called {reader['name']}", writer, place)
        elif kind in _RECORDS:
            yield self._unlike(_called(reader), writer, place)

    def _record(self, reader: dict[str, Any], writer: dict[str, Any], place: Place) -> Iterator[Difference]:
        pair = (reader["name"], writer["name"])
        if pair in self.seen:
            return
        self.seen.add(pair)
        sent = {one["name"]: one for one in writer["fields"]}
        for one in reader["fields"]:
            name = next((name for name in (one["name"], *one.get("aliases", ())) if name in sent), None)
            inside = (*place, one["name"])
            if name is not None:
                yield from self.of(one["type"], sent[name]["type"], inside)
            elif "default" not in one:
                words = f"{self.reads} requires {pointer(inside)}, which {self.writes} devices do not send"
                yield Difference(pointer(inside), f"{words}; a default would do")
        self.seen.discard(pair)

    def _enum(self, reader: dict[str, Any], writer: dict[str, Any], place: Place) -> Iterator[Difference]:
        if not _same_name(reader, writer):
            yield self._unlike(_called(reader), writer, place)
            return
        lost = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
        if lost and "default" not in reader:
            where = f" at {pointer(place)}" if place else ""
            words = f"{self.reads} does not know {listed(lost)}{where}, which {self.writes} devices may send"
            yield Difference(pointer(place), words)

    def _unlike(self, wanted: str, writer: dict[str, Any], place: Place) -> Difference:
        where = f" at {pointer(place)}" if place else ""
        words = f"{self.reads} reads {wanted}{where}, {self.writes} devices send {_called(writer)}"
        return Difference(pointer(place), words)


def _plain(schema: Any, names: dict[str, Any]) -> Any:
    """Return a union as the list that it is, and everything else as an object with a type."""
    while isinstance(schema, dict) and isinstance(schema["type"], dict | list):
        schema = schema["type"]
    if isinstance(schema, str):
        return names.get(schema, {"type": schema})
    if isinstance(schema, dict) and schema["type"] in names:
        return names[schema["type"]]
    return schema


def _same_name(reader: dict[str, Any], writer: dict[str, Any]) -> bool:
    """Return whether two named types are one: their last names count, or an alias that the reader has."""
    wanted = writer["name"].rpartition(".")[2]
    return wanted in [name.rpartition(".")[2] for name in (reader["name"], *reader.get("aliases", ()))]


def _called(schema: Any) -> str:
    kind, name = schema["type"], schema.get("name")
    return f"{kind} {name}" if name else str(kind)
