"""What an operator sees over HTTP: the metrics with the values of a known traffic, health and readiness."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, Final

import pytest
from attrs import frozen

from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy
from tests.scenarios.contracts import TOPIC, route, upstream, write_proxy
from tests.scenarios.devices import PahoDevice, Place
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.waiting import wait_until

GOOD: Final = b'{"celsius": 1}'
BAD: Final = b'{"celsius": "warm"}'
NAMES: Final = {
    "mqtt_proxy_messages_total", "mqtt_proxy_quarantine_size_bytes", "mqtt_proxy_uptime_seconds",
    "mqtt_proxy_connection_status", "mqtt_messages_received_total", "mqtt_messages_forwarded_total",
    "mqtt_active_connections", "mqtt_broker_connection_status",
    "mqtt_proxy_validation_duration_seconds_bucket", "mqtt_proxy_validation_duration_seconds_count",
    "mqtt_proxy_validation_duration_seconds_sum", "mqtt_message_latency_seconds_bucket",
    "mqtt_message_latency_seconds_count", "mqtt_message_latency_seconds_sum",
    # and breaker, outbox, drops, books
    "mqtt_proxy_breaker_state", "mqtt_proxy_outbox_messages", "mqtt_proxy_outbox_bytes",
    "mqtt_proxy_in_flight_messages", "mqtt_proxy_books_difference", "mqtt_proxy_destination_books_difference",
}  # fmt: skip


@frozen
class Scene:
    """A proxy with two brokers, after three good messages and two bad ones of one device over two roads."""

    proxy: RunningProxy
    brokers: list[Mosquitto]
    began: float

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        status, body = self.proxy.get(path)
        return status, json.loads(body)


@pytest.fixture
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("numbers")
    quick = 'backoff_first = "50ms"\nbackoff_ceiling = "100ms"\nbreaker_open = "200ms"'
    with ExitStack() as stack:
        brokers = stack.enter_context(running_brokers(folder, "a", "b"))
        settings = [upstream(name, broker.url, quick) for name, broker in zip("ab", brokers, strict=True)]
        settings += [route("only-a/#", "a"), route("#", "a", "b")]
        began = time.monotonic()
        proxy = stack.enter_context(running_proxy(write_proxy(folder, "".join(settings), transports=("tcp", "ws"))))
        proxy.wait_linked("a", "b")
        yield Scene(proxy, list(brokers), began)


def test_all_names_are_there_with_the_values_of_the_traffic(scene: Scene) -> None:
    proxy = scene.proxy
    with closing(PahoDevice("d", Place(proxy.port()))) as device, closing(PahoDevice("e", Place(proxy.port()))):
        for qos, payload in ((0, GOOD), (1, GOOD), (2, GOOD), (1, BAD), (2, BAD)):
            device.publish(Message(TOPIC.format("d"), payload, qos))
        device.publish(Message("only-a/1", b"1", 1))
        metrics = proxy.metrics()
        assert {name for name, _ in metrics} >= NAMES

        metric = proxy.metric
        assert metric("mqtt_proxy_messages_total", status="valid") == 4
        assert metric("mqtt_proxy_messages_total", status="invalid") == 2
        assert [metric("mqtt_messages_received_total", qos=str(qos)) for qos in (0, 1, 2)] == [1, 3, 2]
        assert metric("mqtt_messages_forwarded_total", destination="a") == 4
        assert metric("mqtt_messages_forwarded_total", destination="b") == 3
        assert metric("mqtt_proxy_quarantine_messages") == 2
        assert metric("mqtt_proxy_quarantine_size_bytes") >= 2 * len(BAD)
        assert metric("mqtt_active_connections", listener="tcp") == 2
        assert metric("mqtt_proxy_connection_status", listener="tcp") == 1
        assert metric("mqtt_proxy_connection_status", listener="ws") == 1
        assert metric("mqtt_proxy_validation_duration_seconds_count") == 6
        assert 0 < metric("mqtt_proxy_validation_duration_seconds_sum") < 1
        assert metric("mqtt_message_latency_seconds_count") == 5  # QoS 0 is not acknowledged
        assert 0 < metric("mqtt_message_latency_seconds_sum") < 5
        assert 0 < metric("mqtt_proxy_uptime_seconds") < time.monotonic() - scene.began
        for name in "ab":
            assert metric("mqtt_proxy_breaker_state", destination=name, state="closed") == 1
            assert metric("mqtt_proxy_outbox_messages", destination=name) == 0
            assert metric("mqtt_proxy_in_flight_messages", destination=name) == 0
    wait_until(lambda: proxy.metric("mqtt_active_connections", listener="tcp") == 0, "nobody there")
    # No label is what a device chooses.
    values = {value for (_, labels) in proxy.metrics() for _, value in labels}
    assert not values & {"d", "e", TOPIC.format("d"), "only-a/1"}


def test_health_and_readiness_follow_the_brokers(scene: Scene) -> None:
    proxy, (a, b) = scene.proxy, scene.brokers
    wait_until(lambda: scene.ask("/ready")[1]["status"] == "ok", "ready")
    assert [scene.ask(path)[0] for path in ("/health", "/ready")] == [200, 200]

    a.kill()
    told = wait_until_ill(scene, "upstream:a")
    assert told["reason"]
    assert told["gates"] == "nothing"
    status, document = scene.ask("/ready")
    assert (status, document["status"]) == (200, "degraded")  # the other one is there

    b.kill()
    told = wait_until_ill(scene, "upstreams")
    assert told["reason"] == "no upstream is connected"
    status, document = scene.ask("/ready")
    assert (status, document["status"]) == (200, "degraded")  # the spool takes messages all the same
    assert scene.ask("/health")[0] == 200  # a restart would not help
    wait_until(lambda: proxy.metric("mqtt_proxy_breaker_state", destination="a", state="open"), "an open breaker")
    reason = wait_until(lambda: reason_with(scene, "upstream:a", "; breaker open"), "the breaker's word")
    assert "refused" in reason
    assert proxy.metric("mqtt_broker_connection_status", broker="a") == 0

    a.start()
    b.start()
    wait_until(lambda: scene.ask("/ready")[0] == 200, "ready again")
    proxy.wait_linked("a", "b")
    assert proxy.metric("mqtt_proxy_destination_reconnects_total", destination="a") >= 1


def test_it_starts_without_any_broker_and_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nobody")
    broker = Mosquitto(folder / "a")
    settings = upstream("a", broker.url, 'backoff_first = "50ms"\nbackoff_ceiling = "100ms"\nbreaker_open = "200ms"')
    settings += route("#", "a", more='ack = "all"')
    with running_proxy(write_proxy(folder, settings)) as proxy:
        status, body = proxy.get("/ready")
        assert status == 503
        assert json.loads(body)["components"]["upstreams"]["reason"] == "no upstream is connected"
        with closing(PahoDevice("d", Place(proxy.port()))) as device:
            mid = device.send(Message("t", b"1", 1))
            wait_until(lambda: proxy.metric("mqtt_messages_received_total", qos="1") == 1, "the message")
            assert not device.answers
            try:
                broker.start()
                wait_until(lambda: mid in device.answers, "the acknowledgement, once the broker is there")
                assert proxy.get("/health")[0] == 200
            finally:
                broker.kill()


def wait_until_ill(scene: Scene, name: str) -> dict[str, Any]:
    """Wait until /ready says that a component is not well, and return what it says."""
    wait_until(lambda: not scene.ask("/ready")[1]["components"][name]["ok"], f"{name} not well")
    told: dict[str, Any] = scene.ask("/ready")[1]["components"][name]
    return told


def reason_with(scene: Scene, name: str, word: str) -> str:
    """Return why a component is not well, if the reason has this word."""
    reason = str(scene.ask("/ready")[1]["components"][name]["reason"])
    return reason if word in reason else ""
