"""Whose messages a policy is for: by who they are, and by their share."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.model import WhenSettings
from mqttproxy.validation import Identity
from mqttproxy.validation.selector import make_selector, place_of

DEVICE = Identity("tx9-2.1-0001", "plant-1", "192.0.2.1", "tls", {"model": "tx9", "firmware": "2.1"})
NOBODY = Identity("", None, "a", "upstream:a")


def why_not(identity: Identity = DEVICE, **when: Any) -> str | None:
    selector = make_selector(WhenSettings(**when))
    assert selector is not None
    return selector.why_not(identity)


def test_settings_that_ask_nothing_are_no_selector() -> None:
    assert make_selector(WhenSettings()) is None


@pytest.mark.parametrize(
    "when",
    [
        {"client_id": ("tx9-*",)},
        {"client_id": ("a", "*-0001")},
        {"username": ("plant-?",)},
        {"listener": ("tls",)},
        {"attributes": (("model", ("tx*",)),)},
        {"attributes": (("firmware", (">=2.1, <3",)), ("model", ("a", "tx9")))},
        {"client_id": ("*",), "username": ("*",), "listener": ("*",), "attributes": (("model", ("*",)),)},
    ],
)
def test_a_sender_that_fits_everything_is_meant(when: Any) -> None:
    assert why_not(**when) is None


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"client_id": ("a*", "b")}, "client_id 'tx9-2.1-0001' is not 'a*' or 'b'"),
        ({"username": ("plant-2",)}, "username 'plant-1' is not 'plant-2'"),
        ({"listener": ("tcp",), "username": ("*",)}, "listener 'tls' is not 'tcp'"),
        ({"attributes": (("firmware", (">=2.2",)),)}, "attribute firmware '2.1' is not '>=2.2'"),
        ({"attributes": (("site", ("*",)),)}, "the sender has no attribute site"),
    ],
)
def test_what_does_not_fit_is_told(when: Any, words: str) -> None:
    assert why_not(**when) == words


def test_who_has_no_user_name_fits_none() -> None:
    assert why_not(NOBODY, username=("*",)) == "the sender has no username"
    assert why_not(NOBODY, listener=("upstream:*",)) is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_device_has_its_place_for_ever(policy: str, client_id: str) -> None:
    assert 0 <= place_of(policy, client_id) < 100
    assert place_of(policy, client_id) == place_of(policy, client_id)


def test_places_do_not_change_with_a_release() -> None:
    assert [round(place_of("p", f"dev-{number}"), 3) for number in range(3)] == [39.109, 48.774, 22.119]


def test_shares_are_what_they_say_and_grow_without_losing_anybody() -> None:
    places = [place_of("p", f"dev-{number}") for number in range(10_000)]
    for percent in (1, 10, 50, 90):
        assert abs(sum(place < percent for place in places) / 100 - percent) < 1.5
    assert places != [place_of("q", f"dev-{number}") for number in range(10_000)]
