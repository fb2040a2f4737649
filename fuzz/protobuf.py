"""Target `protobuf`: a payload is taken if and only if the library reads it and a walk of our own finds nothing wrong.

Nothing but PayloadError is raised; failures are few, short and printable. What is taken reads as a document, and the
payload that this document is encoded to is taken too, and reads the same.

Input: one byte (odd: unknown fields are refused), then the payload.
"""

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.validation.protobuf import ProtobufContract
from tests.validation.schema_shelf import contract_of, generation, policy

LONGEST_CPU = 0.25  # seconds: it is read five times and written once
WORDS = (
    b"\x0a",
    b"\x12\x02",
    b"\x1a\x02",
    b"\x08\x01",
    b"\x52\x00",
    b"\x52\x02\x52\x00",
    b"\x1b\x1c",
    b"\x22\x06\x08\x80",
    b"\xff\xff\xff\xff\x0f",
)
_SOURCE: Final = b"""
syntax = "proto3";
package acme;
import "google/protobuf/timestamp.proto";
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
  repeated double exact = 13;
  map<int32, Inner> by_number = 14;
  oneof either { bool yes = 15; float no = 16; }
}
message Inner { string a = 1; optional int32 q = 2; }
enum Kind { NONE = 0; SOME = 1; }
"""
_HEADER: Final = '[protobuf]\nmessage = "acme.Reading"\nempty = "allow"\n'


def _contract(toml: str) -> ProtobufContract:
    files = {"t/1.proto": _SOURCE, "t/subject.toml": (_HEADER + toml).encode()}
    found = contract_of(generation(files, policy()))
    assert isinstance(found, ProtobufContract)
    return found


_CONTRACTS: Final = (_contract(""), _contract('unknown_fields = "refuse"'))
_class: Final[Any] = _CONTRACTS[0]._class  # noqa: SLF001 - the library's own, as an oracle

_inner = st.fixed_dictionaries({}, optional={"a": st.text(max_size=4), "q": st.integers(-(2**31), 2**31 - 1)})
_documents = st.fixed_dictionaries(
    {},
    optional={
        "celsius": st.floats(allow_nan=False, allow_infinity=False), "unit": st.text(max_size=8), "inner": _inner,
        "numbers": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4), "kind": st.sampled_from(["NONE", "SOME"]),
        "big": st.integers(-(2**63), 2**63 - 1), "counts": st.dictionaries(st.text(max_size=3), st.integers(0, 9),
        max_size=3),
        "more": st.lists(_inner, max_size=3), "yes": st.booleans(), "at": st.just("2026-01-01T00:00:00Z"),
        "down": st.fixed_dictionaries({"unit": st.text(max_size=3)}),
    },
)  # fmt: skip
strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda flag, document: bytes((flag,)) + _CONTRACTS[0].encode(document), st.integers(0, 1), _documents),
)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the failures, or which fields there are."""
    contract, payload = _CONTRACTS[data[0] & 1 if data else 0], data[1:]
    failures = contract.failures(payload)
    assert len(failures) <= 32
    for failure in failures:
        assert len(failure.message) <= 400
        assert failure.message.isprintable()
        assert failure.pointer.isprintable()
    if failures:
        return tuple(sorted({failure.keyword for failure in failures})), "".join(
            filter(str.isalpha, failures[0].pointer)
        )[:12]
    _class.FromString(payload)
    document = contract.document(payload)
    assert isinstance(document, dict)
    again = contract.encode(document)
    assert contract.failures(again) == ()
    assert contract.document(again) == document
    return tuple(document)
