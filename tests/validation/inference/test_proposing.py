from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, strategies as st

from mqttproxy.validation.inference import Bounds, Profile, propose, wilson
from mqttproxy.validation.words import Json

MANY = 100


def profile_of(values: list[Any], *, devices: int = 4, bounds: Bounds | None = None) -> Profile:
    profile = Profile(bounds or Bounds())
    for number, value in enumerate(values):
        profile.add(value, f"d{number % devices}")
    return profile


def proposed(values: list[Any], **how: Any) -> dict[str, Any]:
    schema = propose(profile_of(values), **how).schema
    assert schema.pop("$schema") == "https://json-schema.org/draft/2020-12/schema"
    return schema


def test_a_member_that_was_always_there_is_required_and_another_is_not() -> None:
    schema = proposed([{"a": True, **({"b": True} if number % 3 else {})} for number in range(MANY)])
    assert schema == {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}},
        "required": ["a"],
    }


def test_few_messages_are_no_ground_to_ask_for_anything() -> None:
    schema = proposed([{"a": 5, "b": "x"}, {"a": 7, "b": "x"}] * 10)
    assert schema == {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
    assert "required" in proposed([{"a": 5}] * 20, sure=0.8)


@pytest.mark.parametrize(
    ("low", "high", "minimum", "maximum"),
    [
        (18.3, 24.9, 18, 25),
        (-3.14, 87.2, -10, 90),
        (0.0012, 0.0049, 0.001, 0.005),
        (3, 97, 0, 100),
        (0, 3, 0, 3),
        (-1234, 4321, -2000, 5000),
        (1_700_000_000, 1_700_000_999, 1_700_000_000, 1_700_001_000),
    ],
)
def test_a_range_is_a_little_wider_than_what_was_seen(low: float, high: float, minimum: float, maximum: float) -> None:
    schema = proposed([low, high] * MANY)
    assert (schema["minimum"], schema["maximum"]) == (minimum, maximum)
    assert schema["type"] == ("integer" if isinstance(low, int) else "number")


def test_what_never_changes_has_no_range() -> None:
    assert proposed([5] * MANY) == {"type": "integer"}


def test_few_texts_that_several_devices_send_are_all_there_are() -> None:
    assert proposed(["on", "off", "on", "on", "off"] * MANY) == {"type": "string", "enum": ["off", "on"]}
    assert proposed(["on", None, "off"] * MANY) == {"type": ["string", "null"], "enum": ["off", "on", None]}


def test_texts_that_tell_one_device_from_another_are_not() -> None:
    assert proposed(["d0", "d1", "d2", "d3"] * MANY) == {"type": "string"}


def test_texts_that_were_rarely_sent_may_not_be_all() -> None:
    assert proposed([f"t{number % 11}" for number in range(MANY)]) == {"type": "string"}


def test_formats_are_proposed() -> None:
    assert proposed([f"192.0.2.{number}" for number in range(MANY)]) == {"type": "string", "format": "ipv4"}
    times = [f"2026-11-28T09:00:{number % 60:02}.{number:03}Z" for number in range(MANY)]
    assert proposed(times) == {"type": "string", "format": "date-time"}


def test_arrays_and_objects_within_each_other_are_followed() -> None:
    schema = proposed([{"readings": [{"c": number, "at": "x"}, {"c": number + 1}]} for number in range(MANY)])
    assert schema["properties"]["readings"] == {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "c": {"type": "integer", "minimum": 0, "maximum": 100},
                "at": {"type": "string", "enum": ["x"]},
            },
            "required": ["c"],
        },
    }


def test_a_place_of_several_types_has_them_all() -> None:
    schema = proposed([1, 2.5, "x", None, [True], {"a": 1}] * MANY)
    assert schema["type"] == ["object", "array", "string", "number", "null"]
    assert (schema["minimum"], schema["maximum"]) == (1, 3)
    assert "enum" not in schema


def test_what_masks_have_changed_is_left_open() -> None:
    values = [{"who": "***", "n": [{"name": "***"}]} for _ in range(MANY)]
    schema = proposed(values, left_open=[("who",), ("n", "*", "name")])
    assert schema["properties"]["who"] == {}
    assert schema["required"] == ["n"]
    assert schema["properties"]["n"]["items"] == {"type": "object", "properties": {"name": {}}}


def test_each_place_is_told_with_how_sure_it_is() -> None:
    values = [{"a": number, **({"b": "x"} if number % 4 == 0 else {})} for number in range(MANY)]
    places = {place.pointer: place for place in propose(profile_of(values)).places}
    assert list(places) == ["", "/a", "/b"]
    whole, a, b = places.values()
    assert (whole.count, whole.share, whole.required, whole.devices) == (100, 1.0, False, 4)
    assert (a.share, a.required, a.found) == (1.0, True, ("from 0 to 99",))
    assert a.at_least == pytest.approx(0.963, abs=0.001)
    assert (b.count, b.share, b.required, b.devices) == (25, 0.25, False, 1)
    assert b.at_least == pytest.approx(0.175, abs=0.001)
    assert b.found == ("1 different texts, the rarest 25 times",)


def test_what_is_left_open_is_told() -> None:
    values = [{str(number): {"a": {"b": 1}} for number in range(5)}]
    places = {place.pointer: place for place in propose(profile_of(values, bounds=Bounds(depth=2, members=3))).places}
    assert places[""].found == ("more than 3 different members: the others are left open",)
    assert "left open below" in places["/0/a"].found[0]


def test_wilsons_bound_is_that_of_the_books() -> None:
    assert wilson(0, 0) == 0.0
    assert wilson(0, 10) == pytest.approx(0.0, abs=1e-9)
    assert wilson(10, 10) == pytest.approx(0.722, abs=0.001)
    assert wilson(90, 100) == pytest.approx(0.826, abs=0.001)


TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.sampled_from(["on", "off", "192.0.2.1", "2026-11-28T09:00:00Z", "a@example.org", "09:00:00Z", "::1"]),
    st.uuids().map(str),
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False)
)
NAMES = st.sampled_from(["a", "b", "c~/", "*", ""])
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


@given(
    documents=st.lists(DOCUMENTS, min_size=1, max_size=12),
    times=st.integers(1, 12),
    sure=st.sampled_from([0.0, 0.5, 0.9]),
    bounds=st.builds(Bounds, depth=st.integers(0, 4), members=st.integers(1, 4), places=st.integers(0, 20)),
    left_open=st.lists(st.lists(NAMES, max_size=3), max_size=2),
)
def test_every_message_it_was_inferred_from_is_valid(
    documents: list[Json], times: int, sure: float, bounds: Bounds, left_open: list[list[str]]
) -> None:
    profile = profile_of(documents * times, devices=3, bounds=bounds)
    schema = propose(profile, sure=sure, left_open=left_open).schema
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    for document in documents:
        validator.validate(document)
