"""What comes back from disk: at the start, for a destination that lags, and what must be dropped from there."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from sqlite3 import OperationalError
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttproxy.config.model import Bytes, Seconds, SpoolSettings
from mqttproxy.journal import Row
from mqttproxy.mqtt.packets import Message, Properties, Timed
from mqttproxy.spool import encoding
from mqttproxy.spool.feed import Item
from mqttproxy.spool.reader import Run
from mqttproxy.spool.rows import DestinationRow, InFlightRow, RunRow
from tests.fake_rooms import FakeJournal, MemoryReader
from tests.spool.examples import Sink, Store, make_store, use


@pytest.fixture(autouse=True)
def a_checksum_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let damage cost one message, so that tests can say which."""
    monkeypatch.setattr(encoding, "FRAME", 1)


class Disk(MemoryReader):
    """A disk that can be damaged. `flipped`: by first number of a run, which byte; `gone`: runs that are not there."""

    def __init__(self, journal: FakeJournal) -> None:
        super().__init__(journal)
        self.flipped: dict[int, int] = {}
        self.gone: set[int] = set()
        self.failure: Exception | None = None
        self.reads = 0

    def _runs(self) -> list[Run]:
        return [self._spoilt(run) for run in super()._runs() if run.first not in self.gone]

    def _spoilt(self, run: Run) -> Run:
        data = bytearray(run.data)
        if run.first in self.flipped:
            data[self.flipped[run.first]] ^= 1
        return run._replace(data=bytes(data))

    def runs(self, bit: int, after: int, size: int) -> list[Run]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return super().runs(bit, after, size)


def disk_of(store: Store) -> Disk:
    reader = store.feeding._reader
    assert isinstance(reader, Disk)
    return reader


def store_of(*names: str, journal: FakeJournal | None = None, settings: SpoolSettings | None = None) -> Store:
    return make_store(*names, journal=journal, settings=settings, reader=Disk)


class Restarted(FakeJournal):
    """The journal of the next process: it has what the last one committed, and these other rows."""

    def __init__(self, before: Store, *rows: Row) -> None:
        super().__init__()
        self.added = list(before.journal.durable)
        self._durable = len(self.added)
        for row in rows:
            self._loaded.setdefault(type(row), []).append(row)
        self.removed: list[object] = []

    def remove(self, kind: type[Row], key: object) -> None:
        super().remove(kind, key)
        self.removed.append(key)


@asynccontextmanager
async def fed(store: Store) -> AsyncIterator[Store]:
    async with trio.open_nursery() as nursery:
        use(store)
        await nursery.start(store.feeding.run)
        await wait_all_tasks_blocked()
        yield store
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def damage(store: Store, first: int, payload: bytes) -> None:
    """Flip a bit of this payload in the run that begins with this number."""
    (run,) = [run for run in MemoryReader(store.journal)._runs() if run.first == first]
    disk_of(store).flipped[first] = run.data.index(payload)


def all_books(store: Store) -> dict[str, tuple[int, int, int]]:
    """Return of each feed what it needs, and of the shares as well: they must agree."""
    books = {}
    for name, feed in store.spool.feeds.items():
        shares = store.spool._shares.values()
        assert feed.messages == sum(share.messages.get(feed.number, 0) for share in shares)
        assert feed.size == sum(share.bytes.get(feed.number, 0) for share in shares)
        books[name] = (feed.messages, feed.size, feed.out)
    return books


