"""The recorder's database file: a ring, in which the oldest make room. Blocking: one thread at a time calls it.

Nothing that is promised depends on it, so its commits need not survive a power failure, and what is damaged is set
aside. After any `sqlite3.Error` or `OSError` it is closed; the next call opens it anew.
"""

import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mqttproxy import sqlite
from mqttproxy.config.model import RecorderSettings
from mqttproxy.recorder.model import Row
from mqttproxy.sqlite import DISK_TROUBLE, BrokenDatabaseError, Connect, connect, is_broken

DATABASE: Final = "recorded.sqlite3"
VERSION: Final = 1  # of the tables
MINUTE: Final = 60  # seconds; what is left out is counted by it
BOUNDS: Final = ("age", "bytes")  # what removes messages
SLICE: Final = 1000  # messages removed in one transaction

_FREE_PAGES_KEPT: Final = 1024  # for new messages; more are given back to the file system
_TABLES: Final = f"""
    BEGIN;
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        id TEXT,
        at REAL NOT NULL,
        weight INTEGER NOT NULL,
        topic TEXT NOT NULL,
        told TEXT NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE INDEX messages_by_id ON messages(id) WHERE id IS NOT NULL;
    CREATE INDEX messages_by_time ON messages(at, weight);
    CREATE TABLE left_out (
        minute INTEGER NOT NULL,
        reason TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (minute, reason)
    ) WITHOUT ROWID;
    PRAGMA user_version = {VERSION};
    COMMIT;
"""


def recorder_dir(data_dir: Path) -> Path:
    """Return where the recorder lives in a data folder."""
    return data_dir / "recorder"


class Tape:
    """Plain attributes, to be read while no call is under way: `messages` and `size_bytes` are kept.

    `removed` counts messages by what removed them; `set_aside` are broken databases with the reason, for the reader to
    empty.
    """

    def __init__(
        self,
        directory: Path,
        settings: RecorderSettings,
        *,
        now: Callable[[], float],
        connect: Connect = connect,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """Make one that is not open yet.

        Args:
            directory: of the recorder.
            settings: its bounds; may be exchanged at any time.
            now: seconds since 1970.
            connect: opens the database file; tests have failing ones.
            free: returns the free bytes of the disk that a folder is on.

        """
        self.settings = settings
        self.messages = 0
        self.size_bytes = 0
        self.removed: dict[str, int] = dict.fromkeys(BOUNDS, 0)
        self.set_aside: list[tuple[Path, str]] = []
        self._directory: Final = directory
        self._now: Final = now
        self._connect: Final = connect
        self._free: Final = free
        self._connection: sqlite3.Connection | None = None
        self._broken: str | None = None

    def write(self, rows: Sequence[Row], left_out: Mapping[str, int]) -> bool:
        """Keep messages, in one transaction; False: nothing, the disk has too little room.

        Args:
            rows: of the messages.
            left_out: how many were not recorded since this was last told, by reason.

        Raises:
            sqlite3.Error, OSError: they are not kept, or nobody knows.

        """
        try:
            connection = self._opened()
            if self._free(self._directory) < self.settings.keep_free:
                return False
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO messages (id, at, weight, topic, told, payload) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
            self._note(connection, left_out)
            connection.execute("COMMIT")
        except DISK_TROUBLE as error:
            self._failed(error)
            raise
        self.messages += len(rows)
        self.size_bytes += sum(row[2] for row in rows)
        return True

    def tidy(self) -> bool:
        """Remove what is too old or too much, a bounded piece of it; True: there is more of it to do at once.

        Raises:
            sqlite3.Error, OSError: the disk does not let us.

        """
        try:
            connection = self._opened()
            count = self._trim(connection)
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free > 2 * _FREE_PAGES_KEPT:
                # as a script: `execute` would take one step of it, which is one page
                connection.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES_KEPT})")
        except DISK_TROUBLE as error:
            self._failed(error)
            raise
        return count >= SLICE

    def close(self) -> None:
        """Close the file. Never raises; it may be opened again."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            sqlite.close_after_error(connection, self._directory / DATABASE)

    def _trim(self, connection: sqlite3.Connection) -> int:
        rows = connection.execute("SELECT seq, at, weight FROM messages ORDER BY seq LIMIT ?", (SLICE,)).fetchall()
        oldest, size = self._now() - self.settings.max_age, self.size_bytes
        gone = dict.fromkeys(BOUNDS, 0)
        last = 0
        for seq, at, weight in rows:
            if at >= oldest and size <= self.settings.max_bytes:
                break
            gone["age" if at < oldest else "bytes"] += 1
            size -= weight
            last = seq
        count = sum(gone.values())
        connection.execute("DELETE FROM left_out WHERE minute < ?", (int(oldest / MINUTE),))
        if count:
            connection.execute("DELETE FROM messages WHERE seq <= ?", (last,))
            self.messages -= count
            self.size_bytes = size
            for bound, number in gone.items():
                self.removed[bound] += number
        return count

    def _note(self, connection: sqlite3.Connection, left_out: Mapping[str, int]) -> None:
        minute = int(self._now() / MINUTE)
        connection.executemany(
            "INSERT INTO left_out VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(minute, reason, count) for reason, count in left_out.items()],
        )

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._open()
            except BrokenDatabaseError as error:
                self._broken = str(error)
                self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if self._broken is not None:
            aside = sqlite.set_aside(self._directory, (DATABASE,), self._now())
            self.set_aside.append((aside, self._broken))
            self._broken = None
        path = self._directory / DATABASE
        connection = sqlite.open_for_writing(path, self._connect, version=VERSION, migrate=_make_tables)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 1000")  # what it does not tell of does not matter here
            found = connection.execute("SELECT count(*), coalesce(sum(weight), 0) FROM messages").fetchone()
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.DatabaseError) and is_broken(error):
                raise BrokenDatabaseError(str(error)) from error
            raise
        self.messages, self.size_bytes = found
        return connection

    def _failed(self, error: BaseException) -> None:
        self.close()
        if is_broken(error):
            self._broken = str(error)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.executescript(_TABLES)
