"""What a pattern reads of a text, and which patterns there are none of."""

import pytest

from mqttproxy.config.attribute_patterns import AttributePattern, parse_pattern


def read(pattern: str, text: str) -> dict[str, str] | None:
    found = parse_pattern(pattern)
    assert isinstance(found, AttributePattern), found
    return found.read(text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("{model}-{firmware}-+", "tx9-2.1-0001", {"model": "tx9", "firmware": "2.1"}),
        ("{model}-{firmware}-+", "tx9-2.1-00-01", {"model": "tx9", "firmware": "2.1"}),
        ("{model}-{firmware}-+", "tx9-2.1-", None),
        ("{model}-{firmware}-+", "tx9-2.1", None),
        ("{model}-{firmware}-+", "-2.1-1", None),
        ("dev/{site}", "dev/north", {"site": "north"}),
        ("dev/{site}", "dev/", None),
        ("dev/{site}", "DEV/north", None),
        ("{all}", "anything at all", {"all": "anything at all"}),
        ("{all}", "", None),
        ("{a}-x", "b-x-x", {"a": "b-x"}),
        ("{a}-x", "b-xx", None),
        ("+.{b}@acme", "u.v@acme", {"b": "v"}),
    ],
)
def test_each_name_takes_what_stands_up_to_the_text_behind_it(
    pattern: str, text: str, found: dict[str, str] | None
) -> None:
    assert read(pattern, text) == found


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "nothing in it has a {name}"),
        ("+-x", "nothing in it has a {name}"),
        ("{a}{b}", "there must be text between two names, or nobody knows where the first one ends"),
        ("{a}+", "there must be text between two names, or nobody knows where the first one ends"),
        ("{a}-{a}", "each {name} stands once"),
        ("{a b}-x", "{a b} is no name of letters, digits and underscores"),
        ("{}-x", "{ } is no name of letters, digits and underscores"),
        ("{a}-}", "a brace without its partner"),
        ("{{a}", "a brace without its partner"),
    ],
)
def test_a_pattern_that_is_none_is_told(pattern: str, words: str) -> None:
    assert parse_pattern(pattern) == words
