"""Protobuf contracts: what is refused, where, and that what is taken reads the same as JSON and back."""

import sys
from contextlib import nullcontext
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings, strategies as st

from mqttproxy.config.errors import ConfigError
from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.protobuf import ProtobufContract
from tests.validation.schema_shelf import Shelf, contract_of, generation, policy

SOURCE = b"""
syntax = "proto3";
package acme;
import "google/protobuf/timestamp.proto";
/* import "no/such.proto"; */
import "common/units.proto"; // import "nor/this.proto";
message Reading {
  optional double celsius = 1;
  string unit = 2;
  Inner inner = 3;
  google.protobuf.Timestamp at = 4;
  repeated int32 numbers = 5;
  Kind kind = 6;
  int64 big = 7;
  bytes raw = 8;
  map<string, int32> counts = 9;
  Reading down = 10;
  repeated Inner more = 11;
  common.Unit other = 12;
  repeated double exact = 13;
  map<int32, Inner> by_number = 14;
  oneof either { bool yes = 15; float no = 16; }
}
message Inner { string a = 1; optional int32 q = 2; }
enum Kind { NONE = 0; SOME = 1; }
"""
UNITS = b'syntax = "proto3"; package common; message Unit { string name = 1; }'


def contract(toml: str = "", source: bytes = SOURCE, message: str = "acme.Reading", **others: Any) -> Any:
    header = f'[protobuf]\nmessage = "{message}"\n' if message else "[protobuf]\n"
    files = {"t/1.proto": source, "common/units.proto": UNITS, "t/subject.toml": (header + toml).encode(), **others}
    found = contract_of(generation(files, policy()))
    assert isinstance(found, ProtobufContract)
    return found


PLAIN = contract()
STRICT = contract('unknown_fields = "refuse"')


def told(judge: Any, payload: bytes) -> list[tuple[str, str]]:
    return [(failure.pointer, failure.keyword) for failure in judge.failures(payload)]


@pytest.mark.parametrize(
    ("payload", "pointer", "keyword"),
    [
        (b"", "", "empty"),
        (b"\x0a\x03abc", "/celsius", "type"),
        (b"\x12\x02\xff\xfe", "/unit", "utf-8"),
        (b"\x1a\x05\x12\x03abc", "/inner/q", "type"),
        (b"\x12\x7f", "/unit", "wire"),
        (b"\x12\xff\xff\xff\xff\x07", "/unit", "wire"),  # 2 GB
        (b"\x2a\x02\x80\x80", "/numbers", "wire"),
        (b"\x6a\x03abc", "/exact", "wire"),
        (b"\x5a\x00\x5a\x02\x0a\x05", "/more/1/a", "wire"),
        (b"\x09\x00", "/celsius", "wire"),
        (b"\x00", "", "wire"),
        (b"\x0c", "", "wire"),
        (b"\x0f", "", "wire"),
        (b"\xff" * 11, "", "wire"),
        (b"\x1b\x1c", "/inner", "type"),  # a group
        (b"\x08" + b"\x80" * 10 + b"\x01", "/celsius", "type"),
    ],
    ids=repr,
)
def test_F10_what_cannot_be_read_is_told_with_its_field(payload: bytes, pointer: str, keyword: str) -> None:
    assert (pointer, keyword) in told(PLAIN, payload)
    with nullcontext() if keyword == "type" and b"\x80" not in payload else pytest.raises(PayloadError):
        PLAIN.document(payload)


def test_empty_payloads_are_a_message_only_where_the_subject_says_so() -> None:
    judge = contract('empty = "allow"')
    assert judge.failures(b"") == ()
    assert judge.document(b"")["big"] == 0


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [(b"\xa0\x06\x05", ""), (b"\x1a\x03\xa0\x06\x05", "/inner"), (b"\x5a\x03\xa0\x06\x05", "/more/0")],
)
def test_F10_unknown_fields_are_refused_at_every_depth_or_allowed(payload: bytes, pointer: str) -> None:
    assert told(PLAIN, payload) == []
    assert told(STRICT, payload) == [(pointer, "unknown-field")]


@pytest.mark.parametrize(
    ("last", "keyword"), [(b"\xa0\x06\x05", "unknown-field"), (b"\x30\x07", "enum"), (b"\x52\x02\x30\x07", "enum")]
)
def test_what_stands_behind_very_many_fields_is_refused_too(last: bytes, keyword: str) -> None:
    many = b"\x38\x01" * 20_000
    assert told(STRICT, many) == []
    assert [failure.keyword for failure in STRICT.failures(many + last)] == [keyword]


