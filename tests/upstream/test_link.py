"""One live link: what comes from the broker, subscriptions, and the races at its end."""

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties, ProtocolVersion, RetainHandling, Subscribe, Unsubscribe
from mqttproxy.mqtt.reasons import ReasonCode
from tests.upstream.broker import FakeBroker, Setting, linked, messages


def asked(it: Setting) -> list[tuple[str, int, RetainHandling]]:
    """Return every filter that the broker was asked for, with its QoS."""
    return [
        (one.topic_filter, one.qos, one.retain_handling)
        for packet in it.broker.packets
        if isinstance(packet, Subscribe)
        for one in packet.subscriptions
    ]


def ended(it: Setting) -> list[str]:
    return [name for packet in it.broker.packets if isinstance(packet, Unsubscribe) for name in packet.topic_filters]


SEND, KEEP = RetainHandling.SEND, RetainHandling.DO_NOT_SEND


async def test_what_the_broker_sends_is_told_once_for_each_read_and_then_acknowledged(
    autojump_clock: MockClock,
) -> None:
    async with linked() as it:
        it.broker.push(*(message for message, _ in messages(10, qos=1) + messages(10, qos=2, start=10)))
        await it.settle()
        assert [publish.topic for publish in it.heard.publishes] == [f"t/{number}" for number in range(20)]
        assert it.heard.calls == 1
        assert not it.broker.line.conn.session.outgoing
        assert it.upstream.books.received == 20


async def test_messages_in_the_same_read_as_connack_are_not_lost(autojump_clock: MockClock) -> None:
    def send(broker: FakeBroker) -> None:
        broker.sends_at_once = [Message("t/1", b"x", 1), Message("t/2", b"x", 2)]

    async with linked(prepare=send) as it:
        assert [publish.topic for publish in it.heard.publishes] == ["t/1", "t/2"]
        assert not it.broker.line.conn.session.outgoing


async def test_a_filter_is_subscribed_for_the_first_device_and_unsubscribed_after_the_last(
    autojump_clock: MockClock,
) -> None:
    async with linked() as it:
        it.upstream.subscribe("a/+", 0)
        await it.settle()
        it.upstream.subscribe("a/+", 1, retained_for="one")
        await it.settle()
        it.upstream.subscribe("a/+", 0, retained_for="two")  # asked again, and never with a lower QoS
        await it.settle()
        assert asked(it) == [("a/+", 0, KEEP), ("a/+", 1, SEND), ("a/+", 1, SEND)]
        it.upstream.subscribe("a/+", 1)  # says nothing new
        await it.settle()
        assert len(asked(it)) == 3
        it.upstream.unsubscribe("a/+")
        it.upstream.unsubscribe("a/+")
        it.upstream.unsubscribe("a/+")
        await it.settle()
        assert ended(it) == []
        it.upstream.unsubscribe("a/+")
        await it.settle()
        assert ended(it) == ["a/+"]


@pytest.mark.parametrize("keeps", [True, False])
async def test_X7_a_new_link_subscribes_again(autojump_clock: MockClock, keeps: bool) -> None:
    async with linked() as it:
        it.broker.keeps_sessions = keeps
        it.upstream.subscribe("a", 1)
        it.upstream.subscribe("gone", 1)
        await it.settle()
        it.broker.packets.clear()
        it.broker.kill()
        await it.settle()
        it.upstream.unsubscribe("gone")
        it.upstream.subscribe("new", 2, retained_for="somebody")
        it.upstream.subscribe("newer", 2)
        await trio.sleep(3)
        # A broker that kept the session has retained messages for whoever waits for them; one that did not for all.
        assert asked(it) == [("a", 1, KEEP if keeps else SEND), ("new", 2, SEND), ("newer", 2, KEEP)]
        assert ended(it) == (["gone"] if keeps else [])


