"""What does not fit into the spool: it waits in the hands of devices, or is dropped, as the route says."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttproxy.config.model import Bytes, SpoolSettings
from mqttproxy.handover import Ticket
from mqttproxy.mqtt.packets import Message
from mqttproxy.spool import SpoolLane
from mqttproxy.spool.lane import Item
from tests.spool.examples import Store, make_store, use

FULL_AT_10 = SpoolSettings(max_bytes=Bytes(10))


def lane_of(store: Store, to: str = "a", *, waits: bool = False, may_drop: bool = False) -> SpoolLane:
    return SpoolLane(store.spool, store.spool.share_of(to, may_drop=may_drop), waits=waits, patience=None)


def items(store: Store, *sizes: int) -> list[Item]:
    return [(Message("t", bytes(size), 1), store.ticket()) for size in sizes]


def full_store(*names: str) -> Store:
    """Make one whose spool is full, because nobody takes what is in it."""
    store = make_store(*names, settings=FULL_AT_10)
    use(store)
    for sink in store.sinks.values():
        sink.set_bound(0)
    store.append(bytes(10), to="".join(names))
    return store


async def test_with_room_everything_is_taken_at_once() -> None:
    store = make_store("a", settings=FULL_AT_10)
    use(store)
    lane = lane_of(store)
    assert lane.place(items(store, 3, 50), "wait") == ((), ())  # a batch is never torn
    assert (store.spool.size, lane.waiting) == (53, 0)
    assert len(store.acknowledged) == 2


async def test_without_room_they_wait_and_are_counted() -> None:
    store = full_store("a")
    lane = lane_of(store)
    batch = items(store, 1, 1)
    assert lane.place(batch, "wait") == (batch, ())
    assert lane.waiting == 2
    assert store.spool.messages == 1
    assert len(store.acknowledged) == 1


async def test_they_are_taken_in_order_once_there_is_room(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    store = full_store("a")
    lane = lane_of(store)
    batch = items(store, 1, 2)
    lane.place(batch, "wait")
    nursery.start_soon(lane.wait_and_place, batch)
    await wait_all_tasks_blocked()
    assert lane.waiting == 2
    store.sinks["a"].set_bound(100)
    store.spool.feeds["a"].destination = None  # nobody reads in this test
    store.spool.room_was_made()  # it was not, in truth
    await wait_all_tasks_blocked()
    assert lane.waiting == 2
    feed = store.spool.feeds["a"]
    feed.passed_over(store.spool.share_of("a"), 1, 10, "spool_age")
    store.spool.room_was_made()
    await wait_all_tasks_blocked()
    assert (lane.waiting, store.spool.size) == (0, 3)
    assert store.acknowledged[-2:] == [ticket for _, ticket in batch]


async def test_when_the_device_is_gone_they_are_dropped_and_counted(autojump_clock: MockClock) -> None:
    store = full_store("a", "b")
    lane = lane_of(store, "ab")
    batch = items(store, 1, 1)
    lane.place(batch, "wait")
    with trio.move_on_after(1):
        await lane.wait_and_place(batch)
    assert lane.waiting == 0
    for name in "ab":
        assert store.spool.feeds[name].dropped == {"connection_lost": 2}
    assert store.spool.size == 10


async def test_drop_newest_drops_and_counts_what_does_not_fit_for_each_destination() -> None:
    store = full_store("a", "b")
    lane = lane_of(store, "ab")
    batch = items(store, 1, 1)
    rest, dropped = lane.place(batch, "drop_newest")
    assert (rest, dropped) == ((), [ticket for _, ticket in batch])
    assert lane.waiting == 0
    for name in "ab":
        assert store.spool.feeds[name].dropped == {"spool_full": 2}
        assert store.spool.feeds[name].appended == 3
    assert store.spool.size == 10


async def test_drop_oldest_takes_a_little_more_until_the_oldest_are_gone_and_then_waits() -> None:
    store = make_store("a", settings=FULL_AT_10)
    use(store)
    store.sinks["a"].set_bound(0)
    lane = lane_of(store, may_drop=True)
    for _ in range(13):
        assert lane.place(items(store, 1), "drop_oldest") == ((), ())
    batch = items(store, 1)
    assert lane.place(batch, "drop_oldest") == (batch, ())  # 12.5 bytes are the most
    assert (store.spool.size, lane.waiting) == (13, 1)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_lane_says_who_acknowledges(waits: bool) -> None:
    store = make_store("a")
    use(store)
    lane = lane_of(store, waits=waits)
    lane.place(items(store, 1), "wait")
    assert len(store.acknowledged) == (not waits)
    ((_, entry),) = store.sinks["a"].held
    assert isinstance(entry.ticket, Ticket) is waits


async def test_putting_needs_room_and_waiting_for_it_counts_nobody(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    store = full_store("a")
    lane = lane_of(store)
    with pytest.raises(trio.WouldBlock):
        lane.put_nowait(items(store, 1))
    nursery.start_soon(lane.wait_room)
    await wait_all_tasks_blocked()
    assert lane.waiting == 0
    store.spool.settings = SpoolSettings()
    store.spool.room_was_made()
    await wait_all_tasks_blocked()
    lane.put_nowait(items(store, 1))
    assert store.spool.messages == 2