def test_where_unknown_fields_are_allowed_known_ones_are_looked_at_and_too_many_are_refused() -> None:
    many = b"\x38\x01" * 9_000
    assert told(PLAIN, many + b"\xa0\x06\x05") == []
    assert told(PLAIN, many + b"\x0a\x03abc") == [("/celsius", "type")]
    assert told(PLAIN, many + b"\x52\x05\x0a\x03abc") == [("/down/celsius", "type")]
    assert told(PLAIN, many * 2) == []
    assert told(PLAIN, many * 2 + b"\xa0\x06\x05") == [("", "items")]
    assert told(PLAIN, b"\xa0\x06\x05" * 500_000) == [("", "items")]
    assert told(PLAIN, b"\xa2\x06\xa0\x8d\x06" + bytes(100_000)) == []


def test_a_value_that_an_enum_does_not_know_counts_as_unknown() -> None:
    assert told(PLAIN, b"\x30\x07") == []
    assert told(STRICT, b"\x30\x07") == [("/kind", "enum")]
    assert PLAIN.document(b"\x30\x07")["kind"] == 7


def test_required_fields_must_be_there_where_their_message_is() -> None:
    judge = contract('required = ["celsius", "inner.q", "more.q", "numbers", "counts"]')
    assert told(judge, b"\x1a\x00\x5a\x00") == [
        ("/celsius", "required"),
        ("/inner/q", "required"),
        ("/more/0/q", "required"),
        ("/numbers", "required"),
        ("/counts", "required"),
    ]
    good = judge.encode({"celsius": 0, "numbers": [1], "counts": {"a": 1}, "more": [{"q": 0}]})
    assert judge.failures(good) == ()


def test_a_field_that_cannot_be_told_from_absent_cannot_be_required() -> None:
    with pytest.raises(ConfigError) as caught:
        contract('required = ["unit"]')
    assert str(caught.value) == (
        'schemas/t/subject.toml: protobuf.required: found "unit", expected a field that can be absent in t/1.proto; '
        "write `optional` before it"
    )


def test_what_proto2_calls_required_is() -> None:
    source = (
        b'syntax = "proto2"; message T { required int32 a = 1; repeated U u = 2; } message U { required bool b = 1; }'
    )
    judge = contract(source=source, message="T")
    assert told(judge, b"\x12\x00") == [("/a", "required"), ("/u/0/b", "required")]
    closed = b'syntax = "proto2"; message T { optional E e = 1; } enum E { A = 0; }'
    assert told(contract(source=closed, message="T"), b"\x08\x05") == [("/e", "enum")]


def nested(levels: int) -> bytes:
    payload = b""
    for _ in range(levels):
        size, length = len(payload), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        payload = b"\x52" + length + bytes([size]) + payload
    return payload


def test_F10_depth_and_size_are_bounded() -> None:
    judge = contract('max_depth = 5\nmax_bytes = "64B"')
    assert told(judge, nested(4)) == []
    assert told(judge, nested(5)) == [("", "depth")]
    assert told(PLAIN, nested(31)) == []
    assert told(PLAIN, nested(32)) == [("", "depth")]
    assert [keyword for _, keyword in told(PLAIN, nested(5_000))] == ["depth"]
    assert told(judge, b"\x12\x40" + b"a" * 64) == [("", "size")]


def test_F10_a_message_of_very_many_values_is_refused() -> None:
    assert told(PLAIN, b"\x5a\x00" * 11_000) == [("", "items")]
    assert told(PLAIN, b"\x2a\xf8\x55" + b"\x01" * 11_000) == [("", "items")]


def test_a_document_has_names_numbers_and_defaults() -> None:
    message = PLAIN._class(celsius=float("nan"), big=2**62, raw=b"\xff", counts={"k": 1}, numbers=[1], yes=False)
    message.at.FromJsonString("2026-01-02T03:04:05Z")
    message.by_number[3].a = "x"
    assert PLAIN.document(message.SerializeToString()) == {
        "celsius": "NaN",
        "unit": "",
        "at": "2026-01-02T03:04:05Z",
        "numbers": [1],
        "kind": "NONE",
        "big": 2**62,
        "raw": "/w==",
        "counts": {"k": 1},
        "more": [],
        "exact": [],
        "by_number": {"3": {"a": "x"}},
        "yes": False,
    }


@pytest.mark.parametrize("document", [{"nope": 1}, {"unit": 5}, {"big": 2**64}, [], 5, None, {"kind": "OTHER"}, "x"])
def test_a_document_that_the_schema_cannot_say_is_refused(document: Any) -> None:
    with pytest.raises(PayloadError):
        PLAIN.encode(document)


