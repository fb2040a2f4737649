"""Good payloads for a JSON Schema: made by its keywords, and held against the validator that the proxy judges by.

What a keyword asks for beyond what is built in here (`not`, `if`, conditions over several members) is met by trying
again. Where that does not help, the schema needs `examples`, which are used as they stand.
"""

import json
import math
from collections.abc import Mapping
from copy import copy
from random import Random
from typing import Any, Final
from uuid import UUID

import jsonschema_rs

from mqttproxy.sim.patterns import text_for
from mqttproxy.validation.drafts import DEFAULT, DRAFTS, draft_of
from mqttproxy.validation.expressions import OPTIONS
from mqttproxy.validation.words import MESSAGE_LENGTH, pointer, printable

Json = Any

ATTEMPTS: Final = 200  # to make one payload
DEEPEST: Final = 24  # levels of a payload
MOST_VALUES: Final = 5000  # in a payload
OPTIONAL: Final = 0.7  # share of payloads that have a member which need not be there
_SPREAD: Final = 100  # of numbers without bounds
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")
# For schemas without a type: keywords that tell what is meant.
_MEANT: Final = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "contains", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
# Where two schemas must both hold, the stricter of two bounds is the one.
_HIGHER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_LOWER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


class UnusableSchemaError(Exception):
    """The schema is none, or no payload can be made for it. In words."""


class _DeadEndError(Exception):
    """This way leads to no value."""


