"""What is brought over from a broken database; see also `test_store.py`, where pages are broken for real."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mqttproxy.journal.salvage import salvage


def test_rows_of_an_older_form_are_brought_over_and_have_defaults(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old")) as old:
        old.executescript("CREATE TABLE t (n INTEGER PRIMARY KEY, a TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    with closing(sqlite3.connect(tmp_path / "new", isolation_level=None)) as new:
        new.executescript("CREATE TABLE t (b TEXT, n INTEGER PRIMARY KEY, a TEXT); CREATE TABLE later (n PRIMARY KEY)")
        assert salvage(tmp_path / "old", new, ("later", "t")) == 2
        assert new.execute("SELECT n, a, b FROM t").fetchall() == [(1, "x", None), (2, "y", None)]


def test_of_what_is_no_database_nothing_is_brought_over(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"no database at all, but more than a hundred bytes" * 9)
    with closing(sqlite3.connect(tmp_path / "new", isolation_level=None)) as new:
        new.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
        assert salvage(tmp_path / "old", new, ("t",)) == 0
