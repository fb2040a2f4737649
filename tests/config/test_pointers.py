"""JSON Pointers as RFC 6901 has them, and `*`."""

import pytest

from mqttproxy.config.pointers import LONGEST_POINTER, MOST_PARTS, parse_pointer, parts_of, shared


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("/", ("",)),
        ("/foo/0", ("foo", "0")),
        ("/a~1b", ("a/b",)),
        ("/m~0n", ("m~n",)),
        ("/~01", ("~1",)),
        ("/c%d", ("c%d",)),
        ("/a/*/b", ("a", "*", "b")),
        ("/ ", (" ",)),
    ],
)
def test_a_pointer_is_read_as_the_rfc_says(text: str, parts: tuple[str, ...]) -> None:
    assert parse_pointer(text) == parts == parts_of(text)


@pytest.mark.parametrize(
    "text", ["a", "a/b", "#/a", "/~", "/~2", "/\0", 1, None, "/" + "x" * LONGEST_POINTER, "/x" * (MOST_PARTS + 1)]
)
def test_what_is_no_pointer_is_none(text: object) -> None:
    assert parse_pointer(text) is None


def test_two_pointers_share_what_stands_up_to_the_last_star() -> None:
    assert shared(("a", "*", "b", "*", "c")) == ("a", "*", "b", "*")
    assert shared(("a", "b")) == ()
