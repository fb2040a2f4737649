"""A configuration on trial in a real process that is killed with -9: what is in force then, and what is in the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.cli.running import ask_running
from tests.harness import RunningProxy, start_proxy, write_settings
from tests.waiting import wait_until

TRIED = '\n[[listeners]]\nname = "tried"\nbind = "127.0.0.1:0"\n'


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    proxy = start_proxy(write_settings(tmp_path))
    assert proxy.ready
    yield proxy
    proxy.kill()


def apply(proxy: RunningProxy, seconds: float) -> dict[str, Any]:
    text = proxy.file.read_text() + TRIED
    answer = ask_running(proxy.file, "apply", text=text, called="new.toml", confirm_within=seconds)
    assert answer["done"], answer
    return answer


def again(proxy: RunningProxy) -> RunningProxy:
    proxy.kill()
    started = start_proxy(proxy.file)
    assert started.ready
    return started


def trail(proxy: RunningProxy) -> list[tuple[str, int]]:
    lines = (proxy.file.parent / "data" / "audit" / "audit.jsonl").read_bytes().splitlines()
    return [(line["event"], line["generation"]) for line in map(json.loads, lines)]


def test_X21_what_is_on_trial_survives_a_kill_and_rolls_back_by_itself(proxy: RunningProxy) -> None:
    before = proxy.file.read_text()
    assert apply(proxy, 30.0)["generation"] == 2
    proxy = again(proxy)
    try:
        assert set(proxy.ready["listeners"]) == {"tcp", "tried"}
        status = ask_running(proxy.file, "status")
        assert (status["generation"], status["on_trial"]["called"]) == (3, "new.toml")
        assert proxy.metric("mqtt_proxy_generation_on_trial") == 1
        assert proxy.file.read_text() == before
        wait_until(lambda: not proxy.metric("mqtt_proxy_generation_on_trial"), "the roll-back", 60.0)
        assert proxy.metric("mqtt_proxy_generation") == 4
        assert proxy.metric("mqtt_proxy_config_file_differs") == 0
        assert proxy.metric("mqtt_proxy_connection_status", listener="tried") == 0
        proxy.check_unharmed()
        assert proxy.stop() == 0
        assert trail(proxy)[-2:] == [("start", 3), ("rollback", 4)]
    finally:
        proxy.kill()


def test_X21_a_confirmation_is_what_a_killed_proxy_starts_with(proxy: RunningProxy) -> None:
    apply(proxy, 300.0)
    assert ask_running(proxy.file, "confirm")["done"]
    assert proxy.file.read_text().endswith(TRIED)
    proxy = again(proxy)
    try:
        assert set(proxy.ready["listeners"]) == {"tcp", "tried"}
        assert ask_running(proxy.file, "status")["on_trial"] is None
    finally:
        proxy.kill()
