"""What the spool could be kept in: the candidates of `spool_stores`, each as short as an honest one can be.

All keep the same bytes: framed records, `[u32 length][u32 crc][bytes]`, but for SQLite with a row for each message,
which has its own columns for that. A run is what one commit brought.
"""

import importlib
import importlib.util
import os
import sqlite3
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import define

MIB: Final = 1024 * 1024
SEGMENT: Final = 64 * MIB
MAP: Final = 4096 * MIB  # the most that LMDB may ever hold
MASK: Final = 1  # of the destinations that have not had a run yet
NOTHING: Final = "nothing"

Records = list[tuple[bytes, int]]  # each with its checksum
Reader = Callable[[int, int], list[bytes]]  # (after this number, about so many bytes) -> framed runs, in order

_frame: Final = struct.Struct("<II")
_run: Final = struct.Struct("<QII")  # first number, how many, bytes


class Store(Protocol):
    """One candidate. `append` and `close` are the writer thread's, a `Reader` is another thread's."""

    def append(self, first: int, records: Records, delivered: int | None) -> None:
        """Make messages durable, and if told so note up to where they were delivered and delete those."""

    def reader(self) -> Reader:
        """Return what reads runs that are durable."""

    def close(self) -> None:
        """Let go of the files."""


def framed(records: Records) -> bytes:
    """Return records as one run."""
    pack = _frame.pack
    return b"".join([part for record, crc in records for part in (pack(len(record), crc), record)])


def unframed(run: bytes) -> Iterator[bytes]:
    """Return the records of a run.

    Raises:
        ValueError: one is not what was written.

    """
    at = 0
    while at < len(run):
        size, crc = _frame.unpack_from(run, at)
        record = run[at + 8 : at + 8 + size]
        if zlib.crc32(record) != crc:
            raise ValueError("broken record")
        yield record
        at += 8 + size


class Nothing:
    """No store: what the messages cost without one."""

    def append(self, first: int, records: Records, delivered: int | None) -> None:  # noqa: ARG002 - as the others
        """Frame them and forget them."""
        framed(records)

    def reader(self) -> Reader:
        """Return what reads nothing."""
        return lambda _after, _size: []

    def close(self) -> None:
        """Do nothing."""


class Sqlite(ABC):
    """SQLite, with a log that is copied to the database each time it has about `checkpoint` bytes."""

    tables: str
    filler: str  # statement that writes so many bytes as its parameter says
    emptied: str

    def __init__(
        self,
        folder: Path,
        *,
        synchronous: str = "FULL",
        checkpoint: int,
        secure_delete: bool = False,
    ) -> None:
        """Make the database and let its log and its free pages come to their usual size."""
        self._file: Final = folder / "spool.sqlite3"
        self._checkpoint: Final = checkpoint
        self._since_checkpoint = 0
        self._db: Final = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        for pragma in (
            "auto_vacuum = INCREMENTAL",  # as in the database of the sessions
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "wal_autocheckpoint = 0",
            f"secure_delete = {secure_delete:d}",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.executescript(
            f"{self.tables}; CREATE TABLE cursors (name TEXT PRIMARY KEY, delivered INTEGER NOT NULL)"
        )
        self._db.execute("INSERT INTO cursors VALUES ('one', 0)")
        self._db.execute(self.filler, (checkpoint,))
        self._db.execute(self.emptied)
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def append(self, first: int, records: Records, delivered: int | None) -> None:
        """One transaction; sometimes the log is copied after it."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        size = self.insert(first, records)
        if delivered is not None:
            db.execute("UPDATE cursors SET delivered = ? WHERE name = 'one'", (delivered,))
            self.delete(delivered)
        db.execute("COMMIT")
        self._since_checkpoint += size + 8192  # the pages that each commit changes beside what it brings
        if self._since_checkpoint >= self._checkpoint:
            self._since_checkpoint = 0
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @abstractmethod
    def insert(self, first: int, records: Records) -> int:
        """Insert what one commit brings; returns about how many bytes that are."""

    @abstractmethod
    def delete(self, delivered: int) -> None:
        """Delete what is before."""

    def close(self) -> None:
        """Close the writer's connection."""
        self._db.close()

    def read_only(self) -> sqlite3.Connection:
        """Return another connection."""
        return sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)


