import sqlite3
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from mqttproxy import migrating
from mqttproxy.database import make_store, take_over_former
from mqttproxy.journal import Changes, Row
from mqttproxy.mqtt.packets import Subscription
from mqttproxy.schema import migrate, migrations
from mqttproxy.sessions.records import (
    IncomingRow,
    MessageRow,
    QueuedRow,
    SessionRow,
    SubscriptionRow,
)
from mqttproxy.sqlite import NewerDatabaseError
from mqttproxy.tables import DATABASE, VERSION, journal_dir
from tests.quarantine.examples import Disk, damage, io_error


def changes(*rows: Row) -> Changes:
    made = Changes()
    for row in rows:
        made.put(row, is_new=False)
    return made


def test_the_database_is_private_and_its_commits_durable(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    store.apply(changes(SessionRow(1, "a", 60.0, None)))
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "s").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert store._opened is not None
    assert store._opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._opened.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


def test_a_database_that_is_up_to_date_needs_no_sqlite_utils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "s")
    store.load()
    store.close()
    monkeypatch.setitem(sys.modules, "mqttproxy.schema", None)
    store.load()
    store.close()


def test_the_version_is_the_number_of_migrations() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, VERSION)
    migrate(connection, VERSION)
    assert not migrations.pending(Database(connection))
    assert len(migrations.applied(Database(connection))) == VERSION
    connection.close()


