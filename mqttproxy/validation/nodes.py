"""What a schema can cost, computed when it is loaded.

jsonschema-rs judges fast, but not everything in it is bounded by the payload alone: a list of a thousand objects in
`enum` is compared one by one, and its account of *why* a payload failed follows every branch of every `anyOf`, doubling
for each level of a recursive schema, and copies what failed each time. So a schema becomes a graph of nodes here, and
each node knows how many evaluations there can be for one value at each depth below it. With that the judge sees before
it starts whether a payload can be judged, and explained, within the time that the event loop can spare.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from attrs import define, field

DEEPEST: Final = 64  # levels that tables cover; deeper ones count as the last

# Nanoseconds on a machine of 2024, rounded up; what is counted as one evaluation was measured in its worst form.
_KEYWORD: Final = 20.0
_OPTION: Final = 100.0  # one option of an `enum` that holds arrays or objects, or of mixed types
_MULTIPLE: Final = 1_600.0  # one `multipleOf`
_IDN: Final = 1_700.0  # one international host name
_UNIQUE: Final = 120.0  # one value below `uniqueItems`
_FORMAT_BYTE: Final = 25.0
_FAILURE: Final = 5_000.0  # one failure found, described and copied to Python
_COPY: Final = 100.0  # one value copied into a failure
_COPY_BYTE: Final = 5.0

Schema = dict[str, Any]
K = TypeVar("K")


class Step(Enum):
    """How a schema leads to another."""

    SAME = "judges the same value"
    NAMED = "judges a member of that name, or an item at that index, so no value is judged by two of them"
    BELOW = "judges all values below, or some"
    APART = "is only kept there"


_SAME: Final = {"not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies"}
_NAMED: Final = {"properties", "prefixItems"}
_BELOW: Final = {
    "additionalItems",
    "additionalProperties",
    "contains",
    "patternProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
}
_APART: Final = {"$defs", "definitions"}
_MAPS: Final = {"properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"}
_LISTS: Final = {"allOf", "anyOf", "oneOf", "prefixItems"}


NEVER: Final[Schema] = {"not": {}}  # what `false` means; true never fails and costs nothing


def inner_schemas(schema: Schema, *, reference_alone: bool) -> Iterable[tuple[Step, tuple[str | int, ...], Any]]:
    """Yield the schemas right inside of a schema, with the place of each: those that can fail.

    Args:
        schema: an object, not true or false.
        reference_alone: up to draft 7 what stands beside `$ref` does not count.

    """
    for keyword, value in schema.items():
        step = _step(keyword, value)
        if step is None or (reference_alone and "$ref" in schema and step is not Step.APART):
            continue
        if keyword in _MAPS and isinstance(value, dict):
            yield from ((step, (keyword, name), inner) for name, inner in _failing(value.items()))
        elif isinstance(value, list) and (keyword in _LISTS or keyword == "items"):
            yield from ((step, (keyword, index), inner) for index, inner in _failing(enumerate(value)))
        elif keyword not in _LISTS:
            yield from ((step, (keyword,), inner) for _, inner in _failing([(keyword, value)]))


def _failing(schemas: Iterable[tuple[K, Any]]) -> Iterable[tuple[K, Schema]]:
    for key, schema in schemas:
        if isinstance(schema, dict):
            yield key, schema
        elif schema is False:
            yield key, NEVER


def _step(keyword: str, value: object) -> Step | None:
    if keyword == "items":
        return Step.NAMED if isinstance(value, list) else Step.BELOW
    for step, keywords in ((Step.SAME, _SAME), (Step.NAMED, _NAMED), (Step.BELOW, _BELOW), (Step.APART, _APART)):
        if keyword in keywords:
            return step
    return None


class Cost(NamedTuple):
    """Nanoseconds at most."""

    own: float  # for one value
    deep: float  # and for each value below it
    text: float  # and for each of its bytes, those of the values below it included


@define(eq=False)
class Node:
    """One schema, somewhere in a document. `uri` is empty where it has no address of its own."""

    uri: str
    place: tuple[str | int, ...]
    schema: Schema
    same: list["Node"] = field(factory=list)
    named: dict[str, list["Node"]] = field(factory=dict)  # by keyword
    below: list["Node"] = field(factory=list)
    always: list["Node"] = field(factory=list)  # of `same`: must hold too (`$ref`, `allOf`)
    properties: dict[str, "Node"] = field(factory=dict)
    items: "Node | None" = None
    expressions: float = 0.0  # nanoseconds for a byte of text

    def judging(self) -> Cost:
        """Return what judging one value costs at most."""
        schema = self.schema
        own = _KEYWORD * len(schema) + (_MULTIPLE if "multipleOf" in schema else 0.0)
        own += _IDN if schema.get("format") == "idn-hostname" else 0.0
        options = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if len({type(option) for option in options}) > 1 or any(isinstance(option, list | dict) for option in options):
            own += _OPTION * sum(map(_size, options))
        return Cost(own, _UNIQUE if schema.get("uniqueItems") is True else 0.0, self.text())

    def explaining(self) -> Cost:
        """Return the same for telling what is wrong: every keyword may fail, and each failure copies the value."""
        failures = float(len(self.schema))
        for keyword in ("required", "enum", "dependentRequired", "dependencies"):
            value = self.schema.get(keyword, ())
            failures += sum(map(_size, value.values() if isinstance(value, dict) else value))
        return Cost(_FAILURE * failures, _COPY * failures, self.text() + _COPY_BYTE * failures)

    def text(self) -> float:
        """Return the nanoseconds that looking at one byte of text costs."""
        return self.expressions + (_FORMAT_BYTE if "format" in self.schema else 0.0)


Table = list[Cost]  # for each depth below a node: what is done there, at most


def tables(nodes: Iterable[Node], cost: Callable[[Node], Cost]) -> dict[Node, Table]:
    """Return a table for each node; `nodes` in the order of `settled`. Where branches double, numbers become huge."""
    order = list(nodes)
    result: dict[Node, Table] = {node: [] for node in order}
    for depth in range(DEEPEST + 1):
        for node in order:
            parts = [result[other][depth] for other in node.same]
            if depth == 0:
                parts.append(cost(node))
            else:
                parts += [result[inner][depth - 1] for inner in node.below]
                parts += [_highest(result[inner][depth - 1] for inner in group) for group in node.named.values()]
            result[node].append(Cost(*map(sum, zip(*parts, strict=True))) if parts else _NOTHING)
        if not any(result[node][depth].own for node in order):
            break
    return result


def _highest(costs: Iterable[Cost]) -> Cost:
    return Cost(*map(max, zip(*costs, strict=True)))


_NOTHING: Final = Cost(0.0, 0.0, 0.0)


def settled(nodes: Iterable[Node]) -> tuple[list[Node], list[Node]]:
    """Return nodes so that each comes after those that judge the same value; and those that lead back to themselves."""
    order: list[Node] = []
    circular: list[Node] = []
    state: dict[Node, bool] = {}  # False: being looked at
    for start in nodes:
        stack: list[tuple[Node, int]] = [(start, 0)]
        while stack:
            node, index = stack.pop()
            if index == 0:
                if node in state:
                    continue
                state[node] = False
            if index < len(node.same):
                stack.append((node, index + 1))
                inner = node.same[index]
                if state.get(inner) is False:
                    circular.append(node)
                elif inner not in state:
                    stack.append((inner, 0))
                continue
            state[node] = True
            order.append(node)
    return order, circular


def reachable(node: Node) -> list[Node]:
    """Return the nodes that may have a say in what a node judges, itself included."""
    seen = {node: None}
    waiting = [node]
    while waiting:
        current = waiting.pop()
        for inner in (*current.same, *current.below, *(one for group in current.named.values() for one in group)):
            if inner not in seen:
                seen[inner] = None
                waiting.append(inner)
    return list(seen)


def _size(value: Any) -> int:
    """Return how many values there are in a value of a schema."""
    count, waiting = 0, [value]
    while waiting:
        current = waiting.pop()
        count += 1
        waiting.extend(current.values() if isinstance(current, dict) else current if isinstance(current, list) else ())
    return count
