"""Settings of rates: how windows are written, and what is said of those that are not."""

import pytest

from mqttproxy.config.limiting import parse_windows
from tests.config.documents import faults, parse

RATE = '[[limits.rates]]\nname = "r"\nper = "client"\nwhat = "messages"\nwindows = "10:1,300:60"\n'
WORDS = 'expected amount:seconds of each window, such as "10:1,300:60" or "1MiB:1s", at most 30 days'


def test_windows_are_amounts_and_seconds_with_units_or_without() -> None:
    assert parse_windows("10:1,300:60") == ((10, 1.0), (300, 60.0))
    assert parse_windows("1MiB:1s, 2:0.5") == ((1048576, 1.0), (2, 0.5))


@pytest.mark.parametrize("text", ["", "10", "10:", ":1", "0:1", "1:0", "1:1,", "-1:1", "1:31d", "1:1e9", "1.5:1"])
def test_what_is_no_window_is_told(text: str) -> None:
    assert parse_windows(text) is None
    assert faults(RATE.replace("10:1,300:60", text)) == [f'limits.rates[0].windows: found "{text}", {WORDS}']


def test_a_rule_pauses_unless_it_says_otherwise() -> None:
    (settings,) = parse(RATE).limits.rates
    assert settings.when_exceeded == "pause"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RATE + RATE, 'limits.rates[1].name: found "r", expected a name of its own; limits.rates[0] has it'),
        (
            RATE + '[[policies]]\nname = "r"\ntopics = ["t"]\nformat = "raw"\n',
            'limits.rates[0].name: found "r", expected a name of its own; policies[0] has it',
        ),
        (
            RATE.replace('"client"', '"client id"'),
            'limits.rates[0].per: found "client id", expected client, username, address, listener, or the name of an',
        ),
        (
            RATE.replace('"messages"', '"packets"'),
            'found "packets", expected one of "connections", "messages"',
        ),
    ],
)
def test_faults_are_told(text: str, expected: str) -> None:
    assert any(expected in fault for fault in faults(text))


def test_there_are_at_most_64() -> None:
    many = "".join(RATE.replace('"r"', f'"{number}"') for number in range(65))
    assert faults(many) == ["limits.rates: found 65 rules, expected at most 64"]
