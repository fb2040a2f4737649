"""The journal's rows in SQLite: read whole at the start, then only written. Blocking; runs in the journal's thread.

Any `sqlite3.Error` or `OSError` leaves the store closed; the next call opens it anew, because a connection cannot be
trusted after a failed write: a second fsync may succeed although data is lost.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import frozen

from mqttproxy.journal.mark import Mark, Marked
from mqttproxy.journal.rows import Changes, Key, Loaded, Row
from mqttproxy.journal.salvage import salvage
from mqttproxy.sqlite import (
    BrokenDatabaseError,
    Connect,
    close_after_error,
    connect,
    is_broken,
    is_busy,
    open_for_writing,
    renew_log,
    set_aside,
)

T = TypeVar("T")

_CHECKPOINT_EVERY: Final = 16 * 1024 * 1024  # bytes written to the log, about
_ROW_COST: Final = 256  # of them for a row, beside what it weighs
_PREPARED: Final = 100  # rows at most that are written in the Trio thread
_FREE_PAGES_KEPT: Final = 1024  # for new rows; what is free beyond is given back to the file system


@frozen
class Table:
    """How one kind of row is kept. `columns` and `keys` are SQL; `weigh` gives about how many bytes a row adds."""

    name: str
    columns: str
    keys: str
    write: Callable[[Any], Sequence[object]]
    read: Callable[[Any], Row]
    is_loaded: bool = True  # read whole at the start
    weigh: Callable[[Any], int] = lambda _: 0
    instead: str | None = None  # what a row does instead of being put: such as to remove others

    @property
    def select(self) -> str:
        """Read all rows."""
        return f"SELECT {self.columns} FROM {self.name} ORDER BY {self.keys}"  # noqa: S608 - our own words

    @property
    def replace(self) -> str:
        """Put a row."""
        marks = ", ".join("?" * (self.columns.count(",") + 1))
        return self.instead or f"INSERT OR REPLACE INTO {self.name} ({self.columns}) VALUES ({marks})"  # noqa: S608 - as above

    @property
    def delete(self) -> str:
        """Remove the row of a key."""
        condition = " AND ".join(f"{key} = ?" for key in self.keys.split(", "))
        return f"DELETE FROM {self.name} WHERE {condition}"  # noqa: S608 - as above

    def key(self, key: Key) -> Sequence[object]:
        """Return the values of the key's columns."""
        return key if isinstance(key, tuple) else (key,)


@frozen(kw_only=True)
class Layout:
    """Which tables there are, in the order in which they are written, and how they come to be."""

    database: str  # name of the file
    version: int  # of the tables
    tables: Mapping[type[Row], Table]
    tidy: Sequence[str]  # statements that are run before everything is read
    migrate: Callable[[sqlite3.Connection], None]
    saved: Sequence[str]  # tables whose rows are brought over from a broken database, as far as they can be read


