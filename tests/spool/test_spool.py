"""Messages on their way through the spool: one commit, then the devices, then the destinations; and its bounds."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttproxy.config.model import MOST_DESTINATIONS, Bytes, Count, SpoolSettings
from mqttproxy.journal import Row
from mqttproxy.mqtt.packets import Message
from mqttproxy.spool.entry import DROPPABLE, Share
from mqttproxy.spool.feed import Item
from mqttproxy.spool.rows import ConsumedRow, DestinationRow, RunRow
from mqttproxy.spool.spool import WOKEN_AT_ONCE, TooManyDestinationsError
from mqttproxy.validation import Identity
from tests.spool.examples import Sender, Store, make_store, use


def live(*names: str, settings: SpoolSettings | None = None) -> Store:
    """Make one whose journal commits when the test says so."""
    store = make_store(*names, settings=settings)
    use(store)
    store.journal.at_once = False
    return store


def puts(store: Store) -> list[Row]:
    """Return a list of the rows that are put from now on."""
    rows: list[Row] = []
    store.journal.put = rows.append  # type: ignore[method-assign, assignment] # to see them
    return rows


class TestAppending:
    async def test_nothing_is_told_or_handed_out_before_the_commit(self) -> None:
        store = live("a", "b")
        store.append(b"1", b"22", to="ab")
        spool = store.spool
        assert (store.acknowledged, store.sinks["a"].taken, store.sinks["b"].taken) == ([], [], [])
        assert (spool.pending, spool.pending_bytes, spool.messages, spool.size) == (2, 3, 2, 3)
        store.journal.commit()
        assert [ticket.packet_id for ticket in store.acknowledged] == [1, 2]
        assert (store.sinks["a"].payloads, store.sinks["b"].payloads) == ([b"1", b"22"], [b"1", b"22"])
        assert (spool.pending, spool.pending_bytes, spool.committed_total) == (0, 0, 2)

    async def test_devices_are_acknowledged_before_destinations_are_offered_anything(self) -> None:
        store = live("a")
        order: list[str] = []
        store.spool.acknowledged = lambda _: order.append("devices")
        offer = store.sinks["a"].offer

        def seen(items: Sequence[Item]) -> int:
            order.append("destination")
            return offer(items)

        store.sinks["a"].offer = seen  # type: ignore[method-assign] # to see the order
        store.append(b"1")
        store.journal.commit()
        assert order == ["devices", "destination"]

    async def test_what_came_between_two_commits_is_one_report_and_one_offer_to_each(self) -> None:
        store = live("a", "b")
        store.append(b"1")
        store.append(b"2", to="b")
        store.append(b"3", to="ab")
        store.journal.commit()
        assert len(store.acknowledged) == 3
        assert (store.sinks["a"].taken, store.sinks["b"].taken) == ([1, 3], [2, 3])
        assert (store.sinks["a"].offers, store.sinks["b"].offers) == (1, 1)

    async def test_numbers_rise_over_all_destinations(self) -> None:
        store = live("a", "b")
        store.append(b"1")
        store.spool.number += 5  # of messages that go past the spool
        store.append(b"2", b"3", to="b")
        store.journal.commit()
        assert (store.sinks["a"].taken, store.sinks["b"].taken, store.spool.number) == ([1], [7, 8], 8)

    async def test_a_run_says_who_sent_what_once_for_each_of_them(self) -> None:
        store = live("a")
        first, other = Sender(), Sender(Identity("e", None, "192.0.2.8", "tls"))
        items = [(Message("t", b"x", 1), store.ticket(origin=origin)) for origin in (first, first, other)]
        store.spool.append(items, store.spool.share_of("a"))
        (row,) = [row for row in store.journal.added if isinstance(row, RunRow)]
        assert [(start, sender.client_id) for start, sender in row.batch.senders] == [(0, "d"), (2, "e")]
        assert (row.first, row.last, row.messages, row.size, row.mask) == (1, 3, 3, 3, 1)

    async def test_a_destination_is_named_on_record_no_later_than_its_first_message(self) -> None:
        store = live("a")
        rows = puts(store)
        store.append(b"x")
        assert rows == [DestinationRow(0, "a", 0, "account")]

    async def test_of_qos_2_the_packet_identifier_is_promised_with_the_same_commit(self) -> None:
        store = live("a")
        sender = Sender()
        items = [(Message("t", b"", qos), store.ticket(qos, sender)) for qos in (1, 2)]
        store.spool.append(items, store.spool.share_of("a"))
        assert sender.promised == [2]

    async def test_a_destination_that_has_no_room_does_not_keep_another_from_it(self) -> None:
        store = live("a", "b")
        store.sinks["a"].set_bound(0)
        store.append(b"x", to="ab")
        store.journal.commit()
        assert (store.sinks["a"].taken, store.sinks["b"].taken) == ([], [1])
        assert store.spool.feeds["a"].is_lagging
        assert not store.spool.feeds["b"].is_lagging
        assert len(store.acknowledged) == 1

    async def test_a_destination_comes_and_its_cursor_is_what_was_the_last_number_then(self) -> None:
        store = live("a")
        store.append(b"x")
        store.append(b"y", to="b")
        assert (store.spool.feeds["a"].cursor, store.spool.feeds["b"].cursor) == (0, 1)


class TestWaiting:
    async def test_who_waits_for_destinations_is_not_acknowledged_by_the_commit(self) -> None:
        store = live("a")
        store.append(b"x", waits=True)
        store.journal.commit()
        assert store.acknowledged == []
        ((_, entry),) = store.sinks["a"].held
        assert entry.ticket is not None
        waiting = store.spool.waiting_entry(1)
        assert waiting is not None
        assert waiting is entry
        store.spool.release(waiting)
        assert (store.spool.waiting_entry(1), waiting.ticket) == (None, None)

    async def test_after_its_patience_the_commit_is_enough_and_not_before(self) -> None:
        store = live("a")
        store.append(b"x", waits=True, patience=5.0, now=100.0)
        store.append(b"y", waits=True, patience=9.0, now=100.0)
        store.append(b"z", waits=True)
        store.journal.commit()
        store.spool.look_at_patience(104.9)
        assert store.accepted == []
        store.spool.look_at_patience(105.0)
        assert [ticket.packet_id for ticket in store.accepted] == [1]
        store.spool.look_at_patience(1e9)
        assert [ticket.packet_id for ticket in store.accepted] == [1, 2]

    async def test_what_was_acknowledged_in_time_is_not_accepted_again(self) -> None:
        store = live("a")
        store.append(b"x", waits=True, patience=5.0)
        store.journal.commit()
        ((_, entry),) = store.sinks["a"].held
        store.spool.release(entry)
        store.spool.look_at_patience(10.0)
        assert store.accepted == []

    async def test_whose_commit_is_still_missing_nobody_is_accepted(self) -> None:
        store = live("a")
        store.append(b"x", waits=True, patience=5.0)
        store.spool.look_at_patience(10.0)
        assert store.accepted == []
        store.journal.commit()
        store.spool.look_at_patience(10.1)
        assert len(store.accepted) + len(store.acknowledged) == 1

    async def test_tickets_that_are_done_otherwise_are_let_go(self) -> None:
        store = live("a")
        store.append(b"x", waits=True)
        store.journal.commit()
        ((_, entry),) = store.sinks["a"].held
        assert entry.ticket is not None
        entry.ticket.done = True
        store.spool.look_at_patience(0.0)
        assert store.spool.waiting_entry(1) is None


class TestBounds:
    async def test_so_many_messages_may_wait_for_their_commit_and_one_batch_more(self) -> None:
        store = live("a", settings=SpoolSettings(queue_messages=Count(3)))
        store.append(b"", b"")
        assert not store.spool.is_busy
        store.append(b"", b"")
        assert store.spool.is_busy
        assert store.spool.why_full() is None  # it is the disk that is slow
        store.journal.commit()
        assert not store.spool.is_busy

    async def test_so_many_bytes_may_wait_for_their_commit(self) -> None:
        store = live("a", settings=SpoolSettings(queue_bytes=Bytes(10)))
        store.append(bytes(9))
        assert not store.spool.is_busy
        store.append(b"x")
        assert store.spool.is_busy

    async def test_so_many_bytes_may_wait_for_all_destinations_each_counted_once(self) -> None:
        store = live("a", "b", settings=SpoolSettings(max_bytes=Bytes(10)))
        store.append(bytes(6), to="ab")
        store.append(bytes(3))
        store.journal.commit()
        assert (store.spool.why_full(), store.spool.size) == (None, 9)
        store.append(b"x", to="b")
        store.journal.commit()
        assert store.spool.why_full() == "10 of 10 bytes are in use, most of them wait for a"
        assert store.spool.why_full(slack=1.25) is None
        store.settle("a")
        assert store.spool.size == 7  # `b` needs the first still
        store.settle("b")
        assert (store.spool.size, store.spool.messages) == (0, 0)

    async def test_a_destination_may_have_a_bound_of_its_own_which_concerns_only_its_routes(self) -> None:
        store = live("a", "b")
        store.spool.quotas = {"b": 5, "nobody": 1}
        store.append(bytes(5), to="ab")
        only_a, both = store.spool.share_of("a"), store.spool.share_of("ab")
        assert store.spool.why_full(only_a) is None
        assert store.spool.why_full(both) == store.spool.why_full() == "5 of 5 bytes wait for b"
        assert store.spool.over_quota() == [store.spool.feeds["b"]]
        assert store.spool.over_quota(slack=1.25) == []

    async def test_who_waits_for_room_looks_again_after_each_commit_and_each_settlement(
        self, autojump_clock: MockClock, nursery: object
    ) -> None:
        store = live("a")
        woken: list[str] = []

        async def wait(name: str) -> None:
            await store.spool.wait_room(store.spool.share_of("a"))
            woken.append(name)

        nursery.start_soon(wait, "commit")  # type: ignore[attr-defined] # a nursery
        await wait_all_tasks_blocked()
        store.append(b"x")
        store.journal.commit()
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, "settled")  # type: ignore[attr-defined] # a nursery
        await wait_all_tasks_blocked()
        assert woken == ["commit"]
        store.settle()
        await wait_all_tasks_blocked()
        assert woken == ["commit", "settled"]

    async def test_nobody_looks_again_while_it_is_as_full_and_only_some_do_when_there_is_room(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        store = live("a", "b", settings=SpoolSettings(max_bytes=Bytes(20)))
        store.spool.quotas = {"b": 10}
        store.append(bytes(10), bytes(10), to="b")
        store.journal.commit()
        woken: list[str] = []

        async def wait(name: str) -> None:
            await store.spool.wait_room(store.spool.share_of(name))
            woken.append(name)

        for _ in range(WOKEN_AT_ONCE + 1):
            nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await wait_all_tasks_blocked()
        store.spool.room_was_made()
        await wait_all_tasks_blocked()
        assert woken == []
        store.settle("b", 0)  # b itself has no room yet
        await wait_all_tasks_blocked()
        assert woken == ["a"] * WOKEN_AT_ONCE
        store.settle("b")
        await wait_all_tasks_blocked()
        assert sorted(woken) == ["a"] * (WOKEN_AT_ONCE + 1) + ["b"]

    async def test_there_are_as_many_destinations_as_bits(self) -> None:
        store = live()
        for number in range(MOST_DESTINATIONS):
            assert store.spool.feed(f"d{number}").number == number
        share = store.spool.share_of([f"d{number}" for number in range(MOST_DESTINATIONS)], may_drop=True)
        assert share.numbers == tuple(range(MOST_DESTINATIONS))
        assert share.may_drop
        assert 0 < share.mask < 1 << 63  # a column of SQLite holds it
        with pytest.raises(TooManyDestinationsError, match="upstream late: it has 62 already, for 0 of which"):
            store.spool.feed("late")


class TestHousekeeping:
    async def test_a_cursor_is_noted_once_it_has_changed(self) -> None:
        store = live("a")
        store.append(b"x", b"y")
        store.journal.commit()
        rows = puts(store)
        store.spool.note_cursors()
        assert rows == []
        store.settle("a", 0)
        store.spool.note_cursors()
        store.spool.note_cursors()
        assert rows == [DestinationRow(0, "a", 1, "account")]

    async def test_runs_are_removed_up_to_what_the_slowest_of_their_destinations_has(self) -> None:
        store = live("a", "b", "c")
        store.append(b"1", b"2", to="ab")
        store.append(b"3", to="c")
        store.journal.commit()
        store.settle("a")
        store.settle("b", 0)
        rows = puts(store)
        store.spool.note_consumed()
        assert rows == [ConsumedRow(3, 1), ConsumedRow(4, 2)]
        rows.clear()
        store.settle("b")
        store.settle("c")
        store.spool.note_consumed()
        store.spool.note_consumed()
        assert rows == [ConsumedRow(3, 2), ConsumedRow(4, 3)]

    async def test_no_run_is_removed_before_its_commit(self) -> None:
        store = live("a")
        rows = puts(store)
        store.append(b"1")
        store.spool.note_consumed()
        assert not any(isinstance(row, ConsumedRow) and row.upto >= 1 for row in rows)


@pytest.mark.parametrize(
    ("mask", "numbers", "may_drop"), [(1, (0,), False), (0b101 | DROPPABLE, (0, 2), True), (1 << 61, (61,), False)]
)
def test_a_share_is_its_mask(mask: int, numbers: tuple[int, ...], may_drop: bool) -> None:
    share = Share(mask)
    assert (share.numbers, share.may_drop) == (numbers, may_drop)


def test_a_share_is_as_large_as_what_its_slowest_needs() -> None:
    share = Share(0b11)
    share.add(3, 30)
    share.take(0, 2, 20)
    assert (share.count, share.size) == (3, 30)
    share.take(1, 3, 30)
    assert (share.count, share.size) == (1, 10)


def test_it_tells_how_it_stands() -> None:
    assert repr(make_store("a").spool) == "<Spool 0 bytes, 0 messages pending, []>"
