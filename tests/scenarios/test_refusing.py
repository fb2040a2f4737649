"""Brokers that do not take what they are given: they say so, and it is held; or they lie, and nobody can know."""

import json
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mqttproxy.mqtt.packets import Message
from tests.harness import running_proxy
from tests.scenarios.contracts import route, upstream, write_proxy
from tests.scenarios.devices import Answer, PahoDevice, Place
from tests.scenarios.mosquitto import Mosquitto
from tests.waiting import PATIENCE, wait_until


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[Mosquitto, Mosquitto]]:
    """The first one lets nobody publish below `closed`; to clients of MQTT 3.1.1 it does not say so."""
    rules = tmp_path / "rules"
    rules.write_text("topic read #\ntopic write open/#\n")
    rules.chmod(0o600)
    strict, open_ = Mosquitto(tmp_path / "a", f"acl_file {rules}\n"), Mosquitto(tmp_path / "b")
    try:
        yield strict.start(), open_.start()
    finally:
        strict.kill()
        open_.kill()


def test_X8_what_a_broker_acknowledges_and_drops_counts_as_delivered_there_and_is_at_all_others(
    tmp_path: Path, brokers: tuple[Mosquitto, Mosquitto]
) -> None:
    """Nobody can promise more: see docs/reliability.md."""
    liar, honest = brokers
    file = write_proxy(
        tmp_path / "proxy",
        upstream("a", liar.url, 'version = "3.1.1"')
        + upstream("b", honest.url)
        + route("#", "a", "b", more='ack = "all"'),
    )
    with (
        running_proxy(file) as proxy,
        closing(PahoDevice("d", Place(proxy.port()))) as device,
        closing(PahoDevice("ear-a", Place(liar.port))) as at_liar,
        closing(PahoDevice("ear-b", Place(honest.port))) as at_honest,
    ):
        proxy.wait_linked("a", "b")
        for ear in (at_liar, at_honest):
            ear.subscribe("#", 1)
        for topic in ("closed/1", "open/1"):
            assert device.publish(Message(topic, b"x", 1)) == Answer()
        wait_until(lambda: len(at_honest.received) == 2 and at_liar.received, "what is carried")
        assert [message.topic for message in at_honest.received] == ["closed/1", "open/1"]
        assert [message.topic for message in at_liar.received] == ["open/1"]
        for name in ("a", "b"):
            assert proxy.metric("mqtt_messages_forwarded_total", destination=name) == 2
    assert not held_payloads(file)


def test_X9_what_a_broker_refuses_is_held_and_all_others_have_it(
    tmp_path: Path, brokers: tuple[Mosquitto, Mosquitto]
) -> None:
    strict, open_ = brokers
    file = write_proxy(tmp_path / "proxy", upstream("a", strict.url) + upstream("b", open_.url) + route("#", "a", "b"))
    with (
        running_proxy(file) as proxy,
        closing(PahoDevice("d", Place(proxy.port()))) as device,
        closing(PahoDevice("ear-b", Place(open_.port))) as ear,
    ):
        proxy.wait_linked("a", "b")
        ear.subscribe("#", 1)
        for payload in (b"1", b"2"):
            assert device.publish(Message("closed/1", payload, 1)) == Answer()
        wait_until(lambda: len(ear.received) == 2, "what is carried")
        wait_until(lambda: proxy.metric("mqtt_proxy_quarantine_messages") == 2, "what is held")
    assert held_payloads(file) == [b"1", b"2"]


def held_payloads(file: Path) -> list[bytes]:
    """Return what is held, in order."""
    command = [sys.executable, "-m", "mqttproxy", "quarantine", "export", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    return [b64decode(json.loads(line)["payload"]) for line in done.stdout.splitlines()]
