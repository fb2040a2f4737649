"""One destination's way out of the spool: live or from disk, each message once, in order, whatever happens between."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, field
from hypothesis import example, given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttproxy.mqtt.packets import Message
from mqttproxy.spool.entry import Entry, Share
from mqttproxy.spool.feed import Feed, Item
from tests.spool.examples import SENDER, Sink


@define(eq=False)
class Belt:
    """A feed with a disk and a destination. `slice`: how many items a read brings; `delay`: seconds that it takes."""

    feed: Feed = field(factory=lambda: Feed(0, "a"))
    share: Share = field(factory=lambda: Share(1))
    sink: Sink = field(factory=Sink)
    disk: list[Item] = field(factory=list)
    number: int = 0
    slice: int = 3
    delay: float = 0.0
    reads: int = 0
    settled: set[int] = field(factory=set)

    def commit(self, count: int, *, gap: int = 0) -> None:
        """Commit a batch for this destination, behind some messages for others."""
        self.number += gap
        items: list[Item] = []
        for _ in range(count):
            self.number += 1
            items.append((Message("t", b"x", 1), Entry(self.number, 1, self.share, SENDER, None, 1)))
        self.share.add(count, count)
        self.feed.add(count, count)
        self.feed.pending += count
        self.disk += items
        self.feed.push(items)

    async def read(self, feed: Feed) -> list[Item]:
        self.reads += 1
        begun = feed.round
        found = [item for item in self.disk if item[1].number > feed.given]
        await trio.sleep(self.delay)
        if begun != feed.round:
            return []
        items: list[Item] = []
        for item in found:
            if item[1].number not in feed.skip:
                items.append(item)
            elif items:  # as the real one: what is passed over ends what is handed out at once
                break
            else:
                feed.passed(item[1].number)
        return items[: self.slice]

    def settle(self, *positions: int) -> None:
        entries = self.sink.let_go(*positions)
        self.settled |= {entry.number for entry in entries}
        self.feed.settled(entries)

    @property
    def numbers(self) -> list[int]:
        return [item[1].number for item in self.disk]

    def check(self) -> None:
        """What must be true at any time."""
        feed = self.feed
        open_ = [number for number in self.numbers if number not in self.settled]
        assert feed.messages == feed.size == self.share.messages[0] == len(open_)
        assert feed.cursor < min(open_, default=self.number + 1)
        assert feed.out == len(self.sink.held)
        assert feed.on_disk == len(open_) - len(self.sink.held)
        assert feed.lost == 0


@asynccontextmanager
async def running(belt: Belt) -> AsyncIterator[Belt]:
    belt.feed.destination = belt.sink
    async with trio.open_nursery() as nursery:
        nursery.start_soon(belt.feed.run, belt.read)
        await wait_all_tasks_blocked()
        yield belt
        await wait_all_tasks_blocked()
        belt.check()
        nursery.cancel_scope.cancel()


class TestLive:
    async def test_while_it_keeps_up_the_disk_is_not_read(self, autojump_clock: MockClock) -> None:
        async with running(Belt()) as belt:
            belt.commit(3)
            belt.settle()
            belt.commit(2, gap=5)
            belt.settle()
            assert belt.sink.taken == [1, 2, 3, 9, 10]
            assert (belt.feed.cursor, belt.feed.messages, belt.reads) == (10, 0, 0)

    async def test_a_batch_that_has_room_in_part_is_handed_out_in_part_and_the_rest_from_disk(
        self, autojump_clock: MockClock
    ) -> None:
        async with running(Belt(sink=Sink(2))) as belt:
            belt.commit(5)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1, 2]
            assert belt.feed.is_lagging
            assert belt.reads == 0  # not before there is room
            belt.sink.set_bound(10)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1, 2, 3, 4, 5]
            assert not belt.feed.is_lagging

    async def test_what_is_committed_while_it_lags_comes_in_its_turn(self, autojump_clock: MockClock) -> None:
        async with running(Belt(sink=Sink(1))) as belt:
            belt.commit(2)
            belt.sink.set_bound(3)
            belt.commit(2)  # although there is room
            assert belt.sink.taken == [1]
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1, 2, 3]
            belt.sink.set_bound(9)
            await wait_all_tasks_blocked()
            belt.commit(1)
            assert belt.sink.taken == [1, 2, 3, 4, 5]

    async def test_it_is_not_live_before_what_was_committed_during_the_last_read_is_handed_out(
        self, autojump_clock: MockClock
    ) -> None:
        async with running(Belt(sink=Sink(0), delay=1.0)) as belt:
            belt.commit(1)
            belt.sink.set_bound(9)
            await trio.sleep(0.5)
            belt.commit(1)
            await trio.sleep(1)
            assert belt.sink.taken == [1]
            assert belt.feed.is_lagging
            await trio.sleep(1)
            assert belt.sink.taken == [1, 2]
            assert not belt.feed.is_lagging


class TestCursor:
    async def test_it_passes_nothing_that_is_not_settled(self, autojump_clock: MockClock) -> None:
        async with running(Belt()) as belt:
            belt.commit(4)
            belt.settle(1, 2)
            assert belt.feed.cursor == 0
            belt.settle(0)
            assert belt.feed.cursor == 3
            belt.settle()
            assert belt.feed.cursor == 4

    async def test_messages_for_others_do_not_hold_it_back(self, autojump_clock: MockClock) -> None:
        async with running(Belt()) as belt:
            belt.commit(1)
            belt.commit(1, gap=7)
            belt.settle(0)
            assert belt.feed.cursor == 8

    async def test_a_change_is_to_be_noted(self, autojump_clock: MockClock) -> None:
        async with running(Belt()) as belt:
            belt.commit(1)
            assert not belt.feed.needs_note
            belt.settle()
            assert belt.feed.needs_note


class TestResume:
    async def test_what_is_in_flight_at_the_start_is_not_handed_out_and_holds_the_cursor(
        self, autojump_clock: MockClock
    ) -> None:
        belt = Belt()
        belt.feed.is_lagging = True
        belt.commit(4)
        belt.feed.resume([2, 3])
        belt.sink.held = belt.disk[1:3]  # the session at the broker has them
        async with running(belt):
            assert belt.sink.taken == [1, 4]
            assert belt.feed.cursor == 0
            belt.settle(2)  # the first
            assert belt.feed.cursor == 1
            belt.settle(0)  # the second
            assert belt.feed.cursor == 2
            belt.settle()
            assert belt.feed.cursor == 4

    @pytest.mark.parametrize("when", ["paused", "replaced"])
    async def test_nor_when_what_was_read_is_thrown_away_and_read_again(
        self, when: str, autojump_clock: MockClock
    ) -> None:
        belt = Belt(sink=Sink(1))
        belt.feed.is_lagging = True
        belt.commit(4)
        belt.feed.resume([2])
        async with running(belt):
            assert belt.sink.taken == [1]
            if when == "paused":
                belt.feed.pause()
                belt.feed.go_on()
            else:
                belt.feed.carry_to(belt.sink)
            belt.sink.held.append(belt.disk[1])
            belt.sink.set_bound(9)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1, 3, 4]
            belt.settle()


class TestHeldUp:
    async def test_paused_it_hands_out_nothing_until_it_goes_on(self, autojump_clock: MockClock) -> None:
        async with running(Belt()) as belt:
            belt.feed.pause()
            belt.commit(2)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == []
            belt.feed.go_on()
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1, 2]
            belt.commit(1)
            assert belt.sink.taken == [1, 2, 3]

    async def test_stopped_it_hands_out_nothing_more(self, autojump_clock: MockClock) -> None:
        async with running(Belt(sink=Sink(1))) as belt:
            belt.commit(2)
            belt.feed.stop()
            belt.sink.set_bound(9)
            belt.commit(1)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1]

    async def test_without_a_destination_messages_wait_for_one(self, autojump_clock: MockClock) -> None:
        async with running(Belt()) as belt:
            belt.feed.carry_to(None)
            belt.commit(2)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == []
            belt.feed.carry_to(belt.sink)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1, 2]

    async def test_a_destination_that_takes_the_place_of_one_that_is_stuck_is_fed_at_once(
        self, autojump_clock: MockClock
    ) -> None:
        async with running(Belt(sink=Sink(0))) as belt:
            belt.commit(2)
            await wait_all_tasks_blocked()
            change_sink(belt, 9)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [1, 2]

    async def test_the_next_one_gets_what_the_removed_one_had_and_not_what_it_settled(
        self, autojump_clock: MockClock
    ) -> None:
        async with running(Belt()) as belt:
            belt.commit(5)
            belt.settle(0, 2, 3)
            belt.feed.rewind()
            belt.sink = Sink()
            belt.feed.carry_to(belt.sink)
            await wait_all_tasks_blocked()
            assert belt.sink.taken == [2, 5]
            belt.settle()
            assert belt.feed.cursor == 5


def test_what_was_never_taken_counts_as_come_and_dropped() -> None:
    feed = Feed(0, "a")
    feed.count_dropped(2, "spool_full")
    feed.count_dropped(1, "spool_full")
    assert (feed.appended, feed.messages, feed.dropped) == (3, 0, {"spool_full": 3})


def test_it_tells_how_it_stands() -> None:
    feed = Feed(0, "a")
    feed.add(3, 10)
    assert repr(feed) == "<Feed a 3 waiting, live>"
    feed.lag()
    assert repr(feed) == "<Feed a 3 waiting, lagging>"


STEPS = st.one_of(
    st.tuples(st.just("commit"), st.integers(1, 5), st.integers(0, 2)),
    st.tuples(st.just("settle"), st.lists(st.integers(0, 6), max_size=4, unique=True), st.none()),
    st.tuples(st.just("bound"), st.integers(0, 6), st.none()),
    st.tuples(st.sampled_from(["pause", "go_on", "rewind", "replace", "away", "back"]), st.none(), st.none()),
    st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.5, 1.0]), st.none()),
)


async def walk(steps: list[tuple[str, Any, Any]], slice_: int, delay: float) -> None:
    """Take steps; after each the laws hold, and in the end every number was handed out once to each who had to be."""
    async with running(Belt(slice=slice_, delay=delay, sink=Sink(3))) as belt:
        for name, first, second in steps:
            match name:
                case "commit":
                    belt.commit(first, gap=second)
                case "settle":
                    if there := [position for position in first if position < len(belt.sink.held)]:
                        belt.settle(*there)
                case "bound":
                    belt.sink.set_bound(first)
                case "rewind":  # the destination is removed, with all that it had
                    belt.feed.rewind()
                    change_sink(belt, belt.sink.bound)
                case "replace":  # its settings are others
                    belt.feed.carry_to(belt.sink)
                case "away" | "back":
                    belt.feed.carry_to(None if name == "away" else belt.sink)
                case "sleep":
                    await trio.sleep(first)
                case _:
                    getattr(belt.feed, name)()
            check(belt)
        belt.feed.go_on()
        belt.feed.carry_to(belt.sink)
        belt.sink.set_bound(10_000)
        await trio.sleep(1000)
        check(belt)
        belt.settle(*range(len(belt.sink.held)))
        check(belt)
        assert belt.settled == set(belt.numbers)
        assert belt.feed.cursor == belt.feed.given == max(belt.numbers, default=0)
        assert not belt.feed.skip
        belt.commit(1)  # it is live again
        assert belt.sink.taken[-1] == belt.number


def change_sink(belt: Belt, bound: int) -> None:
    belt.sink.retire()
    belt.sink = Sink(bound)
    belt.feed.carry_to(belt.sink)


def check(belt: Belt) -> None:
    belt.check()
    taken = belt.sink.taken
    assert taken == sorted(set(taken))  # once each, in order
    assert set(belt.numbers) - set(taken) <= set(range(belt.feed.given + 1, belt.number + 1)) | belt.settled


@settings(max_examples=200)
# What was passed over stayed in mind once all in front of it was settled.
@example(
    [("commit", 1, 0), ("commit", 1, 0), ("settle", [1], None), ("rewind", None, None), ("sleep", 1.0, None)], 1, 0.0
)
@given(st.lists(STEPS, max_size=30), st.integers(1, 6), st.sampled_from([0.0, 0.3]))
def test_each_number_is_handed_out_once_in_order_and_the_cursor_passes_none_that_is_not_settled(
    steps: list[tuple[str, Any, Any]], slice_: int, delay: float
) -> None:
    trio.run(walk, steps, slice_, delay, clock=MockClock(autojump_threshold=0))
