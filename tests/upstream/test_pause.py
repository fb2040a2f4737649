"""A broker that says "not now": what it refused waits at the head, and is sent again after a pause."""

from math import inf

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.config.model import TopicMapping, TopicPattern
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.pause import NO_LIMIT, SHORTEST_PAUSE, TRANSIENT, Pause
from tests.upstream.broker import Setting, linked, messages, topics

QUOTA = ReasonCode.QUOTA_EXCEEDED


def refuse(it: Setting, count: int, reason: ReasonCode = QUOTA) -> None:
    it.broker.rejects = dict.fromkeys(topics(count), reason)


def test_pauses_double_up_to_the_ceiling_and_fall_back_after_a_success() -> None:
    pause = Pause(ceiling=3.0, chance=lambda: 1.0)
    assert pause.allows(0.0, 5) == NO_LIMIT
    now, waits = 0.0, []
    for _ in range(4):
        assert pause.begin(QUOTA, now)
        waits.append(pause.until - now)
        now = pause.until
    assert waits == [1.0, 2.0, 3.0, 3.0]
    assert pause.worked(now, 0)
    assert (pause.reason, pause.until) == (None, inf)
    assert pause.begin(QUOTA, now)
    assert pause.until - now == 1.0


def test_a_pause_is_never_nothing() -> None:
    pause = Pause(ceiling=3.0, chance=lambda: 0.0)
    pause.begin(QUOTA, 7.0)
    assert pause.until == 7.0 + SHORTEST_PAUSE


def test_a_second_refusal_belongs_to_the_pause_that_is_on() -> None:
    pause = Pause(ceiling=3.0, chance=lambda: 1.0)
    assert pause.begin(QUOTA, 0.0)
    assert not pause.begin(ReasonCode.UNSPECIFIED_ERROR, 0.5)
    assert (pause.reason, pause.until) == ("quota exceeded", 1.0)


def test_one_is_tried_after_the_pause_once_nothing_is_in_flight() -> None:
    pause = Pause(ceiling=3.0, chance=lambda: 1.0)
    pause.begin(QUOTA, 0.0)
    assert [pause.allows(now, in_flight) for now, in_flight in ((0.9, 0), (1.0, 2), (1.0, 0))] == [0, 0, 1]
    assert not pause.worked(0.9, 0)  # it was in flight before
    assert not pause.worked(1.0, 2)  # and so are others
    assert pause.worked(1.0, 0)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("reason", sorted(TRANSIENT))
async def test_what_is_refused_for_now_is_sent_again_in_its_order(
    autojump_clock: MockClock, reason: ReasonCode, qos: int
) -> None:
    async with linked(chance=1.0) as it:
        refuse(it, 3, reason)
        it.upstream.offer(messages(3, qos=qos))
        await it.settle()
        assert (it.upstream.queued, it.upstream.in_flight) == (3, 0)
        assert it.upstream.status().paused == reason.name.lower().replace("_", " ")
        assert it.upstream.status().ill == f"paused: {it.upstream.status().paused}"
        it.upstream.offer([*messages(1, qos=0, start=3), *messages(1, qos=qos, start=4)])
        it.broker.rejects = {}
        await trio.sleep(0.9)
        assert it.broker.topics == topics(3)
        await trio.sleep(0.2)
        assert it.broker.topics == [*topics(3), *topics(5)]
        assert it.heard.tokens == [0, 1, 2, 4]
        assert it.heard.refused == []
        assert it.upstream.status().paused is None
        assert it.upstream.is_live
        books = it.upstream.books
        assert (books.pauses, books.put_back, books.refused, books.delivered) == (1, 3, 0, 5)


async def test_while_the_broker_goes_on_refusing_one_message_is_tried_at_growing_intervals(
    autojump_clock: MockClock,
) -> None:
    async with linked(chance=1.0, backoff_ceiling=4.0) as it:
        refuse(it, 3)
        it.upstream.offer(messages(3))
        await trio.sleep(16)  # 1 s, 2 s, and from then on 4 s
        assert it.broker.topics == [*topics(3), *["t/0"] * 5]
        assert it.upstream.books.pauses == 6
        assert it.log.names().count("upstream paused") == 1
        it.broker.rejects = {}
        await trio.sleep(4)
        assert it.broker.topics[8:] == topics(3)
        assert it.log.names()[-1] == "upstream takes messages again"
        assert it.upstream.status().paused is None


async def test_what_is_refused_in_later_reads_goes_behind_what_was_refused_before(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0, in_flight=4) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(6))
        await it.settle()
        line = it.broker.line
        for publish, reason in zip(
            line.withheld, (QUOTA, ReasonCode.SUCCESS, QUOTA, ReasonCode.TOPIC_NAME_INVALID), strict=True
        ):
            line.conn.acknowledge(publish.packet_id, 1, reason)
            it.broker.write(bytes(line.conn.data_to_send()))
            await it.settle()
        assert [item[1] for item in it.upstream._outbox._items] == [0, 2, 4, 5]
        assert it.heard.tokens == [1]
        assert [token for token, _, _ in it.heard.refused] == [3]
        it.broker.is_mute = False
        await trio.sleep(1)
        await it.settle()
        assert it.broker.topics[4:] == ["t/0", "t/2", "t/4", "t/5"]


async def test_nothing_is_tried_while_something_is_in_flight(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(2))
        await it.settle()
        line = it.broker.line
        line.conn.acknowledge(line.withheld[0].packet_id, 1, QUOTA)
        it.broker.write(bytes(line.conn.data_to_send()))
        await trio.sleep(5)
        assert it.broker.topics == topics(2)
        it.broker.is_mute = False
        line.conn.acknowledge(line.withheld[1].packet_id, 1, ReasonCode.SUCCESS)
        it.broker.write(bytes(line.conn.data_to_send()))
        await it.settle()
        assert it.broker.topics == [*topics(2), "t/0"]
        assert it.heard.tokens == [1, 0]


async def test_a_pause_outlives_its_link(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0, backoff_first=0.1) as it:
        refuse(it, 2)
        it.upstream.offer(messages(2))
        await it.settle()
        it.broker.rejects = {}
        it.broker.kill()
        await trio.sleep(0.8)
        assert it.upstream.is_live
        assert it.broker.topics == topics(2)
        await trio.sleep(0.3)
        assert it.heard.tokens == [0, 1]


async def test_messages_go_back_under_their_local_names(autojump_clock: MockClock) -> None:
    mapping = TopicMapping(local=TopicPattern("t/#"), remote=TopicPattern("far/#"))
    async with linked(chance=1.0, topics=(mapping,)) as it:
        it.broker.rejects = {"far/0": QUOTA}
        it.upstream.offer(messages(1))
        await it.settle()
        assert [message.topic for message, _ in it.upstream._outbox._items] == ["t/0"]
        await trio.sleep(1.1)
        assert it.broker.topics == ["far/0", "far/0"]


async def test_metrics_tell_of_pauses(autojump_clock: MockClock) -> None:
    async with linked() as it:
        refuse(it, 2)
        it.upstream.offer(messages(2))
        await it.settle()
        snapshot = it.upstream.snapshot()
        assert (snapshot.paused, snapshot.pauses, snapshot.put_back) == (True, 1, 2)
        assert snapshot.books() == (2, 2)
