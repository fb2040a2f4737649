"""Whether one JSON Schema takes all that another one allows, in words with JSON Pointers.

The answer is `jsonschema_rs`'s, which compares canonical forms; what it cannot decide counts as no. The words come
from a walk over both schemas that stops wherever that answer is yes, so nothing is told that does not matter. Where
a schema is inside of itself there is no canonical form: then the walk is the proof, if it understood all that it saw.
"""

from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs
from attrs import define, field

from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.comparing import Difference
from mqttproxy.validation.json_sides import Side, binding, same_value, side_of, values_of
from mqttproxy.validation.nodes import Node
from mqttproxy.validation.registry import Registry, Version
from mqttproxy.validation.words import listed, pointer, shown

Place = tuple[str | int, ...]
Nodes = tuple[Node, ...]  # that hold together; none: anything goes

_YES: Final = jsonschema_rs.canonical.Containment.YES
_DEEPEST: Final = 64
_MOST: Final = 100  # differences told
_TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
# Keyword, whether it bounds from above, and what it bounds.
_BOUNDS: Final = {
    "maximum": (True, ""),
    "minimum": (False, ""),
    "exclusiveMaximum": (True, "below "),
    "exclusiveMinimum": (False, "above "),
    "maxLength": (True, "characters"),
    "minLength": (False, "characters"),
    "maxItems": (True, "items"),
    "minItems": (False, "items"),
    "maxProperties": (True, "members"),
    "minProperties": (False, "members"),
}
_SAME: Final = ("pattern", "format", "multipleOf", "uniqueItems")
_UNDERSTOOD: Final = {
    "$schema", "$id", "id", "$ref", "$defs", "definitions", "$comment", "$anchor", "title", "description", "default",
    "examples", "deprecated", "readOnly", "writeOnly", "type", "required", "enum", "const", "properties", "allOf",
    "additionalProperties", "items", *_BOUNDS, *_SAME,
}  # fmt: skip


def differences(registry: Registry, reader: Version, writer: Version, settings: PayloadSettings) -> list[Difference]:
    """Return why the reader does not take all that the writer allows, see `comparing`."""
    del settings
    closed = registry.subject(writer.subject).settings.undeclared == "nothing"
    walk = _Walk(side_of(registry, reader, closed=False), side_of(registry, writer, closed=closed))
    found, _ = walk.compare((walk.reader.root,), (walk.writer.root,), ())
    return found[:_MOST]


@define
class _Walk:
    reader: Side
    writer: Side
    seen: set[tuple[Nodes, Nodes]] = field(init=False, factory=set)

    def compare(self, reader: Nodes, writer: Nodes, place: Place) -> tuple[list[Difference], bool]:
        """Return differences, and whether none means that it is proved that there are none."""
        if (reader, writer) in self.seen:
            return [], True
        taken, sent = self.reader.canonical(reader), self.writer.canonical(writer)
        if _covers(taken, sent):
            return [], True
        if len(place) > _DEEPEST:
            return [self._unproved(place)], False
        self.seen.add((reader, writer))
        look = _Look(self, binding(reader), binding(writer), place)
        found = list(look.differences())
        if not found and not (look.understood and (taken is None or sent is None)):
            found.append(self._unproved(place))
        return found, look.understood

    def _unproved(self, place: Place) -> Difference:
        where = f" at {pointer(place)}" if place else ""
        words = f"it cannot be shown that {self.reader.called} takes all that {self.writer.called} allows{where}"
        return Difference(pointer(place), words)


def _covers(taken: Any, sent: Any) -> bool:
    if taken is None or sent is None:
        return False
    try:
        return bool(taken.covers(sent) == _YES)
    except (ValueError, jsonschema_rs.canonical.CanonicalizationError):
        return False


