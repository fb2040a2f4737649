"""With a real clock: the writer's thread is real, and an autojump clock would jump while it works."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from mqttproxy.config.model import Bytes, Count, Seconds
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.database import DATABASE, connect, open_for_writing
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.payloads import FOLDER
from mqttproxy.quarantine.retention import SLICE
from mqttproxy.quarantine.store import Quarantine
from mqttproxy.quarantine.writer import Writer
from tests.fake_rooms import FakeLog
from tests.quarantine.examples import (
    NOW,
    SETTINGS,
    SMALL_INLINE,
    Disk,
    damage,
    files_in,
    io_error,
    make_held,
    make_writer,
)
from tests.waiting import PATIENCE


class Committed:
    """Remembers the tokens that were committed, and the states of trouble."""

    def __init__(self) -> None:
        self.commits: list[list[object]] = []
        self.troubles: list[str | None] = []
        self._news = trio.Event()

    def __call__(self, tokens: Sequence[object]) -> None:
        self.commits.append(list(tokens))
        self._tell()

    def trouble(self, words: str | None) -> None:
        self.troubles.append(words)
        self._tell()

    @property
    def tokens(self) -> list[object]:
        return [token for commit in self.commits for token in commit]

    async def wait_tokens(self, count: int) -> None:
        while len(self.tokens) < count:
            await self._wait()

    async def wait_troubles(self, count: int) -> None:
        while len(self.troubles) < count:
            await self._wait()

    async def _wait(self) -> None:
        self._news = trio.Event()
        with trio.fail_after(PATIENCE):
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()


def make_quarantine(directory: Path, committed: Committed, **changes: Any) -> Quarantine:
    arguments: dict[str, Any] = {
        "settings": SETTINGS,
        "now": lambda: NOW,
        "trouble_changed": committed.trouble,
    }
    return Quarantine(directory, committed=committed, **arguments | changes)


@asynccontextmanager
async def running(quarantine: Quarantine) -> AsyncIterator[Quarantine]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(quarantine.run)
        yield quarantine
        nursery.cancel_scope.cancel()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what a counter shows; nobody tells of it."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # see above
            await trio.sleep(0.002)


def identifiers(directory: Path) -> list[str]:
    with Archive(directory) as archive:
        return [record.id for record in archive.search(Filters(), oldest_first=True)]


async def test_a_token_is_told_when_its_message_is_on_disk(tmp_path: Path) -> None:
    found = []

    class Looking(Committed):
        def __call__(self, tokens: Sequence[object]) -> None:
            found.extend(identifiers(tmp_path))
            super().__call__(tokens)

    committed = Looking()
    async with running(make_quarantine(tmp_path, committed)) as quarantine:
        held = make_held(payload=b"abc", failures=())
        quarantine.hold_nowait(held, "token")
        assert (quarantine.pending, quarantine.pending_bytes) == (1, 3)
        await committed.wait_tokens(1)
        assert committed.tokens == ["token"]
        assert found == [held.id]
        assert (quarantine.pending, quarantine.pending_bytes) == (0, 0)
        assert (quarantine.messages, quarantine.size_bytes, quarantine.committed_total) == (1, 3, 1)


async def test_everything_that_waits_goes_in_one_commit_and_in_order(tmp_path: Path) -> None:
    committed = Committed()
    quarantine = make_quarantine(tmp_path, committed)
    for number in range(100):
        quarantine.hold_nowait(make_held(), number)
    async with running(quarantine):
        await committed.wait_tokens(100)
    assert committed.commits == [list(range(100))]
    assert quarantine.commits_total == 1


async def test_what_comes_during_a_commit_goes_into_the_next_one(tmp_path: Path) -> None:
    committed = Committed()

    def fsync(_descriptor: int) -> None:  # in the writer's thread
        if quarantine.pending < 4:
            trio.from_thread.run_sync(hold_two_more)

    def hold_two_more() -> None:
        quarantine.hold_nowait(make_held(payload=b"1", failures=()), 1)
        quarantine.hold_nowait(make_held(payload=b"2", failures=()), 2)

    quarantine = make_quarantine(tmp_path, committed, settings=SMALL_INLINE, fsync=fsync)
    async with running(quarantine):
        quarantine.hold_nowait(make_held(payload=b"larger than ten bytes"), 0)
        await committed.wait_tokens(3)
    assert committed.commits[0] == [0]
    assert committed.tokens[:3] == [0, 1, 2]
    assert quarantine.pending == quarantine.pending_bytes == 0


async def test_exactly_so_many_messages_wait(tmp_path: Path) -> None:
    committed = Committed()
    quarantine = make_quarantine(tmp_path, committed, settings=evolve(SETTINGS, queue_messages=Count(3)))
    for number in range(3):
        quarantine.hold_nowait(make_held(), number)
    with pytest.raises(trio.WouldBlock):
        quarantine.hold_nowait(make_held(), 3)
    assert quarantine.full_total == 1
    async with running(quarantine):
        await committed.wait_tokens(3)
        quarantine.hold_nowait(make_held(), 3)
        await committed.wait_tokens(4)
    assert committed.tokens == [0, 1, 2, 3]


async def test_so_many_bytes_wait_and_one_message_more(tmp_path: Path) -> None:
    quarantine = make_quarantine(tmp_path, Committed(), settings=evolve(SETTINGS, queue_bytes=Bytes(100)))
    quarantine.hold_nowait(make_held(payload=b"x" * 99, failures=()), 0)
    quarantine.hold_nowait(make_held(payload=b"x" * 5000, failures=()), 1)
    with pytest.raises(trio.WouldBlock):
        quarantine.hold_nowait(make_held(payload=b"", failures=()), 2)


async def test_who_waits_for_room_gets_it_after_the_commit(tmp_path: Path) -> None:
    committed = Committed()
    quarantine = make_quarantine(tmp_path, committed, settings=evolve(SETTINGS, queue_messages=Count(1)))
    quarantine.hold_nowait(make_held(), 0)
    got_room = trio.Event()

    async def wait() -> None:
        await quarantine.wait_room()
        got_room.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not got_room.is_set()
        async with running(quarantine):
            with trio.fail_after(PATIENCE):
                await got_room.wait()
    assert committed.tokens == [0]


async def test_larger_bounds_make_room_at_once(tmp_path: Path) -> None:
    quarantine = make_quarantine(tmp_path, Committed(), settings=evolve(SETTINGS, queue_messages=Count(1)))
    quarantine.hold_nowait(make_held(), 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quarantine.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        quarantine.apply(SETTINGS)
    quarantine.hold_nowait(make_held(), 1)


async def test_the_counters_are_right_as_soon_as_it_has_started(tmp_path: Path) -> None:
    committed = Committed()
    async with running(make_quarantine(tmp_path, committed)) as quarantine:
        for number in range(5):
            quarantine.hold_nowait(make_held(payload=b"12", failures=()), number)
        await committed.wait_tokens(5)
    async with running(make_quarantine(tmp_path, committed)) as quarantine:
        assert (quarantine.messages, quarantine.size_bytes) == (5, 10)


async def test_X13_nothing_is_acknowledged_in_trouble_and_it_heals_by_itself(tmp_path: Path) -> None:  # the row's id
    disk = Disk()
    committed = Committed()
    async with running(make_quarantine(tmp_path, committed, connect=disk.connect)) as quarantine:
        disk.before["COMMIT"] = io_error()
        held = make_held()
        quarantine.hold_nowait(held, "token")
        await committed.wait_troubles(1)
        assert quarantine.trouble == (
            f"held messages cannot be stored in {tmp_path}: disk I/O error (SQLITE_IOERR_FSYNC)"
        )
        assert not committed.commits
        assert quarantine.failures_total >= 1
        disk.before.clear()
        await committed.wait_tokens(1)
        assert quarantine.trouble is None
    assert committed.troubles[-1] is None
    assert identifiers(tmp_path) == [held.id]
    assert disk.opened == 1 + quarantine.failures_total


async def test_X12_a_full_disk_is_waited_for(tmp_path: Path) -> None:  # the row's id
    disk = Disk()
    disk.pages = 40
    committed = Committed()
    async with running(make_quarantine(tmp_path, committed, connect=disk.connect)) as quarantine:
        for number in range(20):
            quarantine.hold_nowait(make_held(payload=b"x" * 10_000), number)
        await committed.wait_troubles(1)
        assert quarantine.trouble is not None
        assert "database or disk is full (SQLITE_FULL)" in quarantine.trouble
        disk.pages = 4000
        await committed.wait_tokens(20)
    assert committed.tokens == list(range(20))


async def test_X12_a_full_disk_for_payload_files_is_waited_for(tmp_path: Path) -> None:  # the row's id
    failures = [OSError(28, "No space left on device")] * 2
    committed = Committed()

    def fsync(_descriptor: int) -> None:
        if failures:
            raise failures.pop()

    quarantine = make_quarantine(tmp_path, committed, settings=SMALL_INLINE, fsync=fsync)
    async with running(quarantine):
        quarantine.hold_nowait(make_held(payload=b"larger than ten bytes"), 0)
        await committed.wait_tokens(1)
    assert committed.troubles[0] is not None
    assert "No space left on device" in committed.troubles[0]
    assert committed.troubles[-1] is None
    assert len(list(files_in(tmp_path / FOLDER))) == 1


async def test_the_pauses_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqttproxy.committing._FIRST_RETRY", 0.001)
    monkeypatch.setattr("mqttproxy.committing._LAST_RETRY", 0.004)
    pauses: list[float] = []

    class Watched(Quarantine):
        async def _pause(self, delay: float) -> None:
            pauses.append(delay)
            if len(pauses) == 5:
                disk.before.clear()
            await super()._pause(delay)

    disk = Disk()
    committed = Committed()
    disk.before["COMMIT"] = io_error()
    disk.before["PRAGMA wal_checkpoint(TRUNCATE)"] = io_error()
    async with running(Watched(tmp_path, SETTINGS, committed, connect=disk.connect)) as quarantine:
        quarantine.hold_nowait(make_held(), 0)
        await committed.wait_tokens(1)
        disk.before["COMMIT"] = io_error()
        quarantine.hold_nowait(make_held(), 1)
        await eventually(lambda: len(pauses) >= 6)
        disk.before.clear()
    assert pauses[:6] == [0.001, 0.002, 0.004, 0.004, 0.004, 0.001]


async def test_X16_a_corrupted_database_does_not_stop_traffic(tmp_path: Path) -> None:  # the row's id
    committed = Committed()
    async with running(make_quarantine(tmp_path, committed)) as quarantine:
        for number in range(50):
            quarantine.hold_nowait(make_held(), number)
        await committed.wait_tokens(50)
    damage(tmp_path / DATABASE)
    async with running(make_quarantine(tmp_path, committed)) as quarantine:
        assert quarantine.set_aside is not None
        assert (quarantine.set_aside / DATABASE).exists()
        assert (quarantine.messages, quarantine.trouble) == (0, None)
        quarantine.hold_nowait(make_held(), "new")
        await committed.wait_tokens(51)


async def test_G10_of_broken_databases_the_two_latest_are_kept_and_the_removal_is_told(tmp_path: Path) -> None:
    log = FakeLog()
    folders: list[Path] = []
    for number in range(4):
        writer = make_writer(tmp_path)
        writer.commit([make_held()])
        writer.close()
        damage(tmp_path / DATABASE)
        quarantine = make_quarantine(tmp_path, Committed(), now=lambda number=number: NOW + number // 2)  # two a second
        quarantine._log = log  # type: ignore[misc] # only here
        async with running(quarantine):
            assert quarantine.set_aside is not None
            folders.append(quarantine.set_aside)
    assert sorted(name for name in files_in(tmp_path) if "broken" in name) == [folder.name for folder in folders[2:]]
    told = [line["folder"] for line in log.lines if line["event"] == "quarantine_set_aside_removed"]
    assert told == [str(folder) for folder in folders[:2]]


async def test_X16_a_newer_database_is_trouble_and_left_alone(tmp_path: Path) -> None:  # the row's id
    connection = open_for_writing(tmp_path, connect)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    async with running(make_quarantine(tmp_path, Committed())) as quarantine:
        assert quarantine.trouble is not None
        assert "the database has version 7" in quarantine.trouble
        assert quarantine.set_aside is None


async def test_a_folder_that_cannot_be_used_is_trouble_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    committed = Committed()
    async with running(make_quarantine(tmp_path / "file" / "q", committed)) as quarantine:
        assert quarantine.trouble is not None
        (tmp_path / "file").unlink()
        await committed.wait_troubles(2)
        assert quarantine.trouble is None


async def test_what_waits_when_it_is_cancelled_is_still_committed(tmp_path: Path) -> None:
    committed = Committed()
    async with running(make_quarantine(tmp_path, committed)) as quarantine:
        for number in range(10):
            quarantine.hold_nowait(make_held(), number)
    assert committed.tokens == list(range(10))
    assert not (tmp_path / f"{DATABASE}-wal").exists()  # closed in order


async def test_a_disk_that_stays_broken_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    disk = Disk()
    committed = Committed()
    quarantine = make_quarantine(tmp_path, committed, connect=disk.connect, drain=0.05)
    with trio.fail_after(PATIENCE):
        async with running(quarantine):
            disk.before["COMMIT"] = io_error()
            quarantine.hold_nowait(make_held(), 0)
            await committed.wait_troubles(1)
    assert not committed.tokens
    assert quarantine.pending == 1


async def test_trouble_that_ends_while_draining_loses_nothing(tmp_path: Path) -> None:
    disk = Disk()
    committed = Committed()

    async def heal() -> None:
        await trio.sleep(0.02)  # it has begun to end by then; where it had not, this is true all the same
        disk.before.clear()

    quarantine = make_quarantine(tmp_path, committed, connect=disk.connect)
    async with trio.open_nursery() as nursery, running(quarantine):
        disk.before["COMMIT"] = io_error()
        quarantine.hold_nowait(make_held(), 0)
        await committed.wait_troubles(1)
        nursery.start_soon(heal)
    assert committed.tokens == [0]


async def test_a_disk_that_hangs_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    hanging, released = threading.Event(), threading.Event()

    def fsync(_descriptor: int) -> None:
        hanging.set()
        released.wait(2 * PATIENCE)

    committed = Committed()
    quarantine = make_quarantine(tmp_path, committed, settings=SMALL_INLINE, fsync=fsync, drain=0.05)
    with trio.fail_after(PATIENCE):
        async with running(quarantine):
            quarantine.hold_nowait(make_held(payload=b"larger than ten bytes"), 0)
            await trio.to_thread.run_sync(hanging.wait)
    assert not committed.tokens
    released.set()
    await eventually(lambda: quarantine._writer._opened is None)  # closed by the thread that came back


async def test_retention_runs_without_traffic_and_is_counted(tmp_path: Path) -> None:
    clock = [NOW]
    committed = Committed()
    settings = evolve(SETTINGS, max_age=Seconds(60.0))
    quarantine = make_quarantine(tmp_path, committed, settings=settings, now=lambda: clock[0], tidy_every=0.01)
    async with running(quarantine):
        quarantine.hold_nowait(make_held(), 0)
        await committed.wait_tokens(1)
        assert quarantine.messages == 1
        clock[0] += 61
        await eventually(lambda: not quarantine.messages)
    assert quarantine.expired_total == {"age": 1, "count": 0, "bytes": 0, "quota": 0}
    assert quarantine.size_bytes == 0


async def test_G10_the_newest_are_kept_under_a_flood(tmp_path: Path) -> None:
    committed = Committed()
    settings = evolve(SETTINGS, max_messages=Count(10))
    async with running(make_quarantine(tmp_path, committed, settings=settings)) as quarantine:
        batch = [make_held(at=NOW + number) for number in range(1200)]
        for number, held in enumerate(batch):
            quarantine.hold_nowait(held, number)
        await eventually(lambda: quarantine.expired_total["count"] == 1190)
    assert identifiers(tmp_path) == [held.id for held in batch[-10:]]
    assert len(committed.tokens) == 1200


async def test_G10_a_flood_without_end_does_not_outgrow_the_bounds(tmp_path: Path) -> None:
    """As much goes as comes, however much is in each commit."""
    most = 0

    def committed(tokens: Sequence[object]) -> None:
        nonlocal most
        most = max(most, quarantine.messages)
        if (count := quarantine.committed_total) < 20_000:
            for number in range(2000):
                quarantine.hold_nowait(make_held(at=NOW + count + number, failures=()), number)

    settings = evolve(SETTINGS, max_messages=Count(100))
    quarantine = Quarantine(tmp_path, settings, committed, now=lambda: NOW)
    async with running(quarantine):
        committed(())
        await eventually(lambda: quarantine.committed_total == 20_000)
        await eventually(lambda: quarantine.messages == 100)
    assert most <= 2100


async def test_G10_the_quota_is_counted_and_told_once_in_a_while(tmp_path: Path) -> None:
    committed = Committed()
    settings = evolve(SETTINGS, max_messages=Count(20), client_share=0.1)
    log = FakeLog()
    quarantine = make_quarantine(tmp_path, committed, settings=settings)
    quarantine._limited_log.log = log
    async with running(quarantine):
        for number in range(30):
            quarantine.hold_nowait(make_held(owner="user:ada", at=NOW + number), number)
            await committed.wait_tokens(number + 1)
        await eventually(lambda: quarantine.expired_total["quota"] == 10)
    assert log.lines == [{"event": "quarantine_quota", "owner": "user:ada", "removed": 1}]
    assert quarantine.messages == 20


async def test_G10_retention_goes_on_while_the_disk_is_low_and_makes_room(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.commit([make_held(at=NOW - SETTINGS.max_age - 1) for _ in range(SLICE + 1)])
    writer.close()

    def low_while_much_is_there(*arguments: Any, **more: Any) -> Writer:
        made = Writer(*arguments, **more, usage=lambda _: (10**12, 0, 0 if made.messages else 10**12))
        return made

    committed = Committed()
    quarantine = make_quarantine(tmp_path, committed, make_writer=low_while_much_is_there, tidy_every=0.01)
    quarantine.hold_nowait(held := make_held(), 0)
    async with running(quarantine):
        await committed.wait_tokens(1)
    assert quarantine.expired_total["age"] == SLICE + 1
    assert identifiers(tmp_path) == [held.id]


async def test_what_expired_while_it_was_down_goes_at_once_slice_by_slice(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.commit([make_held() for _ in range(2 * SLICE + 1)])
    writer.close()
    later = NOW + SETTINGS.max_age + 1
    async with running(make_quarantine(tmp_path, Committed(), now=lambda: later, tidy_every=3600.0)) as quarantine:
        await eventually(lambda: not quarantine.messages)


async def test_bounds_hold_without_waiting_for_the_next_look(tmp_path: Path) -> None:
    committed = Committed()
    settings = evolve(SETTINGS, max_messages=Count(2))
    async with running(make_quarantine(tmp_path, committed, settings=settings, tidy_every=3600.0)) as quarantine:
        for number in range(5):
            quarantine.hold_nowait(make_held(), number)
            await committed.wait_tokens(number + 1)
        await eventually(lambda: quarantine.messages == 2)


async def test_a_purge_by_a_command_shows_in_the_counters(tmp_path: Path) -> None:
    committed = Committed()
    async with running(make_quarantine(tmp_path, committed, tidy_every=0.01)) as quarantine:
        quarantine.hold_nowait(make_held(), 0)
        await committed.wait_tokens(1)
        with Archive(tmp_path, writable=True) as archive:
            assert archive.purge(Filters()) == 1
        await eventually(lambda: not quarantine.messages)
        quarantine.hold_nowait(make_held(), 1)
        await committed.wait_tokens(2)
        assert quarantine.messages == 1


async def test_a_bug_in_what_is_told_of_commits_ends_the_room(tmp_path: Path) -> None:
    def committed(_tokens: Sequence[object]) -> None:
        raise OSError("no trouble of the disk")

    quarantine = Quarantine(tmp_path, SETTINGS, committed)
    quarantine.hold_nowait(make_held(), 0)
    with trio.fail_after(PATIENCE), pytest.RaisesGroup(pytest.RaisesExc(OSError, match="no trouble")):
        await quarantine.run()
    assert quarantine._writer._opened is None


KILLED = """
import sys, trio
from pathlib import Path
from mqttproxy.config.model import Bytes, QuarantineSettings
from mqttproxy.quarantine.store import Quarantine
from mqttproxy.quarantine.writer import SLICE
from tests.quarantine.examples import make_held

