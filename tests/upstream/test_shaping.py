"""What an upstream gets of messages that are shaped for it, and what is told of them."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties, Timed
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.callbacks import Callbacks, Unshaped
from mqttproxy.upstream.shaping import Shaped, beside, shaped
from tests.upstream import broker
from tests.upstream.broker import Heard, linked
from tests.upstream.test_link_names import TOPICS, offer

BAD = Unshaped("/x", "nothing is there")


def shape(message: Message) -> Message | Unshaped:
    """Write payloads twice, and leave topics of `plain` alone."""
    if message.topic.startswith("plain"):
        return message
    return BAD if message.payload == b"bad" else replace(message, payload=message.payload * 2)


@pytest.fixture(autouse=True)
def _shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[[Heard], Callbacks] = Heard.callbacks

    def callbacks(heard: Heard) -> Callbacks:
        made = make(heard)
        return Callbacks(
            settled=made.settled, refused=made.refused, dropped=made.dropped, received=made.received,
            shape_of=lambda name: shape,
        )  # fmt: skip

    monkeypatch.setattr(broker.Heard, "callbacks", callbacks)


def test_what_is_not_shaped_is_the_same_item() -> None:
    items: list[Any] = [
        (Message("plain", b"x"), 1),
        (Message("a", b"bad"), 2),
        (Timed("a", b"x", 1, expires_at=5.0), 3),
    ]
    ready, refused = shaped(items, shape)
    assert ready[0] is items[0]
    assert refused == [(2, items[1][0], BAD)]
    assert ready[1] == (Shaped("a", b"xx", 1, expires_at=5.0, original=items[2][0]), 3)


def test_a_shape_is_a_message_with_the_time_of_its_original() -> None:
    original = Timed("a", b"x", 1, False, Properties(message_expiry_interval=9), 7.0)
    made = beside(replace(original, topic="b"), original)
    assert (made.topic, made.expires_at, made.original) == ("b", 7.0, original)


async def test_the_broker_gets_the_shape(autojump_clock: MockClock) -> None:
    async with linked(topics=TOPICS) as it:
        offer(it, Message("plant/7", b"a", 0), Message("plant/7", b"b", 1), Message("plain", b"c", 2))
        await it.settle()
        assert [(message.topic, message.payload) for message in it.broker.messages] == [
            ("acme/eu/7/in", b"aa"), ("acme/eu/7/in", b"bb"), ("plain", b"c"),
        ]  # fmt: skip
        assert sorted(map(str, it.heard.tokens)) == ["1", "2"]


async def test_what_cannot_be_shaped_is_refused_and_never_sent(autojump_clock: MockClock) -> None:
    async with linked() as it:
        bad = [Message("a", b"bad", qos) for qos in (0, 1, 2)]
        offer(it, *bad, Message("a", b"x", 1))
        await it.settle()
        assert [message.payload for message in it.broker.messages] == [b"xx"]
        assert it.heard.refused == [(None, bad[0], BAD), (1, bad[1], BAD), (2, bad[2], BAD)]
        assert it.upstream.books.refused == 3


async def test_what_the_broker_refuses_is_told_as_it_came(autojump_clock: MockClock) -> None:
    async with linked(topics=TOPICS) as it:
        it.broker.rejects["acme/eu/7/in"] = ReasonCode.NOT_AUTHORIZED
        message = Message("plant/7", b"x", 1)
        offer(it, message)
        await it.settle()
        assert it.heard.refused == [(0, message, ReasonCode.NOT_AUTHORIZED)]


async def test_a_shape_without_a_place_there_is_told_as_it_came(autojump_clock: MockClock) -> None:
    async with linked(topics=TOPICS) as it:
        message = Message("acme/eu/7/in", b"x", 1)
        offer(it, message)
        await it.settle()
        assert it.heard.refused == [(0, message, ReasonCode.TOPIC_NAME_INVALID)]


async def test_what_must_wait_is_shaped_once_when_it_goes_again(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.rejects["a"] = ReasonCode.QUOTA_EXCEEDED
        offer(it, Message("a", b"x", 1))
        await it.settle()
        assert it.upstream.queued == 1
        it.broker.rejects.clear()
        await it.settle()
        await trio.sleep(200)
        assert it.broker.messages[-1].payload == b"xx"
        assert it.heard.tokens == [0]


async def test_what_is_in_flight_when_the_link_is_lost_goes_again_in_the_same_shape(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        offer(it, Message("a", b"x", 1))
        await it.settle()
        it.broker.is_mute = False
        it.broker.kill()
        await trio.sleep(60)
        assert [message.payload for message in it.broker.messages][-1] == b"xx"
        assert it.heard.tokens == [0]


async def test_what_was_in_flight_to_a_removed_upstream_is_told_as_it_came(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        message = Message("a", b"x", 1)
        offer(it, message)
        await it.settle()
        await it.stop()
        it.upstream.abandon()
        assert [one for _, one, _ in it.heard.refused] == [message]
