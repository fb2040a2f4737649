import datetime as dt

import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.errors import ConfigError, Fault, shown


def test_a_fault_is_one_sentence() -> None:
    fault = Fault("proxy.toml", "listeners[0].bind", "1883", '"host:port" such as "0.0.0.0:1883"')
    assert str(fault) == 'proxy.toml: listeners[0].bind: found 1883, expected "host:port" such as "0.0.0.0:1883"'


def test_a_fault_of_the_whole_file_has_no_key() -> None:
    assert str(Fault("proxy.toml", "", "no such file", "a readable file")) == (
        "proxy.toml: found no such file, expected a readable file"
    )


def test_a_hint_comes_last() -> None:
    assert (
        str(Fault("f", "k", "an unknown key", hint='did you mean "l"?'))
        == 'f: k: found an unknown key; did you mean "l"?'
    )


def test_an_error_has_a_line_for_each_fault() -> None:
    error = ConfigError(Fault("f", key, "x") for key in "ab")
    assert error.faults == (Fault("f", "a", "x"), Fault("f", "b", "x"))
    assert str(error) == "f: a: found x\nf: b: found x"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (1.5, "1.5"),
        (10**100, "a very large number"),
        (["secret"], "a list"),
        ({"secret": 1}, "a table"),
        (dt.date(2026, 11, 21), "a date"),
        (dt.datetime(2026, 11, 21, tzinfo=dt.UTC), "a date"),
        (dt.time(1), "a time"),
        (None, "a NoneType"),
        ('say "hi"', r'"say \"hi\""'),
        ("größer", '"größer"'),
        ("a\nb\x1b[0m", r'"a\nb\u001b[0m"'),
        ("x" * 61, '"' + "x" * 60 + '…"'),
        ("temperature@1", '"temperature@1"'),
        ("mqtt://user:geheim@host", '"mqtt://***@host"'),
        ("mqtt://user:ge@he:im@host", '"mqtt://***@host"'),
        ("mqtt:/user:geheim@host", '"***@host"'),
    ],
)
def test_a_value_is_shown_short_printable_and_without_credentials(value: object, words: str) -> None:
    assert shown(value) == words


def test_a_number_that_python_does_not_write_is_shown() -> None:
    assert shown(16**4000) == "a very large number"


@given(st.text())
def test_any_text_is_shown_on_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()
