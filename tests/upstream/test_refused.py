"""What a broker may refuse: the connection, our client identifier, one message. Rows X5, X6 and X9 of the faults."""

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.breaker import BreakerState
from tests.upstream.broker import FakeBroker, Setting, linked, messages


@pytest.mark.parametrize(
    ("reason", "counts"),
    [
        (ReasonCode.SERVER_UNAVAILABLE, True),
        (ReasonCode.SERVER_BUSY, True),
        (ReasonCode.QUOTA_EXCEEDED, True),
        (ReasonCode.CONNECTION_RATE_EXCEEDED, True),
        (ReasonCode.NOT_AUTHORIZED, False),
        (ReasonCode.BAD_USER_NAME_OR_PASSWORD, False),
        (ReasonCode.BANNED, False),
        (ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, False),
    ],
)
async def test_X5_only_busy_counts_for_the_breaker(autojump_clock: MockClock, reason: ReasonCode, counts: bool) -> None:
    def refuse(broker: FakeBroker) -> None:
        broker.refuse_with = reason
        broker.refusal_properties = Properties(reason_string="no")

    async with linked(breaker_failures=2, prepare=refuse) as it:
        await trio.sleep(1.5)
        status = it.upstream.status()
        assert (status.breaker.state is BreakerState.OPEN) == counts
        assert str(status.last_error).endswith(f"(0x{reason:02X}), 'no'")
        await trio.sleep(250)
        if not counts:
            assert [at for at, _ in it.broker.dials] == pytest.approx([0, 120, 240])
            assert it.upstream.offer(messages(1)) == 1


@pytest.mark.parametrize("reason", [ReasonCode.SERVER_UNAVAILABLE, ReasonCode.NOT_AUTHORIZED])
async def test_X5_refusals_of_3_1_1(autojump_clock: MockClock, reason: ReasonCode) -> None:
    def refuse(broker: FakeBroker) -> None:
        broker.refuse_with = reason

    async with linked(breaker_failures=1, version="3.1.1", prepare=refuse) as it:
        is_open = it.upstream.status().breaker.state is BreakerState.OPEN
        assert is_open == (reason is ReasonCode.SERVER_UNAVAILABLE)


async def test_X5_a_broker_is_dialled_once_a_second_at_most(autojump_clock: MockClock) -> None:
    def refuse(broker: FakeBroker) -> None:
        broker.unreachable = "connection refused"

    async with linked(breaker_failures=1000, breaker_ratio=2.0, chance=0.0, prepare=refuse) as it:
        await trio.sleep(10.5)
        assert len(it.broker.dials) == 11


@pytest.mark.parametrize(
    ("reason", "dials"),
    [
        # Full jitter at its most: 1, 2, 4, … to the ceiling. Busy opens the breaker at the fifth, for 30 s, then 60 s.
        (ReasonCode.SERVER_UNAVAILABLE, [0, 1, 3, 7, 15, 45, 105]),
        (ReasonCode.QUOTA_EXCEEDED, [0, 1, 3, 7, 15, 45, 105]),
        (ReasonCode.CONNECTION_RATE_EXCEEDED, [0, 1, 3, 7, 15, 45, 105]),
        (ReasonCode.NOT_AUTHORIZED, [0, 120]),
        (ReasonCode.BAD_USER_NAME_OR_PASSWORD, [0, 120]),
    ],
)
async def test_X5_a_broker_that_refuses_and_then_accepts_is_dialled_ever_more_slowly_and_gets_everything(
    autojump_clock: MockClock, reason: ReasonCode, dials: list[float]
) -> None:
    def refuse(broker: FakeBroker) -> None:
        broker.refuse_with = reason

    async with linked(chance=1.0, prepare=refuse) as it:
        it.upstream.offer(messages(3))
        await trio.sleep(150)
        assert [at for at, _ in it.broker.dials] == dials
        it.broker.refuse_with = None
        await trio.sleep(300)
        assert it.upstream.is_live
        assert it.heard.tokens == [0, 1, 2]
        assert it.upstream.status().ill == ""
        assert it.log.names().count("upstream lost") == 1


async def test_X6_a_session_taken_over_three_times_is_dialled_slowly(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0) as it:
        for _ in range(3):
            await trio.sleep(9)
            it.broker.end(ReasonCode.SESSION_TAKEN_OVER)
            await it.settle()
        status = it.upstream.status()
        assert status.breaker.state is BreakerState.CLOSED
        assert status.next_try == trio.current_time() + 120


async def take_over(it: Setting, times: int) -> None:
    """Let somebody else connect under our name, each time after 9 s."""
    for _ in range(times):
        await trio.sleep(9)
        it.broker.end(ReasonCode.SESSION_TAKEN_OVER)
        await it.settle()


async def test_X6_a_ping_pong_is_told_once_and_shows_in_health_and_metrics(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0) as it:
        await take_over(it, 2)
        assert not it.upstream.snapshot().contested
        await take_over(it, 1)
        for dials in (3, 4):
            assert "somebody else uses our client identifier" in it.upstream.status().ill
            snapshot = it.upstream.snapshot()
            assert (snapshot.contested, snapshot.trouble, snapshot.breaker_state) == (True, "taken_over", "closed")
            await trio.sleep(119)
            assert len(it.broker.dials) == dials
            await trio.sleep(1)
            await take_over(it, 1)
        assert it.log.names().count("somebody else uses our client identifier") == 1


async def test_X6_once_the_other_one_is_gone_a_link_that_lasts_ends_it(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0, backoff_reset=30.0) as it:
        await take_over(it, 3)
        await trio.sleep(121)
        assert it.upstream.is_live
        assert it.upstream.snapshot().contested  # it may come back at any moment
        await trio.sleep(30)
        assert not it.upstream.snapshot().contested
        it.broker.kill()
        await it.settle()
        due = it.upstream.status().next_try
        assert due is not None
        assert due - trio.current_time() <= 1.0  # as after any other loss
        assert not it.upstream.snapshot().contested


@pytest.mark.parametrize("qos", [1, 2])
async def test_X9_a_message_that_is_refused_for_good_blocks_nothing(autojump_clock: MockClock, qos: int) -> None:
    async with linked() as it:
        it.broker.rejects = {"t/1": ReasonCode.PAYLOAD_FORMAT_INVALID, "t/3": ReasonCode.TOPIC_NAME_INVALID}
        it.upstream.offer(messages(5, qos=qos))
        await it.settle()
        assert it.heard.tokens == [0, 2, 4]
        assert [(token, message.topic, reason) for token, message, reason in it.heard.refused] == [
            (1, "t/1", ReasonCode.PAYLOAD_FORMAT_INVALID),
            (3, "t/3", ReasonCode.TOPIC_NAME_INVALID),
        ]
        assert it.upstream.books.refused == 2
        assert it.upstream.is_live
        assert it.upstream.snapshot().pauses == 0


async def test_X9_a_refusal_for_good_and_one_for_now_in_the_same_read_are_told_apart(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0) as it:
        it.broker.rejects = {"t/1": ReasonCode.NOT_AUTHORIZED, "t/2": ReasonCode.QUOTA_EXCEEDED}
        it.upstream.offer(messages(4))
        await it.settle()
        assert it.heard.tokens == [0, 3]
        assert [token for token, _, _ in it.heard.refused] == [1]
        it.broker.rejects = {}
        await trio.sleep(1.1)
        assert it.heard.tokens == [0, 3, 2]
