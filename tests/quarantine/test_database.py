import sqlite3
from pathlib import Path

import pytest

from mqttproxy.quarantine.database import (
    DATABASE,
    VERSION,
    BrokenDatabaseError,
    NewerDatabaseError,
    connect,
    connect_existing,
    is_broken,
    is_busy,
    is_made,
    open_for_writing,
    quarantine_dir,
    set_aside,
)
from mqttproxy.quarantine.payloads import FOLDER
from tests.quarantine.examples import NOW, damage, files_in, io_error, make_held, make_writer


def answer(connection: sqlite3.Connection, pragma: str) -> object:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def test_a_commit_is_durable_and_readers_do_not_block(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "q", connect)
    assert answer(connection, "journal_mode") == "wal"
    assert answer(connection, "synchronous") == 2
    assert answer(connection, "wal_autocheckpoint") == 0
    assert answer(connection, "auto_vacuum") == 2
    connection.close()


def test_tables_of_an_older_version_or_none_are_not_made(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"")
    assert not is_made(tmp_path)
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("CREATE TABLE t (x)")
    assert not is_made(tmp_path)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.close()
    assert is_made(tmp_path)


def test_G12_everything_is_for_the_owner_only(tmp_path: Path) -> None:  # the row's id
    directory = quarantine_dir(tmp_path)
    directory.mkdir(mode=0o755)
    connection = open_for_writing(directory, connect)
    connection.execute("CREATE TABLE written (x)")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / FOLDER).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.glob(f"{DATABASE}*")} == {0o600}
    assert len(list(directory.glob(f"{DATABASE}*"))) == 3
    connection.close()


def test_a_file_that_is_no_database_is_broken(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"hello " * 1000)
    with pytest.raises(BrokenDatabaseError, match="not a database"):
        open_for_writing(tmp_path, connect)


def test_damaged_pages_are_found(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.commit([make_held() for _ in range(100)])
    writer.close()
    damage(tmp_path / DATABASE)
    with pytest.raises(BrokenDatabaseError):
        open_for_writing(tmp_path, connect)


def test_an_empty_database_beside_payload_files_is_broken(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / ("A" * 26)).write_bytes(b"somebody's")
    with pytest.raises(BrokenDatabaseError, match="payload files"):
        open_for_writing(tmp_path, connect)


def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path, connect)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(NewerDatabaseError, match="version 99"):
        open_for_writing(tmp_path, connect)
    with pytest.raises(NewerDatabaseError, match="version 99"):
        connect_existing(tmp_path, "ro")
    assert (tmp_path / DATABASE).read_bytes() == before


def test_what_is_set_aside_is_whole_and_never_overwritten(tmp_path: Path) -> None:
    folders = []
    for number in (1, 2):
        (tmp_path / FOLDER).mkdir()
        for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
            (tmp_path / name).write_text(str(number))
        folders.append(set_aside(tmp_path, NOW))
    assert [folder.name for folder in folders] == ["broken-20270115T080000Z-1", "broken-20270115T080000Z-2"]
    assert set(files_in(folders[0])) == {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", FOLDER}
    assert [(folder / DATABASE).read_text() for folder in folders] == ["1", "2"]
    assert set(files_in(tmp_path)) == {folder.name for folder in folders}


def test_readers_need_a_database_and_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect_existing(tmp_path, "ro")
    open_for_writing(tmp_path, connect).close()
    connection = connect_existing(tmp_path, "ro")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM held")
    connection.close()


def test_a_folder_with_odd_letters_is_opened(tmp_path: Path) -> None:
    directory = tmp_path / "50% ?mode=rwc#é"
    open_for_writing(directory, connect).close()
    connect_existing(directory, "ro").close()


def test_kinds_of_trouble_are_told_apart() -> None:
    assert not is_broken(io_error())
    assert not is_busy(io_error())
    assert not is_broken(OSError())
    assert is_broken(BrokenDatabaseError())
