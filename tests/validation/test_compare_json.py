"""JSON Schemas compared: the words, and that no sampled instance proves a yes wrong."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.comparing import compare
from mqttproxy.validation.registry import Registry
from tests.validation.instances import instances_of
from tests.validation.schema_shelf import Shelf, contract
from tests.validation.test_comparing import answers, words
from tests.validation.test_schema_oracle import SCHEMAS

BASE: Any = {"type": "object", "required": ["c"], "properties": {"c": {"type": "number"}, "unit": {"type": "string"}}}
BELOW: Any = {"type": "array", "items": {"$ref": "#"}}
NODE: Any = {"type": "object", "properties": {"n": {"type": "string"}, "below": BELOW}}


def with_property(name: str, schema: Any) -> Any:
    return {**BASE, "properties": {**BASE["properties"], name: schema}}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({**BASE, "required": ["c", "unit"]}, "v2 requires /unit, which v1 devices need not send"),
        ({**BASE, "required": ["c", "at"]}, "v2 requires /at, which v1 devices do not send"),
        (with_property("c", {"type": "integer"}), "v2 wants integer at /c, v1 devices may send number"),
        (with_property("c", {"type": "number", "maximum": 9}), "v2 allows at most 9 at /c, v1 allows any"),
        (with_property("c", {"exclusiveMinimum": 0}), "v2 allows only what is above 0 at /c, v1 allows any"),
        (with_property("unit", {"enum": ["C"]}), "v2 takes only 'C' at /unit, v1 devices may send anything else"),
        (with_property("unit", {"format": "date"}), "v2 wants format 'date' at /unit, v1 does not promise it"),
        (
            {**BASE, "properties": {"c": {"type": "number"}}, "additionalProperties": False},
            "v2 does not allow /unit, which v1 devices may send",
        ),
        (
            with_property("x", {"type": "integer"}),
            (
                "v2 says what /x is, v1 leaves it open, so devices may send anything there; "
                'undeclared = "nothing" in subject.toml says that they do not'
            ),
        ),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_difference_is_told_in_plain_words(new: Any, expected: str) -> None:
    assert expected in words(BASE, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BASE, BASE),
        (BASE, {**BASE, "required": []}),
        (BASE, {**BASE, "title": "T"}),
        ({**BASE, "additionalProperties": False}, with_property("x", {"type": "integer"})),
        (with_property("k", {"enum": [1, 2]}), with_property("k", {"enum": [2, 1.0, 3]})),
        (NODE, {**NODE, "properties": {**NODE["properties"], "n": {"type": ["string", "null"]}}}),
        ({"$ref": "#/$defs/a", "$defs": {"a": BASE}}, BASE),
        (BASE, {"allOf": [BASE, {"required": ["c"]}]}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_takes_all_that_the_old_one_allowed_is_compatible(old: Any, new: Any) -> None:
    assert words(old, new) == []


def test_devices_that_send_only_what_is_declared_may_get_new_members_described() -> None:
    new = with_property("x", {"type": "object", "properties": {"y": {"type": "integer"}}})
    assert words(BASE, new, toml='undeclared = "nothing"') == []
    assert words(BASE, {**BASE, "additionalProperties": False}, toml='undeclared = "nothing"') == []
    assert words(BASE, {**new, "required": ["x"]}, toml='undeclared = "nothing"') != []


def test_deep_differences_have_deep_pointers() -> None:
    old = {"properties": {"a": {"type": "array", "items": BASE}}}
    new = {"properties": {"a": {"type": "array", "items": {**BASE, "required": ["c", "unit"]}}}}
    assert words(old, new) == ["v2 requires /a/*/unit, which v1 devices need not send"]
    changed = {**NODE, "required": ["n"]}
    assert words(NODE, changed)[0] == "v2 requires /n, which v1 devices need not send"


def test_what_cannot_be_decided_counts_as_no() -> None:
    old, new = {"type": "string"}, {"type": "string", "not": {"pattern": "^(a|b)*c"}}
    assert words(old, new) == ["it cannot be shown that v2 takes all that v1 allows"]


def test_references_to_other_files_are_followed() -> None:

    files = {
        "c/1.json": {"type": "number"},
        "c/2.json": {"type": "number", "maximum": 5},
        "t/1.json": {"properties": {"a": {"$ref": "../c/1.json"}}},
        "t/2.json": {"properties": {"a": {"$ref": "../c/2.json"}}},
    }
    registry = Registry(Shelf(files), Path("schemas"))
    first, second = registry.subject("t").versions
    backward, forward = compare(registry, first, second, "FULL", PayloadSettings())
    assert [one.words for one in backward.differences] == ["v2 allows at most 5 at /a, v1 allows any"]
    assert forward.differences == ()


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Return a schema and one like it: a keyword dropped, added, or taken from another schema."""
    old = draw(SCHEMAS)
    other = draw(SCHEMAS)
    new = dict(old)
    for name in draw(st.lists(st.sampled_from(sorted({*old, *other, "title"})), max_size=2)):
        if name in other and draw(st.booleans()):
            new[name] = other[name]
        else:
            new.pop(name, None)
    return (old, new) if draw(st.booleans()) else (new, old)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs(), st.data())
def test_no_sampled_instance_of_the_old_version_is_refused_by_a_new_one_that_is_said_to_be_compatible(
    pair: tuple[Any, Any], data: st.DataObject
) -> None:
    old, new = pair
    (answer,) = answers(old, new, "BACKWARD")
    assume(not answer.differences)
    instances = instances_of(old)
    assume(not instances.is_empty)
    found = data.draw(st.lists(instances, min_size=1, max_size=5))
    judge, writer = contract(new), contract(old)
    for instance in found:
        payload = orjson.dumps(instance, option=orjson.OPT_NON_STR_KEYS) if _plain(instance) else b""
        if payload and not writer.failures(payload):
            assert not judge.failures(payload), (old, new, instance)


def _plain(instance: Any) -> bool:
    try:
        orjson.dumps(instance)
    except TypeError:
        return False
    return True


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS)
def test_a_schema_is_compatible_with_itself_or_it_is_said_that_nothing_can_be_shown(schema: Any) -> None:
    assert all("cannot be shown" in one or "v1" in one for one in words(schema, schema))
