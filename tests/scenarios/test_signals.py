"""How a proxy ends: in order, at once, or killed; what it has acknowledged is kept each time."""

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy, start_proxy
from tests.scenarios.contracts import TOPIC, route, upstream, write_proxy
from tests.scenarios.devices import Answer, PahoDevice, Place, Version
from tests.scenarios.javascript import running_node
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.scenarios.publishers import Publisher, parse
from tests.waiting import PATIENCE, wait_until

SHUTTING_DOWN: Final = 0x8B
GRACE: Final = 30.0  # seconds, which nobody needs
CLOSING: Final = 2.0  # that a link may take to say goodbye to a broker which does not listen
VERSIONS: Final[tuple[Version, ...]] = ("5", "3.1.1", "5")


def test_X19_sigterm_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with ExitStack() as stack:
        a, b = stack.enter_context(running_brokers(tmp_path, "a", "b"))
        ears = [stack.enter_context(closing(PahoDevice("ear", Place(broker.port)))) for broker in (a, b)]
        for ear in ears:
            ear.subscribe("#", 0)
        node = stack.enter_context(running_node())
        settings = upstream("a", a.url) + upstream("b", b.url) + route("#", "a", "b")
        proxy = stack.enter_context(
            running_proxy(write_proxy(tmp_path, settings, transports=("tcp", "wss"), grace=f"{GRACE:g}s"))
        )
        proxy.wait_linked("a", "b")
        ca = tmp_path / "tls" / "ca.pem"
        idle = node.device("idle", Place(proxy.port("wss"), "wss", ca))
        places = [Place(proxy.port()), Place(proxy.port(), version="3.1.1"), Place(proxy.port("wss"), "wss", ca)]
        publishers = [
            stack.enter_context(closing(Publisher(f"p-{i}", f"t/{i}", place))) for i, place in enumerate(places)
        ]
        for publisher in publishers:
            publisher.wait_more(200)
        began = time.monotonic()
        assert proxy.stop() == 0, proxy.tail()
        assert time.monotonic() - began < GRACE
        for publisher in publishers:
            publisher.stop()
        for ear in ears:
            there = set(parse(ear.received))
            for publisher in publishers:
                missing = {(publisher.name, number) for number in publisher.acknowledged} - there
                if missing:  # on its way from the broker to the ear
                    wait_until(lambda: missing <= set(parse(ear.received)), f"{missing}")  # noqa: B023 # called at once
        assert [publisher.device.dismissed for publisher in publishers] == [SHUTTING_DOWN, None, SHUTTING_DOWN]
        wait_until(lambda: idle.dismissed == SHUTTING_DOWN, "DISCONNECT to MQTT.js")
    assert not proxy.log("not everything was carried")
    assert proxy.log("stopped")


def test_X19_sigterm_ends_within_the_grace_although_a_broker_is_stalled(tmp_path: Path) -> None:
    with ExitStack() as stack:
        proxy, device = stuck(stack, tmp_path, "1s")
        began = time.monotonic()
        assert proxy.stop() == 0, proxy.tail()
        assert 0.7 < time.monotonic() - began < 1.0 + CLOSING + 10.0  # on a busy machine; else it would wait for ever
        assert not device.answers
        assert device.dismissed == SHUTTING_DOWN
        assert proxy.log("not everything was carried")


def test_X19_a_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        proxy, device = stuck(stack, tmp_path, "60s")
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: proxy.log("draining"), "draining")
        began = time.monotonic()
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.wait() == 1
        assert time.monotonic() - began < GRACE
        assert proxy.log("stopping at once")
        assert not device.answers


def test_X19_sigterm_while_it_starts_loses_nothing_that_waits_in_the_spool(tmp_path: Path) -> None:
    away = Mosquitto(tmp_path / "a")
    file = write_proxy(tmp_path, upstream("a", away.url) + route("#", "a"))
    payloads = [b"%d" % number for number in range(50)]
    with running_proxy(file) as proxy, closing(PahoDevice("d", Place(proxy.port()))) as device:
        for payload in payloads:
            assert device.publish(Message("t", payload, 1)) == Answer()
        proxy.kill()
    codes = set()
    for delay in (0.1, 0.3, 0.5, 0.7, 0.9):
        starting = start_proxy(file)
        time.sleep(delay)  # that is what is tried: any moment of a start
        starting.process.send_signal(signal.SIGTERM)
        codes.add(starting.wait())
    assert codes <= {0, -signal.SIGTERM}  # in order, or before the proxy looks for signals
    try:
        with closing(PahoDevice("ear", Place(away.start().port))) as ear:
            ear.subscribe("#", 1)
            with running_proxy(file):
                wait_until(lambda: len(ear.received) >= len(payloads), "what waited")
                assert [message.payload for message in ear.received] == payloads
    finally:
        away.kill()


def stuck(stack: ExitStack, folder: Path, grace: str) -> tuple[RunningProxy, PahoDevice]:
    """Return a proxy that waits for a stalled broker, and the device whose message it holds."""
    (a,) = stack.enter_context(running_brokers(folder, "a"))
    settings = upstream("a", a.url) + route("#", "a", more='ack = "all"')
    proxy = stack.enter_context(running_proxy(write_proxy(folder, settings, grace=grace)))
    proxy.wait_linked("a")
    device = stack.enter_context(closing(PahoDevice("d", Place(proxy.port()))))
    a.stall()
    device.send(Message("t", b"1", 1))
    wait_until(lambda: proxy.metric("mqtt_proxy_in_flight_messages", destination="a") == 1, "a message in flight")
    return proxy, device


def test_X17_what_was_acknowledged_as_held_is_in_the_quarantine_after_kill_9(tmp_path: Path) -> None:
    bad = '{{"celsius": "{name}:{number}"}}'
    with ExitStack() as stack:
        proxy = stack.enter_context(running_proxy(write_proxy(tmp_path)))
        publishers = [
            stack.enter_context(
                closing(Publisher(f"p-{i}", TOPIC.format(i), Place(proxy.port(), version=version), payload=bad))
            )
            for i, version in enumerate(VERSIONS)
        ]
        for publisher in publishers:
            publisher.wait_more(100)
        proxy.kill()
        for publisher in publishers:
            publisher.stop()
        acknowledged = {(p.name, number) for p in publishers for number in p.acknowledged}
        sent = {p.name: p.sent for p in publishers}
    held = exported(proxy.file)
    assert acknowledged <= set(held)
    assert len(held) == len(set(held))
    assert all(number <= sent[name] for name, number in held)
    # It starts again on what is there, and keeps it.
    with running_proxy(proxy.file) as again:
        assert again.metric("mqtt_proxy_quarantine_messages") == len(held)
    assert exported(proxy.file) == held


def exported(file: Path) -> list[tuple[str, int]]:
    """Return who published what is held."""
    command = [sys.executable, "-m", "mqttproxy", "quarantine", "export", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    texts = [json.loads(line)["json"]["celsius"].split(":") for line in done.stdout.splitlines()]
    return [(name, int(number)) for name, number in texts]