class SqliteRows(Sqlite):
    """A row for each message."""

    tables = (
        "CREATE TABLE messages (number INTEGER PRIMARY KEY, mask INTEGER NOT NULL, crc INTEGER NOT NULL,"
        " data BLOB NOT NULL)"
    )
    filler = f"INSERT INTO messages VALUES (0, {MASK}, 0, zeroblob(?))"  # noqa: S608 - a constant
    emptied = "DELETE FROM messages"

    def insert(self, first: int, records: Records) -> int:
        """Insert a row for each."""
        self._db.executemany(
            "INSERT INTO messages VALUES (?, ?, ?, ?)",
            [(number, MASK, crc, record) for number, (record, crc) in enumerate(records, first)],
        )
        return len(records) * (len(records[0][0]) + 16)

    def delete(self, delivered: int) -> None:
        """Delete all rows up to a number."""
        self._db.execute("DELETE FROM messages WHERE number <= ?", (delivered,))

    def reader(self) -> Reader:
        """Return what reads rows, as runs of one record."""
        db = self.read_only()

        def read(after: int, size: int) -> list[bytes]:
            rows = db.execute(
                "SELECT data, crc FROM messages WHERE number > ? ORDER BY number LIMIT ?", (after, max(1, size // 170))
            ).fetchall()
            return [framed(rows)]

        return read


class SqliteRuns(Sqlite):
    """A row for each run, with an index by destinations."""

    tables = (
        "CREATE TABLE runs (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, mask INTEGER NOT NULL,"
        " data BLOB NOT NULL); CREATE INDEX runs_by_mask ON runs (mask, last)"
    )
    filler = f"INSERT INTO runs VALUES (0, 0, {MASK}, zeroblob(?))"  # noqa: S608 - a constant
    emptied = "DELETE FROM runs"

    def insert(self, first: int, records: Records) -> int:
        """Insert one row."""
        run = framed(records)
        self._db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (first, first + len(records) - 1, MASK, run))
        return len(run)

    def delete(self, delivered: int) -> None:
        """Delete all runs that end before or with a number."""
        self._db.execute("DELETE FROM runs WHERE mask = ? AND last <= ?", (MASK, delivered))

    def reader(self) -> Reader:
        """Return what reads runs."""
        db = self.read_only()

        def read(after: int, size: int) -> list[bytes]:
            found: list[bytes] = []
            rows = db.execute("SELECT data FROM runs WHERE mask = ? AND last > ? ORDER BY last", (MASK, after))
            for (run,) in rows:
                found.append(run)
                size -= len(run)
                if size <= 0:
                    break
            rows.close()
            return found

        return read


class Lmdb:
    """LMDB, a pair for each run. Its commit writes pages, syncs, and then writes its root with another sync."""

    def __init__(self, folder: Path) -> None:
        """Make the database."""
        lmdb: Any = importlib.import_module("lmdb")
        self._env: Final = lmdb.open(str(folder / "lmdb"), map_size=MAP, max_dbs=2, sync=True, metasync=True)
        self._runs: Final = self._env.open_db(b"runs")
        self._cursors: Final = self._env.open_db(b"cursors")

    def append(self, first: int, records: Records, delivered: int | None) -> None:
        """One transaction, synced as it ends."""
        with self._env.begin(write=True) as txn:
            last = first + len(records) - 1
            txn.put(last.to_bytes(8, "big"), framed(records), db=self._runs, append=True)
            if delivered is not None:
                key = delivered.to_bytes(8, "big")
                txn.put(b"one", key, db=self._cursors)
                cursor = txn.cursor(db=self._runs)
                there = cursor.first()
                while there and cursor.key() <= key:
                    there = cursor.delete()

    def reader(self) -> Reader:
        """Return what reads runs."""

        def read(after: int, size: int) -> list[bytes]:
            found: list[bytes] = []
            with self._env.begin() as txn:
                cursor = txn.cursor(db=self._runs)
                there = cursor.set_range((after + 1).to_bytes(8, "big"))
                while there and size > 0:
                    found.append(cursor.value())
                    size -= len(found[-1])
                    there = cursor.next()
            return found

        return read

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


@define
class Segment:
    """A file, its first number, and the numbers up to which and bytes to which it is filled."""

    path: Path
    fd: int
    last: int
    size: int


class Segments:
    """Files of our own, written at their ends; whole files are deleted. Cursors are records like others.

    `recycle`: a file whose messages were delivered is written
    over, so that a sync has no size or extent to note; its first bytes are written once when it is made.
    """

    def __init__(self, folder: Path, *, recycle: bool = False) -> None:
        """Make the first file."""
        self._folder: Final = folder
        self._recycle: Final = recycle
        self._made = 0
        self._free: list[Segment] = []
        self.segments: list[Segment] = [self._next()]
        if recycle:
            self._free = [self._next(), self._next()]

    def _next(self) -> Segment:
        if self._free:
            segment = self._free.pop()
            segment.size = 0
            return segment
        self._made += 1
        path = self._folder / f"{self._made:08}.log"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if self._recycle:
            for at in range(0, SEGMENT, 4096):  # small, or the kernel counts pages of a MiB as written with each record
                os.pwrite(fd, bytes(4096), at)
            os.fsync(fd)
        directory = os.open(self._folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        return Segment(path, fd, 0, 0)

    def append(self, first: int, records: Records, delivered: int | None) -> None:
        """One write and one sync; sometimes a new file, or an old one deleted."""
        run = framed(records)
        data = _run.pack(first, len(records), len(run)) + run
        if delivered is not None:
            data += _run.pack(delivered, 0, 0)
        current = self.segments[-1]
        if current.size + len(data) > SEGMENT:
            current = self._next()
            self.segments.append(current)
        os.pwrite(current.fd, data, current.size)
        os.fdatasync(current.fd)
        current.last = first + len(records) - 1
        current.size += len(data)
        while delivered is not None and len(self.segments) > 1 and self.segments[0].last <= delivered:
            self._drop(self.segments.pop(0))

    def _drop(self, segment: Segment) -> None:
        if self._recycle:
            self._free.append(segment)
            return
        os.close(segment.fd)
        segment.path.unlink()

    def reader(self) -> Reader:
        """Return what reads runs, from where it stopped the last time."""
        at = 0
        segment = self.segments[0]

        def read(_after: int, size: int) -> list[bytes]:
            nonlocal at, segment
            if at >= segment.size and segment is not self.segments[-1]:
                segment, at = self.segments[self.segments.index(segment) + 1], 0
            data = os.pread(segment.fd, min(size + 4096, segment.size - at), at)
            found, here = [], 0
            while here + _run.size <= len(data):
                _first, count, length = _run.unpack_from(data, here)
                if here + _run.size + length > len(data):
                    break
                if count:
                    found.append(data[here + _run.size : here + _run.size + length])
                here += _run.size + length
            at += here
            return found

        return read

    def close(self) -> None:
        """Close the files."""
        for segment in self.segments + self._free:
            os.close(segment.fd)


CANDIDATES: Final[dict[str, Callable[[Path], Store]]] = {
    NOTHING: lambda _folder: Nothing(),
    "sqlite rows": partial(SqliteRows, checkpoint=16 * MIB),
    "sqlite runs, 4 MiB": partial(SqliteRuns, checkpoint=4 * MIB),
    "sqlite runs, 16 MiB": partial(SqliteRuns, checkpoint=16 * MIB),
    "sqlite runs, 64 MiB": partial(SqliteRuns, checkpoint=64 * MIB),
    "sqlite runs, 16 MiB, secure_delete": partial(SqliteRuns, checkpoint=16 * MIB, secure_delete=True),
    "sqlite runs, 16 MiB, NORMAL": partial(SqliteRuns, checkpoint=16 * MIB, synchronous="NORMAL"),
    "lmdb": Lmdb,
    "segments": Segments,
    "segments, recycled": partial(Segments, recycle=True),
}
if importlib.util.find_spec("lmdb") is None:
    del CANDIDATES["lmdb"]


def make(name: str, folder: Path) -> Store:
    """Make a candidate in an empty folder."""
    return CANDIDATES[name](folder)
