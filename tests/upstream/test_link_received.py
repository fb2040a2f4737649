"""What comes from the broker: acknowledged when the pipeline says so, in order, and for whom it is."""

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties, Publish, Timed
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.interest import COPY
from tests.upstream.broker import FakeBroker, Setting, linked, messages


def unacknowledged(it: Setting) -> int:
    """Return how many messages the broker has sent and not heard of."""
    return len(it.broker.line.conn.session.outgoing)


def push(it: Setting, *topics: str, qos: int = 1, payload: bytes = b"") -> None:
    it.broker.push(*(Message(topic, payload, qos) for topic in topics))


async def test_nothing_is_acknowledged_before_it_is_done(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.heard.withholds = True
        push(it, "a", "b")
        await it.settle()
        assert (len(it.heard.arrived), unacknowledged(it)) == (2, 2)
        it.heard.undone[0]()
        await it.settle()
        assert unacknowledged(it) == 0


async def test_acknowledgements_go_in_the_order_of_arrival(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.heard.withholds = True
        for topic in ("a", "b", "c"):
            push(it, topic)
            await it.settle()
        first, second, third = it.heard.undone
        third()
        second()
        await it.settle()
        assert unacknowledged(it) == 3
        first()
        await it.settle()
        assert unacknowledged(it) == 0
        push(it, "d", qos=0)
        await it.settle()
        it.heard.undone[3]()  # of which the broker need not hear


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_is_refused_is_refused_to_a_broker_that_can_be_told(
    autojump_clock: MockClock, qos: int, version: str
) -> None:
    async with linked(version=version) as it:
        it.heard.withholds = True
        push(it, "a", "b", qos=qos)
        await it.settle()
        it.heard.undone[0]({1: ReasonCode.PAYLOAD_FORMAT_INVALID})
        await it.settle()
        assert unacknowledged(it) == 0
        refused = ReasonCode.PAYLOAD_FORMAT_INVALID if version == "5" else ReasonCode.SUCCESS
        heard = {event.message.topic: event.reason for event in it.broker.settled}
        assert heard == {"a": ReasonCode.SUCCESS, "b": refused}
        push(it, "c", qos=qos)  # and the exchange is over on both sides
        await it.settle()
        it.heard.undone[1]()
        await it.settle()
        assert unacknowledged(it) == 0


@pytest.mark.parametrize("qos", [1, 2])
async def test_done_after_the_end_of_the_link_means_nothing_to_the_next(autojump_clock: MockClock, qos: int) -> None:
    async with linked() as it:
        it.heard.withholds = True
        push(it, "a", qos=qos)
        await it.settle()
        it.broker.kill()
        await trio.sleep(3)
        assert it.upstream.is_live
        assert [publish.dup for publish in it.heard.publishes] == [False, True]
        it.heard.undone[0]()
        await it.settle()
        assert unacknowledged(it) == 1
        it.heard.undone[1]()
        await it.settle()
        assert unacknowledged(it) == 0


async def test_what_is_done_between_two_links_is_known_again_at_qos_2(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.heard.withholds = True
        push(it, "a", qos=2)
        await it.settle()
        it.broker.kill()
        await it.settle()
        it.heard.undone[0]()
        await trio.sleep(3)
        assert len(it.heard.arrived) == 1
        assert unacknowledged(it) == 0


async def test_an_mqtt_5_broker_is_told_how_much_it_may_send(autojump_clock: MockClock) -> None:
    async with linked(receive_maximum=7) as it:
        assert it.broker.connects[0].properties.receive_maximum == 7


async def test_a_3_1_1_broker_is_not_read_while_too_much_is_unacknowledged(autojump_clock: MockClock) -> None:
    async with linked(version="3.1.1", receive_maximum=3, ack_timeout=5.0, keep_alive=10.0) as it:
        it.heard.withholds = True
        for topic in "abcde":
            push(it, topic)
            await it.settle()
        assert [publish.topic for publish in it.heard.publishes] == ["a", "b", "c"]
        await trio.sleep(60)  # its silence is ours
        assert it.upstream.is_live
        it.heard.undone[0]()
        await it.settle()
        assert [publish.topic for publish in it.heard.publishes] == ["a", "b", "c", "d", "e"]  # in one read
        it.heard.withholds = False
        for done in it.heard.undone[1:]:
            done()
        await trio.sleep(60)
        assert unacknowledged(it) == 0
        assert it.upstream.is_live


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_unacknowledged_bytes_are_bounded(autojump_clock: MockClock, version: str) -> None:
    async with linked(version=version, receive_bytes=20) as it:
        it.heard.withholds = True
        for topic in "abcd":
            push(it, topic, payload=b"0123456789")
            await it.settle()
        assert len(it.heard.arrived) == 2
        it.heard.undone[0]()
        await it.settle()
        assert len(it.heard.arrived) == 4  # in one read


# For whom


def identified(topic: str, *identifiers: int, retain: bool = False) -> Message:
    return Message(topic, b"", 0, retain, Properties(subscription_identifiers=identifiers))


async def test_what_is_retained_is_for_who_asked_and_what_is_live_for_all(autojump_clock: MockClock) -> None:
    async with linked() as it:
        for device in ("one", "two"):
            it.upstream.subscribe("a/#", 0, retained_for=device)
            await it.settle()
        it.broker.push(
            identified("a", 2, retain=True), identified("a", 1, retain=True), identified("a", 1), identified("a", 2)
        )
        await it.settle()
        assert [arrival.retained_for for arrival in it.heard.arrived] == [("two",), ("one",), None, None]
        assert it.heard.filters == [("a/#",)] * 4


async def test_those_who_ask_before_it_is_told_share_one_asking(autojump_clock: MockClock) -> None:
    async with linked() as it:
        for device in ("one", "two"):
            it.upstream.subscribe("a", 0, retained_for=device)
        await it.settle()
        it.broker.push(identified("a", 1, retain=True))
        await it.settle()
        assert [arrival.retained_for for arrival in it.heard.arrived] == [("one", "two")]


async def test_what_is_retained_and_nobody_asked_for_is_left_out(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.upstream.subscribe("a", 0)
        await it.settle()
        it.broker.push(identified("a", 1, retain=True), Message("a", b"", 1, True))
        await it.settle()
        assert it.heard.arrived == []
        assert it.upstream.snapshot().unclaimed == 2
        assert unacknowledged(it) == 0


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_after_a_lost_session_all_hear_what_is_retained_as_news(autojump_clock: MockClock, version: str) -> None:
    async with linked(version=version) as it:
        it.upstream.subscribe("a", 0, retained_for="one")
        await it.settle()
        it.broker.forget()
        it.broker.keeps_sessions = False
        it.broker.kill()
        await trio.sleep(3)
        it.broker.push(identified("a", 2, retain=True) if version == "5" else Message("a", b"", 0, True))
        await it.settle()
        (arrival,) = it.heard.arrived
        assert (arrival.publish.retain, arrival.retained_for) == (False, None)


async def test_the_flag_is_for_those_who_want_it_once_the_broker_has_granted_it(autojump_clock: MockClock) -> None:
    async with linked(client_id="gw/1+") as it:
        it.upstream.subscribe("a", 0)
        await it.settle()
        granted = it.broker.grant
        it.broker.grant = lambda name, qos: (
            ReasonCode.NOT_AUTHORIZED if name.startswith("$share") else granted(name, qos)
        )
        it.upstream.subscribe("a", 0, as_published=True)
        assert await it.upstream.wait_subscribed("a") is ReasonCode.SUCCESS
        it.broker.push(identified("a", 1))
        await it.settle()
        it.broker.grant = granted
        it.upstream.subscribe("a", 0, as_published=True)
        await it.settle()
        it.broker.push(
            identified("a", 1), *(identified("a", *ids, retain=True) for ids in ((COPY + 3,), (1, COPY + 3)))
        )
        await it.settle()
        assert it.broker.asked[1:] == ["$share/gw%2F1%2B/a"] * 2
        both = ("a",)
        assert [(arrival.filters, arrival.as_published) for arrival in it.heard.arrived] == [
            (both, both),
            (both, ()),
            ((), both),
            (both, both),
        ]
        assert [arrival.retained_for for arrival in it.heard.arrived] == [None] * 4


@pytest.mark.parametrize("lacks", ["shared_subscription_available", "subscription_identifier_available"])
async def test_without_shared_subscriptions_a_group_is_served_here(autojump_clock: MockClock, lacks: str) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.extra = Properties(**{lacks: 0})  # type: ignore[arg-type]  # a field of it

    async with linked(prepare=lower) as it:
        it.upstream.subscribe("$share/g/a/+", 1, retained_for="one")
        it.upstream.subscribe("a/+", 1, as_published=True)
        await it.settle()
        assert set(it.broker.asked) == {"a/+"}
        assert await it.upstream.wait_subscribed("$share/g/a/+") is ReasonCode.GRANTED_QOS_1
        if lacks.startswith("shared"):
            it.broker.push(identified("a/b", 1))
            await it.settle()
            assert set(it.heard.filters[0] or ()) == {"$share/g/a/+", "a/+"}
        for topic_filter, as_published in (("$share/g/a/+", False), ("a/+", True)):
            it.upstream.unsubscribe(topic_filter, as_published=as_published)
        await it.settle()
        assert it.broker.unasked == ["a/+"]


# What was over


async def test_what_was_over_while_it_waited_is_dropped_and_told(autojump_clock: MockClock) -> None:
    async with linked(in_flight=1) as it:
        it.broker.is_mute = True
        now = trio.current_time()
        interval = Properties(message_expiry_interval=10)
        it.upstream.offer(
            [
                *messages(1),
                (Timed("over", b"123", 1, False, interval, now + 10), 7),
                (Timed("over", b"123", 0, False, interval, now + 10), None),
                (Timed("left", b"", 1, False, Properties(message_expiry_interval=30), now + 30), 8),
            ]
        )
        await trio.sleep(12)
        it.broker.is_mute = False
        it.broker.release()
        await it.settle()
        assert it.broker.topics == ["t/0", "left"]
        assert it.broker.messages[1].properties.message_expiry_interval == 18
        assert it.heard.dropped == [7]
        assert it.upstream.books.dropped == {"expired": 2}
        assert it.heard.tokens == [0, 8]


async def test_draining_ends_when_the_last_that_waited_is_over(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.unreachable = "gone"
        it.broker.kill()
        await it.settle()
        it.upstream.offer([(Timed("over", b"", 1, False, Properties(message_expiry_interval=1), 1.0), 7)])
        await trio.sleep(2)
        it.broker.unreachable = None
        assert await it.upstream.drain(trio.current_time() + 60)
        assert trio.current_time() < 30


# Stamps


async def test_an_mqtt_5_broker_is_told_of_hops_and_origin(autojump_clock: MockClock) -> None:
    stamps = (("mqttproxy-hops", "1"), ("mqttproxy-origin", "gw"))
    twice = (("a", "1"), ("mqttproxy-hops", "2"), ("mqttproxy-origin", "other"))
    async with linked() as it:
        it.upstream.offer(
            [
                (Message("plain", b"", 1), 1),
                (Message("more", b"", 0, False, Properties(content_type="x", user_properties=(("a", "1"),))), None),
                (Message("twice", b"", 1, False, Properties(user_properties=twice)), 2),
            ]
        )
        await it.settle()
        assert [one.properties.user_properties for one in it.broker.messages] == [stamps, (("a", "1"), *stamps), twice]


async def test_without_the_guard_nothing_is_told(autojump_clock: MockClock) -> None:
    twice = (("a", "1"), ("mqttproxy-hops", "2"), ("mqttproxy-origin", "other"))
    async with linked(loop_guard=False) as it:
        it.upstream.offer(
            [
                (Publish("plain", b"", 1), 1),
                (Message("twice", b"", 1, False, Properties(user_properties=twice)), 2),
            ]
        )
        await it.settle()
        assert [one.properties.user_properties for one in it.broker.messages] == [(), (("a", "1"),)]


async def test_a_message_that_only_fits_without_stamps_goes_without(autojump_clock: MockClock) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.extra = Properties(maximum_packet_size=40)

    async with linked(prepare=lower) as it:
        it.upstream.offer(messages(1) + messages(1, start=1, payload=b"x" * 40))
        await it.settle()
        assert it.broker.topics == ["t/0"]
        assert it.broker.messages[0].properties.user_properties == ()
        assert it.heard.tokens == [0]
        assert [token for token, _, _ in it.heard.refused] == [1]
