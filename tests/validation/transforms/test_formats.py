"""Protobuf and Avro through transforms, by real schema files: to JSON in the middle and back.

Held against the libraries of both. What no transform touches must come out as it went in, whatever it is.
"""

import io
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import fastavro
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message as ProtobufMessage
from hypothesis import assume, given, settings, strategies as st

from mqttproxy.config.load import load_config
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.validation import Action, Generation, Verdict, build_generation, judge
from mqttproxy.validation.checks import SchemaCheck
from mqttproxy.validation.contract import Contract
from tests.validation.schema_shelf import SENDER, compiled

UNITS: Final = b'syntax = "proto3";\npackage acme;\nenum Unit { NONE = 0; C = 1; F = 2; }\n'
PROTO: Final = b"""
syntax = "proto3";
package acme;
import "units/1.proto";
message Reading {
  double celsius = 1;
  Unit unit = 2;
  repeated sint32 numbers = 3;
  map<string, uint64> counts = 4;
  oneof place { string room = 5; fixed64 cell = 6; }
  bytes raw = 7;
  optional bool ok = 8;
  repeated Reading below = 9;
  string name = 10;
}
"""
AVRO: Final[Any] = {
    "type": "record", "name": "Reading", "namespace": "acme",
    "fields": [
        {"name": "celsius", "type": "double"},
        {"name": "unit", "type": {"type": "enum", "name": "Unit", "symbols": ["NONE", "C", "F"]}},
        {"name": "numbers", "type": {"type": "array", "items": "long"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "place", "type": ["null", "long", "string"]},
        {"name": "raw", "type": "bytes"},
        {"name": "ok", "type": ["null", "boolean"], "default": None},
        {"name": "below", "type": {"type": "array", "items": "Reading"}},
        {"name": "name", "type": "string"},
        {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 2}},
    ],
}  # fmt: skip
NAMED: Final = 'transforms = [{ op = "set", path = "/name", value = "gone" }]'
CONFIG: Final = """
[[policies]]
name = "proto"
topics = ["proto"]
schema = "reading@1"
{0}
[[policies]]
name = "avro"
topics = ["avro"]
schema = "record@1"
{0}
"""


