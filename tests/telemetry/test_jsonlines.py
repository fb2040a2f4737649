import json

import pytest
from hypothesis import given, strategies as st

from mqttproxy.telemetry.jsonlines import encode_line

TEXT = st.text(st.characters(codec=None, exclude_categories=[]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT | st.integers(), inner),
    max_leaves=20,
)
ACTED_ON = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066, 0xFEFF, 0xE0041]


@given(VALUES)
def test_any_value_gives_one_line_of_json_that_no_terminal_acts_on(value: object) -> None:
    line = encode_line(value)
    json.loads(line)
    assert not any(chr(code) in line.decode() for code in ACTED_ON)


@pytest.mark.parametrize("code", ACTED_ON)
def test_a_character_that_is_acted_on_is_escaped_and_comes_back(code: int) -> None:
    text = f"a{chr(code)}b"
    line = encode_line({"topic": text})
    assert chr(code).encode() not in line
    assert json.loads(line) == {"topic": text}


def test_ordinary_text_stands_as_it_is() -> None:
    assert encode_line({"topic": "größe/温度"}) == '{"topic":"größe/温度"}'.encode()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a\ud800", "a\\ud800"),
        (b"caf\xc3\xa9\xff", "café\\xff"),
        (bytearray(b"x"), "x"),
        (2**70, str(2**70)),
        (float("nan"), None),
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        ({"\udfff": "\ud800"}, {"\\udfff": "\\ud800"}),
        ({3}, "{3}"),
    ],
)
def test_what_json_cannot_say_is_told_as_text(value: object, told: object) -> None:
    assert json.loads(encode_line([value])) == [told]


def test_a_value_that_holds_itself_has_an_end() -> None:
    endless: list[object] = []
    endless.append(endless)
    json.loads(encode_line(endless))
