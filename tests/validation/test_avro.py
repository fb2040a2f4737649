"""Avro contracts: strict where fastavro is not, with the place of what is wrong; else fastavro is the oracle."""

import io
from typing import Any

import fastavro
import orjson
import pytest
from fastavro.utils import generate_many
from hypothesis import given, settings, strategies as st

from mqttproxy.config.errors import ConfigError
from mqttproxy.validation.avro import AvroContract
from mqttproxy.validation.gate import PayloadError
from tests.validation.schema_shelf import contract_of, generation, policy

READING = {
    "type": "record", "name": "Reading", "namespace": "acme",
    "fields": [
        {"name": "celsius", "type": "double"},
        {"name": "unit", "type": ["null", "string"], "default": None},
        {"name": "numbers", "type": {"type": "array", "items": "int"}, "default": []},
        {"name": "below", "type": {"type": "map", "values": ["null", "Reading", "bytes"]}, "default": {}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}, "default": "A"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
    ],
}  # fmt: skip


def contract(schema: Any, **others: Any) -> AvroContract:
    found = contract_of(generation({"t/1.avsc": schema, **others}, policy()))
    assert isinstance(found, AvroContract)
    return found


JUDGE = contract(READING)
DOCUMENT: Any = {
    "celsius": 1.5,
    "unit": "C",
    "numbers": [1, -2],
    "below": {
        "a": None,
        "b": {"celsius": 1.0, "unit": None, "numbers": [], "below": {}, "kind": "A", "at": 5},
        "c": "ÿ",
    },
    "kind": "B",
    "at": 1_700_000_000_000,
}


def test_a_document_is_read_and_written() -> None:
    payload = JUDGE.encode(DOCUMENT)
    assert JUDGE.failures(payload) == ()
    assert JUDGE.document(payload) == DOCUMENT
    assert JUDGE.document(JUDGE.encode({"celsius": 2})) == {
        "celsius": 2.0, "unit": None, "numbers": [], "below": {}, "kind": "A", "at": 0,
    }  # fmt: skip


RECORD = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}
ITEMS = {"type": "array", "items": RECORD}


@pytest.mark.parametrize(
    ("schema", "payload", "pointer", "keyword"),
    [
        (RECORD, b"", "/a", "avro"),
        (RECORD, b"\x02\x04a", "/b", "avro"),
        (RECORD, b"\x02\x02\xff", "/b", "utf-8"),
        (RECORD, b"\x02\x01", "/b", "avro"),  # a length of -1
        (RECORD, b"\x02\x02a\x00", "", "trailing-bytes"),
        (ITEMS, b"\x04\x02\x02a\x02\x06a\x00", "/1/b", "avro"),
        ({"type": "map", "values": "int"}, b"\x04\x02a\x02\x02a\x04\x00", "/a", "duplicate-key"),
        ({"type": "map", "values": "int"}, b"\x02\x02a\x80", "/a", "avro"),
        ("int", b"\x80\x80\x80\x80\x10", "", "integer"),
        ("long", b"\xff" * 10 + b"\x01", "", "avro"),
        ("long", b"\xff" * 9 + b"\x03", "", "integer"),
        ("int", b"\x82\x00", "", "avro"),  # longer than it needs to be
        ("boolean", b"\x02", "", "boolean"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02", "", "enum"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01", "", "enum"),
        (["null", "int"], b"\x04", "", "union"),
        (["null", "int"], b"\x01", "", "union"),
        ({"type": "fixed", "name": "F", "size": 4}, b"abc", "", "avro"),
        ("string", b"\xfe\xff\xff\xff\x0f", "", "avro"),
        ({"type": "array", "items": "null"}, b"\x80\x80\x80\x01\x00", "", "items"),
        ({"type": "array", "items": "int"}, b"\x01\x10\x02\x00", "/0", "avro"),  # the size of a block lies
        ({"type": "array", "items": "int"}, b"\x80\x80\x80\x01" + b"\x00" * 9, "", "items"),
    ],
    ids=repr,
)
def test_what_is_wrong_is_told_with_its_place(schema: Any, payload: bytes, pointer: str, keyword: str) -> None:
    (failure,) = contract(schema).failures(payload)
    assert (failure.pointer, failure.keyword) == (pointer, keyword)


