"""A JSON Schema made ready for messages: judged by jsonschema-rs, within a budget, and explained with JSON Pointers."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import ClassVar, Final

import orjson
from attrs import define, field
from jsonschema_rs import ValidationError, ValidationErrorKind, Validator

from mqttproxy.validation.budget import EXPLAINING, JUDGING, Plan, explaining
from mqttproxy.validation.gate import LONG, PayloadError, check_long, measure, read
from mqttproxy.validation.nodes import Node, Table, reachable
from mqttproxy.validation.verdict import FAILURES_KEPT, Failure
from mqttproxy.validation.words import MESSAGE_LENGTH, Json, listed, pointer, printable, shown

MASK: Final = "<value>"  # what jsonschema-rs writes instead of a value, so that no message quotes a whole payload

_DEEPEST: Final = 1024  # of a part of a payload that has passed the gate
_MOST: Final = 1 << 40
_LOOK: Final = 200.0  # nanoseconds for measuring a value and its size


_Part = tuple[Node, Json, tuple[str | int, ...]]  # schema, value, and where the value is


@define(eq=False)
class JsonContract:
    """One JSON Schema in force, see `Contract`. Validators of its parts are made when first needed."""

    name: str  # subject@version
    kind: ClassVar[str] = "json"
    reads_text: ClassVar[bool] = True
    validator: Validator
    plan: Plan
    node: Node
    explanations: dict[Node, Table]
    validator_of: Callable[[Node], Validator]
    max_depth: int
    max_items: int
    is_valid: Callable[[Json], bool] = field(init=False)
    _short: int = field(init=False)  # bytes of a payload that needs no second look
    _names_matter: bool = field(init=False)
    _parts: dict[Node, Validator] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        """Keep the validator's bound method at hand: it is called for every message."""
        self.is_valid = self.validator.is_valid
        self._short = min(LONG, self.plan.free_bytes)
        self._names_matter = any("propertyNames" in node.schema for node in reachable(self.node))

    def failures(self, payload: bytes) -> tuple[Failure, ...]:
        """Return everything that is wrong with a payload, at most `FAILURES_KEPT`; nothing: it is good."""
        try:
            document = (
                read(payload, self.max_depth, self.max_items)
                if len(payload) <= self._short
                else self._read_long(payload)
            )
        except PayloadError as error:
            return error.failures
        if self.is_valid(document):
            return ()
        return self.explain(document, len(payload))

    def failures_of_document(self, document: Json, size: int) -> tuple[Failure, ...]:
        """Return what `failures` does, of a payload of so many bytes that somebody else has read through the gate."""
        if size > self.plan.free_bytes:
            try:
                self._check_cost(document, size)
            except PayloadError as error:
                return error.failures
        if self.is_valid(document):
            return ()
        return self.explain(document, size)

    def document(self, payload: bytes) -> Json:
        """Return the decoded payload. Raises PayloadError as the gate does."""
        return (
            read(payload, self.max_depth, self.max_items) if len(payload) <= self._short else self._read_long(payload)
        )

    def encode(self, document: Json) -> bytes:
        """Return a document as JSON. Raises PayloadError: it holds what JSON has no words for."""
        try:
            return orjson.dumps(document)
        except TypeError as error:  # an integer of more than 64 bits, a lone surrogate, nesting without end
            raise PayloadError(Failure("", "json", printable(str(error), MESSAGE_LENGTH))) from error

    def _read_long(self, payload: bytes) -> Json:
        """Read a payload that might hold the event loop. Raises PayloadError as `read` does, or because it would."""
        size = len(payload)
        if size > LONG:
            check_long(payload, self.max_items)
        document = read(payload, self.max_depth, self.max_items)
        if size > self.plan.free_bytes:
            self._check_cost(document, size)
        return document

    def _check_cost(self, document: Json, size: int) -> None:
        """Raise PayloadError if judging might hold the event loop."""
        found = measure(document, self.max_depth, self.max_items)
        if self.plan.judging(found, size) > JUDGING:
            words = f"{sum(found.levels)} values in {size} bytes are too many to be judged quickly by this schema"
            raise PayloadError(Failure("", "cost", words))

    def explain(self, document: Json, size: int) -> tuple[Failure, ...]:
        """Return what is wrong with a document that is not valid.

        Exact failures come from jsonschema-rs. Where they would take too long for the whole document, its parts are
        judged one by one, and only those that fail are explained, until the budget is spent.
        """
        found: dict[Failure, None] = {}  # in order; several branches may tell the same
        left = EXPLAINING
        waiting: list[_Part] = [(self.node, document, ())]
        seen: set[tuple[Node, tuple[str | int, ...]]] = set()
        while waiting and len(found) < FAILURES_KEPT:
            node, value, place = waiting.pop()
            if (node, place) in seen:
                continue
            seen.add((node, place))
            if place:
                size = len(orjson.dumps(value))
            inside = measure(value, _DEEPEST, _MOST)
            left -= _LOOK * sum(inside.levels)
            cost = explaining(self.explanations[node], inside, size, names_matter=self._names_matter)
            if cost <= left:
                left -= cost
                errors = islice(self._validator(node).iter_errors(value), FAILURES_KEPT)
                found.update((_failure(error, value, place), None) for error in errors)
                continue
            left -= self.plan.judging(inside, size)
            parts = list(self._failing_parts(node, value, place)) if left > 0 else []
            if left <= 0 and found:
                break
            if not parts:
                words = f"{shown(value)} does not match its schema; it would take too long to say where"
                found[Failure(pointer(place), "schema", words)] = None
            waiting.extend(reversed(parts))
        return tuple(found)[:FAILURES_KEPT]

    def _failing_parts(self, node: Node, value: Json, place: tuple[str | int, ...]) -> Iterator[_Part]:
        """Yield members and items that do not match what the schema says of them, at most `FAILURES_KEPT`."""
        left = FAILURES_KEPT
        for part in _binding(node):
            members: Iterator[tuple[Node, str | int, Json]] = iter(())
            if isinstance(value, dict):
                members = ((inner, key, value[key]) for key, inner in part.properties.items() if key in value)
            elif isinstance(value, list) and part.items is not None:
                inner = part.items
                members = ((inner, index, item) for index, item in enumerate(value))
            for schema, key, member in members:
                if schema.uri and not self._validator(schema).is_valid(member):
                    yield schema, member, (*place, key)
                    left -= 1
                    if not left:
                        return

    def _validator(self, node: Node) -> Validator:
        if node is self.node:
            return self.validator
        validator = self._parts.get(node)
        if validator is None:
            validator = self._parts[node] = self.validator_of(node)
        return validator


