"""Target `avro`: what our strict reader takes, fastavro reads the same; and it is written and read again.

Nothing but PayloadError is raised; a failure is short and printable.

Input: the payload.
"""

import io
import math
from typing import Any, Final

import fastavro
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.validation.avro import AvroContract
from tests.validation.schema_shelf import contract_of, generation, policy

WORDS = (
    b"\x00",
    b"\x02",
    b"\x01",
    b"\x03\x04",
    b"\x04a",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x00",
    b"\x00\x00\x00\x00\x00\x00\xf8\x7f",
)
_SCHEMA: Final = {
    "type": "record", "name": "Reading", "namespace": "acme",
    "fields": [
        {"name": "celsius", "type": "double"},
        {"name": "unit", "type": ["null", "string"]},
        {"name": "numbers", "type": {"type": "array", "items": "int"}},
        {"name": "below", "type": {"type": "map", "values": ["null", "Reading", "bytes"]}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "sum", "type": {"type": "fixed", "name": "Sum", "size": 2}},
        {"name": "good", "type": "boolean"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "rough", "type": "float"},
    ],
}  # fmt: skip


def _contract() -> AvroContract:
    found = contract_of(generation({"t/1.avsc": _SCHEMA}, policy()))
    assert isinstance(found, AvroContract)
    return found


_contract_of_all: Final = _contract()
_readings: SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries({
        "celsius": st.floats(allow_nan=False, allow_infinity=False), "unit": st.none() | st.text(max_size=4),
        "numbers": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "below": st.dictionaries(st.text(max_size=2), st.none() | _readings, max_size=2),
        "kind": st.sampled_from("AB"), "sum": st.just("\xff\0"), "good": st.booleans(),
        "at": st.integers(-(2**63), 2**63 - 1), "rough": st.just(0.5),
    })
)  # fmt: skip
LONGEST_CPU = 0.25  # seconds: it is read five times, once by fastavro, and written once
strategy: SearchStrategy[bytes] = st.binary(max_size=60) | _readings.map(_contract_of_all.encode)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the failure, or what is in it."""
    failures = _contract_of_all.failures(data)
    if failures:
        (failure,) = failures
        assert len(failure.message) <= 400
        assert failure.message.isprintable()
        assert failure.pointer.isprintable()
        return failure.keyword, failure.message.split()[:1] == ["the"], failure.pointer.count("/"), failure.pointer[:4]
    document: Any = _contract_of_all.document(data)
    source = io.BytesIO(data)
    theirs = _as_json(fastavro.schemaless_reader(source, _contract_of_all.schema, None))
    assert repr(document) == repr(theirs)
    assert source.tell() == len(data)
    again = _contract_of_all.encode(document)
    assert repr(_contract_of_all.document(again)) == repr(document)
    return min(len(document["numbers"]), 3), min(len(document["below"]), 3), document["unit"] is None, document["kind"]


def _as_json(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode("latin-1")
        case list():
            return [_as_json(item) for item in value]
        case dict():
            return {key: _as_json(item) for key, item in value.items()}
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
