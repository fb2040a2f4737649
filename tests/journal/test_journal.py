"""With a real clock: the journal's thread is real, and an autojump clock would jump while it works."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from mqttproxy.database import make_store
from mqttproxy.journal import Changes, Journal, Loaded
from mqttproxy.sessions.records import IncomingRow, SessionRow
from mqttproxy.tables import DATABASE
from tests.quarantine.examples import Disk, damage, io_error
from tests.waiting import PATIENCE


class Memory:
    """A store that keeps rows in a dict, and can be made to wait."""

    def __init__(self) -> None:
        self.set_aside: list[tuple[Path, str]] = []
        self.news: list[tuple[str, dict[str, object]]] = []
        self.epoch = 1
        self.applied: list[dict[object, object]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_closed = False

    def load(self) -> Loaded:
        return {}

    def prepare(self, changes: Changes) -> bool:
        return False

    def apply(self, changes: Changes) -> None:
        assert self.may_go_on.wait(10)
        self.applied.append({key: row for rows in changes.rows.values() for key, row in rows.items()})

    def close(self) -> None:
        self.is_closed = True


@asynccontextmanager
async def running(journal: Journal) -> AsyncIterator[trio.CancelScope]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(journal.run)
            yield nursery.cancel_scope
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - no event of the journal tells it
            await trio.sleep(0.001)


def row(number: int = 1, client_id: str = "a") -> SessionRow:
    return SessionRow(number, client_id, 60.0, None)


async def durable(journal: Journal) -> None:
    event = trio.Event()
    journal.when_durable(event.set)
    with trio.fail_after(PATIENCE):
        await event.wait()


async def test_who_waits_is_told_after_the_commit_and_in_order() -> None:
    store = Memory()
    journal = Journal(store)
    told: list[tuple[int, int]] = []
    async with running(journal):
        for number in range(3):
            journal.put(row(number))
            journal.when_durable(lambda number=number: told.append((number, len(store.applied))))  # type: ignore[misc] # bound now
        assert told == []
        await durable(journal)
    assert told == [(0, 1), (1, 1), (2, 1)]
    assert journal.commits_total == 1
    assert journal.written_total == 3


async def test_without_anything_to_wait_for_it_is_told_at_once() -> None:
    told: list[int] = []
    for journal in Journal(None), Journal(Memory()):
        journal.when_durable(lambda: told.append(1))
    assert told == [1, 1]


async def test_what_is_noted_during_a_commit_waits_for_the_next_one() -> None:
    store = Memory()
    journal = Journal(store)
    async with running(journal):
        store.may_go_on.clear()
        journal.put(row(1))
        first: list[int] = []
        journal.when_durable(lambda: first.append(journal.pending))
        await until(lambda: journal.batches)
        journal.when_durable(lambda: first.append(-1))  # nothing newer: the commit under way covers it
        journal.put(row(2))
        store.may_go_on.set()
        await durable(journal)
    assert first == [1, -1]
    assert [list(changes) for changes in store.applied] == [[1], [2]]


async def test_a_row_that_changed_often_is_written_once_as_it_is() -> None:
    store = Memory()
    journal = Journal(store)
    async with running(journal):
        for client_id in "abc":
            journal.put(row(1, client_id))
        await durable(journal)
    assert store.applied == [{1: row(1, "c")}]


async def test_a_new_row_that_goes_before_the_commit_is_not_written_but_who_waits_is_told() -> None:
    store = Memory()
    journal = Journal(store)
    async with running(journal):
        journal.add(IncomingRow(1, 7))
        told = trio.Event()
        journal.when_durable(told.set)
        journal.remove(IncomingRow, (1, 7))
        assert journal.pending == 0
        await told.wait()
    assert store.applied == []


async def test_a_row_on_disk_that_goes_and_comes_and_goes_is_gone() -> None:
    store = Memory()
    journal = Journal(store)
    async with running(journal):
        journal.add(IncomingRow(1, 7))
        await durable(journal)
        journal.remove(IncomingRow, (1, 7))
        journal.add(IncomingRow(1, 7))
        journal.remove(IncomingRow, (1, 7))
        await durable(journal)
    assert store.applied[1] == {(1, 7): None}


async def test_a_failing_disk_is_told_tried_again_and_heals(tmp_path: Path) -> None:
    disk = Disk()
    troubles: list[str | None] = []
    store = make_store(tmp_path / "s", connect=disk.connect)
    journal = Journal(store, trouble_changed=troubles.append)
    async with running(journal):
        disk.before["COMMIT"] = io_error()
        journal.put(row())
        told = trio.Event()
        journal.when_durable(told.set)
        await until(lambda: journal.failures_total >= 2)
        assert journal.trouble == "the journal cannot be written: disk I/O error (SQLITE_IOERR_FSYNC)"
        assert not told.is_set()
        journal.put(row(2, "b"))
        disk.before.clear()
        await told.wait()
        await durable(journal)
    assert [trouble is None for trouble in troubles] == [False, True]
    store = make_store(tmp_path / "s")
    assert store.load()[SessionRow] == [row(), row(2, "b")]
    store.close()


async def test_it_starts_only_when_everything_is_loaded(tmp_path: Path) -> None:
    disk = Disk()
    disk.before["PRAGMA journal_mode = WAL"] = io_error()
    journal = Journal(make_store(tmp_path / "s", connect=disk.connect))
    started = trio.Event()
    async with trio.open_nursery() as nursery:

        async def start() -> None:
            await nursery.start(journal.run)
            started.set()

        nursery.start_soon(start)
        await until(lambda: journal.failures_total)
        assert not started.is_set()
        disk.before.clear()
        await until(started.is_set)
        nursery.cancel_scope.cancel()


async def test_a_proxy_that_never_got_to_its_sessions_can_be_ended(tmp_path: Path) -> None:
    disk = Disk()
    disk.before["PRAGMA journal_mode = WAL"] = io_error()
    journal = Journal(make_store(tmp_path / "s", connect=disk.connect), drain=0.2)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run)
            await until(lambda: journal.failures_total)
            nursery.cancel_scope.cancel()


async def test_what_waits_when_it_is_cancelled_is_still_committed() -> None:
    store = Memory()
    journal = Journal(store)
    async with running(journal) as scope:
        scope.cancel()
        journal.put(row())
    assert len(store.applied) == 1
    assert store.is_closed


async def test_a_disk_that_hangs_does_not_keep_it_from_ending() -> None:
    store = Memory()
    journal = Journal(store, drain=0.05)
    async with running(journal):
        store.may_go_on.clear()
        journal.put(row())
        await until(lambda: journal.batches)
    assert journal.pending == 1
    store.may_go_on.set()
    await until(lambda: store.is_closed)


async def test_a_broken_database_is_set_aside_and_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    store.load()
    store.close()
    damage(tmp_path / "s" / DATABASE)
    journal = Journal(make_store(tmp_path / "s"))
    async with running(journal):
        journal.put(row())
        await durable(journal)
    assert journal.set_aside is not None
    assert (journal.set_aside / DATABASE).exists()


async def test_a_bug_in_what_is_told_ends_the_room() -> None:
    def bug() -> Any:
        raise ZeroDivisionError

    journal = Journal(Memory())
    journal.put(row())
    journal.when_durable(bug)
    with pytest.raises(BaseExceptionGroup) as raised:
        await journal.run()
    assert raised.group_contains(ZeroDivisionError)
