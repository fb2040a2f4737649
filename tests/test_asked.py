"""Messages whose policies have a plug-in, on their way: asked about before they are judged, and in order."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.plugin import View
from tests.house import House, open_house, route, upstream
from tests.plant import CONFIG, Plant
from tests.plugins import FakeAsking, install, pretend
from tests.quarantine.examples import make_held

PLUGGED = """
[[policies]]
name = "plugged"
topics = ["p/#"]
format = "raw"
on_failure = ["refuse"]
[[policies.plugins]]
name = "a"
"""
AT_ONCE = upstream() + route("a", more='ack = "memory"')


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "a")


def bad_is_bad(view: View) -> Iterable[tuple[str, str]]:
    return [("", "bad")] if view.payload == b"bad" else []


def fake(house: House, *, at_once: bool = False) -> FakeAsking:
    asking = FakeAsking(house.pipeline, bad_is_bad)
    if at_once:
        asking.may_answer.set()
    return asking


async def test_what_comes_behind_a_message_that_is_asked_about_waits_for_it(autojump_clock: MockClock) -> None:
    async with open_house(PLUGGED + AT_ONCE) as house:
        asking = fake(house)
        device, other = await house.connect(), await house.connect("other")
        device.publish(Message("p/1", b"1", 1))
        device.publish(Message("t", b"2", 1))
        other.publish(Message("t", b"3", 1))
        await house.settle()
        assert [view.topic for view in asking.asked] == ["p/1"]
        assert house.a.payloads == [b"3"]
        assert (device.settled, other.settled) == ([], [(1, 0)])
        asking.may_answer.set()
        await house.settle()
        assert house.a.payloads == [b"3", b"1", b"2"]
        assert device.settled == [(1, 0), (2, 0)]
        assert len(asking.asked) == 1


async def test_one_that_displeases_it_is_refused_in_its_turn(autojump_clock: MockClock) -> None:
    async with open_house(PLUGGED + AT_ONCE, turns=True) as house:
        fake(house, at_once=True)
        device = await house.connect()
        device.publish(Message("p/1", b"good", 1), Message("p/1", b"bad", 1), Message("p/1", b"good", 2))
        await house.settle()
        assert device.settled == [(1, 0), (2, ReasonCode.PAYLOAD_FORMAT_INVALID), (3, 0)]
        (line,) = [line for line in house.audit_lines() if line.get("action") == "refused"]
        assert line["policy"] == "plugged"
        assert [failure["keyword"] for failure in line["failures"]] == ["plugin"]


async def test_nobody_is_asked_about_what_its_device_may_not_send(autojump_clock: MockClock) -> None:
    rules = "".join(
        f'[[access.rules]]\naction = "{action}"\ntopics = ["{topic}"]\n'
        for action, topic in (("deny", "p/secret"), ("allow", "#"))
    )
    async with open_house(PLUGGED + AT_ONCE + rules) as house:
        asking = fake(house, at_once=True)
        device = await house.connect()
        device.publish(Message("p/secret", b"1", 1), Message("p/1", b"2", 1))
        await house.settle()
        assert [view.topic for view in asking.asked] == ["p/1"]
        assert device.settled == [(1, ReasonCode.NOT_AUTHORIZED), (2, 0)]


async def test_where_no_policy_has_one_nobody_is_asked(autojump_clock: MockClock) -> None:
    async with open_house(PLUGGED + AT_ONCE, turns=True) as house:
        asking = fake(house)
        device = await house.connect()
        device.publish(*[Message("t", b"1", 1)] * 3)
        await house.settle()
        assert len(device.settled) == 3
        assert asking.asked == []


async def test_a_reload_meanwhile_has_them_judged_by_the_new_rules(autojump_clock: MockClock) -> None:
    async with open_house(PLUGGED + AT_ONCE) as house, open_house(AT_ONCE) as newer:
        asking = fake(house)
        device = await house.connect()
        device.publish(Message("p/1", b"bad", 1))
        await house.settle()
        house.pipeline.use(newer.pipeline.ruleset, house.lanes)
        asking.may_answer.set()
        await house.settle()
        assert device.settled == [(1, 0)]
        assert not asking.has_plugins


async def test_what_was_taken_from_a_device_that_goes_meanwhile_is_carried(autojump_clock: MockClock) -> None:
    async with open_house(PLUGGED + AT_ONCE) as house:
        asking = fake(house)
        device = await house.connect()
        device.publish(Message("p/1", b"1", 1))
        await house.settle()
        device.cut()
        await house.settle()
        asking.may_answer.set()
        await house.settle()
        assert house.a.payloads == [b"1"]
        assert house.premises.devices == {}


@pytest.mark.parametrize(("payload", "reason"), [(b"good", 0), (b"bad", ReasonCode.PAYLOAD_FORMAT_INVALID)])
async def test_a_will_is_asked_about_when_its_device_connects(
    payload: bytes, reason: int, autojump_clock: MockClock
) -> None:
    async with open_house(PLUGGED + AT_ONCE) as house:
        asking = fake(house, at_once=True)
        device = house.device(will=Will("p/w", payload, 1))
        await house.settle()
        assert device.connack is not None
        assert device.connack.reason == reason
        assert [view.topic for view in asking.asked] == ["p/w"]


async def test_a_will_is_asked_about_when_it_is_published(autojump_clock: MockClock) -> None:
    async with open_house(PLUGGED + AT_ONCE) as house:
        asking = fake(house, at_once=True)
        device = await house.connect(will=Will("p/w", b"good", 1, properties=Properties(content_type="c")))
        device.cut()
        await house.settle()
        assert house.a.payloads == [b"good"]
        assert len(asking.asked) == 2


async def test_a_retained_message_is_not_asked_about_again(autojump_clock: MockClock) -> None:
    async with open_house(PLUGGED) as house:
        asking = fake(house, at_once=True)
        device = await house.connect()
        device.publish(Message("p/1", b"1", 1, True))
        await house.settle()
        assert house.pipeline.may_still_go(Message("p/1", b"1", 1, True))
        assert len(asking.asked) == 1


async def test_a_held_message_is_asked_about_before_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "def check(view):\n    return [('', 'bad')] if view.payload == b'0' else []\n"
    install(tmp_path, monkeypatch, a=source)
    plant = Plant(tmp_path, CONFIG + PLUGGED.replace("p/#", "n/#"))
    good, bad = make_held(topic="n/1", payload=b"1"), make_held(topic="n/1", payload=b"0")
    plant.hold(good, bad)
    plant.order()
    await plant.run_until_over()
    release = plant.release()
    assert (release.released, release.failed) == (1, 1)
    assert plant.records()[bad.id].failures == (("", "plugin", "bad"),)
