"""Protobuf messages compared: the words, and that no sampled message proves a yes wrong."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from mqttproxy.validation.compare_protobuf import compare_messages
from mqttproxy.validation.comparing import Difference
from mqttproxy.validation.protobuf import ProtobufContract
from mqttproxy.validation.protofiles import Described
from mqttproxy.validation.subjects import ProtobufSettings
from tests.validation.test_comparing import words

HEAD = 'syntax = "proto3"; '


def differences(old: str, new: str, toml: str = "") -> list[str]:
    texts = [text if text.startswith("syntax") else HEAD + text for text in (old, new)]
    header = '[protobuf]\nmessage = "T"\n'
    return words(texts[0].encode(), texts[1].encode(), "BACKWARD", "proto", header + toml)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("message T { int32 a = 1; }", "message T { string a = 1; }", "v2 has string for /a, v1 devices send int32"),
        ("message T { int64 a = 1; }", "message T { int32 a = 1; }", "v2 has int32 for /a, v1 devices send int64"),
        (
            "message T { int32 a = 1; }",
            "message T { string b = 1; }",
            "the number 1 is /b in v2 and /a in v1: used again",
        ),
        (
            "message T { int32 a = 1; }",
            "message T { int32 b = 1; }",
            "field 1 is called /b in v2 and /a in v1: rules, transforms and JSON know it by its name",
        ),
        (
            "message T { reserved 2; int32 a = 1; }",
            "message T { int32 a = 1; bool b = 2; }",
            "v2 uses the number 2 again for /b; v1 has it reserved",
        ),
        ("message T { int32 a = 1; }", "message T { int32 a = 2; }", "/a is number 2 in v2 and 1 in v1"),
        (
            "message T { repeated int32 a = 1; }",
            "message T { int32 a = 1; }",
            "v2 has one value for /a, v1 devices may send several",
        ),
        (
            "message T { int32 a = 1; int32 b = 2; }",
            "message T { oneof o { int32 a = 1; int32 b = 2; } }",
            "v2 keeps only one of 'a', 'b', v1 devices may send several",
        ),
        (
            'syntax = "proto2"; message T { optional int32 a = 1; }',
            'syntax = "proto2"; message T { required int32 a = 1; required bool b = 2; }',
            "v2 requires /b, which v1 devices do not send",
        ),
        (
            "message T { U u = 1; } message U { int32 a = 1; }",
            "message T { U u = 1; } message U { bool a = 1; }",
            "v2 has bool for /u/a, v1 devices send int32",
        ),
        (
            'syntax = "proto2"; message T { optional E e = 1; } enum E { A = 0; B = 1; }',
            'syntax = "proto2"; message T { optional E e = 1; } enum E { A = 0; }',
            "v2 does not know 'B' at /e, which v1 devices may send",
        ),
        (
            "message T { map<string, int32> m = 1; }",
            "message T { repeated P m = 1; } message P { string key = 1; int32 value = 2; }",
            "/m is a map in only one of the versions",
        ),
    ],
)
def test_a_difference_is_told_in_plain_words(old: str, new: str, expected: str) -> None:
    assert expected in differences(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("message T { int32 a = 1; }", "message T { int64 a = 1; string b = 2; }"),
        ("message T { int32 a = 1; string b = 2; }", "message T { int32 a = 1; reserved 2; }"),
        ("message T { T t = 1; }", "message T { T t = 1; bool b = 2; }"),
        ("message T { E e = 1; } enum E { A = 0; B = 1; }", "message T { E e = 1; } enum E { A = 0; }"),
        ("message T { string a = 1; }", "message T { bytes a = 1; }"),
    ],
)
def test_what_keeps_the_meaning_of_every_number_is_compatible(old: str, new: str) -> None:
    assert differences(old, new) == []


def test_where_unknown_fields_are_refused_a_field_cannot_go() -> None:
    old, new = "message T { int32 a = 1; string b = 2; }", "message T { int32 a = 1; reserved 2; }"
    assert differences(old, new, 'unknown_fields = "refuse"') == [
        "v2 does not know /b (field 2), which v1 devices may send, and refuses unknown fields"
    ]
    old, new = "message T { E e = 1; } enum E { A = 0; B = 1; }", "message T { E e = 1; } enum E { A = 0; }"
    assert differences(old, new, 'unknown_fields = "refuse"') != []


def test_what_the_subject_requires_is_asked_of_the_versions_that_have_it() -> None:
    old, new = "message T { optional int32 a = 1; }", "message T { optional int32 a = 1; optional string unit = 2; }"
    assert differences(old, new, 'required = ["unit"]') == ["v2 requires /unit, which v1 devices do not send"]
    assert differences(old, new, 'required = ["a"]') == []


SCALARS = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12,
           "uint32": 13, "sint32": 17, "sint64": 18, "fixed32": 7}  # fmt: skip
FIELDS = st.dictionaries(
    st.integers(1, 4),
    st.tuples(st.sampled_from("abcd"), st.sampled_from([*SCALARS, "U"]), st.sampled_from(["optional", "repeated"])),
    max_size=3,
)


def described(fields: Any, inner: Any) -> Described:
    """Return a message T and an inner U, made without the compiler, which would take too long for very many."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", syntax="proto3")
    for name, members in (("T", fields), ("U", inner)):
        message = file.message_type.add(name=name)
        taken: set[str] = set()
        for number, (called, kind, label) in members.items():
            if called in taken:
                continue
            taken.add(called)
            one = message.field.add(name=called, number=number, label=3 if label == "repeated" else 1)
            if kind == "U":
                one.type, one.type_name = 11, ".U"  # type: ignore[assignment] # one of the numbers that it takes
            else:
                one.type = SCALARS[kind]  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return Described(pool.FindMessageTypeByName("T"), file, pool)


