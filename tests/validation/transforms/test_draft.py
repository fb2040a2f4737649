"""A draft leaves the document it was made from alone, and its work has a bound."""

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from mqttproxy.validation.transforms import TransformError
from mqttproxy.validation.transforms.draft import MOST_PLACES, Draft, path_of
from tests.validation.transforms.steps import CONTEXT, fault, steps, transform

NAMES = st.sampled_from(["a", "b", "c", "0", "1", "-", "*", "a/b", "~"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "0", "a/b", "~"]), inner, max_size=3)
    ),
    max_leaves=12,
)
POINTERS = st.lists(NAMES, min_size=1, max_size=3).map(
    lambda parts: "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
)


@st.composite
def any_step(draw: st.DrawFn) -> str:
    """Draw a step of which nobody knows whether it can be done."""
    path, missing = draw(POINTERS), draw(st.sampled_from(["fail", "skip"]))
    name = draw(st.sampled_from(["x", "a", "b"]))
    return (
        draw(
            st.sampled_from(
                [
                    f'op = "set", path = "{path}", value = {{ x = [1] }}',
                    f'op = "remove", path = "{path}"',
                    f'op = "rename", from = "{path}/a", to = "{path}/{name}1"',
                    f'op = "move", from = "/a", to = "/{name}/{name}"'
                    if name != "a"
                    else 'op = "move", from = "/a/b", to = "/c"',
                    f'op = "cast", path = "{path}", type = "string"',
                    f'op = "unit", path = "{path}", from = "F", to = "C"',
                    f'op = "mask", path = "{path}", how = "hash"',
                    f'op = "mask", path = "{path}", how = "truncate", length = 1',
                    f'op = "mask", path = "{path}", how = "drop"',
                    f'op = "copy_topic", from = "{{line}}", to = "{path}"',
                ]
            )
        )
        + f', if_missing = "{missing}"'
    )


@given(document=JSON, written=st.lists(any_step(), min_size=1, max_size=4))
def test_the_document_stays_as_it_is_whatever_is_done(document: Any, written: list[str]) -> None:
    before = copy.deepcopy(document)
    made, told = transform(*written), True
    try:
        result = made.apply(document, CONTEXT)
    except TransformError as error:
        result = None
        (keyword,) = {failure.keyword for failure in error.failures}
        told = keyword == "transform"
    else:
        # What is ours may be changed in place, with the same result.
        assert orjson.dumps(made.run(copy.deepcopy(document), CONTEXT, is_ours=True).document) == orjson.dumps(result)
    assert told
    assert document == before
    assert orjson.dumps(document) == orjson.dumps(before)


@given(document=st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON, min_size=1))
def test_a_rename_there_and_back_is_the_identity(document: dict[str, Any]) -> None:
    name = next(iter(document))
    there_and_back = transform(
        f'op = "rename", from = "/{name}", to = "/new"', f'op = "rename", from = "/new", to = "/{name}"'
    )
    result = there_and_back.apply(document, CONTEXT)
    assert orjson.dumps(result) == orjson.dumps(document)


@given(document=st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON, min_size=1))
def test_a_move_there_and_back_is_the_identity(document: dict[str, Any]) -> None:
    name = next(iter(document))
    there_and_back = transform(
        f'op = "move", from = "/{name}", to = "/new/deep"',
        f'op = "move", from = "/new/deep", to = "/{name}"',
        'op = "remove", path = "/new"',
    )
    assert there_and_back.apply(document, CONTEXT) == document


def test_only_what_is_changed_is_copied() -> None:
    document = {"a": {"x": 1}, "b": {"y": [1]}}
    result = transform('op = "set", path = "/a/x", value = 2').apply(document, CONTEXT)
    assert result == {"a": {"x": 2}, "b": {"y": [1]}}
    assert result["b"] is document["b"]


def test_the_work_has_a_bound() -> None:
    document = {"a": [0] * (MOST_PLACES // 4)}
    step = 'op = "cast", path = "/a/*", type = "string"'
    assert transform(step, step, step).apply(document, CONTEXT)["a"][0] == "0"
    assert fault(document, *[step] * 5) == ("", f"the steps touch more than {MOST_PLACES} values")


def test_what_is_put_in_has_a_bound() -> None:
    document: Any = {"a": [{} for _ in range(2000)]}
    step = f'op = "set", path = "/a/*/x", value = "{"x" * 1000}"'
    assert fault(document, step) == ("", "the result would be too large")


@pytest.mark.parametrize(
    ("pointer", "hops"), [("", []), ("/0", [0]), ("/01", [-1]), ("/-1", [-1]), ("/" + "9" * 12, [-1]), ("/٣", [-1])]
)
def test_only_plain_numbers_are_places_in_an_array(pointer: str, hops: list[int]) -> None:
    assert [hop.index for hop in path_of(pointer)] == hops


def test_places_know_their_pointers() -> None:
    draft = Draft({"a/b": [{"~": 1}]}, 0)
    (place,), missing = draft.find(draft.top, path_of("/a~1b/*/~0"))
    assert (place.pointer, missing) == ("/a~1b/0/~0", None)
    assert draft.top.pointer == ""


def test_steps_are_read_from_the_file() -> None:
    assert [step.op for step in steps('op = "remove", path = "/a"', 'op = "set_topic", to = "x"')] == [
        "remove",
        "set_topic",
    ]
