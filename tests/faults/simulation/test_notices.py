"""The simulation is worth something: with a bug planted in the proxy, a few seeds are enough to find it."""

from collections.abc import Callable
from typing import Any

import pytest

from mqttproxy.downstream.device import Device
from mqttproxy.journal import Journal
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.spool import Exchanges
from mqttproxy.spool.feed import Feed
from tests.faults.simulation.play import play

SEEDS = 40


def acknowledge_at_once(_journal: Journal, call: Callable[[], None]) -> None:
    call()


def forget_packet_identifiers(_device: Device, _packet_id: int) -> None:
    pass


def go_live_too_soon(feed: Feed, items: Any, push: Any = Feed.push) -> None:
    push(feed, items)
    feed.is_lagging = False


@pytest.mark.parametrize(
    ("owner", "name", "bug", "first"),
    [
        (Journal, "when_durable", acknowledge_at_once, 0),
        (Device, "promise", forget_packet_identifiers, 80),  # it takes a kill between two commits
        (Exchanges, "release", SessionState.release, 0),
        (Feed, "push", go_live_too_soon, 0),
    ],
)
def test_a_planted_bug_is_found(
    owner: type, name: str, bug: object, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.faults.simulation.play.DRAINED", 60.0)
    monkeypatch.setattr(owner, name, bug)
    assert any(play(seed).faults for seed in range(first, first + SEEDS))
