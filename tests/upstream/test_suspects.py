"""A message that kills every link is found, taken out and told; nothing else is."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.callbacks import Poison
from mqttproxy.upstream.suspects import SUSPECT_AFTER, Item, Suspects, Verdict
from tests.upstream.broker import FakeBroker, Line, Setting, linked, messages, topics


def outgoing(count: int) -> dict[int, Item]:
    return dict(enumerate(messages(count), 1))


def lose(
    suspects: Suspects,
    items: dict[int, Item],
    sent: Sequence[int] | None = None,
    *,
    silent: bool = False,
    answers: int = 0,
) -> Verdict | None:
    return suspects.lost(items, list(items) if sent is None else sent, was_silent=silent, answers=answers)


def suspected(count: int) -> tuple[Suspects, dict[int, Item]]:
    suspects, items = Suspects(), outgoing(count)
    for _ in range(SUSPECT_AFTER):
        assert lose(suspects, items) is None
    return suspects, items


def test_after_three_lost_links_a_message_is_suspect() -> None:
    suspects, items = Suspects(), outgoing(3)
    for _ in range(SUSPECT_AFTER - 1):
        lose(suspects, items)
    assert suspects.among(items) == frozenset()
    lose(suspects, items, [1, 3])
    assert suspects.among(items) == {1, 3}


def test_the_one_that_was_alone_at_the_next_is_taken_out() -> None:
    suspects, items = suspected(3)
    assert lose(suspects, items, [1]) == Verdict(1, SUSPECT_AFTER + 1)
    del items[1]
    assert suspects.among(items) == {2, 3}


def test_what_has_arrived_is_cleared_and_its_identifier_stands_for_another_message() -> None:
    suspects, items = suspected(2)
    items[1] = messages(1, start=9, payload=b"y")[0]
    assert suspects.among(items) == {2}
    assert lose(suspects, items, [1]) is None


def test_a_message_that_was_made_less_for_the_broker_is_still_the_same() -> None:
    suspects, items = suspected(1)
    message, token = items[1]
    items[1] = (Message(message.topic, message.payload, 1, False), token)
    assert suspects.among(items) == {1}


def test_silence_alone_shows_nothing_of_a_broker_that_acknowledges_nothing() -> None:
    suspects, items = Suspects(), outgoing(2)
    for _ in range(2 * SUSPECT_AFTER - 1):
        assert lose(suspects, items, [1], silent=True, answers=7) is None
    assert lose(suspects, items, [1], silent=True, answers=7) == Verdict(1, 2 * SUSPECT_AFTER)


def test_silence_of_a_broker_that_acknowledges_others_shows_it_at_once() -> None:
    suspects, items = Suspects(), outgoing(2)
    for _ in range(SUSPECT_AFTER):
        lose(suspects, items, silent=True, answers=7)
    assert lose(suspects, items, [2], silent=True, answers=8) == Verdict(2, SUSPECT_AFTER + 1)


class Allergic:
    """A broker that hangs up when it is sent certain topics, before it has answered anything behind the last read."""

    def __init__(self, broker: FakeBroker, *poisonous: str) -> None:
        self._broker = broker
        self._poisonous = poisonous
        self._answer = broker._answer
        self.seen: list[list[str]] = []  # of each link
        broker._answer = self.answer  # type: ignore[method-assign]

    def answer(self, line: Line, publish: Publish) -> None:
        while len(self.seen) < len(self._broker.lines):
            self.seen.append([])
        self.seen[-1].append(publish.topic)
        if publish.topic in self._poisonous:
            line.stream.abort()
        elif line.stream.closed is None:
            self._answer(line, publish)


def told(it: Setting) -> list[tuple[object, str, object]]:
    return [(token, message.topic, why) for token, message, why in it.heard.refused]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("place", [0, 2, 4])
async def test_a_message_that_kills_every_link_is_taken_out_and_all_others_arrive_in_order(
    autojump_clock: MockClock, place: int, qos: int
) -> None:
    async with linked() as it:
        allergic = Allergic(it.broker, f"t/{place}")
        it.upstream.offer(messages(5, qos=qos))
        await it.settle()
        it.upstream.offer(messages(5, qos=qos, start=5))  # waits while suspects go alone
        await trio.sleep(200)
        assert told(it) == [(place, f"t/{place}", Poison(SUSPECT_AFTER + 1))]
        assert it.heard.tokens == [number for number in range(10) if number != place]
        assert it.upstream.is_live
        assert (it.upstream.books.refused, it.upstream.books.poisoned) == (1, 1)
        assert it.upstream.status().suspects == 0
        # The link over which it was alone: each suspect by itself, in order, and nothing behind the one that kills.
        last = allergic.seen[SUSPECT_AFTER]
        assert last == topics(place + 1)[-len(last) :]
        assert it.log.names().count("a message kills every link and is held") == 1


async def test_several_that_kill_are_taken_out_one_after_the_other(autojump_clock: MockClock) -> None:
    async with linked(breaker_failures=100, breaker_ratio=2.0) as it:
        Allergic(it.broker, "t/1", "t/2")
        it.upstream.offer(messages(5))
        await trio.sleep(300)
        assert [(token, topic) for token, topic, _ in told(it)] == [(1, "t/1"), (2, "t/2")]
        assert it.heard.tokens == [0, 3, 4]


async def test_while_a_suspect_is_alone_not_even_qos_0_goes(autojump_clock: MockClock) -> None:
    async with linked(keep_alive=0.0) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(2))
        for _ in range(SUSPECT_AFTER):
            await it.settle()
            it.broker.kill()
            await trio.sleep(5)
        assert it.upstream.snapshot().suspects == 2
        it.broker.messages.clear()
        it.upstream.offer(messages(1, qos=0, start=2))
        await it.settle()
        assert [publish.topic for publish in it.broker.line.withheld] == ["t/0"]
        assert it.broker.messages == []
        it.broker.release()
        await it.settle()
        assert it.broker.topics == ["t/1"]
        it.broker.release()
        await it.settle()
        assert it.broker.topics == ["t/1", "t/2"]
        assert it.heard.tokens == [0, 1]


@pytest.mark.parametrize(
    "reason", [ReasonCode.SESSION_TAKEN_OVER, ReasonCode.NOT_AUTHORIZED, ReasonCode.SERVER_BUSY], ids=lambda r: r.name
)
async def test_a_link_that_the_broker_ended_for_another_reason_counts_against_no_message(
    autojump_clock: MockClock, reason: ReasonCode
) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(2))
        for _ in range(SUSPECT_AFTER + 1):
            await it.settle()
            it.broker.end(reason)
            await trio.sleep(300)
        assert it.upstream.snapshot().suspects == 0


async def test_a_link_that_could_not_be_made_counts_against_no_message(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(2))
        await it.settle()
        it.broker.unreachable = "connection refused"
        it.broker.kill()
        await trio.sleep(1000)
        assert it.upstream.books.failures > SUSPECT_AFTER + 1
        assert it.upstream.snapshot().suspects == 0


async def test_a_message_at_qos_2_that_has_pubrec_is_no_suspect(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(1, qos=2))
        await it.settle()
        it.broker.line.theirs.kernel_bytes = 0  # PUBREL never gets there
        it.broker.release()
        await it.settle()
        for _ in range(SUSPECT_AFTER + 1):
            it.broker.kernel_bytes = 0
            it.broker.kill()
            await trio.sleep(30)
        assert it.upstream.snapshot().suspects == 0
        assert it.heard.refused == []