class Maker:
    """Makes payloads for one schema."""

    def __init__(self, schema: Json, chance: Random) -> None:
        self.chance = chance
        self._schema = schema
        self._left = 0  # values that this payload may still get
        draft = draft_of(schema.get("$schema", DEFAULT)) if isinstance(schema, dict) else DRAFTS[DEFAULT]
        if draft is None:
            raise UnusableSchemaError(f"$schema {printable(str(schema['$schema']), 80)} is no draft that is understood")
        try:
            self._validator = draft.compiler(schema, offline=True, validate_formats=True, pattern_options=OPTIONS)
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise UnusableSchemaError(printable(str(error).partition("\n")[0], MESSAGE_LENGTH)) from error

    def again(self, chance: Random) -> "Maker":
        """Return another one for the same schema, which is not compiled again."""
        other = copy(self)
        other.chance = chance
        return other

    def is_valid(self, value: Json) -> bool:
        """Judge a value."""
        return self._validator.is_valid(value)

    def good(self) -> Json:
        """Return a value that the schema allows.

        Raises:
            UnusableSchemaError: none was found.

        """
        why = "every way leads nowhere"
        for _ in range(ATTEMPTS):
            self._left = MOST_VALUES
            try:
                value = self._make(self._schema, 0)
            except _DeadEndError:
                continue
            if self._validator.is_valid(value):
                return value
            fault = next(self._validator.iter_errors(value))
            why = f"{pointer(fault.instance_path) or 'the whole'}: {fault.message}"
        words = printable(why, MESSAGE_LENGTH)
        raise UnusableSchemaError(f"no payload was found that the schema allows: give it `examples` ({words})")

    def _make(self, schema: Json, depth: int) -> Json:
        self._left -= 1
        if schema is False or depth > DEEPEST or self._left < 0:
            raise _DeadEndError
        schema = self._plain(schema, 0) if isinstance(schema, dict) else {}
        if "const" in schema:
            return schema["const"]
        for known in ("enum", "examples"):
            if (
                isinstance(values := schema.get(known), list)
                and values
                and (known == "enum" or self.chance.random() < 0.5)
            ):
                return self.chance.choice(values)
        return self._of_type(self._type(schema, depth), schema, depth)

    def _of_type(self, kind: str, schema: Mapping[str, Json], depth: int) -> Json:
        if kind in ("object", "array"):
            return self._object(schema, depth) if kind == "object" else self._array(schema, depth)
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer" or self.chance.random() < 0.2)
        if kind == "string":
            return self._string(schema)
        return self.chance.random() < 0.5 if kind == "boolean" else None

    def _type(self, schema: Mapping[str, Json], depth: int) -> str:
        types = schema.get("type")
        if isinstance(types, str):
            return types
        if isinstance(types, list) and types:
            return str(self.chance.choice(types))
        meant = [kind for kind, keywords in _MEANT.items() if any(keyword in schema for keyword in keywords)]
        return self.chance.choice(meant or (_TYPES if depth < 3 else _TYPES[2:]))

    def _plain(self, schema: dict[str, Json], steps: int) -> dict[str, Json]:
        """Return a schema without references and choices: they are followed and made."""
        if steps > DEEPEST:
            raise _DeadEndError
        others: list[Json] = []
        rest = dict(schema)
        if isinstance(reference := rest.pop("$ref", None), str):
            others.append(self._referred(reference))
        others += rest.pop("allOf", None) or []
        for keyword in ("anyOf", "oneOf"):
            if some := rest.pop(keyword, None):
                others.append(self.chance.choice(some))
        if "if" in rest:
            condition = rest.pop("if")
            then, otherwise = rest.pop("then", True), rest.pop("else", True)
            others += [condition, then] if self.chance.random() < 0.5 else [otherwise]
        for other in others:
            if other is False:
                raise _DeadEndError
            if isinstance(other, dict):
                rest = _both(rest, self._plain(other, steps + 1))
        return rest

    def _referred(self, reference: str) -> Json:
        if not reference.startswith("#"):
            raise UnusableSchemaError(f"$ref {printable(reference, 80)}: only references within the file are followed")
        found = self._schema
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise UnusableSchemaError(f"$ref {printable(reference, 80)} leads nowhere") from None
        return found

    def _object(self, schema: Mapping[str, Json], depth: int) -> Json:
        members: dict[str, Json] = schema.get("properties") or {}
        required = list(schema.get("required") or ())
        names = dict.fromkeys(required)
        names |= dict.fromkeys(name for name in members if self.chance.random() < OPTIONAL)
        for name, others in (schema.get("dependentRequired") or {}).items():
            if name in names:
                names |= dict.fromkeys(others)
        further = schema.get("additionalProperties", True)
        patterns: dict[str, Json] = schema.get("patternProperties") or {}
        for number in range(len(names), min(schema.get("minProperties") or 0, MOST_VALUES)):
            names[f"member{number}" if not patterns else text_for(self.chance.choice(list(patterns)), self.chance)] = (
                None
            )
        value = {}
        for name in names:
            inner = members.get(name, next(iter(patterns.values()), further) if name not in required else further)
            try:
                value[name] = self._make(inner, depth + 1)
            except _DeadEndError:
                if name in required:
                    raise
        return value

    def _array(self, schema: Mapping[str, Json], depth: int) -> Json:
        first = schema.get("prefixItems") or (schema["items"] if isinstance(schema.get("items"), list) else [])
        rest = schema.get("items", True) if not isinstance(schema.get("items"), list) else True
        low = int(schema.get("minItems") or 0)
        high = int(schema.get("maxItems", max(low, len(first)) + 3))
        if low > MOST_VALUES:
            raise _DeadEndError
        count = self.chance.randint(low, max(low, min(high, max(low, len(first)) + 3)))
        if depth > DEEPEST // 2:
            count = low
        value: list[Json] = []
        for index in range(count):
            inner = first[index] if index < len(first) else rest
            if inner is False and index >= low:
                break
            item = self._make(inner, depth + 1)
            tries = 0
            while schema.get("uniqueItems") and item in value and tries < 10:
                item, tries = self._make(inner, depth + 1), tries + 1
            value.append(item)
        if "contains" in schema:
            value[-1:] = [self._make(schema["contains"], depth + 1)]
        return value

    def _string(self, schema: Mapping[str, Json]) -> str:
        if isinstance(pattern := schema.get("pattern"), str):
            return text_for(pattern, self.chance)
        if (made := self._formatted(schema.get("format"))) is not None:
            return made
        low = int(schema.get("minLength") or 0)
        high = min(int(schema.get("maxLength", low + 12)), low + 12)
        if low > MOST_VALUES:
            raise _DeadEndError
        return "".join(self.chance.choices(_LETTERS, k=self.chance.randint(low, max(low, high))))

    def _formatted(self, name: Json) -> str | None:
        number = self.chance.randint
        day, time = (
            f"20{number(20, 29)}-{number(1, 12):02}-{number(1, 28):02}",
            f"{number(0, 23):02}:{number(0, 59):02}:00Z",
        )
        return {
            "date": day,
            "time": time,
            "date-time": f"{day}T{time}",
            "duration": f"PT{number(1, 59)}M",
            "email": f"user{number(1, 999)}@example.com",
            "idn-email": f"user{number(1, 999)}@example.com",
            "hostname": f"host{number(1, 999)}.example.com",
            "idn-hostname": f"host{number(1, 999)}.example.com",
            "ipv4": f"192.0.2.{number(0, 255)}",
            "ipv6": f"2001:db8::{number(1, 0xFFFF):x}",
            "uri": f"https://example.com/{number(1, 999)}",
            "uri-reference": f"/{number(1, 999)}",
            "uuid": str(UUID(int=self.chance.getrandbits(128), version=4)),
            "json-pointer": f"/{number(1, 999)}",
            "regex": "[a-z]+",
        }.get(name if isinstance(name, str) else "")

    def _number(self, schema: Mapping[str, Json], *, whole: bool) -> Json:
        low, high = _bounds(schema)
        step = schema.get("multipleOf") or (1 if whole else None)
        if step is None:
            value = self.chance.uniform(low, high)
            shorter = round(value, 2)
            return shorter if low <= shorter <= high else value
        step = math.ceil(step) if whole and step < 1 else step
        first, last = math.ceil(low / step), math.floor(high / step)
        if first > last:
            raise _DeadEndError
        made = self.chance.randint(first, last) * step
        return int(made) if whole or made == int(made) else round(made, 10)