@cache
def rules(more: str = NAMED) -> Generation:
    """Return what a folder with these schemas, and this in its policies, means."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, data in {
            "reading/1.proto": PROTO,
            "reading/subject.toml": b'[protobuf]\nmessage = "acme.Reading"\n',
            "units/1.proto": UNITS,
            "record/1.avsc": json.dumps(AVRO).encode(),
        }.items():
            file = folder / "schemas" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        (folder / "proxy.toml").write_text(CONFIG.format(more))
        return build_generation(1, load_config(folder / "proxy.toml"))


def verdict_on(topic: str, payload: bytes, more: str = NAMED, **properties: Any) -> Verdict:
    verdict = judge(Message(topic, payload, 1, properties=Properties(**properties)), SENDER, rules(more))
    assert verdict.action is Action.FORWARD, verdict.failures
    return verdict


def payload_of(verdict: Verdict) -> bytes:
    assert verdict.changed is not None
    return verdict.changed.payload


def contract_of(place: int) -> Contract:
    (check,) = rules().policies[place].checks
    assert isinstance(check, SchemaCheck)
    return check.contract


# Protobuf, by the library that Google makes.


@cache
def reading() -> type[ProtobufMessage]:
    files = descriptor_pb2.FileDescriptorSet.FromString(
        compiled((("reading/1.proto", PROTO), ("units/1.proto", UNITS)), "reading/1.proto")
    )
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("acme.Reading"))


NUMBERS: Final = st.floats(allow_nan=False)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def fields(below: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"celsius": NUMBERS, "name": TEXTS},
        optional={
            "unit": st.integers(0, 2),
            "numbers": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
            "counts": st.dictionaries(TEXTS, st.integers(0, 2**64 - 1), max_size=3),
            "room": TEXTS,
            "raw": st.binary(max_size=4),
            "ok": st.booleans(),
            "below": st.lists(below, max_size=2),
        },
    ) | st.fixed_dictionaries({"celsius": NUMBERS, "cell": st.integers(0, 2**64 - 1)})


READINGS: Final = st.recursive(st.just({"celsius": 1.0}), fields, max_leaves=4)


def as_protobuf(known: dict[str, Any]) -> ProtobufMessage:
    inner = {"below": [as_protobuf(one) for one in known["below"]]} if "below" in known else {}
    return reading()(**(known | inner))


@settings(max_examples=60, deadline=None)
@given(READINGS)
def test_protobuf_comes_out_as_it_went_in_but_for_what_the_steps_change(known: dict[str, Any]) -> None:
    before = as_protobuf(known).SerializeToString()
    assume(before)  # nothing at all is no message by default
    after = reading().FromString(payload_of(verdict_on("proto", before)))
    expected = as_protobuf(known | {"name": "gone"})
    assert after.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@settings(max_examples=60, deadline=None)
@given(READINGS)
def test_protobuf_carried_on_as_json_says_the_same(known: dict[str, Any]) -> None:
    before = as_protobuf(known).SerializeToString()
    assume(before)
    document = json.loads(payload_of(verdict_on("proto", before, 'carry_as = "json"')))
    again = reading().FromString(contract_of(0).encode(document))
    assert again.SerializeToString(deterministic=True) == as_protobuf(known).SerializeToString(deterministic=True)


# Avro, by fastavro.

RECORD: Final = fastavro.parse_schema(AVRO)
RECORDS: Final[st.SearchStrategy[list[dict[str, Any]]]] = st.recursive(
    st.just([]),
    lambda below: st.lists(
        st.fixed_dictionaries(
            {
                "celsius": NUMBERS,
                "unit": st.sampled_from(["NONE", "C", "F"]),
                "numbers": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
                "counts": st.dictionaries(TEXTS, st.integers(-(2**31), 2**31 - 1), max_size=3),
                "place": st.none() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
                "raw": st.binary(max_size=4),
                "ok": st.none() | st.booleans(),
                "below": below,
                "name": TEXTS,
                "id": st.binary(min_size=2, max_size=2),
            }
        ),
        min_size=1,
        max_size=2,
    ),
    max_leaves=3,
).filter(bool)


def written(record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, RECORD, record)
    return out.getvalue()


@settings(max_examples=60, deadline=None)
@given(RECORDS)
def test_avro_comes_out_as_it_went_in_but_for_what_the_steps_change(records: list[dict[str, Any]]) -> None:
    after = payload_of(verdict_on("avro", written(records[0])))
    assert after == written(records[0] | {"name": "gone"})
    assert fastavro.schemaless_reader(io.BytesIO(after), RECORD, None) == records[0] | {"name": "gone"}


@settings(max_examples=60, deadline=None)
@given(RECORDS)
def test_avro_carried_on_as_json_says_the_same(records: list[dict[str, Any]]) -> None:
    document = json.loads(payload_of(verdict_on("avro", written(records[0]), 'carry_as = "json"')))
    assert contract_of(1).encode(document) == written(records[0])


def test_properties_follow_what_the_payload_has_become() -> None:
    payload = written(
        {
            "celsius": 1.5, "unit": "C", "numbers": [], "counts": {}, "place": None, "raw": b"\xff", "ok": None,
            "below": [], "name": "n", "id": b"\x00\xff",
        }
    )  # fmt: skip
    changed = verdict_on("avro", payload, 'carry_as = "json"', content_type="avro/binary").changed
    assert changed is not None
    assert changed.properties.content_type == "application/json"
    document = json.loads(changed.payload)
    assert (document["raw"], document["id"], document["place"]) == ("ÿ", "\x00ÿ", None)
    assert payload_of(verdict_on("avro", payload, content_type="avro/binary")) == payload[:-4] + b"\x08gone\x00\xff"


def test_a_step_that_the_schema_has_no_place_for_holds_the_message() -> None:
    for topic, payload in (("proto", reading()(celsius=1.0).SerializeToString()), ("avro", b"")):
        body = payload or written(
            {
                "celsius": 1.0, "unit": "C", "numbers": [], "counts": {}, "place": 1, "raw": b"", "ok": True,
                "below": [], "name": "", "id": b"ab",
            }
        )  # fmt: skip
        more = 'transforms = [{ op = "rename", from = "/celsius", to = "/fahrenheit" }]'
        verdict = judge(Message(topic, body, 1), SENDER, rules(more))
        assert (verdict.action, verdict.changed) == (Action.HOLD, None)
        assert "transform" in [failure.keyword for failure in verdict.failures]