@define
class _Look:
    """Two schemas for one value, keyword by keyword."""

    walk: _Walk
    taken: list[Node]
    sent: list[Node]
    place: Place
    understood: bool = True

    def differences(self) -> Iterator[Difference]:
        self.understood = all(node.schema.keys() <= _UNDERSTOOD for node in self.taken) and not any(
            self.walk.writer.reference_alone and "$ref" in node.schema and len(node.schema) > 1 for node in self.sent
        )
        yield from self._types()
        yield from self._values()
        yield from self._bounds()
        yield from self._required()
        yield from self._properties()
        yield from self._others()
        yield from self._items()

    def _types(self) -> Iterator[Difference]:
        sent = _types(self.sent)
        for node in self.taken:
            if "type" in node.schema and (lost := sent - _types([node])):
                wanted = _either(node.schema["type"])
                words = f"wants {wanted}{self._at()}, {self.writes} devices may send {_either(sorted(lost))}"
                yield self._difference(words)
                return

    def _values(self) -> Iterator[Difference]:
        for node in self.taken:
            if (allowed := values_of(node.schema)) is None:
                continue
            known = {same_value(value) for value in allowed}
            sent = [values for other in self.sent if (values := values_of(other.schema)) is not None]
            if not sent:
                words = f"takes only {_some(allowed)}{self._at()}, {self.writes} devices may send anything else"
                yield self._difference(words)
            elif lost := [value for value in min(sent, key=len) if same_value(value) not in known]:
                yield self._difference(f"does not take {_some(lost)}{self._at()}, which {self.writes} devices may send")

    def _bounds(self) -> Iterator[Difference]:
        for node in self.taken:
            for keyword, (above, unit) in _BOUNDS.items():
                wanted = node.schema.get(keyword)
                if not isinstance(wanted, int | float) or isinstance(wanted, bool):
                    continue
                others = [other.schema[keyword] for other in self.sent if keyword in other.schema]
                if any(
                    not isinstance(other, bool) and (other <= wanted if above else other >= wanted) for other in others
                ):
                    continue
                if any(values_of(other.schema) is not None for other in self.sent):
                    self.understood = False
                    continue
                limit = f"{'at most' if above else 'at least'} {wanted} {unit}".rstrip()
                if unit.endswith(" "):
                    limit = f"only what is {unit}{wanted}"
                other = f"up to {max(others)}" if above and others else f"from {min(others)}" if others else "any"
                yield self._difference(f"allows {limit}{self._at()}, {self.writes} allows {other}")
            for keyword in _SAME:
                yield from self._same(node, keyword)

    def _same(self, node: Node, keyword: str) -> Iterator[Difference]:
        wanted = node.schema.get(keyword, False)
        if wanted is not False and all(other.schema.get(keyword) != wanted for other in self.sent):
            words = f"wants {keyword} {shown(wanted)}{self._at()}, {self.writes} does not promise it"
            yield self._difference(words)

    def _required(self) -> Iterator[Difference]:
        promised = {name for node in self.sent for name in _names(node.schema.get("required"))}
        named = {name for node in self.sent for name in node.properties}
        for node in self.taken:
            for name in _names(node.schema.get("required")):
                if name not in promised:
                    inside = pointer((*self.place, name))
                    how = "need not send" if name in named else "do not send"
                    words = f"{self.reads} requires {inside}, which {self.writes} devices {how}"
                    yield Difference(inside, words)

    def _properties(self) -> Iterator[Difference]:
        open_to = [node for node in self.sent if "additionalProperties" in node.schema]
        for node in self.taken:
            for name in _members(node.schema):
                inner = node.properties.get(name)
                if inner is None:
                    continue  # true: anything goes
                writer, free = self._sent_as(name, open_to)
                if writer is None:
                    continue  # the writer never sends it
                found, proved = self.walk.compare((inner,), writer, (*self.place, name))
                self.understood &= proved
                if free and found:
                    yield self._open(name)
                else:
                    yield from found

    def _sent_as(self, name: str, open_to: list[Node]) -> tuple[Nodes | None, bool]:
        """Return what a member is where it is sent, None: it is not sent; and whether the writer leaves it open."""
        nodes, named = [], False
        for node in self.sent:
            members = _members(node.schema)
            if name in members:
                named = True
                if members[name] is False:
                    return None, False
                if name in node.properties:
                    nodes.append(node.properties[name])
        if not named and any(
            node.schema["additionalProperties"] is False and not node.schema.get("patternProperties")
            for node in open_to
        ):
            return None, False
        return tuple(nodes), not named and not open_to

    def _open(self, name: str) -> Difference:
        inside = pointer((*self.place, name))
        words = f"{self.reads} says what {inside} is, {self.writes} leaves it open, so devices may send anything there"
        return Difference(inside, f'{words}; undeclared = "nothing" in subject.toml says that they do not')

    def _others(self) -> Iterator[Difference]:
        """Look at members that the reader does not name."""
        for node in self.taken:
            rest = node.schema.get("additionalProperties", node.schema.get("unevaluatedProperties", True))
            if rest is True or rest == {}:
                continue
            known = _members(node.schema).keys()
            if node.schema.get("patternProperties") or rest is not False:
                self.understood = False
                continue
            for other in self.sent:
                for name, inner in _members(other.schema).items():
                    if name not in known and inner is not False:
                        inside = pointer((*self.place, name))
                        yield Difference(
                            inside, f"{self.reads} does not allow {inside}, which {self.writes} devices may send"
                        )
            if not any(other.schema.get("additionalProperties") is False for other in self.sent) and "object" in _types(
                self.sent
            ):
                words = f"allows no other members{self._at()}, {self.writes} leaves them open"
                yield self._difference(f'{words}; undeclared = "nothing" in subject.toml says that devices send none')

    def _items(self) -> Iterator[Difference]:
        for node in self.taken:
            if isinstance(node.schema.get("items"), list):
                self.understood = False
            elif node.items is not None:
                writer = tuple(other.items for other in self.sent if other.items is not None)
                if any(
                    isinstance(other.schema.get("items"), list) or "prefixItems" in other.schema for other in self.sent
                ):
                    self.understood = False
                    continue
                found, proved = self.walk.compare((node.items,), writer, (*self.place, "*"))
                self.understood &= proved
                yield from found

    def _difference(self, words: str) -> Difference:
        return Difference(pointer(self.place), f"{self.reads} {words}")

    def _at(self) -> str:
        return f" at {pointer(self.place)}" if self.place else ""

    @property
    def reads(self) -> str:
        return self.walk.reader.called

    @property
    def writes(self) -> str:
        return self.walk.writer.called