async def test_the_broker_s_answer_is_told_and_outlives_a_link(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.grant = lambda name, qos: ReasonCode.NOT_AUTHORIZED if name == "secret" else ReasonCode(min(qos, 1))
        it.broker.kill()
        await it.settle()
        for name in ("a", "secret"):
            it.upstream.subscribe(name, 2)
        assert await it.upstream.wait_subscribed("secret") is ReasonCode.NOT_AUTHORIZED
        assert await it.upstream.wait_subscribed("a") is ReasonCode.GRANTED_QOS_1
        assert await it.upstream.wait_subscribed("never asked") is ReasonCode.NO_SUBSCRIPTION_EXISTED
        assert it.upstream.is_live


async def test_each_message_tells_which_filters_it_came_for(autojump_clock: MockClock) -> None:
    async with linked() as it:
        for name in ("a/#", "a/+", "b"):
            it.upstream.subscribe(name, 0)
        it.upstream.unsubscribe("b")
        await it.settle()
        identifiers = [
            packet.properties.subscription_identifiers for packet in it.broker.packets if isinstance(packet, Subscribe)
        ]
        assert identifiers == [(1,), (2,)]
        it.broker.push(
            Message("a/x", b"", 0, False, Properties(subscription_identifiers=(1, 2, 3))),
            Message("a/x", b""),
        )
        await it.settle()
        assert it.heard.filters == [("a/#", "a/+"), None]


async def test_without_identifiers_the_filters_are_not_known(autojump_clock: MockClock) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.extra = Properties(subscription_identifier_available=0)

    async with linked(prepare=lower) as it:
        it.upstream.subscribe("a", 0)
        await it.settle()
        (packet,) = [packet for packet in it.broker.packets if isinstance(packet, Subscribe)]
        assert packet.properties.subscription_identifiers == ()


async def test_h3_a_filter_the_broker_cannot_serve_is_not_asked_for(autojump_clock: MockClock) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.extra = Properties(
            wildcard_subscription_available=0, shared_subscription_available=0, maximum_packet_size=40
        )

    async with linked(prepare=lower) as it:
        for name in ("a/#", "x" * 100, "a", "$share/g/a"):
            it.upstream.subscribe(name, 0)
        answers = [await it.upstream.wait_subscribed(name) for name in ("a/#", "x" * 100, "a", "$share/g/a")]
        assert answers == [
            ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
            ReasonCode.PACKET_TOO_LARGE,
            ReasonCode.SUCCESS,
            ReasonCode.SUCCESS,  # by the plain filter
        ]
        assert asked(it) == [("a", 0, KEEP)]
        assert it.upstream.is_live


async def test_thousands_of_filters_are_subscribed_in_turns(autojump_clock: MockClock) -> None:
    async with linked() as it:
        for number in range(2500):
            it.upstream.subscribe(f"f/{number}", 0)
        await it.settle()
        assert len(asked(it)) == 2500
        assert await it.upstream.wait_subscribed("f/2499") is ReasonCode.SUCCESS


@pytest.mark.parametrize("qos", [0, 1])
async def test_what_is_offered_in_the_turn_of_the_end_is_no_bug_and_waits_for_the_next_link(
    autojump_clock: MockClock, qos: int
) -> None:
    async with linked() as it:
        it.broker.end(ReasonCode.SERVER_SHUTTING_DOWN)
        it.upstream.offer(messages(3, qos=qos))
        it.upstream.subscribe("a", 0)
        await trio.sleep(3)
        assert it.upstream.is_live
        # At QoS 0 they may have been written to the link that was just ending: that is what QoS 0 promises.
        assert qos == 0 or sorted(set(it.broker.topics)) == ["t/0", "t/1", "t/2"]
        assert asked(it)[-1] == ("a", 0, KEEP)


async def test_a_qos_0_message_does_not_overtake_one_that_waits_for_quota(autojump_clock: MockClock) -> None:
    async with linked(in_flight=1) as it:
        it.broker.is_mute = True
        it.upstream.offer([*messages(2), *messages(1, qos=0, start=2)])
        await it.settle()
        assert it.broker.topics == ["t/0"]
        it.broker.release()
        await it.settle()
        assert it.broker.topics == ["t/0", "t/1", "t/2"]


async def test_in_3_1_1_all_is_the_same_but_reasons_and_properties(autojump_clock: MockClock) -> None:
    async with linked(version="3.1.1") as it:
        assert it.broker.connects[0].version is ProtocolVersion.V311
        it.broker.grant = lambda _name, _qos: ReasonCode.NOT_AUTHORIZED
        it.upstream.subscribe("a", 0)
        assert await it.upstream.wait_subscribed("a") is ReasonCode.UNSPECIFIED_ERROR
        it.upstream.offer([(Message("t", b"x", 1, False, Properties(content_type="text/plain")), 7)])
        await it.settle()
        assert it.heard.tokens == [7]
        assert it.broker.messages[0].properties.content_type is None
