"""Avro schemas compared: the words; avro's own checker and fastavro's readings are the oracles."""

import io
from contextlib import suppress
from typing import Any

import fastavro
import orjson
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse
from fastavro.utils import generate_many
from hypothesis import HealthCheck, example, given, settings, strategies as st

from mqttproxy.validation.avro import parsed
from mqttproxy.validation.compare_avro import compare_schemas
from tests.validation.test_avro import SCHEMAS
from tests.validation.test_comparing import words


def record(*fields: Any, name: str = "R") -> Any:
    return {"type": "record", "name": name, "fields": list(fields)}


def enum(*symbols: str, **more: Any) -> Any:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def array(items: Any) -> Any:
    return {"type": "array", "items": items}


def one(name: str, kind: Any, **more: Any) -> Any:
    return {"name": name, "type": kind, **more}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            record(one("a", "int")),
            record(one("a", "int"), one("unit", "string")),
            "v2 requires /unit, which v1 devices do not send; a default would do",
        ),
        (record(one("a", "long")), record(one("a", "int")), "v2 reads int at /a, v1 devices send long"),
        (enum("X", "Y"), enum("X"), "v2 does not know 'Y', which v1 devices may send"),
        (record(one("a", ["null", "int"])), record(one("a", "int")), "v2 reads int at /a, v1 devices send null"),
        ("string", ["null", "int"], "v2 reads null or int, v1 devices send string"),
        (array("string"), array("int"), "v2 reads int at /*, v1 devices send string"),
        (record(name="R"), record(name="S"), "v2 reads record S, v1 devices send record R"),
        (
            {"type": "fixed", "name": "F", "size": 2},
            {"type": "fixed", "name": "F", "size": 3},
            "v2 reads 3 bytes called F, v1 devices send fixed F",
        ),
    ],
)  # fmt: skip
def test_a_difference_is_told_in_plain_words(old: Any, new: Any, expected: str) -> None:
    assert words(old, new, kind="avsc") == [expected]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (record(one("a", "int")), record(one("a", "double"), one("unit", ["null", "string"], default=None))),
        (record(one("a", "int"), one("b", "string")), record(one("a", "int"))),
        (record(one("a", "int")), record(one("b", "int", aliases=["a"]))),
        (record(one("a", "int")), record(one("a", ["null", "long"]))),
        (enum("X", "Y"), enum("X", default="X")),
        (record(one("next", ["null", "R"])), record(one("next", ["null", "R"]), one("b", "int", default=0))),
        (record(name="acme.R"), record(name="other.R")),
    ],
)
def test_what_schema_resolution_allows_is_compatible(old: Any, new: Any) -> None:
    assert words(old, new, kind="avsc") == []


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@example("bytes", "string", False)
@given(SCHEMAS, SCHEMAS, st.booleans())
def test_yes_and_no_are_what_the_checker_of_avro_says_and_fastavro_reads_what_is_compatible(
    old: Any, new: Any, same: bool
) -> None:
    new = old if same else new
    reader, writer = parsed(new), parsed(old)
    found = compare_schemas(reader, writer, "v2", "v1")
    if fitting(old) and fitting(new):
        oracle = ReaderWriterCompatibilityChecker().get_compatibility(parse(text(new)), parse(text(old)))  # type: ignore[no-untyped-call]
        assert (not found) == (oracle.compatibility is SchemaCompatibilityType.compatible), (old, new, found)
    if not found:
        for value in generate_many(writer, 3):
            target = io.BytesIO()
            fastavro.schemaless_writer(target, writer, value)
            # Avro allows bytes to be read as text; whether they are text is the data's matter.
            with suppress(UnicodeDecodeError):
                fastavro.schemaless_reader(io.BytesIO(target.getvalue()), writer, reader)


def text(schema: Any) -> str:
    return orjson.dumps(schema).decode()


def fitting(schema: Any) -> bool:
    """Return whether the library of Avro reads it too: it takes no fixed type of no bytes."""
    return '"size":0' not in text(schema)
