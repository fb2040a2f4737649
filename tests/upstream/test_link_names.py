"""A live link to an upstream that calls topics otherwise."""

from typing import Any

import pytest
from attrs import evolve
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.connect import Account
from tests.upstream.broker import FakeBroker, Setting, linked
from tests.upstream.test_link import asked, ended
from tests.upstream.test_mapping import mapping

TOPICS = (mapping("plant/{line}/#", "acme/eu/{line}/in/#"),)


def offer(it: Setting, *messages: Message) -> None:
    items: list[Any] = [(message, number if message.qos else None) for number, message in enumerate(messages)]
    assert it.upstream.offer(items) == len(items)


async def test_what_goes_there_has_its_names_there(autojump_clock: MockClock) -> None:
    async with linked(topics=TOPICS) as it:
        properties = Properties(response_topic="plant/7/answers")
        offer(it, Message("plant/7/x", b"a", 0), Message("plant/7/x", b"b", 2, False, properties), Message("y", b"", 1))
        await it.settle()
        assert it.broker.topics == ["acme/eu/7/in/x", "acme/eu/7/in/x", "y"]
        assert it.broker.messages[1].properties.response_topic == "acme/eu/7/in/answers"
        assert sorted(map(str, it.heard.tokens)) == ["1", "2"]


async def test_a_message_without_a_place_there_is_refused_and_the_others_go(autojump_clock: MockClock) -> None:
    async with linked(topics=TOPICS) as it:
        homeless = [Message("acme/eu/7/in", b"abc", qos) for qos in (0, 1)]
        offer(it, Message("plant/1", b"x", 1), *homeless, Message("plant/2", b"y", 0))
        await it.settle()
        assert it.broker.topics == ["acme/eu/1/in", "acme/eu/2/in"]
        assert it.heard.refused == [
            (None, homeless[0], ReasonCode.TOPIC_NAME_INVALID),
            (2, homeless[1], ReasonCode.TOPIC_NAME_INVALID),
        ]
        assert it.upstream.books.refused == 2
        offer(it, homeless[1])  # nothing else to send
        await it.settle()
        assert it.upstream.books.refused == 3


async def test_what_the_broker_refuses_is_told_under_its_local_name(autojump_clock: MockClock) -> None:
    async with linked(topics=TOPICS) as it:
        it.broker.rejects["acme/eu/7/in"] = ReasonCode.NOT_AUTHORIZED
        message = Message("plant/7", b"x", 1, False, Properties(response_topic="plant/8"))
        offer(it, message)
        await it.settle()
        assert it.heard.refused == [(0, message, ReasonCode.NOT_AUTHORIZED)]


async def test_what_is_too_large_is_told_under_its_local_name(autojump_clock: MockClock) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.extra = Properties(maximum_packet_size=30)

    async with linked(prepare=lower, topics=TOPICS) as it:
        message = Message("plant/7", b"x" * 30, 1)
        offer(it, message)
        await it.settle()
        assert it.heard.refused == [(0, message, ReasonCode.PACKET_TOO_LARGE)]


async def test_what_was_in_flight_to_a_removed_upstream_is_told_under_its_local_name(
    autojump_clock: MockClock,
) -> None:
    async with linked(topics=TOPICS) as it:
        it.broker.is_mute = True
        messages = [Message("plant/7", b"x", 1), Message("plant/8", b"y", 1)]
        offer(it, messages[0])
        await it.settle()
        assert it.upstream.in_flight == 1
        await it.stop()
        offer(it, messages[1])
        it.upstream.abandon()
        assert [message for _, message, _ in it.heard.refused] == messages


async def test_what_comes_has_its_local_name_and_filters(autojump_clock: MockClock) -> None:
    async with linked(topics=TOPICS) as it:
        it.upstream.subscribe("plant/+/#", 1)
        await it.settle()
        assert [name for name, _, _ in asked(it)] == ["acme/eu/+/in/#"]
        assert await it.upstream.wait_subscribed("plant/+/#") is ReasonCode.GRANTED_QOS_1
        properties = Properties(subscription_identifiers=(1,), response_topic="acme/eu/7/in/answers")
        it.broker.push(Message("acme/eu/7/in/x", b"x", 1, False, properties))
        await it.settle()
        (arrival,) = it.heard.arrived
        assert (arrival.publish.topic, arrival.filters) == ("plant/7/x", ("plant/+/#",))
        assert arrival.publish.properties.response_topic == "plant/7/answers"
        it.upstream.unsubscribe("plant/+/#")
        await it.settle()
        assert ended(it) == ["acme/eu/+/in/#"]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_has_no_place_here_is_acknowledged_counted_and_goes_no_further(
    qos: int, autojump_clock: MockClock
) -> None:
    async with linked(topics=TOPICS) as it:
        it.broker.push(Message("plant/7", b"", qos), Message("other", b"", qos))
        await it.settle()
        assert [arrival.publish.topic for arrival in it.heard.arrived] == ["other"]
        assert it.upstream.books.received == 2
        assert it.upstream.snapshot().unplaced == 1
        if qos < 2:
            assert not it.broker.line.conn.session.outgoing


async def test_a_change_of_names_makes_a_new_link_that_asks_and_sends_under_the_new_ones(
    autojump_clock: MockClock,
) -> None:
    async with linked() as it:
        it.upstream.subscribe("plant/+/#", 1)
        await it.settle()
        it.broker.packets.clear()
        assert it.upstream.change(evolve(it.upstream.settings, topics=TOPICS), Account("gw-a"))
        await it.settle()
        assert set(ended(it)) == {"plant/+/#"}  # the old link hears of it too, before it goes
        assert {name for name, _, _ in asked(it)} == {"acme/eu/+/in/#"}
        offer(it, Message("plant/7", b"", 1))
        await it.settle()
        assert it.broker.topics == ["acme/eu/7/in"]
