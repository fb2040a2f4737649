"""Two proxies in a ring over two brokers: device, P1, broker A, its bridge to P2, broker B, its bridge to P1.

Bridges speak MQTT 5, so that what the proxies note on a message goes along: see the loop guard.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field

from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.scenarios.devices import Answer, PahoDevice, Place
from tests.scenarios.mosquitto import Mosquitto
from tests.waiting import wait_until

UPSTREAM: Final = """
[[upstreams]]
name = "broker"
url = "{url}"
backoff_first = "100ms"
backoff_ceiling = "200ms"
breaker_open = "300ms"
"""
# With any number in flight, which is 0, the bridge would say a Receive Maximum of 0: no MQTT.
BRIDGE: Final = """
max_inflight_messages 100
connection ring
address 127.0.0.1:{port}
remote_clientid bridge
bridge_protocol_version mqttv50
topic # out 2
cleansession true
notifications false
try_private false
restart_timeout 1
"""
PLACES: Final = ("one", "two", "a", "b")
_numbers: Final = count(1)


@define
class Ring:
    """The proxies `one` and `two`, the brokers `a` and `b`, and somebody who hears everything at each of them."""

    proxies: dict[str, RunningProxy]
    brokers: dict[str, Mosquitto]
    ears: dict[str, PahoDevice] = field(factory=dict)

    def place(self, name: str) -> Place:
        return Place(self.proxies[name].port() if name in self.proxies else self.brokers[name].port)

    def cut(self) -> float:
        """How many messages were found to have gone round, in all."""
        return sum(proxy.metric("mqtt_proxy_messages_dropped_total", reason="loop") for proxy in self.proxies.values())

    def heard(self, topic: str) -> dict[str, list[Message]]:
        return {name: [one for one in ear.received if one.topic == topic] for name, ear in self.ears.items()}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    folder = tmp_path_factory.mktemp("ring")
    with ExitStack() as stack:
        brokers = {name: Mosquitto(folder / name) for name in ("a", "b")}
        proxies = {
            name: stack.enter_context(running_proxy(_settings(folder / f"proxy-{name}", name, brokers[home].url)))
            for name, home in (("one", "a"), ("two", "b"))
        }
        for name, target in (("a", "two"), ("b", "one")):
            brokers[name].more = BRIDGE.format(port=proxies[target].port())
            stack.callback(brokers[name].kill)
            brokers[name].start()
        for proxy in proxies.values():
            proxy.wait_linked("broker")
            wait_until(partial(proxy.metric, "mqtt_active_connections", listener="tcp"), "the bridge")
        made = Ring(proxies, brokers)
        for name in PLACES:
            made.ears[name] = stack.enter_context(closing(PahoDevice(f"ear-{name}", made.place(name))))
            made.ears[name].subscribe("ring/#", 2)
        yield made


def _settings(folder: Path, proxy_id: str, url: str) -> Path:
    folder.mkdir()
    return write_settings(folder, UPSTREAM.format(url=url), proxy=f'id = "{proxy_id}"')


@pytest.mark.parametrize("start", ["one", "two"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_a_device_publishes_arrives_exactly_once_everywhere_and_the_loop_is_cut(
    ring: Ring, start: str, qos: int
) -> None:
    topic, before = f"ring/{next(_numbers)}", ring.cut()
    messages = [Message(topic, b"%d" % number, qos) for number in range(20)]
    with closing(PahoDevice("device", ring.place(start))) as device:
        for message in messages:
            assert device.publish(message) == Answer()
        wait_until(lambda: ring.cut() >= before + len(messages), "the end of the loop")
        wait_until(lambda: all(len(heard) >= len(messages) for heard in ring.heard(topic).values()), "all of them")
    for name, heard in ring.heard(topic).items():
        assert [(one.payload, one.qos) for one in heard] == [(one.payload, qos) for one in messages], name
    assert ring.cut() == before + len(messages)


def test_a_retained_message_is_kept_once_at_both_brokers(ring: Ring) -> None:
    topic, before = f"ring/{next(_numbers)}", ring.cut()
    with closing(PahoDevice("device", ring.place("one"))) as device:
        assert device.publish(Message(topic, b"kept", 1, True)) == Answer()
        wait_until(lambda: ring.cut() >= before + 1, "the end of the loop")
        for name in PLACES:
            with closing(PahoDevice(f"late-{name}", ring.place(name))) as late:
                late.subscribe(topic, 1)
                wait_until(partial(len, late.received), f"the retained message at {name}")
                late.publish(Message(f"elsewhere/{name}", b"", 1))  # whatever came with it is there by now
                assert [(one.payload, one.retain) for one in late.received] == [(b"kept", True)], name
    assert {name: len(heard) for name, heard in ring.heard(topic).items()} == dict.fromkeys(PLACES, 1)


def test_what_somebody_publishes_at_a_broker_goes_round_once_and_is_cut(ring: Ring) -> None:
    """No proxy has seen it when it leaves broker A, so the first that can know it again is P2: A gets it back once."""
    topic, before = f"ring/{next(_numbers)}", ring.cut()
    with closing(PahoDevice("operator", ring.place("a"))) as operator:
        operator.publish(Message(topic, b"from the broker", 1))
        wait_until(lambda: ring.cut() > before, "the end of the loop")
        wait_until(lambda: all(ring.heard(topic).values()), "all of them")
    counts = {name: len(heard) for name, heard in ring.heard(topic).items()}
    assert (counts["two"], counts["b"]) == (1, 1)
    assert counts["one"] == counts["a"] <= 2