def committed(tokens):
    print("\\n".join(tokens), flush=True)

async def main():
    settings = QuarantineSettings(inline_bytes=Bytes(50), queue_messages=7)
    quarantine = Quarantine(Path(sys.argv[1]), settings, committed)
    async with trio.open_nursery() as nursery:
        await nursery.start(quarantine.run)
        while True:
            await quarantine.wait_room()
            id = quarantine.new_id()
            quarantine.hold_nowait(make_held(id=id, payload=id.encode() * 3), id)

trio.run(main)
"""


def test_X17_kill_9_loses_nothing_that_was_told_committed(tmp_path: Path) -> None:
    told = set()
    for round_ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as killed:
            assert killed.stdout is not None
            told |= {killed.stdout.readline().strip() for _ in range(100 + round_)}
            killed.kill()
            rest = killed.stdout.read()
            told |= set(rest[: rest.rfind("\n") + 1].split())
    with Archive(tmp_path) as archive:
        records = list(archive.search(Filters()))
        assert told <= {record.id for record in records}
        assert all(archive.payload(record) == record.id.encode() * 3 for record in records)


def test_after_kill_9_payload_files_of_no_message_are_gone_at_the_next_start(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        killed.kill()
    (tmp_path / FOLDER / ("0" * 26)).write_bytes(b"of a commit that never was")
    writer = make_writer(tmp_path)
    writer.open()
    assert len(list(files_in(tmp_path / FOLDER))) == writer.messages > 0
    writer.close()


async def test_X16_a_lock_is_waited_for(tmp_path: Path) -> None:  # the row's id
    committed = Committed()
    disk = Disk()
    async with running(make_quarantine(tmp_path, committed, connect=disk.connect)) as quarantine:
        other = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        quarantine.hold_nowait(make_held(), 0)
        await committed.wait_troubles(1)
        assert quarantine.trouble is not None
        assert "locked" in quarantine.trouble
        other.execute("ROLLBACK")
        other.close()
        await committed.wait_tokens(1)