def _types(nodes: list[Node]) -> set[str]:
    """Return the types that schemas allow together; `number` has `integer` in it."""
    allowed = set(_TYPES)
    for node in nodes:
        if (declared := node.schema.get("type")) is not None:
            names = {declared} if isinstance(declared, str) else set(declared)
            allowed &= names | ({"integer"} if "number" in names else set())
        if (values := values_of(node.schema)) is not None:
            allowed &= {kind for value in values for kind in _kinds(value)}
    return allowed


def _kinds(value: Any) -> set[str]:
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", *(["integer"] if value.is_integer() else [])}
        case str():
            return {"string"}
    return {"array"} if isinstance(value, list) else {"object"}


def _within(other: Any, wanted: float, *, above: bool) -> bool:
    if isinstance(other, bool):  # `exclusiveMaximum` of draft 4
        return False
    return bool(other <= wanted if above else other >= wanted)


def _is_closed(node: Node) -> bool:
    return node.schema.get("additionalProperties") is False and not node.schema.get("patternProperties")


def _is_tuple(node: Node) -> bool:
    return isinstance(node.schema.get("items"), list) or "prefixItems" in node.schema


def _members(schema: dict[str, Any]) -> dict[str, Any]:
    members = schema.get("properties")
    return members if isinstance(members, dict) else {}


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _either(types: Any) -> str:
    names = [types] if isinstance(types, str) else list(types)
    return " or ".join(names)


def _some(values: list[Any]) -> str:
    return listed([value if isinstance(value, str) else shown(value) for value in values])