def test_D5_sessions_of_before_there_were_owners_come_back_as_nobodys_and_get_one(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    before = Migrations("sessions")
    before._migrations = [one for one in migrations._migrations if one.name < "m005"]
    connection = sqlite3.connect(tmp_path / "s" / DATABASE, isolation_level=None)
    migrating.migrate(before, connection, 4)
    connection.execute("INSERT INTO sessions VALUES (1, 'a', 60.0, 5.0), (2, 'b', 60.0, NULL)")
    connection.close()
    store = make_store(tmp_path / "s")
    rows = [SessionRow(1, "a", 60.0, 5.0), SessionRow(2, "b", 60.0, None)]
    assert store.load()[SessionRow] == rows
    owned = SessionRow(1, "a", 60.0, 5.0, "ada")
    store.apply(changes(owned))
    store.close()
    store = make_store(tmp_path / "s")
    assert store.load()[SessionRow] == [owned, rows[1]]
    assert not store.set_aside
    store.close()


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    store.load()
    store.close()
    connection = sqlite3.connect(tmp_path / "s" / DATABASE)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(NewerDatabaseError):
        store.load()
    assert not store.set_aside


def test_damage_that_is_met_at_work_sets_the_database_aside(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", wall=lambda: 0.0)
    store.apply(changes(SessionRow(1, "a", 60.0, None)))
    store.close()
    disk = Disk()
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    disk.before["COMMIT"] = error
    store = make_store(tmp_path / "s", connect=disk.connect, wall=lambda: 0.0)
    with pytest.raises(sqlite3.DatabaseError):
        store.apply(changes(SessionRow(2, "b", 60.0, None)))
    disk.before.clear()
    store.apply(changes(SessionRow(2, "b", 60.0, None)))
    assert store.set_aside == [(tmp_path / "s" / "broken-19700101T000000Z-1", "database disk image is malformed")]
    saved = {"rows": 1, "folder": str(tmp_path / "s" / "broken-19700101T000000Z-1")}
    assert ("journal_salvaged", saved) in store.news
    assert store.load()[SessionRow] == [SessionRow(1, "a", 60.0, None), SessionRow(2, "b", 60.0, None)]
    store.close()


def test_a_damaged_file_is_set_aside_at_the_start(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    store.apply(changes(SessionRow(1, "a", 60.0, None)))
    store.close()
    damage(tmp_path / "s" / DATABASE)
    assert store.load()[SessionRow] == []
    assert len(store.set_aside) == 1
    store.close()


def test_texts_that_are_damaged_set_the_database_aside_and_the_other_rows_are_saved(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    store.apply(changes(*(SessionRow(number, f"client-{number}", 60.0, None) for number in (1, 2, 3))))
    store.close()
    file = tmp_path / "s" / DATABASE
    content = file.read_bytes()
    file.write_bytes(content.replace(b"client-2", b"client\xff2"))
    with pytest.raises(sqlite3.OperationalError, match="UTF-8"):
        store.load()
    assert [row.key for row in store.load()[SessionRow]] == [1, 3]
    assert len(store.set_aside) == 1
    store.close()


def test_a_schema_that_is_no_text_sets_the_database_aside(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    store.apply(changes(SessionRow(1, "a", 60.0, None)))
    store.close()
    file = tmp_path / "s" / DATABASE
    file.write_bytes(
        file.read_bytes().replace(
            b"CREATE INDEX runs_by_mask ON runs (mask, last", b"CREATE INDEX runs_by_mask ON runs (mask, l\xe1st"
        )
    )
    assert store.load()[SessionRow] == []
    assert len(store.set_aside) == 1
    store.close()


def test_rows_of_no_session_are_gone_after_the_next_start(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    kept = [SessionRow(1, "a", 60.0, None), MessageRow(1, "t", b""), QueuedRow(1, 1, 1, 1, False)]
    store.apply(
        changes(
            *kept,
            SubscriptionRow(9, Subscription("a"), 0),
            IncomingRow(9, 1),
            QueuedRow(2, 9, 1, 1, False),
            QueuedRow(3, 1, 99, 1, False),
            MessageRow(2, "t", b""),
        )
    )
    loaded = store.load()
    assert [row for rows in loaded.values() for row in rows] == kept
    store.close()


def test_after_a_failure_the_same_changes_can_come_again(tmp_path: Path) -> None:
    disk = Disk()
    store = make_store(tmp_path / "s", connect=disk.connect)
    again = changes(SessionRow(1, "a", 60.0, 5.0), SubscriptionRow(1, Subscription("a"), 0))
    disk.after["COMMIT"] = io_error()
    with pytest.raises(sqlite3.OperationalError):
        store.apply(again)
    disk.after.clear()
    store.apply(again)
    loaded = store.load()
    assert loaded[SessionRow] == [SessionRow(1, "a", 60.0, 5.0)]
    assert len(loaded[SubscriptionRow]) == 1
    store.close()


def test_the_log_is_brought_into_the_database_from_time_to_time(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    for number in range(24):
        store.apply(changes(MessageRow(number, "t", bytes(1024 * 1024))))
    assert (tmp_path / "s" / f"{DATABASE}-wal").stat().st_size < 18 * 1024 * 1024
    removed = Changes()
    for number in range(24):
        removed.remove(MessageRow, number)
    store.apply(removed)
    store.close()


class TestFormer:
    """The database of a version that had only sessions, under another name."""

    def make(self, data_dir: Path) -> None:
        (data_dir / "sessions").mkdir(parents=True)
        for end in ("", "-wal", "-shm"):
            (data_dir / "sessions" / f"sessions.sqlite3{end}").write_text(f"former{end}")

    def test_it_gets_its_new_name_with_its_log(self, tmp_path: Path) -> None:
        self.make(tmp_path)
        take_over_former(tmp_path)
        assert not (tmp_path / "sessions").exists()
        there = {path.name: path.read_text() for path in journal_dir(tmp_path).iterdir()}
        assert there == {DATABASE: "former", f"{DATABASE}-wal": "former-wal", f"{DATABASE}-shm": "former-shm"}
        take_over_former(tmp_path)  # once

    def test_where_there_is_none_or_one_of_ours_nothing_is_done(self, tmp_path: Path) -> None:
        take_over_former(tmp_path)
        assert list(tmp_path.iterdir()) == []
        self.make(tmp_path)
        journal_dir(tmp_path).mkdir()
        take_over_former(tmp_path)
        assert (tmp_path / "sessions" / "sessions.sqlite3").exists()
        assert list(journal_dir(tmp_path).iterdir()) == []

    @pytest.mark.parametrize("renames", range(4))
    def test_a_start_that_was_cut_off_in_the_middle_is_taken_up_again(
        self, tmp_path: Path, renames: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.make(tmp_path)
        left = renames
        rename = Path.rename

        def stop(path: Path, target: Path) -> Path:
            nonlocal left
            if not left:
                raise OSError("the end")
            left -= 1
            return rename(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", stop)
            with pytest.raises(OSError, match="the end"):
                take_over_former(tmp_path)
        take_over_former(tmp_path)
        assert (journal_dir(tmp_path) / DATABASE).read_text() == "former"
        assert (journal_dir(tmp_path) / f"{DATABASE}-wal").read_text() == "former-wal"
