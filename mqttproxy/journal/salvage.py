"""What can still be read of a broken database, brought over into a new one."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any


def salvage(broken: Path, into: sqlite3.Connection, tables: Sequence[str]) -> int:
    """Copy the rows of these tables as far as they can be read: from the front, and from the end.

    Args:
        broken: the database; it is only read.
        into: a new one with the same tables, in which nothing is under way.
        tables: their names; each has a key that its rows are in the order of.

    Returns:
        how many rows that were.

    Raises:
        sqlite3.Error: the new database cannot be written.

    """
    saved = 0
    try:
        source = sqlite3.connect(f"file:{broken}?mode=ro", uri=True)
    except sqlite3.Error:
        return 0
    with closing(source):
        for table in tables:
            into.execute("BEGIN IMMEDIATE")
            columns = _columns(source, into, table)
            for order in ("", " DESC"):
                for row in _readable(source, table, columns, order):
                    marks = ", ".join("?" * len(row))
                    question = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - our own words
                    saved += into.execute(question, row).rowcount
            into.execute("COMMIT")
    return saved


def _columns(source: sqlite3.Connection, into: sqlite3.Connection, table: str) -> str:
    """Return the columns that both have: the broken one may be older. If that cannot be read, those of the new one.

    Columns that came later have a default for rows of before.
    """
    new = [name for _, name, *_ in into.execute(f"PRAGMA table_info({table})")]
    with suppress(sqlite3.Error, UnicodeDecodeError):
        old = {name for _, name, *_ in source.execute(f"PRAGMA table_info({table})")}
        return ", ".join(name for name in new if name in old)
    return ", ".join(new)


def _readable(source: sqlite3.Connection, table: str, columns: str, order: str) -> Iterator[Sequence[Any]]:
    """Yield rows until one cannot be read, which ends it without an error."""
    with suppress(sqlite3.Error, UnicodeDecodeError):  # the latter: in what SQLite says of the damage
        key = [name for _, name, _, _, _, place in source.execute(f"PRAGMA table_info({table})") if place]
        ordered = ", ".join(f"{name}{order}" for name in key)
        # One by one: those in front of the one that fails are to come, too.
        yield from source.execute(f"SELECT {columns} FROM {table} ORDER BY {ordered}")  # noqa: S608 - our own words
