from collections import deque

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message
from mqttproxy.upstream.bell import Bell
from mqttproxy.upstream.outbox import TURN_MESSAGES, Item, Outbox
from tests.upstream.broker import messages


def make(most: int = 5, payload_bytes: int = 100) -> Outbox:
    return Outbox(messages=most, payload_bytes=payload_bytes, bell=Bell())


def sized(*sizes: int, qos: int = 1) -> list[Item]:
    return [(Message("t", bytes(size), qos), number) for number, size in enumerate(sizes)]


def tokens(items: list[Item]) -> list[object]:
    return [token for _, token in items]


def test_the_longest_prefix_that_fits_is_taken() -> None:
    outbox = make()
    assert outbox.offer(messages(3)) == 3
    assert outbox.offer(messages(4)) == 2
    assert outbox.offer(messages(1)) == 0
    assert (len(outbox), outbox.queued_bytes) == (5, 5)
    assert outbox.offer([]) == 0


def test_bytes_are_a_bound_too() -> None:
    outbox = make()
    assert outbox.offer(sized(60, 41, 1)) == 1
    assert outbox.offer(sized(40)) == 1
    assert outbox.offer(sized(0)) == 1
    assert outbox.offer(sized(1)) == 0


def test_an_empty_outbox_takes_one_message_of_any_size() -> None:
    outbox = make()
    assert outbox.offer(sized(1000, 1)) == 1
    assert outbox.offer(sized(0)) == 0


def everything(_item: Item) -> bool:
    return True


def test_forcing_leaves_what_may_not_be_dropped_in_its_place() -> None:
    outbox = make(4)
    outbox.offer(messages(4))
    assert tokens(outbox.force(messages(2, start=4), lambda item: item[1] not in {0, 2})) == [1, 3]
    assert tokens(outbox.take_all()) == [0, 2, 4, 5]


def test_where_nothing_that_waits_may_be_dropped_the_new_ones_are() -> None:
    outbox = make(2)
    outbox.offer(messages(2))
    assert tokens(outbox.force(messages(2, start=2), lambda item: item[1] not in {0, 1})) == [2, 3]
    assert tokens(outbox.take_all()) == [0, 1]
    assert outbox.queued_bytes == 0


def test_forcing_drops_the_oldest_first_and_too_many_new_ones_as_well() -> None:
    outbox = make()
    outbox.offer(messages(4))
    assert tokens(outbox.force(messages(3, start=4), everything)) == [0, 1]
    assert tokens(outbox.force(messages(7, start=10), everything)) == [2, 3, 4, 5, 6, 10, 11]
    assert tokens(outbox.take_all()) == [12, 13, 14, 15, 16]
    assert outbox.queued_bytes == 0


def test_quota_counts_qos_1_and_2_only_and_nothing_overtakes() -> None:
    outbox = make(10)
    outbox.offer([*sized(1, qos=0), *sized(1, 1), *sized(1, qos=0)])
    assert not outbox.needs_quota
    assert len(outbox.take(quota=1, payload_bytes=100)) == 2
    assert outbox.needs_quota
    assert outbox.take(quota=0, payload_bytes=100) == []
    assert len(outbox.take(quota=1, payload_bytes=100)) == 2


def test_the_message_that_reaches_the_bytes_is_the_last() -> None:
    outbox = make(10, 1000)
    outbox.offer(sized(10, 10, 10, 10))
    assert len(outbox.take(quota=9, payload_bytes=20)) == 2
    assert len(outbox.take(quota=9, payload_bytes=1)) == 1
    assert outbox.take(quota=9, payload_bytes=0) == []
    assert outbox.queued_bytes == 10


def test_a_turn_takes_a_bounded_number() -> None:
    outbox = make(100_000, 100_000)
    outbox.offer(messages(TURN_MESSAGES + 1, qos=0))
    assert len(outbox.take(quota=0, payload_bytes=100_000)) == TURN_MESSAGES


def test_smaller_bounds_drop_nothing() -> None:
    outbox = make()
    outbox.offer(messages(5))
    outbox.set_bounds(messages=2, payload_bytes=10)
    assert len(outbox) == 5
    assert outbox.offer(messages(1)) == 0


