"""Messages back to the devices: from the proxy itself, and from the broker that is home to their topics."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import product
from typing import Final

import pytest
from attrs import frozen

from mqttproxy.mqtt.packets import Message, Properties
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.scenarios.command_line import CommandLineDevice
from tests.scenarios.devices import Answer, Device, PahoDevice, Place, Version, on
from tests.scenarios.javascript import Node, running_node
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.waiting import wait_until

CLIENTS: Final = ("paho", "mosquitto", "javascript")
VERSIONS: Final[tuple[Version, ...]] = ("3.1.1", "5")
CASES: Final = [
    pytest.param(client, version, qos, id=f"{client}-{version}-qos{qos}")
    for client, version, qos in product(CLIENTS, VERSIONS, (0, 1, 2))
]
# Devices of one name come and go all the time here.
NO_BANS: Final = """
[limits]
flapping_connects = 0
"""
HOMES: Final = f"""{NO_BANS}
[[upstreams]]
name = "five"
url = "mqtt://127.0.0.1:{{five}}"

[[upstreams]]
name = "three"
url = "mqtt://127.0.0.1:{{three}}"
version = "3.1.1"

[[routes]]
topics = ["three/#"]
to = ["five", "three"]
home = "three"

[[routes]]
topics = ["#"]
to = ["five", "three"]
home = "five"
"""


@frozen
class Scene:
    """Two proxies: one is a broker by itself, the other has homes at two brokers."""

    alone: RunningProxy
    proxy: RunningProxy
    brokers: dict[str, Mosquitto]
    node: Node

    def device(self, client: str, client_id: str, version: Version, proxy: RunningProxy) -> Device:
        place = Place(proxy.port(), version=version)
        if client == "javascript":
            return self.node.device(client_id, place)
        return PahoDevice(client_id, place) if client == "paho" else CommandLineDevice(client_id, place)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("subscriptions")
    with ExitStack() as stack:
        five, three = stack.enter_context(running_brokers(folder, "five", "three"))
        node = stack.enter_context(running_node())
        (folder / "alone").mkdir()
        (folder / "homes").mkdir()
        alone = stack.enter_context(running_proxy(write_settings(folder / "alone", NO_BANS)))
        file = write_settings(folder / "homes", HOMES.format(five=five.port, three=three.port))
        proxy = stack.enter_context(running_proxy(file))
        proxy.wait_linked("five", "three")
        yield Scene(alone, proxy, {"five": five, "three": three}, node)


def after(device: Device, sender: PahoDevice, topic: str, qos: int) -> list[Message]:
    """Return all on a topic once a later message on it has come too: whatever came twice is among them."""
    last = Message(topic, b"last", qos)
    sender.publish(last)
    wait_until(lambda: any(message.payload == b"last" for message in device.received), f"the last on {topic}")
    return [message for message in on(device, topic, 0) if message.payload != b"last"]


@pytest.mark.parametrize(("client", "version", "qos"), CASES)
def test_the_proxy_by_itself_serves_subscriptions_of_every_device(
    scene: Scene, client: str, version: Version, qos: int
) -> None:
    name = f"{client}/{version}/{qos}"
    with (
        closing(scene.device(client, f"d-{name}", version, scene.alone)) as device,
        closing(PahoDevice("sender", Place(scene.alone.port()))) as sender,
    ):
        assert device.subscribe(f"local/{name}/+", qos) == qos
        for sent in (0, 1, 2):
            assert sender.publish(Message(f"local/{name}/{sent}", b"\x00\xff", sent)) == Answer()
        for sent in (0, 1, 2):
            topic = f"local/{name}/{sent}"
            assert on(device, topic) == [Message(topic, b"\x00\xff", min(sent, qos))]


@pytest.mark.parametrize("client", ["paho", "javascript"])
def test_properties_pass_through_the_proxy_by_itself(scene: Scene, client: str) -> None:
    properties = Properties(
        payload_format_indicator=0,
        content_type="x/y",
        response_topic="r",
        correlation_data=b"\x00",
        user_properties=(("b", "1"), ("b", "2"), ("a", "3")),
    )
    message = Message(f"properties/{client}", b"{}", 1, False, properties)
    with closing(scene.device(client, f"p-{client}", "5", scene.alone)) as device:
        device.subscribe(message.topic, 2)
        assert device.publish(message) == Answer()
        assert on(device, message.topic) == [message]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_proxy_by_itself_keeps_retained_messages(scene: Scene, client: str, version: Version) -> None:
    topic = f"kept/{client}/{version}"
    with closing(PahoDevice("sender", Place(scene.alone.port()))) as sender:
        sender.publish(Message(topic, b"old", 1, True))
        sender.publish(Message(topic, b"new", 1, True))
        with closing(scene.device(client, f"k-{topic}", version, scene.alone)) as device:
            device.subscribe(topic, 1)
            assert on(device, topic) == [Message(topic, b"new", 1, True)]
        sender.publish(Message(topic, b"", 1, True))  # the end of it
        with closing(scene.device(client, f"n-{topic}", version, scene.alone)) as late:
            late.subscribe(topic, 1)
            assert after(late, sender, topic, 1) == []


@pytest.mark.parametrize("home", ["five", "three"])
@pytest.mark.parametrize(("client", "version", "qos"), CASES)
def test_what_is_published_at_the_home_arrives_at_every_device(
    scene: Scene, home: str, client: str, version: Version, qos: int
) -> None:
    topic = f"{home}/{client}/{version}/{qos}"
    message = Message(topic, bytes(range(256)), qos)
    with (
        closing(scene.device(client, f"h-{topic}", version, scene.proxy)) as device,
        closing(PahoDevice("operator", Place(scene.brokers[home].port))) as operator,
    ):
        assert device.subscribe(topic, qos) == qos
        operator.publish(message)
        assert on(device, topic) == [message]
        assert after(device, operator, topic, qos) == [message]


@pytest.mark.parametrize("home", ["five", "three"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_devices_own_message_comes_back_once_although_it_goes_to_two_brokers(
    scene: Scene, home: str, client: str, version: Version
) -> None:
    topic = f"{home}/own/{client}/{version}"
    message = Message(topic, b"own", 2)
    with (
        closing(scene.device(client, f"o-{topic}", version, scene.proxy)) as device,
        closing(PahoDevice("operator", Place(scene.brokers[home].port))) as operator,
    ):
        device.subscribe(f"{home}/own/#", 2)
        assert device.publish(message) == Answer()
        assert on(device, topic) == [message]
        assert after(device, operator, topic, 2) == [message]


@pytest.mark.parametrize("home", ["five", "three"])
@pytest.mark.parametrize("filters", [("x/+", "x/+"), ("x/#", "x/+"), ("x/1", "#")], ids=["same", "nested", "all"])
def test_two_devices_get_a_message_once_each(scene: Scene, home: str, filters: tuple[str, str]) -> None:
    topic = f"{home}/x/1"
    message = Message(topic, b"once", 1)
    with ExitStack() as stack:
        operator = stack.enter_context(closing(PahoDevice("operator", Place(scene.brokers[home].port))))
        devices = [stack.enter_context(closing(PahoDevice(f"two-{i}", Place(scene.proxy.port())))) for i in (0, 1)]
        for device, topic_filter in zip(devices, filters, strict=True):
            device.subscribe(f"{home}/{topic_filter}" if topic_filter != "#" else "#", 2)
        operator.publish(message)
        for device in devices:
            on(device, topic)
        for device in devices:
            device.received[:] = [m for m in device.received if m.payload != b"last"]
            assert after(device, operator, topic, 1) == [message]


@pytest.mark.parametrize("home", ["five", "three"])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_the_home_retains_arrives_at_every_device_that_subscribes(scene: Scene, home: str, client: str) -> None:
    topic = f"{home}/retained/{client}"
    with ExitStack() as stack:
        operator = stack.enter_context(closing(PahoDevice("operator", Place(scene.brokers[home].port))))
        operator.publish(Message(topic, b"kept", 1, True))
        for number in (1, 2):  # for the second the proxy has the subscription already
            device = scene.device(client, f"r{number}-{topic}", "5", scene.proxy)
            stack.enter_context(closing(device))
            device.subscribe(topic, 1)
            (kept,) = on(device, topic)
            assert (kept.payload, kept.qos) == (b"kept", 1)


@pytest.mark.parametrize("home", ["five", "three"])
def test_what_the_home_retains_comes_with_the_flag_set(scene: Scene, home: str) -> None:
    kept = Message(f"{home}/flag", b"kept", 1, True)
    with (
        closing(PahoDevice("operator", Place(scene.brokers[home].port))) as operator,
        closing(PahoDevice("device", Place(scene.proxy.port(), version="3.1.1"))) as device,
    ):
        operator.publish(kept)
        device.subscribe(kept.topic, 1)
        assert on(device, kept.topic) == [kept]


@pytest.mark.parametrize("home", ["five", "three"])
def test_what_the_home_retains_comes_once_whoever_else_subscribes(scene: Scene, home: str) -> None:
    topic = f"{home}/once"
    with ExitStack() as stack:
        operator, first, second = [
            stack.enter_context(closing(PahoDevice(name, Place(port))))
            for name, port in (
                ("operator", scene.brokers[home].port),
                ("first", scene.proxy.port()),
                ("second", scene.proxy.port()),
            )
        ]
        operator.publish(Message(topic, b"kept", 1, True))
        for device in (first, second):
            device.subscribe(topic, 1)
            on(device, topic)
        assert len(after(first, operator, topic, 1)) == 1


def test_a_device_that_asks_for_retain_as_published_gets_it_from_the_home(scene: Scene) -> None:
    message = Message("five/as-published", b"now", 1, True)
    with (
        closing(PahoDevice("operator", Place(scene.brokers["five"].port))) as operator,
        closing(PahoDevice("device", Place(scene.proxy.port()))) as device,
    ):
        device.subscribe(message.topic, 1)
        operator.publish(message)
        assert on(device, message.topic) == [message]


@pytest.mark.parametrize("home", ["five", "three"])
def test_a_group_shares_what_is_published_at_the_home(scene: Scene, home: str) -> None:
    topic = f"{home}/shared"
    with ExitStack() as stack:
        operator = stack.enter_context(closing(PahoDevice("operator", Place(scene.brokers[home].port))))
        first, second, alone = (
            stack.enter_context(closing(PahoDevice(name, Place(scene.proxy.port())))) for name in ("s1", "s2", "s3")
        )
        for device in (first, second):
            device.subscribe(f"$share/g/{topic}", 1)
        alone.subscribe(topic, 1)
        sent = [Message(topic, str(number).encode(), 1) for number in range(20)]
        for message in sent:
            operator.publish(message)
        assert on(alone, topic, 20) == sent
        wait_until(lambda: len(first.received) + len(second.received) >= 20, "all at the group")
        assert {message.payload for message in first.received + second.received} == {one.payload for one in sent}
        assert len(first.received) + len(second.received) == 20


def test_the_flag_goes_to_those_who_want_it_and_nobody_gets_two(scene: Scene) -> None:
    message = Message("five/both", b"now", 1, True)
    with (
        closing(PahoDevice("operator", Place(scene.brokers["five"].port))) as operator,
        closing(PahoDevice("flagged", Place(scene.proxy.port()))) as flagged,
        closing(PahoDevice("plain", Place(scene.proxy.port(), version="3.1.1"))) as plain,
    ):
        for device in (plain, flagged):
            device.subscribe(message.topic, 1)
        operator.publish(message)
        assert on(flagged, message.topic) == [message]
        assert on(plain, message.topic) == [Message(message.topic, b"now", 1)]
        for device in (plain, flagged):
            assert len(after(device, operator, message.topic, 1)) == 1


def test_a_device_that_has_unsubscribed_by_leaving_ends_the_subscription_at_the_home(scene: Scene) -> None:
    with closing(PahoDevice("brief", Place(scene.proxy.port()))) as brief:
        brief.subscribe("five/brief", 1)
        assert scene.proxy.metric("mqtt_proxy_subscriptions") == 1
    wait_until(lambda: scene.proxy.metric("mqtt_proxy_subscriptions") == 0, "no subscription")


def test_what_comes_back_carries_the_properties_of_the_home(scene: Scene) -> None:
    properties = Properties(content_type="x/y", user_properties=(("b", "1"), ("a", "2"), ("b", "3")))
    message = Message("five/properties", b"{}", 1, False, properties)
    with (
        closing(PahoDevice("reader", Place(scene.proxy.port()))) as reader,
        closing(PahoDevice("operator", Place(scene.brokers["five"].port))) as operator,
    ):
        reader.subscribe("five/#", 1)
        operator.publish(message)
        assert on(reader, message.topic) == [message]