def _binding(node: Node) -> list[Node]:
    """Return a schema and those that hold whenever it holds."""
    found = {node: None}
    waiting = [node]
    while waiting:
        for inner in waiting.pop().always:
            if inner not in found:
                found[inner] = None
                waiting.append(inner)
    return list(found)


def _failure(error: ValidationError, value: Json, place: tuple[str | int, ...]) -> Failure:
    kind = error.kind
    keyword = kind.name
    match kind:
        case ValidationErrorKind.AdditionalProperties() | ValidationErrorKind.UnevaluatedProperties():
            message = f"not allowed: {listed(kind.unexpected)}"
        case ValidationErrorKind.PropertyNames():
            message = f"a name is not allowed: {_masked(kind.error, kind.error.instance)}"
        case ValidationErrorKind.FalseSchema():
            keyword = _applied_by(error.schema_path)
            message = "nothing is allowed here"
        case _:
            message = _masked(error, _at(value, error.instance_path))
    return Failure(pointer((*place, *error.instance_path)), keyword, printable(message, MESSAGE_LENGTH))


def _applied_by(path: list[str | int]) -> str:
    """Return the keyword that has `false` for a schema, from the place of that `false`."""
    names = [str(part) for part in path[-2:] if isinstance(part, str)] or ["false"]
    return names[0] if names[0] in ("properties", "patternProperties", "dependentSchemas") else names[-1]


def _masked(error: ValidationError, value: object) -> str:
    return error.message.replace(MASK, shown(value), 1)


def _at(value: Json, path: list[str | int]) -> Json:
    for part in path:
        value = value[part]  # type: ignore[index] # the path leads through arrays and objects
    return value