async def test_room_is_waited_for_only_after_an_offer_that_was_not_taken_whole(autojump_clock: MockClock) -> None:
    outbox = make()
    outbox.offer(sized(60))
    await outbox.wait_room()
    assert outbox.offer(sized(60)) == 0
    with trio.move_on_after(1) as scope:
        await outbox.wait_room()
    assert scope.cancelled_caught
    outbox.take(quota=1, payload_bytes=1)
    await outbox.wait_room()


@pytest.mark.parametrize("gone", [0, 3])
async def test_all_who_wait_get_their_turn_even_if_some_woken_ones_are_gone(
    autojump_clock: MockClock, gone: int
) -> None:
    outbox = make(2)
    outbox.offer(messages(2))
    taken: list[object] = []

    async def device(number: int) -> None:
        while not outbox.offer(messages(1, start=number)):
            await outbox.wait_room()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(10)]

            async def run(number: int) -> None:
                with scopes[number]:
                    await device(number)

            for number in range(10):
                nursery.start_soon(run, number)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(gone):
                scopes[number].cancel()  # in the very turn in which room is made
            while len(taken) < 2 + 10 - gone:
                taken += outbox.take(quota=1, payload_bytes=1)
                await trio.sleep(1)


async def test_rings_of_one_turn_wake_the_link_once(autojump_clock: MockClock) -> None:
    bell = Bell()
    outbox = Outbox(messages=10, payload_bytes=100, bell=bell)
    woken = 0

    async def link() -> None:
        nonlocal woken
        while True:
            await bell.wait()
            woken += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(5):
            outbox.offer(messages(1, start=number))
        await trio.testing.wait_all_tasks_blocked()
        assert woken == 1
        nursery.cancel_scope.cancel()


@given(
    st.lists(
        st.tuples(st.sampled_from(["offer", "force", "take"]), st.lists(st.integers(0, 60), max_size=8)), max_size=20
    )
)
def test_it_is_a_queue_with_exact_bounds(steps: list[tuple[str, list[int]]]) -> None:
    outbox, model = make(), deque[Item]()
    for what, sizes in steps:
        items = sized(*sizes)
        if what == "take":
            for item in outbox.take(quota=len(sizes), payload_bytes=sum(sizes)):
                assert item is model.popleft()
            continue
        if what == "force":
            model.extend(items)
            for item in outbox.force(items, everything):
                assert item is model.popleft()
        else:
            taken = outbox.offer(items)
            model.extend(items[:taken])
            if taken < len(items):
                full = len(model) == 5 or sum(len(one.payload) for one, _ in model) + sizes[taken] > 100
                assert full
                assert model
        assert outbox.queued_bytes == sum(len(one.payload) for one, _ in model)
        assert len(outbox) == len(model) <= 5
        assert outbox.queued_bytes <= 100 or len(model) == 1
    assert outbox.take_all() == list(model)


def test_what_is_put_back_goes_first_whatever_the_bounds() -> None:
    outbox = make()
    outbox.offer(messages(5))
    taken = outbox.take(quota=2, payload_bytes=100)
    outbox.offer(messages(2, start=5))
    outbox.put_back(taken, behind_others=False)
    assert (len(outbox), outbox.queued_bytes) == (7, 7)
    assert outbox.offer(messages(1)) == 0
    assert tokens(outbox.take_all()) == list(range(7))


def test_what_is_put_back_later_goes_behind_what_was_put_back_and_is_still_there() -> None:
    outbox = make(10)
    outbox.offer(messages(9))
    taken = outbox.take(quota=6, payload_bytes=100)
    outbox.put_back(taken[:2], behind_others=False)
    outbox.put_back(taken[3:4], behind_others=True)
    assert tokens(outbox.take(quota=1, payload_bytes=100)) == [0]
    outbox.put_back(taken[4:5], behind_others=True)
    outbox.put_back(taken[:1], behind_others=False)
    assert tokens(outbox.take_all()) == [0, 1, 3, 4, 6, 7, 8]


def test_of_what_was_put_back_what_is_dropped_counts_no_more() -> None:
    outbox = make(4)
    outbox.offer(messages(4))
    outbox.put_back(outbox.take(quota=2, payload_bytes=100), behind_others=False)
    assert tokens(outbox.force(messages(1, start=4), lambda item: item[1] != 0)) == [1]
    outbox.put_back(messages(1, start=9), behind_others=True)
    assert tokens(outbox.take_all()) == [0, 9, 2, 3, 4]
