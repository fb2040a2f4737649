"""Texts with names in them: taken apart before anything is put in (BAD-INPUT D1)."""

import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.topic_templates import (
    TopicParts,
    UnsafeValueError,
    fill_text,
    parse_text,
    parse_topic,
    safe_value,
)


def filled(template: str, **values: str) -> str | None:
    parsed = parse_topic(template)
    assert isinstance(parsed, TopicParts)
    return parsed.fill(values.get)


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("a/b", "a/b"),
        ("${x}", "1"),
        ("a/${x}/#", "a/1/#"),
        ("a/p-${x}-${y}/+", "a/p-1-2/+"),
        ("${x}/${x}", "1/1"),
        ("a//${x}", "a//1"),
        ("a/${z}", None),
        ("$SYS/${x}", "$SYS/1"),
        ("a/$x/$$", "a/$x/$$"),
    ],
)
def test_names_are_filled_in(template: str, topic: str | None) -> None:
    assert filled(template, x="1", y="2") == topic


@pytest.mark.parametrize(
    "template",
    ["", "a/${", "${}", "${a-b}", "${a/b}", "a/${x}+", "a/${x}#", "#/a", "a/#/b", "$share/g/a", "a\0", "${x}y+/b"],
)
def test_what_is_no_template_is_told_in_words(template: str) -> None:
    assert isinstance(parse_topic(template), str)


@pytest.mark.parametrize("value", ["", "+", "#", "a/b", "a+", "\0", "\x7f", "\u2028"])
def test_D1_a_value_that_means_more_than_its_text_is_refused(value: str) -> None:
    assert not safe_value(value)
    with pytest.raises(UnsafeValueError) as raised:
        filled("a/${x}", x=value)
    assert raised.value.name == "x"


def test_D1_a_value_cannot_make_a_topic_one_of_servers() -> None:
    with pytest.raises(UnsafeValueError):
        filled("${x}/a", x="$SYS")
    assert filled("a/${x}", x="$SYS") == "a/$SYS"
    assert filled("p${x}", x="$SYS") == "p$SYS"


@given(st.text(max_size=8), st.text(max_size=8))
def test_D1_whatever_is_filled_in_levels_stay_as_they_were_written(one: str, other: str) -> None:
    try:
        topic = filled("a/${x}/p${y}/#", x=one, y=other)
    except UnsafeValueError:
        return
    assert topic is not None
    assert topic.split("/") == ["a", one, f"p{other}", "#"]
    assert "+" not in topic
    assert topic.count("#") == 1


def test_texts_are_filled_by_a_rule_of_their_own() -> None:
    text = parse_text("${username}-*")
    assert not isinstance(text, str)
    assert fill_text(text, {"username": "ada"}.get, lambda _: True) == "ada-*"
    nothing: dict[str, str] = {}
    assert fill_text(text, nothing.get, lambda _: True) is None
    with pytest.raises(UnsafeValueError):
        fill_text(text, {"username": "*"}.get, lambda value: "*" not in value)
