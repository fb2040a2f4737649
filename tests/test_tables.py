"""Making the tables of both databases, apart from the process that serves devices."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mqttproxy import tables
from mqttproxy.quarantine import database as quarantine
from mqttproxy.tables import DATABASE, VERSION, are_made, journal_dir, make_tables
from tests.waiting import PATIENCE

# What only the rooms need: importing it would take longer than making the tables.
ROOMS = {"attrs", "mqttproxy.config", "mqttproxy.journal", "mqttproxy.sessions", "mqttproxy.spool", "trio"}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def files(data_dir: Path) -> tuple[Path, Path]:
    """Return both databases."""
    return quarantine.quarantine_dir(data_dir) / quarantine.DATABASE, journal_dir(data_dir) / DATABASE


def test_tables_are_made_by_a_program_of_their_own_in_private_folders(tmp_path: Path) -> None:
    assert not are_made(tmp_path)
    subprocess.run([sys.executable, "-m", "mqttproxy.tables", str(tmp_path)], check=True, timeout=PATIENCE)
    assert are_made(tmp_path)
    assert [version(path) for path in files(tmp_path)] == [quarantine.VERSION, VERSION]
    for path in files(tmp_path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_that_program_needs_no_room(tmp_path: Path) -> None:
    code = f"import sys; from mqttproxy.tables import make_tables, Path; make_tables(Path({str(tmp_path)!r}))"
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"],
        check=True,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
    )
    assert not ROOMS & set(told.stdout.split())
    assert are_made(tmp_path)


@pytest.mark.parametrize("missing", [0, 1])
def test_only_what_is_missing_is_made(tmp_path: Path, missing: int) -> None:
    make_tables(tmp_path)
    files(tmp_path)[missing].unlink()
    assert not are_made(tmp_path)
    kept = files(tmp_path)[not missing].stat().st_mtime_ns
    make_tables(tmp_path)
    assert are_made(tmp_path)
    assert files(tmp_path)[not missing].stat().st_mtime_ns == kept


def test_one_that_cannot_be_made_is_told_and_does_not_keep_the_other_from_being_made(tmp_path: Path) -> None:
    broken, whole = files(tmp_path)
    broken.mkdir(parents=True)
    with pytest.raises((sqlite3.Error, OSError)):
        make_tables(tmp_path)
    assert version(whole) == VERSION
    assert not are_made(tmp_path)


def test_an_older_one_is_brought_to_its_newest_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tables(tmp_path)
    with closing(sqlite3.connect(files(tmp_path)[1])) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION - 1}")
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert not are_made(tmp_path)
    seen: list[sqlite3.Connection] = []
    monkeypatch.setattr(tables, "migrate", seen.append)
    make_tables(tmp_path)
    assert len(seen) == 1
