"""Rules at every point: publish, subscribe, wills when due, retained and queued messages (BAD-INPUT D2, D3, D4)."""

from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from mqttproxy.access import make_acl
from mqttproxy.config.admitting import AccessSettings, RuleSettings
from mqttproxy.downstream.rights import recheck
from mqttproxy.mqtt.packets import Message, SubAck, Subscription, Will
from mqttproxy.mqtt.reasons import ReasonCode
from tests.client import Client
from tests.house import House, open_house

pytestmark = pytest.mark.wire("5")

MINE = '[[access.rules]]\naction = "allow"\ntopics = ["${client_id}/#", "all/#"]\n'


def allow(*topics: Any, **more: Any) -> RuleSettings:
    return RuleSettings(action="allow", topics=topics, **more)


async def change(house: House, *rules: RuleSettings) -> None:
    """Put other rules in force as a reload does."""
    house.premises.access = AccessSettings(allow_anonymous=True, rules=rules)
    ruleset = evolve(house.pipeline.ruleset, acl=make_acl(house.premises.access))
    house.pipeline.use(ruleset, house.pipeline.lanes)
    await recheck(house.premises, admissions=True)
    await house.settle()


def granted(device: Client) -> list[int]:
    return [int(reason) for packet in device.of(SubAck) for reason in packet.reasons]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_message_that_is_not_allowed_is_refused_and_nobody_gets_it(
    dry_run: bool, autojump_clock: MockClock
) -> None:
    async with open_house(MINE, dry_run=dry_run) as house:
        listener = await house.connect("d")
        listener.subscribe("all/#", "d/#")
        sender = await house.connect("s")
        sender.publish(Message("s/1", b"", 1), Message("d/1", b"", 1), Message("all/1", b"", 1), Message("d/2", b"", 2))
        sender.publish(Message("d/0", b"", 0))
        await house.settle()
        assert sender.acknowledged == [(1, 0x00), (2, 0x87), (3, 0x00), (4, 0x87)]
        assert [topic for topic, _ in listener.received] == ["all/1"]
        assert house.metrics.access_denied == {"publish": 3}
        assert house.metrics.refused == {"not_authorized": 3}
        refused = [line["topic"] for line in house.audit_lines() if line["action"] == "refused"]
        assert refused == ["d/1", "d/2", "d/0"]
        assert sender.ended_at is None


async def test_with_turns_it_is_the_same(autojump_clock: MockClock) -> None:
    async with open_house(MINE, turns=True) as house:
        sender = await house.connect("s")
        sender.publish(Message("d/1", b"", 1))
        await house.settle()
        sender.publish(Message("s/1", b"", 1))
        await house.settle()
        assert sender.acknowledged == [(1, 0x87), (2, 0x00)]


async def test_the_device_is_told_why_on_its_error_topic(autojump_clock: MockClock) -> None:
    async with open_house(MINE) as house:
        device = await house.connect("s")
        device.subscribe("$proxy/errors/s")
        await house.settle()
        device.publish(Message("d/1", b"", 1))
        await house.settle()
        assert granted(device) == [2]
        ((topic, document),) = device.received
        assert topic == "$proxy/errors/s"
        assert b"access rules" in document


async def test_subscriptions_are_answered_one_by_one(autojump_clock: MockClock) -> None:
    async with open_house(MINE) as house:
        device = await house.connect("d")
        device.subscribe("d/#", "#", "s/1", "all/+", "$share/g/d/1", "$share/g/s/1")
        await house.settle()
        assert granted(device) == [2, 0x87, 0x87, 2, 2, 0x87]
        assert house.pipeline.table.count == 3


