"""Texts with parts of a topic in them."""

import pytest

from mqttproxy.config.templates import LONGEST_TEMPLATE, Capture, Level, Value, parse_template


def test_a_template_has_texts_captures_levels_and_values() -> None:
    parts = ("x-", Capture("line"), "/", Level(2), Level(0), Value("/a/0"))
    assert parse_template("x-{line}/{2}{0}{/a/0}") == parts


@pytest.mark.parametrize(
    "text",
    ["", "{", "}", "{}", "{a", "a}", "{{a}}", "{a b}", "{01}", "{-1}", "{999999}", "{/a/*}", "{/~}", 1, None, "\0",
     "x" * (LONGEST_TEMPLATE + 1)],
)  # fmt: skip
def test_what_is_no_template_is_none(text: object) -> None:
    assert parse_template(text) is None
