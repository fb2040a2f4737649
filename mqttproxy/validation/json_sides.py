"""One version of a JSON Schema as a side of a comparison: its graph of schemas, and each of them in canonical form."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import jsonschema_rs
import orjson
from attrs import define, field

from mqttproxy.validation.compile_json import POINTER_SAFE, resources_of
from mqttproxy.validation.expressions import OPTIONS
from mqttproxy.validation.graph import Graph
from mqttproxy.validation.library import Document, Library
from mqttproxy.validation.nodes import Node, Schema
from mqttproxy.validation.registry import Registry, Version

_LARGEST: Final = 20_000  # schemas that references may unfold into; above that nothing is proved
_ABSENT: Final = object()
_UNCOMPARABLE: Final = (ValueError, jsonschema_rs.ReferencingError, jsonschema_rs.canonical.CanonicalizationError)


@define
class Side:
    """A version, read for comparing. `called`: such as v3."""

    called: str
    root: Node
    draft: str
    resources: jsonschema_rs.Registry
    reference_alone: bool  # what stands beside `$ref` does not count
    _sizes: dict[Node, float] = field(init=False, factory=dict)
    _canonical: dict[tuple[Node, ...], Any] = field(init=False, factory=dict)

    def canonical(self, nodes: tuple[Node, ...]) -> Any:
        """Return what all these schemas take together in canonical form; None: it has none. No schemas: anything."""
        found = self._canonical.get(nodes, _ABSENT)
        if found is _ABSENT:
            found = self._canonical[nodes] = self._made(nodes)
        return found

    def _made(self, nodes: tuple[Node, ...]) -> Any:
        if not all(node.uri for node in nodes) or sum(map(self._size, nodes)) > _LARGEST:
            return None
        schema: Schema = {"$schema": self.draft, "allOf": [{"$ref": _address(node)} for node in nodes]}
        if not nodes:
            schema.pop("allOf")
        try:
            unfolded = jsonschema_rs.dereference(schema, registry=self.resources, offline=True)
            if _refers(unfolded):
                return None
            return jsonschema_rs.canonicalize(unfolded, offline=True, validate_formats=True, pattern_options=OPTIONS)
        except _UNCOMPARABLE:
            return None

    def _size(self, node: Node) -> float:
        """Return how many schemas one unfolds into; infinity: it is inside of itself."""
        if node not in self._sizes:
            self._sizes[node] = float("inf")
            inner = [*node.same, *node.below, *(one for group in node.named.values() for one in group)]
            self._sizes[node] = 1 + sum(map(self._size, inner))
        return self._sizes[node]


def side_of(registry: Registry, version: Version, *, closed: bool) -> Side:
    """Read a version.

    Args:
        registry: that has it.
        version: a JSON Schema.
        closed: objects have no other members than their schema names, where it leaves that open.

    Raises:
        ValueError: it cannot be used, with all faults.

    """
    library = Library(registry.files, registry.directory, checked=True)
    document = library.add(version.name, version.name, "")
    if document is not None and closed:
        shut = Document(document.path, document.uri, _shut(document.schema), document.draft)
        document = library.documents[document.uri] = shut
    graph = Graph(library)
    graph.build()
    if library.faults or document is None:
        raise ValueError("; ".join(map(str, library.faults)))
    resources, draft = resources_of(library.documents.values()), document.draft
    return Side(f"v{version.number}", graph.of(document), draft.name, resources, draft.reference_alone)


_IN_PLACE: Final = {"$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "if", "not", "dependentSchemas",
                    "dependencies", "patternProperties", "additionalProperties", "unevaluatedProperties"}  # fmt: skip


def _shut(schema: Any) -> Any:
    """Return a schema whose objects have no members but those named, where only `properties` speaks of them."""
    if not isinstance(schema, dict):
        return schema
    shut = dict(schema)
    if isinstance(schema.get("properties"), dict):
        shut["properties"] = {name: _shut(inner) for name, inner in schema["properties"].items()}
        if not _IN_PLACE & schema.keys():
            shut["additionalProperties"] = False
    if isinstance(schema.get("items"), dict):
        shut["items"] = _shut(schema["items"])
    return shut


def binding(nodes: Iterable[Node]) -> list[Node]:
    """Return schemas and those that hold whenever they hold."""
    found = dict.fromkeys(nodes)
    waiting = list(found)
    while waiting:
        for inner in waiting.pop().always:
            if inner not in found:
                found[inner] = None
                waiting.append(inner)
    return list(found)


def values_of(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the values that a schema lists, or None: it lists none."""
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def same_value(value: Any) -> bytes:
    """Return what is the same for two values that JSON Schema takes for equal."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _address(node: Node) -> str:
    place = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in node.place)
    return f"{node.uri}#{quote(place, POINTER_SAFE)}"


def _refers(schema: Any) -> bool:
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if any(isinstance(one.get(key), str) for key in ("$ref", "$dynamicRef", "$recursiveRef")):
                return True
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False
