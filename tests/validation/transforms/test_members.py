"""`set`, `remove`, `rename`, `move`: what they do, and what they refuse to do."""

from typing import Any

import pytest

from tests.validation.transforms.steps import applied, fault


@pytest.mark.parametrize(
    ("document", "step", "result"),
    [
        ({}, 'path = "/a", value = 1', {"a": 1}),
        ({"a": 0}, 'path = "/a", value = "x"', {"a": "x"}),
        ({"a": 0}, 'path = "/a", value = 1, if_present = "keep"', {"a": 0}),
        ({}, 'path = "/a/b/c", value = true', {"a": {"b": {"c": True}}}),
        ({"a": [1, 2]}, 'path = "/a/0", value = 9', {"a": [9, 2]}),
        ({"a": [1]}, 'path = "/a/1", value = 9', {"a": [1, 9]}),
        ({"a": [1]}, 'path = "/a/-", value = 9', {"a": [1, 9]}),
        ({"a": [1, 2]}, 'path = "/a/*", value = 9', {"a": [9, 9]}),
        ({"a": [{}, {"u": 1}]}, 'path = "/a/*/u", value = [1]', {"a": [{"u": [1]}, {"u": [1]}]}),
        ({"a": [{}]}, 'path = "/a/*/u/v", value = 1', {"a": [{"u": {"v": 1}}]}),
        ({"a": {"x": {}, "y": {}}}, 'path = "/a/*/u", value = 1', {"a": {"x": {"u": 1}, "y": {"u": 1}}}),
        ({"a": []}, 'path = "/a/*/u", value = 1', {"a": []}),
        ([], 'path = "", value = { a = 1 }', {"a": 1}),
        ({"a/b": {"~": 1}}, 'path = "/a~1b/~0", value = 2', {"a/b": {"~": 2}}),
    ],
)
def test_set_puts_a_value_where_it_belongs(document: Any, step: str, result: Any) -> None:
    assert applied(document, f'op = "set", {step}') == result


def test_every_place_gets_a_value_of_its_own() -> None:
    result = applied(
        {"a": [{}, {}]}, 'op = "set", path = "/a/*/u", value = [1]', 'op = "set", path = "/a/0/u/0", value = 2'
    )
    assert result == {"a": [{"u": [2]}, {"u": [1]}]}
    assert applied({}, 'op = "set", path = "/a", value = [1]') == {"a": [1]}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"a": 1}, "/a/b"),
        ({"a": [1]}, "/a/3"),
        ({"a": [1]}, "/a/x"),
        ({"a": [1]}, "/a/01"),
        ({"a": 1}, "/a/*"),
        ({"a": 1}, "/a/*/b"),
        ({"a": [1]}, "/a/-/b"),
    ],
)
def test_set_fails_where_there_is_no_place_or_is_skipped(document: Any, path: str) -> None:
    assert fault(document, f'op = "set", path = "{path}", value = 1') == (
        path.removesuffix("/b") if "*/b" in path or "-/b" in path else path,
        "nothing is there",
    )
    assert applied(document, f'op = "set", path = "{path}", value = 1, if_missing = "skip"') == document


@pytest.mark.parametrize(
    ("document", "path", "result"),
    [
        ({"a": 1, "b": 2}, "/a", {"b": 2}),
        ({"a": [1, 2, 3]}, "/a/1", {"a": [1, 3]}),
        ({"a": [1, 2, 3]}, "/a/*", {"a": []}),
        ({"a": {"x": 1, "y": 2}}, "/a/*", {"a": {}}),
        ({"a": [[1, 2], [3, 4]]}, "/a/*/0", {"a": [[2], [4]]}),
        ({"a": [[1, 2], [3, 4]]}, "/a/*/*", {"a": [[], []]}),
    ],
)
def test_remove_takes_out_what_is_named(document: Any, path: str, result: Any) -> None:
    assert applied(document, f'op = "remove", path = "{path}"') == result


def test_of_several_places_those_that_are_there_are_used_when_missing_ones_are_skipped() -> None:
    document = {"a": [{"x": 1}, {}, {"x": 3, "y": 0}]}
    assert fault(document, 'op = "remove", path = "/a/*/x"') == ("/a/1/x", "nothing is there")
    assert applied(document, 'op = "remove", path = "/a/*/x", if_missing = "skip"') == {"a": [{}, {}, {"y": 0}]}


def test_a_renamed_member_keeps_its_place_and_value() -> None:
    result = applied({"a": 1, "b": {"c": 2}, "d": 3}, 'op = "rename", from = "/b", to = "/x"')
    assert list(result.items()) == [("a", 1), ("x", {"c": 2}), ("d", 3)]
    assert applied({"a": [{"x": 1}]}, 'op = "rename", from = "/a/*/x", to = "/a/*/y"') == {"a": [{"y": 1}]}


def test_a_rename_onto_another_member_fails_unless_it_may_replace_it() -> None:
    step = 'op = "rename", from = "/a", to = "/b"'
    assert fault({"a": 1, "b": 2}, step) == ("/b", "there is a value already")
    assert applied({"b": 2, "a": 1}, f'{step}, if_present = "replace"') == {"b": 1}


@pytest.mark.parametrize(("document", "pointer"), [({"b": 1}, "/a"), ([1], "/a"), (7, "/a")])
def test_a_rename_of_nothing_fails_or_is_skipped(document: Any, pointer: str) -> None:
    assert fault(document, 'op = "rename", from = "/a", to = "/c"') == (pointer, "nothing is there")
    assert applied(document, 'op = "rename", from = "/a", to = "/c", if_missing = "skip"') == document
    assert applied({}, 'op = "rename", from = "/a/b", to = "/a/c", if_missing = "skip"') == {}


@pytest.mark.parametrize(
    ("document", "step", "result"),
    [
        ({"a": 1}, 'from = "/a", to = "/b/c"', {"b": {"c": 1}}),
        ({"a": {"b": 1}}, 'from = "/a/b", to = "/b"', {"a": {}, "b": 1}),
        ({"a": {"b": 1}}, 'from = "/a/b", to = "/a", if_present = "replace"', {"a": 1}),
        ({"a": [1, 2]}, 'from = "/a/0", to = "/first"', {"a": [2], "first": 1}),
        ({"a": 1, "b": [2]}, 'from = "/a", to = "/b/-"', {"b": [2, 1]}),
        ({"a": [{"x": 1}, {"x": 2}]}, 'from = "/a/*/x", to = "/a/*/y/z"', {"a": [{"y": {"z": 1}}, {"y": {"z": 2}}]}),
    ],
)
def test_move_takes_a_value_elsewhere(document: Any, step: str, result: Any) -> None:
    assert applied(document, f'op = "move", {step}') == result


def test_a_move_onto_a_value_fails() -> None:
    assert fault({"a": 1, "b": 2}, 'op = "move", from = "/a", to = "/b"') == ("/b", "there is a value already")


@pytest.mark.parametrize(
    ("document", "pointer"),
    [({}, "/a"), ({"a": 1, "b": 2}, "/b/c"), ({"a": [1, 2], "b": 2}, "/b/c")],
)
def test_a_move_from_or_to_nowhere_fails_or_leaves_all_as_it_is(document: Any, pointer: str) -> None:
    source = "/a/0" if isinstance(document.get("a"), list) else "/a"
    step = f'op = "move", from = "{source}", to = "/b/c"'
    assert fault(document, step) == (pointer, "nothing is there")
    assert applied(document, f'{step}, if_missing = "skip"') == document
