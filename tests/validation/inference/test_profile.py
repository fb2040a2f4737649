from mqttproxy.validation.inference import Bounds, Profile
from mqttproxy.validation.words import Json


def profile_of(*values: Json, bounds: Bounds | None = None, devices: int = 1) -> Profile:
    profile = Profile(bounds or Bounds())
    for number, value in enumerate(values):
        profile.add(value, f"d{number % devices}")
    return profile


def test_values_are_counted_by_type() -> None:
    profile = profile_of(None, True, 1, 1.0, "x", [], {}, False)
    assert profile.types == {
        "null": 1, "boolean": 2, "integer": 1, "number": 1, "string": 1, "array": 1, "object": 1,
    }  # fmt: skip
    assert (profile.count, profile.low, profile.high) == (8, 1, 1)


def test_members_and_items_have_profiles_of_their_own() -> None:
    profile = profile_of({"a": 1, "b": [1, "x"]}, {"a": 5})
    assert (profile.members["a"].low, profile.members["a"].high) == (1, 5)
    assert profile.members["b"].count == 1
    items = profile.members["b"].items
    assert items is not None
    assert items.types == {"integer": 1, "string": 1}


def test_texts_are_told_apart_while_they_are_few_and_short() -> None:
    bounds = Bounds(texts=2)
    few = profile_of("a", "b", "a", devices=2, bounds=bounds).texts
    assert few is not None
    assert {text: (seen.count, seen.is_shared) for text, seen in few.items()} == {"a": (2, False), "b": (1, False)}
    assert profile_of("a", "b", "c", bounds=bounds).texts is None
    assert profile_of("x" * 65).texts is None
    shared = profile_of("a", "a", devices=2).texts
    assert shared is not None
    assert shared["a"].is_shared


def test_a_format_is_one_that_all_texts_have() -> None:
    assert profile_of("192.0.2.1", "192.0.2.7").formats == ("ipv4",)
    assert profile_of("192.0.2.1", "somewhere").formats == ()
    assert "date-time" in profile_of("2026-11-28T09:00:00Z").formats
    assert profile_of("9c7e2a3e-63c0-4f4f-8a4f-5a2f4f1f9a10").formats[0] == "uuid"


def test_what_is_too_deep_too_wide_or_too_much_is_left_open() -> None:
    deep = profile_of({"a": {"b": {"c": 1}}}, bounds=Bounds(depth=2))
    assert deep.members["a"].members["b"].is_open
    assert not deep.members["a"].members["b"].members
    wide = profile_of({str(number): 1 for number in range(10)}, bounds=Bounds(members=4))
    assert (len(wide.members), wide.has_more_members) == (4, True)
    bounds = Bounds(places=3)
    many = profile_of({"a": 1, "b": 1, "c": [1], "d": 1}, bounds=bounds)
    assert (list(many.members), many.is_open, bounds.places) == (["a", "b", "c"], True, 0)
    assert many.members["c"].items is None


def test_devices_are_told_apart_up_to_a_bound() -> None:
    assert len(profile_of(*range(50), devices=30, bounds=Bounds(devices=10)).devices) == 10