class TestCatchingUp:
    async def test_what_had_no_room_is_handed_out_in_order_with_all_it_is(self, autojump_clock: MockClock) -> None:
        store = store_of("a", "b")
        store.sinks["a"].set_bound(0)
        async with fed(store):
            properties = Properties(content_type="x", user_properties=(("k", "v"),))
            whole = [Message("t/1", b"1", 2, True, properties), Message("t/2", b"", 1)]
            store.spool.append([(message, store.ticket()) for message in whole], store.spool.share_of("a"))
            store.append(b"for b", to="b")
            store.append(b"for both", to="ab")
            store.sinks["a"].set_bound(100)
            await wait_all_tasks_blocked()
            held = store.sinks["a"].held
            assert [message for message, _ in held][:2] == whole
            assert [(entry.number, entry.size, entry.ticket) for _, entry in held] == [
                (1, 1, None),
                (2, 0, None),
                (4, 8, None),
            ]
            assert {entry.who.username for _, entry in held} == {"u"}
            assert store.sinks["b"].payloads == [b"for b", b"for both"]
            store.settle("a")
            store.settle("b")
            assert all_books(store) == {"a": (0, 0, 0), "b": (0, 0, 0)}

    async def test_a_device_that_waits_for_it_is_acknowledged_from_there_too(self, autojump_clock: MockClock) -> None:
        store = store_of("a")
        store.sinks["a"].set_bound(0)
        async with fed(store):
            store.append(b"x", waits=True)
            store.sinks["a"].set_bound(9)
            await wait_all_tasks_blocked()
            ((_, entry),) = store.sinks["a"].held
            assert entry.ticket is not None
            assert store.acknowledged == []

    async def test_how_long_it_may_still_live_is_as_if_it_had_waited_in_memory(self, autojump_clock: MockClock) -> None:
        store = store_of("a")
        store.sinks["a"].set_bound(0)
        async with fed(store):
            message = Timed("t", b"x", 1, False, Properties(message_expiry_interval=60), trio.current_time() + 60)
            store.spool.append([(message, store.ticket())], store.spool.share_of("a"))
            store.sinks["a"].set_bound(9)
            await wait_all_tasks_blocked()
            ((back, _),) = store.sinks["a"].held
            assert isinstance(back, Timed)
            assert back.expires_at == pytest.approx(message.expires_at, abs=1.0)  # the wall clock of a test goes on

    async def test_while_the_disk_cannot_be_read_it_is_told_and_tried_again(self, autojump_clock: MockClock) -> None:
        store = store_of("a")
        store.sinks["a"].set_bound(0)
        async with fed(store):
            store.append(b"x")
            disk_of(store).failure = OperationalError("disk I/O error")
            store.sinks["a"].set_bound(9)
            await wait_all_tasks_blocked()
            assert store.feeding.trouble == "spooled messages cannot be read: disk I/O error"
            disk_of(store).failure = None
            await trio.sleep(1.1)
            assert store.feeding.trouble is None
            assert store.sinks["a"].payloads == [b"x"]

    async def test_what_is_committed_while_nothing_is_found_is_not_taken_for_missing(
        self, autojump_clock: MockClock
    ) -> None:
        async def slowly(
            call: Callable[[], Any], /, *, abandon_on_cancel: bool = True, limiter: trio.CapacityLimiter | None = None
        ) -> Any:
            found = call()
            await trio.sleep(0.01)
            return found

        store = make_store("a", reader=Disk, to_thread=slowly)
        async with fed(store):
            feed = store.spool.feeds["a"]
            feed.pause()
            feed.go_on()
            await trio.sleep(0.005)  # it looks, and there is nothing
            store.append(b"x")
            await trio.sleep(1)
            assert (store.sinks["a"].payloads, feed.dropped) == ([b"x"], {})
            assert not feed.is_lagging

    async def test_what_is_in_flight_is_not_handed_out_however_often_the_rest_is_read(
        self, autojump_clock: MockClock
    ) -> None:
        before = store_of("a")
        before.append(b"1", b"2", b"3", qos=2)
        journal = Restarted(before, DestinationRow(0, "a", 0, "account"), InFlightRow(0, 9, 2, False))
        store = store_of("a", journal=journal)
        await store.feeding.restore({"a": "account"})
        sink = store.sinks["a"]
        sink.set_bound(1)
        async with fed(store):
            for _ in range(3):  # what was read is thrown away each time
                store.spool.feeds["a"].carry_to(sink)
                await wait_all_tasks_blocked()
            sink.set_bound(9)
            await wait_all_tasks_blocked()
            assert sink.payloads == [b"1", b"3"]