def _bounds(schema: Mapping[str, Json]) -> tuple[float, float]:
    low, high = (schema.get("minimum"), schema.get("maximum"))
    under, over = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    # Of draft 4 these are true or false; what lies on the bound is found out by the validator.
    lows = [one for one in (low, under) if isinstance(one, (int, float)) and not isinstance(one, bool)]
    highs = [one for one in (high, over) if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if lows and highs:
        return max(lows), min(highs)
    if lows:
        return max(lows), max(lows) + _SPREAD
    return (min(highs) - _SPREAD if highs else -_SPREAD), (min(highs) if highs else _SPREAD)


def _both(one: dict[str, Json], other: Mapping[str, Json]) -> dict[str, Json]:
    """Return a schema for what both allow, as far as that can be said by keywords."""
    found = dict(one)
    for key, value in other.items():
        if key not in found:
            found[key] = value
        elif key == "properties":
            mine = found[key]
            found[key] = {
                **value,
                **mine,
                **{name: _each(mine[name], value[name]) for name in mine.keys() & value.keys()},
            }
        elif key == "required":
            found[key] = list(dict.fromkeys([*found[key], *value]))
        elif key in _HIGHER or key in _LOWER:
            found[key] = (max if key in _HIGHER else min)(found[key], value)
        elif key == "enum":
            found[key] = [item for item in found[key] if item in value]
        elif key == "type":
            found[key] = _types(found[key], value)
    return found


def _each(one: Json, other: Json) -> Json:
    if isinstance(one, dict) and isinstance(other, dict):
        return {"allOf": [one, other]}
    return one if isinstance(one, dict) or one is False else other


def _types(one: Json, other: Json) -> Json:
    """Return the types that both name; an integer is a number."""
    mine, theirs = ([value] if isinstance(value, str) else value for value in (one, other))
    return [
        kind
        for kind in _TYPES
        if (kind in mine or (kind == "integer" and "number" in mine))
        and (kind in theirs or (kind == "integer" and "number" in theirs))
    ]


def encoded(value: Json) -> bytes:
    """Return a value as a payload."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