def test_nesting_is_bounded_where_fastavro_would_end_the_process() -> None:
    chain = {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}
    judge = contract(chain)
    assert judge.failures(b"\x02" * 63 + b"\x00") == ()
    for levels in (64, 100_000):
        (failure,) = judge.failures(b"\x02" * levels + b"\x00")
        assert failure.keyword == "depth"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "nonsense"}, "expected an Avro schema"),
        ({"type": "record"}, '"name" is a required field'),
        ({"type": "array"}, "no 'items'"),
        ("Unknown", "expected an Avro schema"),
        (5, "expected an Avro schema"),
        (b"{", "not JSON"),
        (
            {"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]},
            "R is always inside of itself, so no value of it can end",
        ),
        ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "expected an Avro schema"),
    ],
    ids=repr,
)
def test_a_schema_that_cannot_be_used_is_told_in_words(schema: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        contract(schema)
    (fault,) = map(str, caught.value.faults)
    assert fault.startswith("schemas/t/1.avsc: found ")
    assert words in fault


@pytest.mark.parametrize(
    "document",
    [{}, {"celsius": "warm"}, {"celsius": True}, {"celsius": 1, "more": 2}, [], None, {"celsius": 1, "kind": "C"},
     {"celsius": 1, "numbers": [2**31]}, {"celsius": 1, "unit": 5}, {"celsius": 1, "below": {"a": "Ā"}}],
    ids=repr,
)  # fmt: skip
def test_a_document_that_the_schema_cannot_say_is_refused(document: Any) -> None:
    with pytest.raises(PayloadError):
        JUDGE.encode(document)


NAMES = st.sampled_from(["a", "b", "c"])
PLAIN = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kinds = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        inner.map(lambda item: {"type": "array", "items": item}),
        inner.map(lambda value: {"type": "map", "values": value}),
        kinds.map(lambda types: {"type": "record", "fields": [{"name": n, "type": t} for n, t in zip("abc", types)]}),  # noqa: B905
        st.lists(NAMES, min_size=1, max_size=3, unique=True).map(lambda names: {"type": "enum", "symbols": names}),
        st.integers(0, 4).map(lambda size: {"type": "fixed", "size": size}),
        inner.filter(lambda one: not isinstance(one, list) and one != "null").map(lambda one: ["null", one]),
    )


def named(schema: Any, counter: list[int]) -> Any:
    """Give each type that needs one a name of its own."""
    if isinstance(schema, list):
        return [named(one, counter) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: named(value, counter) if key in ("items", "values", "type") else value for key, value in schema.items()
    }
    if "fields" in made:
        made["fields"] = [{"name": one["name"], "type": named(one["type"], counter)} for one in schema["fields"]]
    if schema["type"] in ("record", "enum", "fixed"):
        counter.append(0)
        made["name"] = f"N{len(counter)}"
    return made


SCHEMAS = st.recursive(PLAIN, schemas, max_leaves=6).map(lambda schema: named(schema, []))


def as_json(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode("latin-1")
        case list():
            return [as_json(item) for item in value]
        case dict():
            return {key: as_json(item) for key, item in value.items()}
        case float() if value != value:  # noqa: PLR0124 - NaN
            return "NaN"
        case float() if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
    return value


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, st.data())
def test_what_fastavro_writes_is_read_as_fastavro_reads_it(schema: Any, data: st.DataObject) -> None:
    parsed = fastavro.parse_schema(schema)
    (value,) = generate_many(parsed, 1)
    target = io.BytesIO()
    fastavro.schemaless_writer(target, parsed, value)
    payload = target.getvalue()
    judge = contract(schema)
    assert judge.failures(payload) == ()
    oracle = as_json(fastavro.schemaless_reader(io.BytesIO(payload), parsed))
    assert judge.document(payload) == oracle
    assert judge.document(judge.encode(oracle)) == oracle or "bytes" in orjson.dumps(schema).decode()
    junk = data.draw(st.binary(max_size=12))
    found = judge.failures(junk)
    if not found:  # whatever is taken, fastavro reads the same
        assert judge.document(junk) == as_json(fastavro.schemaless_reader(io.BytesIO(junk), parsed))