class TestDamage:
    async def test_a_damaged_message_is_passed_over_counted_and_told_and_the_others_come(
        self, autojump_clock: MockClock
    ) -> None:
        store = store_of("a")
        store.sinks["a"].set_bound(0)
        async with fed(store):
            store.append(b"one", b"second", b"three")
            damage(store, 1, b"second")
            store.sinks["a"].set_bound(9)
            await wait_all_tasks_blocked()
            assert store.sinks["a"].payloads == [b"one", b"three"]
            assert store.feeding.damaged_total == 1
            feed = store.spool.feeds["a"]
            assert feed.dropped == {"damaged": 1}
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}
            assert feed.cursor == 3

    async def test_it_is_counted_once_however_often_it_is_read(self, autojump_clock: MockClock) -> None:
        store = store_of("a")
        sink = store.sinks["a"]
        sink.set_bound(0)
        async with fed(store):
            store.append(b"one", b"second", b"three", b"fourth")
            damage(store, 1, b"second")
            sink.set_bound(1)
            await wait_all_tasks_blocked()
            feed = store.spool.feeds["a"]
            for _ in range(3):  # what was read is thrown away each time
                feed.carry_to(sink)
                await wait_all_tasks_blocked()
            sink.set_bound(9)
            await wait_all_tasks_blocked()
            assert (sink.payloads, store.feeding.damaged_total) == ([b"one", b"three", b"fourth"], 1)
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}

    async def test_of_a_run_that_was_handed_out_in_part_the_sizes_still_come_out_even(
        self, autojump_clock: MockClock
    ) -> None:
        store = store_of("a")
        sink = store.sinks["a"]
        sink.set_bound(1)
        async with fed(store):
            store.append(b"one", b"second", b"three", b"fourth")
            damage(store, 1, b"second")
            sink.set_bound(9)
            await wait_all_tasks_blocked()
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}
            assert store.spool.size == 0

    async def test_what_is_not_there_is_counted_and_does_not_stop_the_rest(self, autojump_clock: MockClock) -> None:
        store = store_of("a")
        sink = store.sinks["a"]
        sink.set_bound(0)
        async with fed(store):
            store.append(b"one")
            store.append(b"gone")
            store.append(b"gone too")
            disk_of(store).gone = {2, 3}
            sink.set_bound(9)
            await trio.sleep(0.15)
            assert sink.payloads == [b"one"]
            feed = store.spool.feeds["a"]
            assert (store.feeding.missing_total, feed.dropped) == (2, {"missing": 2})
            store.settle()
            assert (feed.messages, store.spool.messages, store.spool.size) == (0, 0, 0)
            store.append(b"next")
            assert sink.payloads == [b"one", b"next"]

    async def test_nor_where_others_follow_it(self, autojump_clock: MockClock) -> None:
        store = store_of("a")
        sink = store.sinks["a"]
        sink.set_bound(0)
        async with fed(store):
            for payload in (b"one", b"gone", b"three"):
                store.append(payload)
            disk_of(store).gone = {2}
            sink.set_bound(9)
            store.journal.at_once = False
            store.append(b"pending")  # is no gap
            await trio.sleep(0.15)
            assert sink.payloads == [b"one", b"three"]
            assert (store.feeding.missing_total, store.spool.feeds["a"].dropped) == (1, {"missing": 1})
            store.journal.commit()
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}