def judge_of(message: Described, unknown: str) -> ProtobufContract:
    settings_ = ProtobufSettings(unknown_fields=unknown, empty="allow")
    return ProtobufContract("t@1", message.message, settings_, (), 1000)


def messages(descriptor: Any, depth: int = 2) -> st.SearchStrategy[Any]:
    by_type = {
        "double": st.floats(allow_nan=False), "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "int64": st.integers(-(2**63), 2**63 - 1), "uint64": st.integers(0, 2**64 - 1),
        "int32": st.integers(-(2**31), 2**31 - 1), "bool": st.booleans(), "string": st.text(max_size=4),
        "bytes": st.just("/w=="), "uint32": st.integers(0, 2**32 - 1), "sint32": st.integers(-(2**31), 2**31 - 1),
        "sint64": st.integers(-(2**63), 2**63 - 1), "fixed32": st.integers(0, 2**32 - 1),
    }  # fmt: skip
    numbers = {value: by_type[name] for name, value in SCALARS.items()}
    members = {}
    for one in descriptor.fields:
        value = numbers.get(one.type)
        if value is None:
            if not depth:
                continue
            value = messages(one.message_type, depth - 1)
        members[one.name] = st.lists(value, max_size=2) if one.is_repeated else value
    return st.fixed_dictionaries({}, optional=members)


def as_read(document: Any) -> Any:
    """Return what a document says, without defaults and what the other version does not name."""
    if isinstance(document, dict):
        return {name: as_read(value) for name, value in document.items()}
    return [as_read(value) for value in document] if isinstance(document, list) else document


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.tuples(FIELDS, FIELDS, FIELDS, FIELDS), st.sampled_from(["allow", "refuse"]), st.data())
def test_no_sampled_message_of_the_old_version_is_refused_or_misread_by_a_new_one_that_is_compatible(
    before_and_after: Any, unknown: str, data: st.DataObject
) -> None:
    fields, inner, changed, changed_inner = before_and_after
    if data.draw(st.booleans()):  # near each other, so that yes is not rare
        changed, changed_inner = {**changed, **fields}, {**changed_inner, **inner}
    old, new = judge_of(described(fields, inner), unknown), judge_of(described(changed, changed_inner), unknown)
    found: list[Difference] = compare_messages(new, old, "v2", "v1")
    assume(not found)
    document = data.draw(messages(old.descriptor))
    payload = old.encode(document)
    assert not old.failures(payload)
    assert not new.failures(payload), (document, payload)
    before, after = old.document(payload), new.document(payload)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    for name in before.keys() & after.keys():
        same_type = old.descriptor.fields_by_name[name].type == new.descriptor.fields_by_name[name].type
        if same_type and old.descriptor.fields_by_name[name].message_type is None:
            assert before[name] == after[name]
