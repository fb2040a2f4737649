"""SIGHUP: policies, schemas, routes and upstreams change under connected devices, whole or not at all."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy
from tests.scenarios.contracts import SCHEMA, TOPIC, route, upstream, write_proxy, write_schema
from tests.scenarios.devices import Answer, PahoDevice, Place, on
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.scenarios.publishers import Publisher, parse

CELSIUS: Final = Message(TOPIC.format("d"), b'{"celsius": 1}', 1)
KELVIN: Final = Message(TOPIC.format("d"), b'{"kelvin": 1}', 1)
KELVIN_SCHEMA: Final = {"type": "object", "required": ["kelvin"]}
HELD: Final = 0x99
NOBODY: Final = "mqtt://127.0.0.1:1"  # nobody listens there


@frozen
class Scene:
    """A proxy that sends to broker `a`, an ear at each broker, and a device that must stay connected."""

    brokers: list[Mosquitto]
    ears: list[PahoDevice]
    proxy: RunningProxy
    device: PahoDevice

    def rewrite(self, old: str, new: str) -> None:
        text = self.proxy.file.read_text()
        assert old in text
        self.proxy.file.write_text(text.replace(old, new))

    def check_nobody_left(self) -> None:
        assert self.device.is_connected
        assert self.device.connections == 1
        assert self.device.dismissed is None
        assert self.proxy.metric("mqtt_proxy_destination_reconnects_total", destination="a") == 0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        brokers = stack.enter_context(running_brokers(tmp_path, "a", "b"))
        ears = [stack.enter_context(closing(PahoDevice("ear", Place(broker.port)))) for broker in brokers]
        for ear in ears:
            ear.subscribe("#", 1)
        settings = upstream("a", brokers[0].url) + route("#", "a")
        proxy = stack.enter_context(running_proxy(write_proxy(tmp_path, settings)))
        proxy.wait_linked("a")
        device = stack.enter_context(closing(PahoDevice("d", Place(proxy.port()))))
        yield Scene(brokers, ears, proxy, device)


def test_a_changed_schema_judges_the_next_message(scene: Scene) -> None:
    assert scene.device.publish(CELSIUS) == Answer()
    assert scene.device.publish(KELVIN).reason == HELD
    file = write_schema(scene.proxy.file.parent, KELVIN_SCHEMA, version=2)
    (file.parent / "subject.toml").write_text("[aliases]\nstable = 2\n")
    scene.rewrite("temperature@1", "temperature@stable")
    assert scene.proxy.reload()["generation"] == 2
    assert scene.device.publish(CELSIUS).reason == HELD
    assert scene.device.publish(KELVIN) == Answer()
    scene.check_nobody_left()


def test_a_version_that_was_in_force_cannot_be_given_other_content(scene: Scene) -> None:
    file = write_schema(scene.proxy.file.parent, KELVIN_SCHEMA)
    told = scene.proxy.reload()
    assert told["event"].startswith("reload refused")
    assert [words for words in told["faults"] if str(file) in words and "version 1 of temperature" in words], told
    assert scene.device.publish(CELSIUS) == Answer()
    scene.check_nobody_left()


def test_more_names_of_upstreams_than_the_spool_has_places_for_are_refused(scene: Scene) -> None:
    others = "".join(upstream(f"other{number}", scene.brokers[1].url) for number in range(61))
    scene.proxy.file.write_text(scene.proxy.file.read_text() + others)
    scene.rewrite('"a"', '"renamed"')
    told = scene.proxy.reload()
    assert told["event"].startswith("reload refused")
    found = (
        "62 new names; 1 are in the spool already, with those of removed upstreams, which a restart frees once nothing"
    )
    expected = "waits for them, expected at most 62 with these"
    assert told["faults"] == [f"{scene.proxy.file}: upstreams: found {found} {expected}"]
    assert scene.device.publish(CELSIUS) == Answer()
    scene.check_nobody_left()


def test_a_changed_policy_judges_the_next_message(scene: Scene) -> None:
    write_schema(scene.proxy.file.parent, KELVIN_SCHEMA, version=2)
    scene.rewrite("temperature@1", "temperature@2")
    assert scene.proxy.reload()["event"] == "reloaded"
    answer = scene.device.publish(CELSIUS)
    assert (answer.reason, answer.user_properties[1]) == (HELD, ("schema", "temperature@2"))
    scene.rewrite('schema = "temperature@2"', 'schema = "temperature@2"\nlevel = "off"')
    assert scene.proxy.reload()["event"] == "reloaded"
    assert scene.device.publish(CELSIUS) == Answer()
    scene.check_nobody_left()


def test_a_changed_route_and_a_new_upstream_carry_the_next_message(scene: Scene) -> None:
    before, after = Message("t/before", b"1", 1), Message("t/after", b"2", 1)
    assert scene.device.publish(before) == Answer()
    scene.rewrite(route("#", "a"), upstream("b", scene.brokers[1].url) + route("#", "b"))
    told = scene.proxy.reload()
    assert (told["added"], told["removed"], told["changed"]) == (["b"], [], [])
    assert scene.device.publish(after) == Answer()
    assert on(scene.ears[1], after.topic) == [after]
    assert [message.topic for message in scene.ears[0].received] == [before.topic]
    assert [message.topic for message in scene.ears[1].received] == [after.topic]
    scene.check_nobody_left()


def test_a_subscription_moves_with_the_home_of_its_topic(scene: Scene) -> None:
    scene.device.subscribe("t/#", 1)
    scene.rewrite(route("#", "a"), upstream("b", scene.brokers[1].url) + route("#", "a", "b", more='home = "b"'))
    assert scene.proxy.reload()["event"] == "reloaded"
    # Nothing tells when the new home has the subscription; what is retained comes when it has.
    scene.ears[1].publish(Message("t/kept", b"b", 1, True))
    on(scene.device, "t/kept")
    scene.ears[0].publish(Message("t/live", b"a", 1))
    scene.ears[1].publish(Message("t/live", b"b", 1))
    assert [message.payload for message in on(scene.device, "t/live")] == [b"b"]
    scene.check_nobody_left()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('schema = "temperature@1"', 'schema = "humidity@1"', "humidity"),
        ('topics = ["#"]', 'topics = ["#/x"]', "routes[0].topics"),
        ('to = ["a"]', 'to = ["nobody"]', "nobody"),
        ("[proxy]", "[proxy", "proxy.toml"),
        ("allow_anonymous = true", "allow_anonymous = 1", "access.allow_anonymous"),
    ],
    ids=["schema", "filter", "destination", "syntax", "type"],
)
def test_X21_a_broken_file_leaves_the_old_one_in_force(scene: Scene, old: str, new: str, fault: str) -> None:
    scene.rewrite(old, new)
    told = scene.proxy.reload()
    assert told["level"] == "error"
    assert any(fault in words for words in told["faults"]), told
    assert scene.device.publish(CELSIUS) == Answer()
    assert scene.device.publish(KELVIN).reason == HELD
    assert on(scene.ears[0], CELSIUS.topic) == [CELSIUS]
    assert scene.proxy.metric("mqtt_proxy_reload_failures_total") == 1
    assert scene.proxy.metric("mqtt_proxy_generation") == 1
    scene.check_nobody_left()
    scene.rewrite(new, old)
    assert scene.proxy.reload()["event"] == "reloaded"


def test_X21_a_half_written_file_leaves_the_old_one_in_force(scene: Scene) -> None:
    text = scene.proxy.file.read_text()
    ends = [at for at, letter in enumerate(text) if letter == '"' and text[at + 1 : at + 2] == "\n"]
    for end in ends[:: max(1, len(ends) // 5)]:
        scene.proxy.file.write_text(text[:end])
        assert scene.proxy.reload()["level"] == "error"
        assert scene.device.publish(CELSIUS) == Answer()
        assert scene.device.publish(KELVIN).reason == HELD
    assert scene.proxy.metric("mqtt_proxy_generation") == 1
    scene.check_nobody_left()
    scene.proxy.file.write_text(text)
    assert scene.proxy.reload()["event"] == "reloaded"


def test_X21_an_upstream_that_is_removed_gets_what_was_spooled_for_it_when_it_is_back(scene: Scene) -> None:
    """Back elsewhere: where it was nobody listens, or it might carry what it holds while it is being removed."""
    without, broker = scene.proxy.file.read_text(), scene.brokers[1]
    scene.rewrite(route("#", "a"), upstream("b", NOBODY) + route("#", "a", "b"))
    with_it = scene.proxy.file.read_text().replace(f'"{NOBODY}"', f'"{broker.url}"')
    assert scene.proxy.reload()["added"] == ["b"]
    payloads = [b"%d" % number for number in range(20)]
    for payload in payloads:
        assert scene.device.publish(Message("t/spooled", payload, 1)) == Answer()
    assert [message.payload for message in on(scene.ears[0], "t/spooled", len(payloads))] == payloads
    scene.proxy.file.write_text(without)
    assert scene.proxy.reload()["removed"] == ["b"]
    assert scene.device.publish(Message("t/meanwhile", b"not for it", 1)) == Answer()
    assert scene.proxy.metric("mqtt_proxy_spool_messages") >= len(payloads)
    with closing(PahoDevice("new ear", Place(broker.port))) as ear:
        ear.subscribe("#", 1)
        scene.proxy.file.write_text(with_it)
        assert scene.proxy.reload()["added"] == ["b"]
        assert [message.payload for message in on(ear, "t/spooled", len(payloads))] == payloads
        assert {message.topic for message in ear.received} == {"t/spooled"}
    scene.check_nobody_left()


def test_X21_a_broken_schema_leaves_the_old_one_in_force(scene: Scene) -> None:
    file = write_schema(scene.proxy.file.parent, {**SCHEMA, "required": "celsius"})
    told = scene.proxy.reload()
    assert any(str(file) in words and "/required" in words for words in told["faults"]), told
    assert scene.device.publish(CELSIUS) == Answer()
    assert scene.device.publish(KELVIN).reason == HELD
    scene.check_nobody_left()


def test_X21_reloads_under_load_lose_and_repeat_nothing(scene: Scene) -> None:
    scene.rewrite(route("#", "a"), upstream("b", scene.brokers[1].url) + route("#", "a", "b"))
    scene.proxy.reload()
    scene.proxy.wait_linked("b")
    with ExitStack() as stack:
        places = [Place(scene.proxy.port()), Place(scene.proxy.port(), version="3.1.1")]
        publishers = [
            stack.enter_context(closing(Publisher(f"p-{i}", f"t/{i}", place, pace=0.01)))
            for i, place in enumerate(places)
        ]
        for number in range(5):
            write_schema(scene.proxy.file.parent, {**SCHEMA, "title": f"number {number}"}, version=number + 2)
            scene.rewrite(f"temperature@{number + 1}", f"temperature@{number + 2}")
            told = scene.proxy.reload()
            assert told["event"] == "reloaded", told
            for publisher in publishers:
                publisher.wait_more(20)
        for publisher in publishers:
            publisher.stop()
            publisher.wait_all()
    expected = {(p.name, number) for p in publishers for number in range(1, p.sent + 1)}
    for ear in scene.ears:
        on(ear, "t/0", publishers[0].sent)
        on(ear, "t/1", publishers[1].sent)
        stored = parse(ear.received)
        assert len(stored) == len(set(stored))
        assert set(stored) == expected
    scene.check_nobody_left()