class TestAge:
    SETTINGS = SpoolSettings(max_age=Seconds(60.0))

    async def test_what_has_waited_too_long_is_dropped_and_counted(self, autojump_clock: MockClock) -> None:
        store = store_of("a", settings=self.SETTINGS)
        walltime = [1000.0]
        store.journal.wall = lambda: walltime[0]  # type: ignore[misc] # to turn it
        store.sinks["a"].set_bound(0)
        async with fed(store):
            store.append(b"old", b"old too")
            walltime[0] += 50
            store.append(b"young")
            walltime[0] += 20
            await trio.sleep(2)
            feed = store.spool.feeds["a"]
            assert feed.dropped == {"spool_age": 2}
            assert all_books(store) == {"a": (1, 5, 0)}
            store.sinks["a"].set_bound(9)
            await wait_all_tasks_blocked()
            assert store.sinks["a"].payloads == [b"young"]

    async def test_for_a_destination_that_is_not_there_as_well(self, autojump_clock: MockClock) -> None:
        store = store_of("a", settings=self.SETTINGS)
        walltime = [1000.0]
        store.journal.wall = lambda: walltime[0]  # type: ignore[misc] # to turn it
        async with fed(store):
            use(store, {})
            store.append(b"old")
            walltime[0] += 70
            await trio.sleep(2)
            assert store.spool.feeds["a"].dropped == {"spool_age": 1}

    async def test_it_is_counted_once_however_often_it_is_read(self, autojump_clock: MockClock) -> None:
        store = store_of("a", settings=self.SETTINGS)
        walltime = [1000.0]
        store.journal.wall = lambda: walltime[0]  # type: ignore[misc] # to turn it
        sink = store.sinks["a"]
        sink.set_bound(0)
        async with fed(store):
            store.append(b"old")
            walltime[0] += 50
            store.append(b"young", b"young too")
            walltime[0] += 20
            sink.set_bound(1)
            await wait_all_tasks_blocked()
            store.spool.feeds["a"].carry_to(sink)
            sink.set_bound(9)
            await wait_all_tasks_blocked()
            assert sink.payloads == [b"young", b"young too"]
            assert store.spool.feeds["a"].dropped == {"spool_age": 1}


class TestTooMuch:
    SETTINGS = SpoolSettings(max_bytes=Bytes(100))

    async def test_the_oldest_of_what_may_be_dropped_is_dropped_until_it_fits(self, autojump_clock: MockClock) -> None:
        store = store_of("a", settings=self.SETTINGS)
        store.sinks["a"].set_bound(0)
        async with fed(store):
            for number in range(12):
                store.append(b"%010d" % number, may_drop=True)
            await trio.sleep(1.1)
            assert store.spool.size == 100
            assert store.spool.feeds["a"].dropped == {"spool_full": 2}
            store.sinks["a"].set_bound(100)
            await wait_all_tasks_blocked()
            assert store.sinks["a"].taken == list(range(3, 13))

    async def test_what_promises_to_wait_ends_the_dropping(self, autojump_clock: MockClock) -> None:
        store = store_of("a", settings=self.SETTINGS)
        store.sinks["a"].set_bound(0)
        async with fed(store):
            store.append(bytes(40), may_drop=True)
            store.append(bytes(90))
            store.append(bytes(90), may_drop=True)
            await trio.sleep(1.1)
            assert store.spool.feeds["a"].dropped == {"spool_full": 1}
            assert store.spool.size == 180

    async def test_of_the_destination_that_is_over_its_own_bound(self, autojump_clock: MockClock) -> None:
        store = store_of("a", "b")
        store.spool.quotas["b"] = 20
        for sink in store.sinks.values():
            sink.set_bound(0)
        async with fed(store):
            for _ in range(4):
                store.append(bytes(10), to="ab", may_drop=True)
            await trio.sleep(1.1)
            assert all_books(store) == {"a": (4, 40, 0), "b": (2, 20, 0)}


