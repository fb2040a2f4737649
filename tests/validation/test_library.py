"""Schemas at load: every fault at once, each with its file and place; references within the folder."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.errors import ConfigError
from mqttproxy.validation.drafts import DRAFTS as KNOWN
from mqttproxy.validation.files import LARGEST_SCHEMA
from tests.validation.schema_shelf import Shelf, contract, generation, policy

DRAFTS = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/schema#",
]


def faults(files: Any, *policies: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        generation(files, *(policies or (policy(),)))
    return [str(fault) for fault in caught.value.faults]


def is_valid(schema: Any, document: Any, others: Any = None) -> bool:
    return not contract(schema, others).failures(orjson.dumps(document))


@pytest.mark.parametrize("dialect", DRAFTS)
def test_every_draft_is_understood(dialect: str) -> None:
    schema = {"$schema": dialect, "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert is_valid(schema, {"a": 1})
    assert not is_valid(schema, {})


def test_each_draft_means_its_own() -> None:
    exclusive = {"minimum": 1, "exclusiveMinimum": True}
    assert not is_valid({"$schema": DRAFTS[0], **exclusive}, 1)
    tuples = {"items": [{"type": "string"}]}
    assert not is_valid({"$schema": DRAFTS[3], **tuples}, [1])
    assert not is_valid({"prefixItems": [{"type": "string"}]}, [1])  # without `$schema`: 2020-12
    assert "/items" in faults({"t/1.json": tuples})[0]
    assert "/exclusiveMinimum" in faults({"t/1.json": exclusive})[0]


def test_formats_are_checked_in_every_draft() -> None:
    for dialect in DRAFTS:
        assert not is_valid({"$schema": dialect, "format": "date-time"}, "yesterday")


def test_all_faults_of_all_files_are_told_at_once() -> None:
    files = {
        "a/1.json": {"type": "nonsense", "properties": {"x": {"minLength": -1}}},
        "b/1.json": {"$ref": "c.json"},
        "c/1.json": b'{"type": "string", "type": "number"}',
        "d/1.json": {"items": {"pattern": "(?=x)"}},
    }
    subjects = ["a@1", "b@1", "c@1", "d@1", "temperatur@1", "e@../1"]
    found = faults(files, *(policy(subject, name=subject) for subject in subjects))
    beginnings = [
        "schemas/a/1.json: /type: ",
        "schemas/a/1.json: /properties/x/minLength: ",
        'schemas/b/1.json: /$ref: found "c.json"',
        "schemas/c/1.json: /type: found the key 'type' stands 2 times",
        'schemas/d/1.json: /items/pattern: found "(?=x)"',
        'proxy.toml: policies[4].schema: found "temperatur@1"',
        'proxy.toml: policies[5].schema: found "e@../1", expected subject@version',
    ]
    for beginning in beginnings:
        assert [fault for fault in found if fault.startswith(beginning)], (beginning, found)
    assert len(found) == len(beginnings)


def test_a_schema_that_is_not_there_comes_with_a_suggestion() -> None:
    (fault,) = faults({"temperature/1.json": {}}, policy("temperatur@1"))
    assert fault == (
        'proxy.toml: policies[0].schema: found "temperatur@1", expected a readable file schemas/temperatur/1.json; '
        'did you mean "temperature@1"?'
    )


@pytest.mark.parametrize(
    "name", ["t", "t@", "@1", "../t@1", "t/u@1", ".t@1", "t@..", "t@1@2", "t@1/../2", "", "t\x00@1"]
)
def test_a_name_cannot_lead_out_of_the_folder(name: str) -> None:
    shelf = Shelf({})
    (fault,) = faults(shelf, policy(name))
    assert "subject@version" in fault
    assert shelf.asked == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "expected a JSON Schema"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"minimum": 1e999}', "not JSON"),
        (b'{"minimum": 99999999999999999999}', "64 bits"),
        (b'{"not":' * 200 + b"{}" + b"}" * 200, "nested deeper"),
        (b'{"$defs":{"a":{"$schema":"http://json-schema.org/draft-07/schema#"}}}', "the draft of the whole file"),
        (b" " * (LARGEST_SCHEMA + 1), "at most"),
        (b'{"$ref":"http://[::1"}', "a place in this file"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_file_that_cannot_be_used_is_told_in_words(content: bytes, words: str) -> None:
    (fault,) = faults({"t/1.json": content})
    assert fault.startswith("schemas/t/1.json")
    assert words in fault


@pytest.mark.parametrize(("schema", "valid"), [(True, True), (False, False)])
def test_true_and_false_are_schemas(schema: bool, valid: bool) -> None:
    assert is_valid(schema, 1) is valid


INTEGER = {"definitions": {"x": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("../common/1.json#/definitions/x", "common/1.json"),
        ("2.json#/definitions/x", "t/2.json"),
        ("./2.json#/definitions/x", "t/2.json"),
        ("../t/../common/1.json#/definitions/x", "common/1.json"),
    ],
)
@pytest.mark.parametrize("identifier", [{}, {"$id": "https://example.com/schemas/deep/t.json"}])
def test_references_to_files_of_the_folder_are_followed(reference: str, path: str, identifier: Any) -> None:
    schema = {**identifier, "properties": {"a": {"$ref": reference}}}
    assert is_valid(schema, {"a": 1}, {path: INTEGER})
    assert not is_valid(schema, {"a": "x"}, {path: INTEGER})


def test_files_may_refer_to_each_other() -> None:
    tree = {"type": "object", "properties": {"below": {"$ref": "../list/1.json"}}}
    forest = {"type": "array", "items": {"$ref": "../t/1.json"}}
    assert is_valid(tree, {"below": [{"below": []}]}, {"list/1.json": forest})
    assert not is_valid(tree, {"below": [{"below": [1]}]}, {"list/1.json": forest})


def test_a_fault_in_a_file_that_two_refer_to_is_told_once() -> None:
    files = {"a/1.json": {"$ref": "../c/1.json"}, "b/1.json": {"$ref": "../c/1.json"}, "c/1.json": {"type": 7}}
    (fault,) = faults(files, policy("a@1", name="a"), policy("b@1", name="b"))
    assert fault.startswith("schemas/c/1.json: /type")


def test_identifiers_and_anchors_of_the_document_are_found_without_any_file() -> None:
    schema = {
        "$id": "https://example.com/t.json",
        "$ref": "https://example.com/inner.json",
        "$defs": {
            "inner": {"$id": "inner.json", "properties": {"a": {"$ref": "t.json#word"}, "b": {"$ref": "#here"}},
                      "$defs": {"b": {"$anchor": "here", "type": "number"}}},
            "word": {"$anchor": "word", "type": "string"},
        },
    }  # fmt: skip
    shelf = Shelf({"t/1.json": schema})
    rules = generation(shelf, policy()).scope_of("t").contract
    assert rules is not None
    assert shelf.asked == ["t/1.json"]
    assert not rules.failures(b'{"a":"x","b":1}')
    assert [failure.pointer for failure in rules.failures(b'{"a":1,"b":"x"}')] == ["/a", "/b"]


def test_up_to_draft_7_nothing_beside_a_reference_counts() -> None:
    schema = {"$ref": "#/definitions/a", "type": "string", "definitions": {"a": {"type": "number"}}}
    assert is_valid({"$schema": DRAFTS[3], **schema}, 1)
    assert not is_valid(schema, 1)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "items": {"$ref": "#/$defs/a"}},
    ],
)
def test_a_reference_that_leads_back_to_itself_is_a_fault(schema: Any) -> None:
    found = faults({"t/1.json": schema})
    assert all("leads back to itself" in fault for fault in found)


def test_references_through_the_payload_may_lead_back() -> None:
    schema = {"properties": {"below": {"$ref": "#"}}, "additionalProperties": False}
    assert is_valid(schema, {"below": {"below": {}}})
    assert not is_valid(schema, {"below": {"other": {}}})


def test_dynamic_references_stay_within_the_folder() -> None:
    base = {
        "$dynamicAnchor": "node",
        "type": "object",
        "properties": {"below": {"type": "array", "items": {"$dynamicRef": "#node"}}},
    }
    strict = {"$dynamicAnchor": "node", "$ref": "../base/1.json", "unevaluatedProperties": False}
    assert is_valid(strict, {"below": [{"below": []}]}, {"base/1.json": base})
    assert not is_valid(strict, {"below": [{"other": 1}]}, {"base/1.json": base})
    recursive = {
        "$schema": DRAFTS[4],
        "$recursiveAnchor": True,
        "properties": {"below": {"$recursiveRef": "#"}},
        "required": ["id"],
    }
    assert is_valid(recursive, {"id": 1, "below": {"id": 2}})
    assert not is_valid(recursive, {"id": 1, "below": {}})


def test_a_place_that_is_no_place_for_schemas_may_be_referred_to() -> None:
    schema = {"$ref": "#/components/a", "components": {"a": {"items": {"type": "integer"}}}}
    assert is_valid(schema, [1])
    assert not is_valid(schema, ["x"])


def test_references_do_not_multiply_files() -> None:
    files = {f"t/{n}.json": {"$ref": f"{n + 1}.json"} for n in range(1, 1100)}
    assert any("more than 1000 schema files" in fault for fault in faults(files))


BROKEN = [
    {"type": "nonsense"},
    {"properties": 5},
    {"required": 5},
    {"required": [1]},
    {"enum": 5},
    {"items": {"$ref": 5}},
    {"allOf": {}},
    {"$defs": {"a": {"pattern": "("}}},
    {"dependentRequired": {"a": 1}},
    {"$id": 5},
    {"minLength": -1},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_what_was_checked_elsewhere_and_has_changed_since_is_refused_all_the_same(broken: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        generation({"t/1.json": broken}, policy(), checked=True)
    assert str(caught.value).startswith("schemas/t/1.json: ")


def test_what_was_checked_elsewhere_means_the_same() -> None:
    schema = {"$ref": "2.json#/$defs/a"}
    files = {"t/1.json": schema, "t/2.json": {"$defs": {"a": {"type": "integer"}}}}
    judging = generation(files, policy(), checked=True).scope_of("t").contract
    assert judging is not None
    assert not judging.failures(b"1")
    assert judging.failures(b'"x"')


KEYWORDS = st.sampled_from(
    ["type", "properties", "items", "required", "enum", "const", "$ref", "$id", "id", "$defs", "allOf", "not",
     "pattern", "dependencies", "multipleOf", "$dynamicRef", "$anchor", "uniqueItems", "format", "patternProperties",
     "$schema"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["string", "#", "#/$defs", "a", "(", *KNOWN]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, VALUES, max_size=5), st.booleans())
def test_whatever_is_in_a_schema_it_can_be_used_or_is_told_as_a_fault(schema: Any, checked: bool) -> None:
    with suppress(ConfigError):
        generation({"t/1.json": schema}, policy(), checked=checked)


def test_the_library_of_schemas_is_imported_only_for_policies() -> None:
    import subprocess  # noqa: PLC0415 - only here
    import sys  # noqa: PLC0415 - only here

    code = (
        "import sys; from mqttproxy.config.model import ProxyConfig; "
        "from mqttproxy.validation import build_generation; "
        "build_generation(1, ProxyConfig()); assert 'jsonschema' not in sys.modules; "
        "assert 'jsonschema_rs' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