class SqliteStore:
    """Rows in a database in a folder of its own, a `Store`."""

    def __init__(
        self,
        directory: Path,
        layout: Layout,
        *,
        connect: Connect = connect,
        wall: Callable[[], float] = time.time,
        survives_power_loss: bool = True,
    ) -> None:
        """Make one that is not open yet.

        Args:
            directory: of the database, for it alone.
            layout: of its tables.
            connect: opens the database file; tests have failing ones.
            wall: seconds since 1970.
            survives_power_loss: False: what is committed survives the end of this process, not that of the machine.

        """
        self.news: list[tuple[str, dict[str, object]]] = []
        self.set_aside: list[tuple[Path, str]] = []
        self.epoch = 0
        self._directory: Final = directory
        self._layout: Final = layout
        self._connect: Final = connect
        self._wall: Final = wall
        self._is_durable: Final = survives_power_loss
        self._mark: Final = Mark(directory / "mark")
        self._opened: sqlite3.Connection | None = None
        self._commits = 0  # number of the last one
        self._since_checkpoint = 0
        self._is_prepared = False  # the changes of the next commit are written, and not committed
        self._log_in_doubt = False  # the write-ahead log may have a hole that only memory hides
        self._broken: str | None = None
        self._broken_folder: Path | None = None  # not salvaged yet

    def load(self) -> Loaded:
        """Read everything that is to be read at the start, and count one more start.

        Raises:
            sqlite3.Error, OSError: it cannot be read now. A broken database is not an error: it is set aside.

        """
        return self._do(self._load)

    def apply(self, changes: Changes) -> None:
        """Make changes durable in one transaction.

        Raises:
            sqlite3.Error, OSError: whether they are is not known; the same changes must come again.

        """
        self._do(lambda connection: self._apply(connection, changes))
        self._mark.write(Marked(self._commits, self.epoch))

    def prepare(self, changes: Changes) -> bool:
        """Do all of `apply` that touches memory only, in the Trio thread; False: nothing was done.

        Threads of Python take the interpreter from one another slowly while both are busy, at each statement anew. So
        what is a matter of microseconds is done at once, and left to the other thread what waits for the disk.

        Raises:
            sqlite3.Error, OSError: as for `apply`.

        """
        if self._opened is None or len(changes) > _PREPARED or not changes.may_be_prepared:
            return False
        self._do(lambda connection: self._write(connection, changes))
        self._is_prepared = True
        return True

    def close(self) -> None:
        """Close the database. Never raises."""
        self._is_prepared = False
        if self._opened is not None:
            connection, self._opened = self._opened, None
            if self._log_in_doubt:
                close_after_error(connection, self._directory / self._layout.database)
            with suppress(sqlite3.Error):
                connection.close()  # this copies from the log only what earlier commits had made durable
        self._mark.close()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._opened is None:
                self._opened = self._open()
            return work(self._opened)
        except (sqlite3.Error, OSError) as error:
            self._log_in_doubt |= not is_busy(error)
            if is_broken(error):
                self._broken = str(error)
            self.close()
            raise

    def _open(self) -> sqlite3.Connection:
        if self._broken is not None:
            self._set_aside(self._broken)
        try:
            connection = self._open_file()
        except BrokenDatabaseError as error:
            self._set_aside(str(error))
            connection = self._open_file()
        try:
            renew_log(connection, in_doubt=self._log_in_doubt)
            connection.execute("PRAGMA cache_spill = OFF")  # nothing is written before the commit
            if not self._is_durable:
                connection.execute("PRAGMA synchronous = NORMAL")
            self._salvage(connection)
            self._compare_with_mark(connection)
        except BaseException:
            connection.close()
            raise
        self._log_in_doubt = False
        return connection

    def _open_file(self) -> sqlite3.Connection:
        layout = self._layout
        path = self._directory / layout.database
        return open_for_writing(path, self._connect, version=layout.version, migrate=layout.migrate)

    def _set_aside(self, reason: str) -> None:
        folder = set_aside(self._directory, (self._layout.database,), self._wall())
        self.set_aside.append((folder, reason))
        self._broken = None
        self._broken_folder = folder

    def _salvage(self, connection: sqlite3.Connection) -> None:
        """Bring over what can be read of a database that was set aside just now."""
        if self._broken_folder is None:
            return
        saved = salvage(self._broken_folder / self._layout.database, connection, self._layout.saved)
        self.news.append(("journal_salvaged", {"rows": saved, "folder": str(self._broken_folder)}))
        self._broken_folder = None

    def _compare_with_mark(self, connection: sqlite3.Connection) -> None:
        """Find out whether commits are missing that we had reported as durable.

        SQLite takes damage in its log for the end of it, which is right for what a power failure has torn: nobody was
        told of that. What somebody was told of must not vanish in silence.
        """
        self._commits, self.epoch = connection.execute("SELECT commits, epoch FROM starts").fetchone()
        marked = self._mark.read()
        if marked is None:
            return
        if marked.commits > self._commits:
            missing = marked.commits - self._commits
            self.news.append(("journal_lost_commits", {"commits": missing, "after": self._commits}))
            self._commits = marked.commits
        self.epoch = max(self.epoch, marked.epoch)

    def _load(self, connection: sqlite3.Connection) -> Loaded:
        # Without any earlier one the wall clock tells epochs apart: the folder may be a new one of a known node.
        epoch = self.epoch + 1 if self.epoch else max(1, int(self._wall()))
        connection.execute("BEGIN IMMEDIATE")
        for statement in self._layout.tidy:
            connection.execute(statement)
        connection.execute("UPDATE starts SET commits = ?, epoch = ?", (self._commits + 1, epoch))
        connection.execute("COMMIT")
        self._commits, self.epoch = self._commits + 1, epoch
        self._mark.write(Marked(self._commits, epoch))
        return {
            kind: [table.read(values) for values in connection.execute(table.select)]
            for kind, table in self._layout.tables.items()
            if table.is_loaded
        }

    def _apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        if not self._is_prepared:
            self._write(connection, changes)
        self._is_prepared = False
        connection.execute("COMMIT")
        self._commits += 1
        if self._since_checkpoint >= _CHECKPOINT_EVERY:
            self._since_checkpoint = 0
            self._tidy_files(connection)

    def _write(self, connection: sqlite3.Connection, changes: Changes) -> None:
        connection.execute("BEGIN IMMEDIATE")
        written = _ROW_COST * len(changes)
        for kind, table in self._layout.tables.items():
            rows = changes.rows.get(kind)
            if rows:
                gone = [table.key(key) for key, row in rows.items() if row is None]
                if gone:
                    connection.executemany(table.delete, gone)
                there = [row for row in rows.values() if row is not None]
                connection.executemany(table.replace, map(table.write, there))
                written += sum(map(table.weigh, there))
        connection.execute("UPDATE starts SET commits = ?", (self._commits + 1,))
        self._since_checkpoint += written

    def _tidy_files(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if connection.execute("PRAGMA freelist_count").fetchone()[0] > 2 * _FREE_PAGES_KEPT:
            # as a script: `execute` would take one step of it, which is one page
            connection.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES_KEPT})")
