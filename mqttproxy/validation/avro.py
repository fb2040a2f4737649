"""An Avro schema made ready for payloads: one value in Avro's binary encoding, and nothing behind it."""

import io
import math
from typing import Any, ClassVar, Final

import fastavro
from attrs import define, field
from fastavro.schema import SchemaParseException

from mqttproxy.validation.avroread import Cursor, MisreadError, Read, reader_of
from mqttproxy.validation.gate import PayloadError, too_deep, too_many
from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import MESSAGE_LENGTH, Json, printable

_LOGICAL: Final = ("logicalType", "precision", "scale")
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@define(eq=False)
class AvroContract:
    """One Avro schema in force, see `Contract`."""

    name: str
    kind: ClassVar[str] = "avro"
    reads_text: ClassVar[bool] = False
    schema: Any  # as `parsed` returns it
    max_depth: int
    max_items: int
    _read: Read = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the reader."""
        self._read = reader_of(self.schema, names_of(self.schema))

    def failures(self, payload: bytes) -> tuple[Failure, ...]:
        """Return what is wrong with a payload: the first thing, because what comes behind it cannot be read."""
        try:
            self.document(payload)
        except PayloadError as error:
            return error.failures
        return ()

    def document(self, payload: bytes) -> Json:
        """Return the value as JSON: values of unions as they are, bytes as text with a letter for each byte."""
        cursor = Cursor(payload, self.max_items, self.max_depth)
        try:
            document = self._read(cursor)
        except MisreadError as error:
            raise PayloadError(self._bounds.get(error.keyword) or error.failure()) from None
        if cursor.at != len(payload):
            words = f"{len(payload) - cursor.at} bytes behind the end of the value"
            raise PayloadError(Failure("", "trailing-bytes", words))
        return document

    def encode(self, document: Json) -> bytes:
        """Return the payload that says a document."""
        target = io.BytesIO()
        try:
            value = _native(self.schema, document, names_of(self.schema), self.max_depth)
            fastavro.schemaless_writer(target, self.schema, value, strict=True)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, RecursionError) as error:
            words = str(error) or type(error).__name__
            raise PayloadError(Failure("", "avro", printable(words, MESSAGE_LENGTH))) from error
        return target.getvalue()

    @property
    def _bounds(self) -> dict[str, Failure]:
        return {"depth": too_deep(self.max_depth), "items": too_many(self.max_items)}


def parsed(document: Any) -> Any:
    """Return a schema as fastavro wants it, without logical types: payloads are judged by what is on the wire.

    Raises:
        ValueError: it is no Avro schema; in words.

    """
    try:
        schema = fastavro.parse_schema(_bare(document))
    except (SchemaParseException, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        words = f"{error}" if not isinstance(error, KeyError) else f"no {error}"
        raise ValueError(printable(words or type(error).__name__, MESSAGE_LENGTH)) from error
    if endless := _endless(names_of(schema)):
        raise ValueError(f"{endless} is always inside of itself, so no value of it can end")
    return schema


def names_of(schema: Any) -> dict[str, Any]:
    """Return the named types of a parsed schema by full name."""
    found: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            if "name" in one and one.get("type") in ("record", "error", "enum", "fixed"):
                found[one["name"]] = one
            waiting += [one[key] for key in ("type", "items", "values") if isinstance(one.get(key), dict | list)]
            waiting += [field["type"] for field in one.get("fields", ())]
    return found


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: value if key == "default" else _bare(value) for key, value in schema.items() if key not in _LOGICAL}


def _endless(names: dict[str, Any]) -> str:
    """Return the name of a record that holds itself without a way out, or nothing."""
    inside = {name: [_name(one["type"], names) for one in schema.get("fields", ())] for name, schema in names.items()}
    done: set[str] = set()
    for start in names:
        above: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                above.pop()
                done.add(name)
            elif name in above:
                return name
            elif name and name not in done:
                above.append(name)
                stack.append((name, True))
                stack += [(inner, False) for inner in inside[name]]
    return ""


def _name(schema: Any, names: dict[str, Any]) -> str:
    """Return the name of a type that has one, or nothing."""
    while isinstance(schema, dict) and isinstance(schema.get("type"), dict):
        schema = schema["type"]
    name = schema.get("name", schema.get("type")) if isinstance(schema, dict) else schema
    return name if isinstance(name, str) and name in names else ""


def _native(schema: Any, value: Any, names: dict[str, Any], depth: int) -> Any:  # noqa: C901 - a case for each type
    """Return a JSON value as fastavro writes it: bytes for bytes, and the branch of a union that it fits."""
    if depth < 0:
        raise ValueError("nested too deeply")
    while isinstance(schema, dict) and isinstance(schema["type"], dict | list):
        schema = schema["type"]
    if isinstance(schema, list):
        return _branch(schema, value, names, depth)
    if isinstance(schema, str) and schema in names:
        schema = names[schema]
    kind = schema if isinstance(schema, str) else schema["type"]
    if not _fits(kind, value, schema):
        raise ValueError(f"{printable(repr(value), 60)} is no {kind}")
    native = value
    match kind:
        case "bytes" | "fixed":
            native = value.encode("latin-1")
        case "float" | "double":
            native = _NOT_FINITE[value] if isinstance(value, str) else float(value)
        case "array":
            native = [_native(schema["items"], item, names, depth - 1) for item in value]
        case "map":
            native = {key: _native(schema["values"], item, names, depth - 1) for key, item in value.items()}
        case "record" | "error":
            native = _members(schema, value, names, depth)
    return native


def _members(schema: Any, value: dict[str, Any], names: dict[str, Any], depth: int) -> dict[str, Any]:
    known = {one["name"]: one for one in schema["fields"]}
    if unknown := value.keys() - known.keys():
        raise ValueError(f"{schema['name']} has no field {printable(repr(min(unknown)), 60)}")
    members = {}
    for name, one in known.items():
        if name in value:
            members[name] = _native(one["type"], value[name], names, depth - 1)
        elif "default" in one:
            members[name] = _native(one["type"], one["default"], names, depth - 1)
        else:
            raise ValueError(f"{name} is missing")
    return members


def _branch(schema: list[Any], value: Any, names: dict[str, Any], depth: int) -> Any:
    """Return the value as the first branch has it that can say it; records are named, for fastavro to know."""
    for branch in schema:
        try:
            native = _native(branch, value, names, depth)
        except (ValueError, KeyError, TypeError):
            continue
        kind = branch if isinstance(branch, str) else branch.get("name", branch["type"])
        return (kind, native)
    raise ValueError(f"{printable(repr(value), 60)} is none of the union")


def _fits(kind: str, value: Any, schema: Any) -> bool:
    match kind:
        case "int" | "long":
            bound = 1 << (31 if kind == "int" else 63)
            return type(value) is int and -bound <= value < bound
        case "float" | "double":
            return value in _NOT_FINITE if isinstance(value, str) else type(value) in (int, float)
        case "fixed":
            return isinstance(value, str) and len(value) == schema["size"]
        case "enum":
            return value in schema["symbols"]
    return isinstance(value, _TYPES.get(kind, dict))


_TYPES: Final[dict[str, type]] = {"null": type(None), "boolean": bool, "string": str, "bytes": str, "array": list}
