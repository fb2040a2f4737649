"""The database that backs the journal: what was reported is there, or it is told that it is not."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from mqttproxy.database import make_store
from mqttproxy.journal import Changes, Row
from mqttproxy.journal.mark import Mark
from mqttproxy.journal.store import SqliteStore
from mqttproxy.mqtt.packets import Message
from mqttproxy.sessions.records import SessionRow
from mqttproxy.spool.encoding import Batch, Sender
from mqttproxy.spool.reader import SqliteReader
from mqttproxy.spool.rows import DestinationRow, InFlightRow, RunRow
from mqttproxy.tables import DATABASE

LOG = f"{DATABASE}-wal"


def commit(store: SqliteStore, *rows: Row) -> None:
    changes = Changes()
    for row in rows:
        changes.put(row, is_new=False)
    store.apply(changes)


def session(number: int) -> SessionRow:
    return SessionRow(number, f"client-{number}", 60.0, None)


def run(number: int, size: int = 100) -> RunRow:
    batch = Batch([(Message("t", bytes(size), 1), None)], [(0, Sender("d", None, "192.0.2.7", "plain"))])
    return RunRow(number, number, 1, 1, 0.0, 1, size, batch)


def killed(directory: Path, to: Path) -> Path:
    """Return a copy of a database in use, as a `kill -9` would leave it."""
    shutil.copytree(directory, to)
    (to / f"{DATABASE}-shm").unlink(missing_ok=True)
    return to


def numbers(store: SqliteStore) -> list[int]:
    rows: list[SessionRow] = store.load()[SessionRow]  # type: ignore[assignment] # a kind has its rows
    return [row.number for row in rows]


class TestLostCommits:
    def log_ends(self, directory: Path, commits: int) -> list[int]:
        """Make so many commits; return how long the log was after each."""
        store = make_store(directory)
        store.load()
        ends = []
        for number in range(1, commits + 1):
            commit(store, session(number))
            ends.append((directory / LOG).stat().st_size)
        killed(directory, directory.with_name("killed"))
        store.close()
        return ends

    def test_a_log_that_ends_early_is_told_with_how_many_commits_are_missing(self, tmp_path: Path) -> None:
        ends = self.log_ends(tmp_path / "s", 6)
        assert len(set(ends)) == 6
        for kept, end in enumerate(ends, 1):
            for cut in {0, -1} if kept < 6 else {0}:
                copy = tmp_path / f"{kept}{cut}"
                shutil.copytree(tmp_path / "killed", copy)
                with (copy / LOG).open("r+b") as file:
                    file.truncate(end + cut)
                there = kept + cut
                store = make_store(copy)
                assert numbers(store) == list(range(1, there + 1))
                lost = [fields["commits"] for event, fields in store.news if event == "journal_lost_commits"]
                assert lost == ([6 - there] if there < 6 else [])
                store.close()

    def test_it_is_told_once(self, tmp_path: Path) -> None:
        ends = self.log_ends(tmp_path / "s", 3)
        with (tmp_path / "killed" / LOG).open("r+b") as file:
            file.truncate(ends[0])
        for news in (1, 0):
            store = make_store(tmp_path / "killed")
            store.load()
            commit(store, session(9))
            assert len(store.news) == news
            store.close()

    def test_a_byte_in_the_middle_of_the_log_is_told_as_well(self, tmp_path: Path) -> None:
        ends = self.log_ends(tmp_path / "s", 4)
        data = bytearray((tmp_path / "killed" / LOG).read_bytes())
        data[ends[1] + 100] ^= 1  # in the third commit
        (tmp_path / "killed" / LOG).write_bytes(data)
        store = make_store(tmp_path / "killed")
        assert numbers(store) == [1, 2]
        assert store.news == [("journal_lost_commits", {"commits": 2, "after": 3})]  # the start was one
        store.close()

    def test_without_a_mark_nothing_is_told(self, tmp_path: Path) -> None:
        ends = self.log_ends(tmp_path / "s", 3)
        with (tmp_path / "killed" / LOG).open("r+b") as file:
            file.truncate(ends[0])
        (tmp_path / "killed" / "mark").unlink()
        store = make_store(tmp_path / "killed")
        assert numbers(store) == [1]
        assert store.news == []
        store.close()

    def test_a_mark_that_says_less_than_the_database_is_no_loss(self, tmp_path: Path) -> None:
        self.log_ends(tmp_path / "s", 3)
        mark = Mark(tmp_path / "killed" / "mark")
        marked = mark.read()
        assert marked is not None
        mark.write(marked._replace(commits=marked.commits - 1))
        mark.close()
        store = make_store(tmp_path / "killed")
        assert numbers(store) == [1, 2, 3]
        assert store.news == []
        store.close()


class TestEpochs:
    def test_each_start_has_one_of_its_own(self, tmp_path: Path) -> None:
        epochs = []
        for _ in range(3):
            store = make_store(tmp_path / "s", wall=lambda: 1000.0)
            store.load()
            epochs.append(store.epoch)
            store.close()
        assert epochs == [1000, 1001, 1002]

    def test_even_if_the_database_is_lost_and_the_mark_is_not(self, tmp_path: Path) -> None:
        store = make_store(tmp_path / "s", wall=lambda: 1000.0)
        store.load()
        store.close()
        (tmp_path / "s" / DATABASE).unlink()
        store = make_store(tmp_path / "s", wall=lambda: 1000.0)
        store.load()
        assert store.epoch == 1001
        store.close()


class TestSalvage:
    def pages_of(self, path: Path, table: str) -> list[int]:
        connection = sqlite3.connect(path)
        try:
            found = connection.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY pageno", (table,)).fetchall()
        except sqlite3.OperationalError:
            pytest.skip("this SQLite does not tell where a table's pages are")
        finally:
            connection.close()
        return [number for (number,) in found]

    def test_of_a_database_with_a_damaged_page_the_other_rows_come_back(self, tmp_path: Path) -> None:
        directory = tmp_path / "s"
        store = make_store(directory, wall=lambda: 0.0)
        store.load()
        in_flight = InFlightRow(0, 5, 7, False)
        commit(store, DestinationRow(0, "a", 3, "x"), in_flight, *[session(number) for number in range(1, 6)])
        commit(store, *[run(number, 2000) for number in range(1, 101)])
        store.close()
        path = directory / DATABASE
        pages = self.pages_of(path, "runs")
        with path.open("r+b") as file:
            file.seek((pages[len(pages) // 2] - 1) * 4096)
            file.write(b"\xff" * 4096)
        store = make_store(directory, wall=lambda: 0.0)
        assert numbers(store) == [1, 2, 3, 4, 5]
        loaded = store.load()
        assert loaded[DestinationRow] == [DestinationRow(0, "a", 3, "x")]
        assert loaded[InFlightRow] == [in_flight]
        reader = SqliteReader(path)
        kept = [found.first for found in reader.runs(1, 0, 10_000_000)]
        assert 90 <= len(kept) < 100
        assert kept == sorted(set(kept))
        assert {1, 100} <= set(kept)  # from the front, and from the end
        reader.close()
        [(folder, _)] = store.set_aside
        assert (folder / DATABASE).exists()
        assert ("journal_salvaged", {"rows": 7 + len(kept), "folder": str(folder)}) in store.news
        store.close()

    def test_of_a_file_that_is_no_database_nothing_comes_back_and_work_goes_on(self, tmp_path: Path) -> None:
        store = make_store(tmp_path / "s")
        store.load()
        commit(store, session(1))
        store.close()
        (tmp_path / "s" / DATABASE).write_bytes(b"nonsense" * 1000)
        assert numbers(store) == []
        commit(store, session(2))
        assert numbers(store) == [2]
        assert len(store.set_aside) == 1
        store.close()


@pytest.mark.parametrize(("survives", "synchronous"), [(True, 2), (False, 1)])
def test_what_a_commit_survives_is_a_matter_of_settings(tmp_path: Path, survives: bool, synchronous: int) -> None:
    store = make_store(tmp_path / "s", survives_power_loss=survives)
    store.load()
    assert store._opened is not None
    assert store._opened.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    store.close()