INNER = st.fixed_dictionaries({}, optional={"a": st.text(), "q": st.integers(-(2**31), 2**31 - 1)})
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "celsius": st.floats(allow_nan=False, allow_infinity=False),
        "unit": st.text(),
        "inner": INNER,
        "numbers": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "kind": st.sampled_from(["NONE", "SOME"]),
        "big": st.integers(-(2**63), 2**63 - 1),
        "counts": st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3),
        "more": st.lists(INNER, max_size=3),
    },
)


@given(DOCUMENTS)
def test_what_is_encoded_is_read_again_and_by_the_library_too(document: Any) -> None:
    payload = STRICT.encode(document)
    assert payload == b"" or STRICT.failures(payload) == ()
    if payload:
        again = STRICT.document(payload)
        assert {name: again[name] for name in document if name not in ("inner", "more")} == {
            name: value for name, value in document.items() if name not in ("inner", "more")
        }
        assert STRICT.encode(again) == STRICT.encode(STRICT.document(STRICT.encode(again)))
        assert json_format.MessageToDict(STRICT._class.FromString(payload)) is not None


@settings(max_examples=300)
@given(st.binary(max_size=40) | st.binary(max_size=12).map(lambda tail: b"\x1a" + bytes([len(tail)]) + tail))
def test_F10_any_bytes_get_an_answer_and_the_walk_agrees_with_the_library(payload: bytes) -> None:
    for judge in (PLAIN, STRICT):
        found = judge.failures(payload)
        if not found:
            judge.document(payload)
            judge._class.FromString(payload)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"t/1.proto": b"nonsense"}, "schemas/t/1.proto: found t/1.proto:1:1:"),
        ({"t/1.proto": b'syntax="proto3"; import "a/b.proto"; message T {}'}, "a/b.proto"),
        ({"t/1.proto": b'syntax="proto3"; import "../x.proto"; message T {}'}, "../x.proto"),
        ({"t/1.proto": b'syntax="proto3";'}, "found no message, expected one message that payloads are"),
        ({"t/1.proto": b'syntax="proto3"; message A {} message B {}'}, 'message = "A"'),
        (
            {"t/1.proto": b'syntax="proto3"; message A {}', "t/subject.toml": b'[protobuf]\nmessage = "B"\n'},
            "schemas/t/subject.toml: protobuf.message: found \"B\", expected a message of t/1.proto; there are 'A'",
        ),
        (
            {"t/1.proto": b'syntax="proto3"; message A {}', "t/subject.toml": b'[protobuf]\nrequired = ["x"]\n'},
            'protobuf.required: found "x", expected a field of t/1.proto',
        ),
        ({"t/1.desc": b"\x00"}, "found what is no descriptor set"),
        ({"t/1.binpb": b""}, "found no message"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_files_that_cannot_be_used_are_told_in_words(files: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generation(files, policy())
    assert words in str(caught.value)


def test_a_descriptor_set_needs_no_compiler() -> None:
    sources = {"t/1.proto": SOURCE, "common/units.proto": UNITS}
    described = Shelf({}).descriptors(sources, "t/1.proto")

    class NoCompiler(Shelf):
        def descriptors(self, sources: Any, root: str) -> bytes:
            raise AssertionError

    toml = b'[protobuf]\nmessage = "acme.Reading"\n'
    rules = generation(NoCompiler({"t/1.desc": described, "t/subject.toml": toml}), policy())
    assert [failure.pointer for failure in contract_of(rules).failures(b"\x0a\x03abc")] == ["/celsius"]


def test_a_compiler_that_takes_too_long_is_ended() -> None:
    from mqttproxy.validation.protoc import ProtocError, compile_protos  # noqa: PLC0415 - only here

    with pytest.raises(ProtocError, match=r"longer than 0\.01 s"):
        compile_protos({"t/1.proto": SOURCE}, "t/1.proto", 0.01)


@pytest.mark.parametrize(("module", "path"), [("google.protobuf", "t/1.proto"), ("fastavro", "t/1.avsc")])
def test_without_its_extra_a_schema_is_a_fault_that_says_what_to_install(
    module: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in [
        name for name in sys.modules if name in {"mqttproxy.validation.avro", "mqttproxy.validation.protobuf"}
    ]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"policies\[0\]\.schema: .* pip install 'mqttproxy\[(protobuf|avro)\]'"):
        generation({path: b'"string"'}, policy())