class TestRestore:
    async def started(self, before: Store, *rows: Row, names: str = "ab", **accounts: str) -> tuple[
        Store, dict[str, list[tuple[InFlightRow, Item]]], Restarted
    ]:  # fmt: skip
        journal = Restarted(before, *rows)
        store = store_of(*names, journal=journal)
        found = await store.feeding.restore(accounts)
        return store, found, journal

    async def test_what_was_not_settled_is_handed_out_again_and_the_numbers_go_on(
        self, autojump_clock: MockClock
    ) -> None:
        before = store_of("a", "b")
        before.append(b"1", b"22", to="ab")
        before.append(b"333", to="a")
        store, _, _ = await self.started(
            before, DestinationRow(0, "a", 0, "account"), DestinationRow(1, "b", 2, "account")
        )
        assert all_books(store) == {"a": (3, 6, 0), "b": (0, 0, 0)}
        async with fed(store):
            assert store.sinks["a"].payloads == [b"1", b"22", b"333"]
            assert store.sinks["b"].payloads == []
            store.append(b"new", to="ab")
            assert (store.sinks["a"].taken, store.sinks["b"].taken) == ([1, 2, 3, 4], [4])

    async def test_runs_for_destinations_that_nobody_knows_are_told_and_stay_until_their_time_is_over(
        self, autojump_clock: MockClock
    ) -> None:
        before = store_of("a", "b")
        before.append(b"1", b"22", to="ab")
        before.append(b"333", to="a")
        store, _, _ = await self.started(before, DestinationRow(0, "a", 0, "account"), names="a")
        assert store.feeding.damaged_total == 2
        assert all_books(store) == {"a": (3, 6, 0), "unknown-1": (2, 3, 0)}
        async with fed(store):
            assert store.sinks["a"].payloads == [b"1", b"22", b"333"]
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0), "unknown-1": (2, 3, 0)}

    async def test_a_run_that_is_over_in_part_counts_in_part(self, autojump_clock: MockClock) -> None:
        before = store_of("a")
        before.append(b"1", b"22", b"333", b"4444")
        before.append(b"55555")
        store, _, _ = await self.started(before, DestinationRow(0, "a", 2, "account"), names="a")
        assert all_books(store) == {"a": (3, 12, 0)}
        async with fed(store):
            assert store.sinks["a"].payloads == [b"333", b"4444", b"55555"]
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}

    @pytest.mark.parametrize("payload", [b"22", b"4444"])
    async def test_of_such_a_run_damage_comes_out_even_too(self, payload: bytes, autojump_clock: MockClock) -> None:
        before = store_of("a")
        before.append(b"1", b"22", b"333", b"4444")
        journal = Restarted(before, DestinationRow(0, "a", 2, "account"))
        store = store_of("a", journal=journal)
        damage(store, 1, payload)
        await store.feeding.restore({})
        async with fed(store):
            lost = payload == b"4444"
            assert store.sinks["a"].payloads == ([b"333"] if lost else [b"333", b"4444"])
            assert store.feeding.damaged_total == lost
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}

    async def test_nothing_on_disk_is_a_beginning_and_no_number_comes_twice(self, autojump_clock: MockClock) -> None:
        store, _, _ = await self.started(store_of("a"), DestinationRow(0, "a", 70, "account"), names="a")
        async with fed(store):
            store.append(b"x")
            assert store.sinks["a"].taken == [71]

    async def test_what_was_in_flight_goes_on_with_the_session_it_is_of(self, autojump_clock: MockClock) -> None:
        before = store_of("a")
        before.append(b"1", b"2", b"3", qos=2)
        rows = [DestinationRow(0, "a", 0, "account"), InFlightRow(0, 8, 2, True), InFlightRow(0, 9, 1, False)]
        store, found, journal = await self.started(before, *rows, names="a", a="account")
        assert [(row.packet_id, item[0].payload) for row, item in found["a"]] == [(9, b"1"), (8, b"2")]
        async with fed(store):
            assert store.sinks["a"].payloads == [b"3"]
            store.spool.settled("a", [item[1] for _, item in found["a"]])
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}
            assert store.spool.feeds["a"].cursor == 3
        assert journal.removed == []

    async def test_for_another_account_it_is_sent_anew(self, autojump_clock: MockClock) -> None:
        before = store_of("a")
        before.append(b"1", qos=2)
        rows = [DestinationRow(0, "a", 0, "former"), InFlightRow(0, 9, 1, False)]
        store, found, journal = await self.started(before, *rows, names="a", a="account")
        assert (found, journal.removed) == ({}, [(0, 9)])
        async with fed(store):
            assert store.sinks["a"].payloads == [b"1"]

    async def test_of_what_is_damaged_or_gone_the_exchange_is_forgotten(self, autojump_clock: MockClock) -> None:
        before = store_of("a")
        before.append(b"first", b"second", qos=2)
        rows = [DestinationRow(0, "a", 0, "account"), InFlightRow(0, 8, 1, False), InFlightRow(0, 9, 7, False)]
        journal = Restarted(before, *rows)
        store = store_of("a", journal=journal)
        damage(store, 1, b"first")
        assert await store.feeding.restore({"a": "account"}) == {}
        assert store.feeding.left == {"a": [8, 9]}
        async with fed(store):
            assert store.sinks["a"].payloads == [b"second"]
            store.settle()
            assert all_books(store) == {"a": (0, 0, 0)}

    async def test_what_waits_for_a_destination_that_is_gone_waits_for_its_return(
        self, autojump_clock: MockClock
    ) -> None:
        before = store_of("a", "b")
        before.append(b"x", to="ab")
        rows = [DestinationRow(0, "a", 0, "account"), DestinationRow(1, "b", 0, "account")]
        store, _, _ = await self.started(before, *rows, names="a")
        async with fed(store):
            store.settle("a")
            await trio.sleep(5)
            assert all_books(store) == {"a": (0, 0, 0), "b": (1, 1, 0)}
            back = Sink()
            use(store, {**store.sinks, "b": back})
            await wait_all_tasks_blocked()
            assert back.payloads == [b"x"]


