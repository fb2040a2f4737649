"""Contracts: exact words and places; what is done with documents that are too large to explain."""

from typing import Any

import orjson
import pytest

from mqttproxy.validation.verdict import FAILURES_KEPT, Failure
from tests.validation.schema_shelf import contract

RECORD = {
    "type": "object",
    "required": ["id", "t"],
    "properties": {"id": {"type": "string"}, "t": {"type": "number", "maximum": 100}},
}


def failures(schema: Any, document: Any, **payload: Any) -> list[tuple[str, str, str]]:
    found = contract(schema, **payload).failures(orjson.dumps(document))
    return [(failure.pointer, failure.keyword, failure.message) for failure in found]


@pytest.mark.parametrize(
    ("schema", "document", "expected"),
    [
        ({"required": ["a"]}, {}, ("", "required", '"a" is a required property')),
        ({"items": {"type": "integer"}}, [1, None], ("/1", "type", 'null is not of type "integer"')),
        ({"maximum": 1}, 2, ("", "maximum", "2 is greater than the maximum of 1")),
        ({"enum": ["C", "F"]}, "K", ("", "enum", '\'K\' is not one of "C" or "F"')),
        ({"const": True}, [1, 2], ("", "const", "true was expected")),
        ({"format": "date"}, "1 May", ("", "format", "'1 May' is not a \"date\"")),
        ({"maxLength": 3}, "x" * 99, ("", "maxLength", f"'{'x' * 59}…' is longer than 3 characters")),
        ({"properties": {"a": False}}, {"a": 1}, ("/a", "properties", "nothing is allowed here")),
        (
            {"properties": {}, "additionalProperties": False, "patternProperties": {"^x": {}}},
            {"b": 1},
            ("", "additionalProperties", "not allowed: 'b'"),
        ),
        ({"unevaluatedProperties": False}, {"a": 1, "b": 2}, ("", "unevaluatedProperties", "not allowed: 'a', 'b'")),
        (
            {"propertyNames": {"maxLength": 2}},
            {"abc": 1},
            ("", "propertyNames", "a name is not allowed: 'abc' is longer than 2 characters"),
        ),
        (
            {"properties": {"a/b~c": {"items": {"minimum": 0}}}},
            {"a/b~c": [0, -1]},
            ("/a~1b~0c/1", "minimum", "-1 is less than the minimum of 0"),
        ),
        ({"not": {"type": "object"}}, {"a": 1}, ("", "not", '{"type":"object"} is not allowed for an object of 1')),
    ],
)
def test_a_failure_tells_place_keyword_and_words(schema: Any, document: Any, expected: tuple[str, str, str]) -> None:
    assert failures(schema, document) == [expected]


def test_all_failures_are_told() -> None:
    found = failures(RECORD, {"id": 7, "t": 101})
    assert sorted(found) == [
        ("/id", "type", '7 is not of type "string"'),
        ("/t", "maximum", "101 is greater than the maximum of 100"),
    ]


def test_not_more_than_32_failures_are_told() -> None:
    assert len(failures({"items": {"type": "string"}}, [1] * 100)) == FAILURES_KEPT
    assert len(failures({"items": {"type": "string"}}, [1] * 9_999)) == FAILURES_KEPT


def test_names_and_values_that_do_not_print_are_escaped() -> None:
    ((pointer, _, message),) = failures({"additionalProperties": {"type": "null"}}, {"\x00\x1b[31m": "\x1b[0m\n"})
    assert pointer == "/\\u0000\\u001b[31m"
    assert message == "'\\x1b[0m\\n' is not of type \"null\""


BATCH = {
    "type": "object",
    "properties": {"readings": {"type": "array", "items": {"$ref": "#/$defs/record"}}},
    "$defs": {"record": RECORD},
}


def test_in_a_large_payload_the_parts_that_fail_are_found() -> None:
    readings: list[Any] = [{"id": str(number), "t": 20.5} for number in range(3_000)]
    readings[7], readings[2_999] = {"id": "x"}, {"id": "x", "t": 200}
    assert failures(BATCH, {"readings": readings}) == [
        ("/readings/7", "required", '"t" is a required property'),
        ("/readings/2999/t", "maximum", "200 is greater than the maximum of 100"),
    ]


def test_what_cannot_be_found_in_the_parts_is_told_of_the_whole() -> None:
    schema = {"anyOf": [{"items": {"type": "string", "minLength": number}} for number in range(20)]}
    words = "an array of 5000 does not match its schema; it would take too long to say where"
    assert failures(schema, [1] * 5_000) == [("", "schema", words)]


def test_what_nothing_may_be_is_found_in_the_parts_too() -> None:
    schema = {"prefixItems": [{}], "items": False}
    found = failures(schema, [1] * 9_000)
    assert len(found) == FAILURES_KEPT
    assert {words for _, _, words in found} == {"nothing is allowed here"}


def test_parts_of_another_file_are_found_too() -> None:
    files = {"c/1.json": {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a b%": RECORD}}}
    rules = contract({"items": {"$ref": "../c/1.json#/definitions/a%20b%25"}}, files)
    document: list[Any] = [{"id": "x", "t": 1}] * 3_000 + [{"id": 5, "t": 1}]
    assert rules.failures(orjson.dumps(document)) == (Failure("/3000/id", "type", '5 is not of type "string"'),)


def test_parts_in_a_place_that_is_no_place_for_schemas_are_told_of_the_whole() -> None:
    schema = {"$ref": "#/components/a", "components": {"a": {"items": {"type": "integer"}}}}
    assert failures(schema, [1, "x"]) == [("/1", "type", "'x' is not of type \"integer\"")]
    assert [keyword for _, keyword, _ in failures(schema, [1] * 9_000 + ["x"])] == ["schema"]


def test_a_payload_of_too_many_values_is_not_judged() -> None:
    assert failures({}, [1] * 11, json_items=10) == [("", "items", "more than 10 values")]
    assert failures({}, [[]] * 20_000) == [("", "items", "more than 10000 values")]
    assert failures({}, ["[{" * 10_000]) == []
