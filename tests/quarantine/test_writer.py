import errno
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqttproxy.config.model import Bytes, Count, Seconds
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.database import DATABASE
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.payloads import FOLDER
from mqttproxy.quarantine.retention import SLICE
from mqttproxy.quarantine.writer import Writer
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

LARGE = b"larger than ten bytes"


def kept(directory: Path) -> dict[str, bytes | None]:
    with Archive(directory) as archive:
        return {record.id: archive.payload(record) for record in archive.search(Filters())}


def test_what_was_committed_is_found_with_all_that_was_told(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    held = make_held(failures=(("", "json", "not JSON"), ("/a", "type", "wrong")), retain=True, payload=b"\xff\x00")
    writer.commit([held])
    writer.close()
    with Archive(tmp_path) as archive:
        record = archive.get(held.id)
        assert record is not None
        assert archive.payload(record) == b"\xff\x00"
    for fact in ("id", "at", "client_id", "username", "address", "listener", "topic", "qos", "retain", "properties"):
        assert getattr(record, fact) == getattr(held, fact)
    assert (record.policy, record.schema, record.reason) == ("temperature", "temperature@1", 0x99)
    assert record.failures == held.failures
    assert (record.state, record.payload_size) == ("held", 2)


def test_G9_NUL_and_surrogates_cannot_break_it(tmp_path: Path) -> None:  # so it is called
    writer = make_writer(tmp_path)
    held = make_held(
        client_id="a\0b", username="\udc80", topic="t\0\ud800", failures=(("/\0", "\udfff", "x\0y"),), policy=None
    )
    writer.commit([held])
    writer.close()
    with Archive(tmp_path) as archive:
        (record,) = archive.search(Filters(client_id="a\0b", failure="x\0y"))
    assert (record.client_id, record.username, record.topic) == ("a\0b", "\\udc80", "t\0\\ud800")
    assert record.failures == (("/\0", "\\udfff", "x\0y"),)


def test_large_payloads_go_to_files_and_small_ones_do_not(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, SMALL_INLINE)
    small, large = make_held(payload=b"0123456789"), make_held(payload=b"0123456789A")
    writer.commit([small, large])
    writer.close()
    assert len(list(files_in(tmp_path / FOLDER))) == 1
    assert kept(tmp_path) == {small.id: small.payload, large.id: large.payload}


def test_the_totals_are_right_after_a_restart(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.commit([make_held(payload=b"x" * 100, failures=()) for _ in range(7)])
    assert (writer.messages, writer.size_bytes) == (7, 700)
    writer.close()
    again = make_writer(tmp_path)
    again.open()
    assert (again.messages, again.size_bytes) == (7, 700)
    again.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
def test_X13_a_failed_commit_is_done_anew_on_a_new_connection_and_stores_nothing_twice(  # the row's id
    tmp_path: Path, statement: str, when: str
) -> None:
    disk = Disk()
    writer = make_writer(tmp_path, SMALL_INLINE, connect=disk.connect)
    batch = [make_held(payload=LARGE), make_held()]
    writer.open()
    getattr(disk, when)[statement] = io_error()
    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        writer.commit(batch)
    disk.before.clear()
    disk.after.clear()
    newer = make_held()
    writer.commit([*batch, newer])
    assert disk.opened == 2
    assert writer.messages == 3
    assert not writer._written
    writer.close()
    assert kept(tmp_path) == {held.id: held.payload for held in (*batch, newer)}
    assert len(list(files_in(tmp_path / FOLDER))) == 1


def test_X13_after_a_write_error_nothing_is_appended_to_the_old_log(tmp_path: Path) -> None:  # the row's id
    disk = Disk()
    writer = make_writer(tmp_path, connect=disk.connect)
    writer.open()
    disk.before["COMMIT"] = io_error()
    reader = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    batch = [make_held()]
    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        writer.commit(batch)
    disk.before.clear()
    other = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    other.execute("CREATE TABLE other (x)")  # something in the log that the reader's snapshot does not have
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM held").fetchone()
    other.execute("INSERT INTO other VALUES (1)")
    with pytest.raises(sqlite3.OperationalError, match="waiting until no other process reads"):
        writer.commit(batch)
    reader.execute("COMMIT")
    writer.commit(batch)
    assert writer.messages == 1
    writer.close()
    other.close()
    reader.close()


def test_X13_a_payload_file_that_was_not_synchronised_is_written_anew(tmp_path: Path) -> None:  # the row's id
    failing = [True, False, False, False]

    def fsync(_descriptor: int) -> None:
        if failing.pop(0):
            raise OSError(errno.EIO, "Input/output error")

    writer = make_writer(tmp_path, SMALL_INLINE, fsync=fsync)
    held = make_held(payload=LARGE)
    with pytest.raises(OSError, match="Input/output"):
        writer.commit([held])
    assert not list(files_in(tmp_path / FOLDER))
    writer.commit([held])
    writer.close()
    assert kept(tmp_path) == {held.id: LARGE}


def test_X12_a_full_disk_refuses_and_heals(tmp_path: Path) -> None:  # the row's id
    disk = Disk()
    disk.pages = 40
    writer = make_writer(tmp_path, connect=disk.connect)
    batch = [make_held(payload=b"x" * 10_000) for _ in range(20)]
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
        writer.commit(batch)
    disk.pages = 4000
    writer.commit(batch)
    writer.close()
    assert len(kept(tmp_path)) == 20


def test_G10_the_room_that_the_spool_needs_is_left_and_nothing_is_tried(tmp_path: Path) -> None:
    disk, free = Disk(), [99]
    settings = evolve(SETTINGS, keep_free=Bytes(100))
    writer = make_writer(tmp_path, settings, connect=disk.connect, usage=lambda _: (1000, 0, free[0]))
    batch = [make_held(payload=b"x" * 20_000)]
    with pytest.raises(OSError, match=r"99B left, which `quarantine.keep_free` leaves to the spool"):
        writer.commit(batch)
    assert not list(files_in(tmp_path / FOLDER))
    free[0] = 100
    writer.commit(batch)
    assert disk.opened == 1  # no error of the disk: the connection can be trusted
    writer.close()
    assert kept(tmp_path) == {batch[0].id: batch[0].payload}


@pytest.mark.parametrize(("total", "least"), [(3_000_000, 150_000), (2**40, 128 * 1024**2)])
def test_G10_by_default_that_is_128_mib_or_a_twentieth_of_a_small_disk(tmp_path: Path, total: int, least: int) -> None:
    free = [least - 1]
    writer = make_writer(tmp_path, usage=lambda _: (total, 0, free[0]))
    with pytest.raises(OSError, match="leaves to the spool"):
        writer.commit([make_held()])
    free[0] = least
    writer.commit([make_held()])
    writer.close()


def test_X16_a_locked_database_refuses_and_heals(tmp_path: Path) -> None:  # the row's id
    writer = make_writer(tmp_path)
    writer.open()
    other = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        writer.commit([make_held()])
    other.execute("ROLLBACK")
    writer.commit([make_held()])
    assert writer.messages == 1
    writer.close()
    other.close()


def test_X16_a_reader_does_not_delay_commits(tmp_path: Path) -> None:  # the row's id
    writer = make_writer(tmp_path)
    writer.commit([make_held()])
    reader = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM held").fetchone() == (1,)
    writer.commit([make_held()])
    assert reader.execute("SELECT count(*) FROM held").fetchone() == (1,)
    reader.close()
    writer.close()


def test_X16_a_corrupted_database_is_set_aside_and_kept_with_its_payloads(tmp_path: Path) -> None:  # the row's id
    writer = make_writer(tmp_path, SMALL_INLINE)
    writer.commit([make_held(payload=LARGE) for _ in range(50)])
    writer.close()
    damage(tmp_path / DATABASE)
    damaged = (tmp_path / DATABASE).read_bytes()
    writer.commit([held := make_held(payload=LARGE)])
    ((folder, reason),) = writer.set_aside
    assert reason
    assert (folder / DATABASE).read_bytes() == damaged
    assert len(list(files_in(folder / FOLDER))) == 50
    assert writer.messages == 1
    writer.close()
    assert kept(tmp_path) == {held.id: LARGE}


def test_X16_corruption_that_shows_only_later_is_set_aside_too(tmp_path: Path) -> None:  # the row's id
    disk = Disk()
    writer = make_writer(tmp_path, SMALL_INLINE, connect=disk.connect)
    writer.commit([make_held(payload=LARGE)])
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    disk.before["COMMIT"] = error
    batch = [make_held(payload=LARGE)]
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        writer.commit(batch)
    disk.before.clear()
    writer.commit(batch)
    assert [reason for _, reason in writer.set_aside] == ["database disk image is malformed"]
    writer.close()
    assert kept(tmp_path) == {batch[0].id: LARGE}


def test_files_of_a_crash_before_the_commit_are_removed_at_the_next_start(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, SMALL_INLINE)
    writer.commit([make_held(payload=LARGE)])
    writer.close()
    orphans = [tmp_path / FOLDER / f"{number:026}" for number in range(SLICE + 5)]
    for orphan in orphans:
        orphan.write_bytes(b"half")
    writer.open()
    writer.close()
    assert len(list(files_in(tmp_path / FOLDER))) == 1
    assert list(kept(tmp_path).values()) == [LARGE]


def test_retention_by_age_removes_what_is_older_and_its_files(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(SMALL_INLINE, max_age=Seconds(100.0)))
    old, young = make_held(at=NOW - 100.1, payload=LARGE), make_held(at=NOW - 100.0, payload=LARGE)
    writer.commit([young, old])
    tidied = writer.tidy()
    assert tidied.expired == {"age": 1, "count": 0, "bytes": 0, "quota": 0}
    assert (writer.messages, writer.size_bytes) == (1, writer.size_bytes)
    writer.close()
    assert kept(tmp_path) == {young.id: LARGE}
    assert len(list(files_in(tmp_path / FOLDER))) == 1


def test_G10_retention_by_count_removes_the_oldest(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(SETTINGS, max_messages=Count(3)))
    batch = [make_held(at=NOW - number) for number in range(5)]
    writer.commit(batch)
    assert writer.overdue()
    assert writer.tidy().expired == {"age": 0, "count": 2, "bytes": 0, "quota": 0}
    assert not writer.overdue()
    assert writer._number("SELECT count(*) FROM failures") == 3
    writer.close()
    assert set(kept(tmp_path)) == {held.id for held in batch[:3]}


def test_G10_retention_by_bytes_removes_as_few_as_possible(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(SETTINGS, max_bytes=Bytes(250)))
    batch = [make_held(at=NOW - number, payload=b"x" * 100, failures=()) for number in range(4)]
    writer.commit(batch)
    assert writer.tidy().expired == {"age": 0, "count": 0, "bytes": 2, "quota": 0}
    assert (writer.messages, writer.size_bytes) == (2, 200)
    writer.close()
    assert set(kept(tmp_path)) == {held.id for held in batch[:2]}


def test_retention_goes_in_slices(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(SETTINGS, max_messages=Count(1)))
    writer.commit([make_held() for _ in range(SLICE + 2)])
    first, second = writer.tidy(), writer.tidy()
    assert (first.expired["count"], first.more) == (SLICE, True)
    assert (second.expired["count"], second.more) == (1, False)
    writer.close()


def test_what_others_removed_is_seen(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.commit([make_held() for _ in range(3)])
    with Archive(tmp_path, writable=True) as archive:
        archive.purge(Filters())
    assert writer.messages == 3
    writer.tidy()
    assert (writer.messages, writer.size_bytes) == (0, 0)
    writer.commit([make_held()])
    assert writer.messages == 1
    writer.close()


def test_space_that_a_purge_left_is_given_back_slice_by_slice(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    for _ in range(4):
        writer.commit([make_held(payload=b"x" * 16_000) for _ in range(1000)])
        writer.tidy()
    with Archive(tmp_path, writable=True) as archive:
        archive.purge(Filters())
    calls = 1
    while writer.tidy().more:
        calls += 1
    writer.close()
    assert 5 < calls < 20  # 16,000 pages in slices of 1024
    assert (tmp_path / DATABASE).stat().st_size < 10_000_000


def test_the_log_is_copied_into_the_database_before_it_grows_large(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    for _ in range(40):
        writer.commit([make_held(payload=b"x" * 16_000) for _ in range(50)])
        if writer.overdue():
            writer.tidy()
    assert (tmp_path / f"{DATABASE}-wal").stat().st_size < 16_000_000
    writer.close()


def test_a_failing_checkpoint_is_told(tmp_path: Path) -> None:
    disk = Disk()
    writer = make_writer(tmp_path, connect=disk.connect)
    writer.commit([make_held(payload=b"x" * 10_000) for _ in range(500)])
    disk.before["PRAGMA wal_checkpoint(PASSIVE)"] = io_error()
    assert writer.overdue()
    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        writer.tidy()
    disk.before.clear()
    writer.tidy()
    assert writer.messages == 500
    writer.close()


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"exist|directory"):
        make_writer(tmp_path / "file").open()


def test_a_database_that_is_up_to_date_needs_no_sqlite_utils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = make_writer(tmp_path)
    writer.open()
    writer.close()
    monkeypatch.setitem(sys.modules, "mqttproxy.quarantine.schema", None)
    writer.open()
    writer.close()


class AnyFaults(RuleBasedStateMachine):
    """Whatever fails and when: what was reported committed is there, once, whole; and files belong to rows."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.disk = Disk()
        self.syncs_until_failure = -1
        self.waiting: list[Held] = []
        self.committed: dict[str, bytes] = {}
        self.writer = self.new_writer()
        self.writer.open()

    def new_writer(self) -> Writer:
        return make_writer(Path(self.folder.name) / "q", SMALL_INLINE, connect=self.disk.connect, fsync=self.fsync)

    def fsync(self, _descriptor: int) -> None:
        self.syncs_until_failure -= 1
        if self.syncs_until_failure == 0:
            raise OSError(errno.EIO, "Input/output error")

    @rule(sizes=st.lists(st.sampled_from([0, 5, 20, 5000]), min_size=1, max_size=4))
    def messages_are_held(self, sizes: list[int]) -> None:
        self.waiting += [make_held(payload=bytes(size)) for size in sizes]

    @rule(
        when=st.sampled_from(["before", "after"]),
        statement=st.sampled_from(["COMMIT", "BEGIN IMMEDIATE", "PRAGMA wal_checkpoint(TRUNCATE)"]),
    )
    def the_database_fails(self, when: str, statement: str) -> None:
        getattr(self.disk, when)[statement] = io_error()
        self.commit()
        self.heal()

    @rule(count=st.integers(1, 4))
    def a_payload_file_fails(self, count: int) -> None:
        self.syncs_until_failure = count
        self.commit()
        self.heal()

    @rule()
    def all_is_well(self) -> None:
        self.commit()
        assert not self.waiting

    def heal(self) -> None:
        self.disk.before.clear()
        self.disk.after.clear()
        self.syncs_until_failure = -1

    def commit(self) -> None:
        if not self.waiting:
            self.messages_are_held([20])
        batch = self.waiting.copy()
        try:
            self.writer.commit(batch)
        except (sqlite3.Error, OSError):
            return
        self.committed |= {held.id: held.payload for held in batch}
        self.waiting.clear()
        assert self.writer.messages == len(self.committed)

    @rule()
    def the_process_dies_and_starts_again(self) -> None:
        self.writer.close()
        uncertain = {held.id for held in self.waiting}
        self.waiting.clear()  # never acknowledged: their devices send them again
        self.writer = self.new_writer()
        self.writer.open()
        directory = Path(self.folder.name) / "q"
        found = kept(directory)
        assert set(self.committed) <= set(found) <= set(self.committed) | uncertain
        assert {name: found[name] for name in self.committed} == self.committed
        large = [payload for payload in found.values() if payload is not None and len(payload) > 10]
        assert len(list(files_in(directory / FOLDER))) == len(large)
        self.committed = {name: payload or b"" for name, payload in found.items()}

    @invariant()
    def the_writer_knows_how_many_there_are(self) -> None:
        if not self.waiting and self.committed:
            assert self.writer.messages == len(self.committed)

    def teardown(self) -> None:
        self.the_process_dies_and_starts_again()
        self.writer.close()
        self.folder.cleanup()


TestAnyFaults = AnyFaults.TestCase
TestAnyFaults.settings = settings(max_examples=40, stateful_step_count=12)
