"""mqttproxy/sim/instances.py and faults.py: good is what the schema allows, bad is what it does not."""

import json
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from mqttproxy.config.model import PayloadSettings
from mqttproxy.sim.faults import NOT_JSON, bad, broken
from mqttproxy.sim.instances import Maker, UnusableSchemaError, encoded
from mqttproxy.sim.patterns import LONGEST, text_for
from mqttproxy.validation.gate import PayloadError, read
from tests.validation.test_schema_oracle import schemas

SENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["celsius", "id"],
    "additionalProperties": False,
    "properties": {
        "celsius": {"type": "number", "minimum": -40, "maximum": 125},
        "id": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"},
        "at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "maxItems": 2},
        "place": {"$ref": "#/$defs/place"},
    },
    "$defs": {"place": {"oneOf": [{"type": "integer", "multipleOf": 5}, {"type": "null"}]}},
}

SCHEMAS: list[Any] = [
    SENSOR,
    True,
    {},
    {"const": {"a": [1]}},
    {"enum": [1, "x", None]},
    {"type": ["integer", "null"]},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2},
    {"type": "number", "minimum": 0.1, "maximum": 0.2},
    {"type": "integer", "multipleOf": 7, "minimum": 100, "maximum": 110},
    {"type": "string", "minLength": 3, "maxLength": 3},
    {"type": "array", "minItems": 2, "items": {"type": "boolean"}, "contains": {"const": True}},
    {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
    {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}], "minItems": 1},
    {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "minimum": 0, "exclusiveMinimum": True},
    {"minProperties": 3, "additionalProperties": {"type": "integer"}},
    {"minProperties": 1, "patternProperties": {"^s_[a-z]+$": {"type": "string"}}, "additionalProperties": False},
    {"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {"minimum": 5}}}]},
    {"type": "object", "dependentRequired": {"a": ["b"]}, "properties": {"a": {}, "b": {}}},
    {
        "if": {"properties": {"a": {"const": 1}}, "required": ["a"]},
        "then": {"required": ["b"]},
        "else": {"maxProperties": 2},
        "type": "object",
    },
    {"not": {"type": "string"}, "type": ["string", "integer"]},
    {"type": "object", "properties": {"child": {"$ref": "#"}, "n": {"type": "integer"}}, "required": ["n"]},
    {
        "examples": [{"x": 1}],
        "type": "object",
        "required": ["x"],
        "properties": {"x": {"not": {"maximum": 1}, "examples": [2]}},
    },
    *(
        {"type": "string", "format": name}
        for name in ("date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "uri")
    ),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_good_is_allowed_and_bad_is_not(schema: Any) -> None:
    maker = Maker(schema, Random(7))
    for _ in range(50):
        assert maker.is_valid(maker.good())
        kind, payload = bad(maker)
        try:
            document = json.loads(payload.decode())  # of bytes, it would guess at UTF-16
        except ValueError:
            assert kind == NOT_JSON
        else:
            assert kind != NOT_JSON
            assert not maker.is_valid(document)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (False, "no payload was found"),
        ({"not": {}}, "give it `examples`"),
        ({"type": "string", "minLength": 100_000}, "no payload was found"),
        ({"type": "array", "minItems": 100_000}, "no payload was found"),
        ({"required": ["a"], "properties": {"a": {"$ref": "#"}}, "type": "object"}, "every way leads nowhere"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"$ref": "http://example.com/x.json"}, "example.com"),
        ({"type": "x"}, "x"),
        ({"$schema": "http://example.com/mine"}, "no draft that is understood"),
        (5, "5"),
    ],
)
def test_a_schema_of_which_nothing_can_be_made_is_told(schema: Any, words: str) -> None:
    with pytest.raises(UnusableSchemaError, match=words):
        Maker(schema, Random(7)).good()


def test_every_kind_of_fault_is_made_and_the_same_seed_makes_the_same() -> None:
    def made() -> list[tuple[str, bytes]]:
        maker = Maker(SENSOR, Random("x"))
        return [bad(maker) for _ in range(400)]

    first = made()
    assert first == made()
    assert {kind for kind, _ in first} == {
        "missing", "wrong_type", "out_of_range", "unexpected_member", "too_long", "too_short", NOT_JSON,
    }  # fmt: skip
    assert max(len(payload) for _, payload in first) < 6000


def test_another_maker_of_the_same_schema_has_dice_of_its_own() -> None:
    maker = Maker(SENSOR, Random(1))
    one, other = maker.again(Random(2)), maker.again(Random(2))
    assert [one.good() for _ in range(5)] == [other.good() for _ in range(5)]


@given(st.binary(min_size=2), st.integers())
def test_what_is_broken_is_no_json_for_the_proxy(data: bytes, seed: int) -> None:
    limits = PayloadSettings()
    payload = broken(encoded({"a": data.hex()}), Random(seed))
    with pytest.raises(PayloadError):
        read(payload, limits.json_depth, limits.json_items)


@settings(max_examples=200)
@given(st.recursive(st.just({}), schemas, max_leaves=6), st.integers(0, 1000))
def test_any_schema_gives_payloads_or_words(schema: Any, seed: int) -> None:
    try:
        maker = Maker(schema, Random(seed))
        kind, payload = bad(maker)
    except UnusableSchemaError as error:
        words = str(error)
    else:
        words = kind
        assert kind == NOT_JSON or not maker.is_valid(json.loads(payload))
    assert words


@pytest.mark.parametrize(
    "pattern",
    ["^[A-Z]{2}[0-9]{4}$", r"^(a|b)+c?$", r"^\d{3}-\w+$", "^[^abc]{3}$", "^(?:foo|bar)$", "^(?P<x>a)b$", "^a{2,}$",
     r"^[A-Za-z_][\w.-]*$", r"^\+?[0-9]{1,3}$", r"^[]a-]$", "^x*y{0}z$", "^$", r"^\S\D\W$"],
)  # fmt: skip
def test_texts_for_a_pattern_match_it(pattern: str) -> None:
    for seed in range(50):
        text = text_for(pattern, Random(seed))
        assert re.search(pattern, text), text


@given(st.one_of(st.text(max_size=20), st.text("()[]{}|?*+\\^$.-,0123ab<>P", max_size=25)), st.integers())
def test_any_pattern_gives_a_text_that_is_bounded(pattern: str, seed: int) -> None:
    assert len(text_for(pattern, Random(seed))) <= LONGEST


def test_a_pattern_that_would_never_end_is_bounded() -> None:
    assert len(text_for("((((a{4000}){4000}){4000}){4000})", Random(1))) <= LONGEST
