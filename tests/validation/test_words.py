from typing import Any

import pytest

from mqttproxy.validation.words import POINTER_LENGTH, listed, pointer, printable, shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        ("a\n", "'a\\n'"),
        ([1, 2], "an array of 2"),
        ({}, "an object of 0"),
        ("x" * 100, "'" + "x" * 59 + "…'"),
    ],
)
def test_a_value_is_shown_short(value: Any, expected: str) -> None:
    assert shown(value) == expected


def test_three_names_are_listed_and_the_rest_counted() -> None:
    assert listed(["a", "b", "c"]) == "'a', 'b', 'c'"
    assert listed(["a", "b", "c", "d", "e"]) == "'a', 'b', 'c' and 2 more"


def test_text_is_cut_and_escaped() -> None:
    assert printable("abc", 3) == "abc"
    assert printable("abcd", 3) == "ab…"
    assert printable("a\x00\u2028", 9) == "a\\u0000\\u2028"


def test_a_pointer_is_escaped_and_bounded() -> None:
    assert pointer(()) == ""
    assert pointer(("a/b", "~", 0, "")) == "/a~1b/~0/0/"
    assert len(pointer(["x" * 1000])) == POINTER_LENGTH