async def test_D2_a_will_is_held_against_the_rules_again_when_it_is_due(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        listener = await house.connect("l")
        listener.subscribe("#")
        device = await house.connect("d", will=Will("d/will", b"", 1))
        await house.settle()
        await change(house, allow("d/will", on="subscribe"), allow("#", on="subscribe"))
        device.cut()
        await trio.sleep(1)
        await house.settle()
        assert listener.received == []
        assert house.metrics.refused == {"not_authorized": 1}


async def test_D3_a_subscription_that_is_revoked_brings_nothing_more(autojump_clock: MockClock) -> None:
    async with open_house(MINE) as house:
        device, sender = await house.connect("d"), await house.connect("s")
        device.subscribe("all/#", "d/#")
        await house.settle()
        await change(house, allow("d/#", "s/#"), allow("all/#", on="publish"))
        sender.publish(Message("all/1", b"", 1))
        await house.settle()
        assert device.received == []
        assert house.pipeline.table.filters_of("d") == ("d/#",)
        assert house.metrics.access_denied == {"subscription": 1}
        assert any(line["event"] == "subscription_revoked" for line in house.audit_lines())


async def test_D3_a_right_to_publish_that_is_revoked_ends_at_once(autojump_clock: MockClock) -> None:
    async with open_house(MINE) as house:
        device = await house.connect("s")
        device.publish(Message("all/1", b"", 1))
        await house.settle()
        await change(house, allow("other"))
        device.publish(Message("all/1", b"", 1))
        await house.settle()
        assert [reason for _, reason in device.acknowledged] == [0x00, 0x87]


async def test_D3_a_part_of_a_subscription_that_is_denied_is_not_delivered(autojump_clock: MockClock) -> None:
    rules = '[[access.rules]]\naction = "deny"\non = "subscribe"\ntopics = ["a/secret"]\n' + MINE.replace(
        "all/#", "a/#"
    )
    async with open_house(rules) as house:
        device, sender = await house.connect("d"), await house.connect("s")
        device.subscribe("a/#")
        await house.settle()
        sender.publish(Message("a/1", b"", 1), Message("a/secret", b"", 1))
        await house.settle()
        assert [topic for topic, _ in device.received] == ["a/1"]
        assert house.metrics.dropped_down == {"not_authorized": 1}


async def test_D3_retained_messages_are_looked_at_when_they_are_delivered(autojump_clock: MockClock) -> None:
    rules = '[[access.rules]]\naction = "deny"\non = "subscribe"\ntopics = ["a/secret"]\n' + MINE.replace(
        "all/#", "a/#"
    )
    async with open_house(rules) as house:
        sender = await house.connect("s")
        sender.publish(Message("a/1", b"1", 1, True), Message("a/secret", b"2", 1, True))
        await house.settle()
        device = await house.connect("d")
        device.subscribe("a/#")
        await house.settle()
        assert [topic for topic, _ in device.received] == ["a/1"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_D3_what_waits_for_a_device_that_is_away_is_looked_at_when_it_comes_back(
    qos: int, autojump_clock: MockClock
) -> None:
    async with open_house(MINE) as house:
        device = await house.keep("d")
        device.subscribe("all/#", "d/#")
        await house.settle()
        device.cut()
        await house.settle()
        sender = await house.connect("s")
        sender.publish(Message("all/1", b"", qos))
        await house.settle()
        assert len(house.premises.sessions.get("d").queue) == 1  # type: ignore[union-attr] # it is kept
        await change(house, allow("d/#"))
        assert len(house.premises.sessions.get("d").queue) == 0  # type: ignore[union-attr] # it is kept
        back = await house.keep("d")
        await house.settle()
        assert back.received == []
        assert house.pipeline.table.filters_of("d") == ("d/#",)


@pytest.mark.parametrize("qos", [1, 2])
async def test_D3_what_was_on_its_way_is_not_sent_again(qos: int, autojump_clock: MockClock) -> None:
    async with open_house(MINE) as house:
        device = await house.keep("d", acknowledges=False)
        device.subscribe(Subscription("all/#", qos))
        sender = await house.connect("s")
        sender.publish(Message("all/1", b"", qos), Message("all/2", b"", qos))
        await house.settle()
        session = device.connection.session
        device.cut()
        await house.settle()
        await change(house, allow("d/#"))
        back = await house.keep("d", session=session)
        await house.settle()
        assert back.received == []
        state = house.inside("d").session.state
        assert state.outgoing == {}
        assert back.ended_at is None


async def test_D3_another_user_of_a_client_identifier_gets_nothing_it_may_not_have(autojump_clock: MockClock) -> None:
    rules = '[[access.rules]]\naction = "allow"\ntopics = ["of/${username}/#"]\n'
    rules += '[[access.rules]]\naction = "allow"\non = "publish"\ntopics = ["#"]\n'
    async with open_house(rules) as house:
        device = await house.keep("d", username="ada")
        device.subscribe("of/ada/#")
        await house.settle()
        device.cut()
        await house.settle()
        sender = await house.connect("s")
        sender.publish(Message("of/ada/1", b"", 1))
        await house.settle()
        other = await house.keep("d", username="bob")
        await house.settle()
        assert other.received == []
        assert house.pipeline.table.filters_of("d") == ()


async def test_D4_a_topic_that_transforms_make_is_looked_at_too(autojump_clock: MockClock) -> None:
    text = MINE + (
        '[[policies]]\nname = "p"\ntopics = ["s/+"]\nformat = "raw"\n'
        'transforms = [{ op = "set_topic", to = "elsewhere/{2}" }]\n'
    )
    async with open_house(text) as house:
        sender = await house.connect("s")
        sender.publish(Message("s/1", b"", 1))
        await house.settle()
        assert sender.acknowledged == [(1, 0x87)]


async def test_a_device_whose_name_new_rules_cannot_use_is_sent_away(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        device = await house.connect("a/b")
        await change(house, allow("${client_id}/#"))
        assert device.goodbye is ReasonCode.NOT_AUTHORIZED


async def test_rules_that_are_taken_away_allow_everything_again(autojump_clock: MockClock) -> None:
    async with open_house(MINE) as house:
        device = await house.connect("d")
        await change(house)
        device.subscribe("#")
        await house.settle()
        device.publish(Message("x", b"", 1))
        await house.settle()
        assert [topic for topic, _ in device.received] == ["x"]
