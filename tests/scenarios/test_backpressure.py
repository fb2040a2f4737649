"""A broker that is stalled: `when_full` decides what its devices feel, and nobody else feels anything."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy
from tests.scenarios.contracts import route, upstream, write_proxy
from tests.scenarios.devices import Answer, PahoDevice, Place
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.scenarios.publishers import Publisher, parse
from tests.waiting import wait_until

IN_FLIGHT: Final = 10
QUEUED: Final = 15
MESSAGES: Final = 100
SLOW: Final = 10.0  # seconds that a message of another route may take on a busy machine; held up, it never comes


@frozen
class Scene:
    """Broker `b` can be stalled; its ear is quiet meanwhile."""

    b: Mosquitto
    ear: PahoDevice
    proxy: RunningProxy

    def device(self, client_id: str) -> PahoDevice:
        return PahoDevice(client_id, Place(self.proxy.port()), window=MESSAGES)

    def metric(self, name: str) -> float:
        return self.proxy.metric(name, destination="b")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    bounds = f"in_flight = {IN_FLIGHT}\nqueue_messages = {QUEUED}"
    with ExitStack() as stack:
        a, b = stack.enter_context(running_brokers(tmp_path, "a", "b"))
        ear = stack.enter_context(closing(PahoDevice("ear", Place(b.port))))
        ear.subscribe("#", 1)
        settings = [upstream("a", a.url), upstream("b", b.url, bounds), route("other/#", "a")]
        settings += [
            route("spool/#", "b"),
            route("all/#", "b", more='ack = "all"'),
            route("memory/#", "b", more='ack = "memory"'),
        ]
        settings += [route("any/#", "a", "b", more='ack = "any"')]
        settings += [
            route(f"{policy}/#", "b", more=f'ack = "memory"\nwhen_full = "{policy}"')
            for policy in ("drop_oldest", "drop_newest")
        ]
        proxy = stack.enter_context(running_proxy(write_proxy(tmp_path, "".join(settings))))
        proxy.wait_linked("a", "b")
        yield Scene(b, ear, proxy)


@contextmanager
def other_device(scene: Scene) -> Iterator[Publisher]:
    """Publish without end to the broker that is well, through the same listener."""
    with closing(Publisher("other", "other/1", Place(scene.proxy.port()), window=1)) as other:
        other.wait_more(50)
        yield other


def check_flow(other: Publisher) -> None:
    """Fail if this device is held up by the broker of the others."""
    for _ in range(20):
        began = time.monotonic()
        other.wait_more(1)
        assert time.monotonic() - began < SLOW


def check_books(scene: Scene) -> None:
    """Fail unless every message is accounted for while the broker is stalled, those in the devices' hands too."""
    assert scene.metric("mqtt_proxy_destination_books_difference") == 0
    assert scene.proxy.metric("mqtt_proxy_books_difference") == 0


def publish(device: PahoDevice, topic: str) -> None:
    for number in range(1, MESSAGES + 1):
        device.send(Message(topic, f"{device.client_id}:{number}".encode(), 1))


def test_X4_a_stalled_broker_withholds_acknowledgements_and_gets_everything_later(scene: Scene) -> None:
    with closing(scene.device("d")) as device, other_device(scene) as other:
        scene.b.stall()
        publish(device, "all/1")
        wait_until(lambda: scene.metric("mqtt_proxy_outbox_messages") >= QUEUED, "a full outbox")
        assert scene.metric("mqtt_proxy_in_flight_messages") == IN_FLIGHT
        check_flow(other)
        assert not device.answers
        check_books(scene)
        scene.b.resume()
        wait_until(lambda: len(device.answers) == MESSAGES, "every acknowledgement")
        assert set(device.answers.values()) == {Answer()}
    wait_until(lambda: len(scene.ear.received) >= MESSAGES, "every message")
    assert parse(scene.ear.received) == [("d", number) for number in range(1, MESSAGES + 1)]


def test_with_the_spool_a_stalled_broker_is_not_felt_and_gets_everything_later(scene: Scene) -> None:
    with closing(scene.device("d")) as device:
        scene.b.stall()
        publish(device, "spool/1")
        wait_until(lambda: len(device.answers) == MESSAGES, "every acknowledgement")
        assert set(device.answers.values()) == {Answer()}
        wait_until(lambda: scene.metric("mqtt_proxy_in_flight_messages") == IN_FLIGHT, "as much in flight as may be")
        check_books(scene)
        scene.b.resume()
        wait_until(lambda: len(scene.ear.received) >= MESSAGES, "every message")
    assert parse(scene.ear.received) == [("d", number) for number in range(1, MESSAGES + 1)]


def test_with_ack_memory_exactly_what_fits_is_acknowledged(scene: Scene) -> None:
    place = Place(scene.proxy.port())
    with other_device(scene) as other:
        scene.b.stall()
        with closing(Publisher("d", "memory/1", place, window=1)) as device:
            wait_until(lambda: device.sent == IN_FLIGHT + QUEUED + 1, "one more than fits")
            check_flow(other)
            assert device.acknowledged == list(range(1, IN_FLIGHT + QUEUED + 1))
            assert scene.metric("mqtt_proxy_in_flight_messages") == IN_FLIGHT
            check_books(scene)
            scene.b.resume()
            device.wait_more(MESSAGES)
            device.stop()
            device.wait_all()
    wait_until(lambda: len(scene.ear.received) >= device.sent, "every message")
    assert parse(scene.ear.received) == [("d", number) for number in range(1, device.sent + 1)]


def test_with_ack_any_a_stalled_broker_is_not_waited_for(scene: Scene) -> None:
    with closing(scene.device("d")) as device:
        scene.b.stall()
        publish(device, "any/1")
        # What found the outbox full waits on disk, and the broker that is well has everything, and has acknowledged it.
        wait_until(lambda: len(device.answers) == MESSAGES, "every acknowledgement")
        assert scene.proxy.metric("mqtt_messages_forwarded_total", destination="a") == MESSAGES
        scene.b.resume()
    wait_until(lambda: len(scene.ear.received) >= MESSAGES, "every message")
    assert parse(scene.ear.received) == [("d", number) for number in range(1, MESSAGES + 1)]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_is_dropped_is_counted_and_the_device_is_not_held_up(scene: Scene, policy: str) -> None:
    with closing(scene.device("d")) as device:
        scene.b.stall()
        for number in range(1, MESSAGES + 1):  # one by one, so that the link has its share before the outbox is full
            assert device.publish(Message(f"{policy}/1", f"d:{number}".encode(), 1)) == Answer()
        kept = IN_FLIGHT + QUEUED
        assert dropped(scene) == MESSAGES - kept
        scene.b.resume()
        wait_until(lambda: len(scene.ear.received) >= kept, "what was kept")
    numbers = [number for _, number in parse(scene.ear.received)]
    assert len(numbers) == kept
    assert numbers == sorted(numbers)
    if policy == "drop_newest":
        assert numbers == list(range(1, kept + 1))
    else:
        assert numbers[:IN_FLIGHT] == list(range(1, IN_FLIGHT + 1))
        assert numbers[IN_FLIGHT:] == list(range(MESSAGES - QUEUED + 1, MESSAGES + 1))


def dropped(scene: Scene) -> float:
    """Return how many messages were dropped for the stalled broker, for whatever reason."""
    samples = scene.proxy.metrics().items()
    return sum(
        value
        for (name, labels), value in samples
        if name == "mqtt_proxy_destination_dropped_total" and ("destination", "b") in labels
    )