class TestForgetting:
    async def test_a_removed_destination_is_forgotten_once_nothing_on_disk_has_its_number(
        self, autojump_clock: MockClock
    ) -> None:
        before = store_of("a", "b", "c")
        use(before)
        before.append(b"1", to="ab")
        before.settle("a")
        before.settle("b")
        rows = [DestinationRow(number, name, 1, "account") for number, name in enumerate("abc")]
        journal = Restarted(before, *rows)
        store = store_of("a", journal=journal)
        await store.feeding.restore({"a": "account"})
        assert list(store.spool.feeds) == ["a", "b"]  # a run that is still there has the bit of `b`
        assert journal.removed == [2]
        use(store)
        assert store.spool.feed("d").number == 2

    async def test_one_for_which_messages_wait_is_kept(self, autojump_clock: MockClock) -> None:
        before = store_of("a", "b")
        use(before)
        before.append(b"1", to="b")
        journal = Restarted(before, DestinationRow(0, "a", 0, "account"), DestinationRow(1, "b", 0, "account"))
        store = store_of("a", journal=journal)
        await store.feeding.restore({"a": "account"})
        assert store.spool.feeds["b"].messages == 1
        assert journal.removed == []


class TestTidiness:
    async def test_cursors_are_noted_and_what_nobody_needs_is_removed(self, autojump_clock: MockClock) -> None:
        store = store_of("a", "b")
        put: list[Row] = []
        store.journal.put = put.append  # type: ignore[method-assign, assignment] # to see them
        async with fed(store):
            store.append(b"1", b"2", to="ab")
            store.settle("a")
            await trio.sleep(0.15)
            assert put[-1] == DestinationRow(0, "a", 2, "account")
            store.settle("b", 0)
            await trio.sleep(0.15)
            assert [type(row).__name__ for row in put[-2:]] == ["DestinationRow", "ConsumedRow"]
            assert (put[-1].mask, put[-1].upto) == (3, 1)  # type: ignore[attr-defined] # as it is
            noted = len(put)
            await trio.sleep(5)
            assert len(put) == noted

    async def test_stopped_it_feeds_nobody(self, autojump_clock: MockClock) -> None:
        store = store_of("a")
        async with fed(store):
            store.feeding.stop()
            store.append(b"x")
            await wait_all_tasks_blocked()
            assert store.sinks["a"].taken == []


async def test_a_run_row_is_what_a_reader_reads() -> None:
    store = store_of("a")
    store.append(b"x")
    (row,) = store.journal.durable
    assert isinstance(row, RunRow)
    assert Run._fields[:-1] == tuple(name for name in RunRow.__struct_fields__ if name != "batch")
