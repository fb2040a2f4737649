"""The one who writes held messages to disk. Blocking: every method runs in the quarantine's thread, one at a time.

Any `sqlite3.Error` or `OSError` leaves the writer closed; the next call opens everything anew, because neither a
connection nor a descriptor can be trusted after a failed write: a second fsync may succeed although data is lost.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from attrs import field, frozen

from mqttproxy.config.model import QuarantineSettings
from mqttproxy.config.units import write_size
from mqttproxy.quarantine import owners
from mqttproxy.quarantine.database import (
    DATABASE,
    BrokenDatabaseError,
    Connect,
    is_broken,
    is_busy,
    open_for_writing,
    remove_older,
    set_aside,
)
from mqttproxy.quarantine.filters import prepare
from mqttproxy.quarantine.issues import (
    INSERT_FAILURE,
    STATES,
    FailureRow,
    count_in,
    count_states,
    failure_rows,
    fingerprints,
)
from mqttproxy.quarantine.model import INSERT_HELD, Held, held_rows, storable, weigh
from mqttproxy.quarantine.payloads import FOLDER, PayloadFolder
from mqttproxy.quarantine.retention import SLICE, Retention, is_over
from mqttproxy.sqlite import close_after_error, renew_log

T = TypeVar("T")

_KEEP_FREE: Final = 128 * 1024**2  # bytes of the disk, by default
_SMALL_DISK: Final = 20  # or one part in so many, if that is less
_CHECKPOINT_EVERY: Final = 4 * 1024 * 1024  # bytes written to the log, about
_ROW_COST: Final = 1024  # of them for a row, besides what it weighs
_FREE_PAGES_KEPT: Final = 1024  # for new messages; what purges leave beyond is given back to the file system

_DELETE: Final = "DELETE FROM held WHERE id = ?"


@frozen
class Tidied:
    """What housekeeping did: messages removed by each bound. `more`: there is more of it to do at once.

    `owners` are those whose messages were removed by the quota, with how many.
    """

    expired: dict[str, int]
    more: bool
    owners: dict[str, int] = field(factory=dict)


class DiskLowError(OSError):
    """The disk has no room for what is to be held: the rest of it is for the spool."""


Usage = tuple[int, int, int]  # of a disk: bytes in all, used and free


class _Opened(NamedTuple):
    connection: sqlite3.Connection
    folder: PayloadFolder


class Writer:
    """`messages` and `size_bytes` are what the quarantine holds, `issues` how many there were of late in each state.

    Read them only while no call is under way.
    """

    def __init__(
        self,
        directory: Path,
        settings: QuarantineSettings,
        *,
        now: Callable[[], float],
        new_name: Callable[[], str],
        connect: Connect,
        fsync: Callable[[int], None] = os.fsync,
        usage: Callable[[Path], Usage] = shutil.disk_usage,
    ) -> None:
        """Make one that is not open yet.

        Args:
            directory: of the quarantine.
            settings: its bounds; may be exchanged at any time.
            now: seconds since 1970.
            new_name: makes the name of a payload file.
            connect: opens the database file.
            fsync: makes a payload file durable.
            usage: returns that of the disk that a folder is on.

        """
        self.settings = settings
        self.messages = 0
        self.size_bytes = 0
        self.issues: dict[str, int] = dict.fromkeys(STATES, 0)
        self.issues_forgotten = 0
        self.set_aside: list[tuple[Path, str]] = []  # broken databases, with the reason; the reader empties it
        self.removed_aside: list[Path] = []  # of those, the older ones that are gone; the same
        self._directory: Final = directory
        self._now: Final = now
        self._new_name: Final = new_name
        self._connect: Final = connect
        self._fsync: Final = fsync
        self._usage: Final = usage
        self._retention: Final = Retention()
        self._opened: _Opened | None = None
        self._next_seq = 1
        self._seen_version = 0
        self._since_checkpoint = 0
        self._written: dict[str, str] = {}  # payload files of messages whose commit has not succeeded yet, by id
        self._commit_failed = False  # some of the waiting messages may be in the database, but not durable
        self._log_in_doubt = False  # the write-ahead log may have a hole that only memory hides
        self._broken: str | None = None

    def open(self) -> None:
        """Open the database if it is not open.

        Raises:
            sqlite3.Error, OSError: it cannot be used now. A broken database is not an error: it is set aside.

        """
        if self._opened is None:
            with _Closing(self):
                self._open()

    def commit(self, batch: Sequence[Held]) -> None:
        """Make all of them durable, in one transaction.

        After a failure the same messages must come again, with or without newer ones behind them.

        Raises:
            sqlite3.Error, OSError: none of them may be acknowledged. `DiskLowError`: nothing was tried.

        """
        self.open()
        self._leave_room()
        weights = [weigh(held) for held in batch]
        with _Closing(self):
            self._write_payloads(batch)
            self._insert(batch, weights)
        if self._commit_failed:
            self._commit_failed = False
            self._count()
        else:
            self.messages += len(batch)
            self.size_bytes += sum(weights)
        self._written.clear()
        self._since_checkpoint += sum(weights) + _ROW_COST * len(batch)

    def use(self, work: Callable[[sqlite3.Connection, PayloadFolder], T]) -> T:
        """Return what some work with the database says; it begins and ends its own transactions.

        Raises:
            sqlite3.Error, OSError: as in `commit`.

        """
        self.open()
        with _Closing(self):
            return work(*self._disk)

    def overdue(self) -> bool:
        """Return whether `tidy` should be called now and not only from time to time."""
        has_too_much = is_over(self.settings, self.messages, self.size_bytes)
        return has_too_much or self._since_checkpoint >= _CHECKPOINT_EVERY

    def tidy(self) -> Tidied:
        """Do a bounded piece of housekeeping: retention, checkpoint, free pages, and what others have removed.

        Raises:
            sqlite3.Error, OSError: as in `commit`.

        """
        self.open()
        with _Closing(self):
            if self._since_checkpoint >= _CHECKPOINT_EVERY:
                self._execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._since_checkpoint = 0
            if (version := self._number("PRAGMA data_version")) != self._seen_version:
                self._seen_version = version
                self._count()
                self._retention.look(self._disk.connection, self.settings)
            self.issues = count_states(self._disk.connection)
            removed = self._retention.trim(
                *self._disk, self.settings, now=self._now(), messages=self.messages, size=self.size_bytes
            )
            count = sum(removed.expired.values())
            self.messages -= count
            self.size_bytes -= removed.size
            self._since_checkpoint += _ROW_COST * count
            shrunk = self._shrink()
        more = count >= SLICE or shrunk or is_over(self.settings, self.messages, self.size_bytes)
        return Tidied(removed.expired, more=more, owners=removed.owners)

    def close(self) -> None:
        """Close everything. Never raises; the writer may be opened again."""
        if self._opened is not None:
            connection, folder = self._opened
            self._opened = None
            with suppress(OSError):
                folder.close()
            if self._log_in_doubt:
                close_after_error(connection, self._directory / DATABASE)
            with suppress(sqlite3.Error):
                connection.close()  # this copies from the log only what earlier commits had made durable

    def failed(self, error: sqlite3.Error | OSError) -> None:
        """Close after an error, and note what must be mistrusted from now on."""
        self._commit_failed = True
        self._log_in_doubt |= not is_busy(error)
        if is_broken(error):
            self._broken = str(error)
        self.close()

    @property
    def _disk(self) -> _Opened:
        if self._opened is None:
            raise RuntimeError("the writer is not open")
        return self._opened

    def _open(self) -> None:
        if self._broken is not None:
            self._set_aside(self._broken)
        try:
            connection = open_for_writing(self._directory, self._connect)
        except BrokenDatabaseError as error:
            self._set_aside(str(error))
            connection = open_for_writing(self._directory, self._connect)
        try:
            folder = PayloadFolder(self._directory / FOLDER, fsync=self._fsync)
        except OSError:
            connection.close()
            raise
        self._opened = _Opened(connection, folder)
        prepare(connection)
        renew_log(connection, in_doubt=self._log_in_doubt)
        self._log_in_doubt = False
        self._next_seq = self._number("SELECT coalesce(max(seq), 0) + 1 FROM held")
        self._seen_version = self._number("PRAGMA data_version")
        self._count()
        self._retention.look(self._disk.connection, self.settings)
        self._remove_orphans()

    def _set_aside(self, reason: str) -> None:
        self.set_aside.append((set_aside(self._directory, self._now()), reason))
        self._broken = None
        self._written.clear()
        with suppress(OSError, ValueError):  # ValueError: somebody gave a folder a name like ours
            for folder in remove_older(self._directory):
                self.removed_aside.append(folder)  # also where the next cannot be removed

    def _count(self) -> None:
        row = self._execute("SELECT count(*), coalesce(sum(weight), 0) FROM held").fetchone()
        self.messages, self.size_bytes = row

    def _remove_orphans(self) -> None:
        """Remove payload files without a row: of a crash before the commit, or between a row's end and its file's."""
        folder = self._disk.folder
        kept = set(self._written.values())
        names = folder.names()
        while chunk := list(islice(names, SLICE)):
            marks = ",".join("?" * len(chunk))
            rows = self._execute(f"SELECT file FROM held WHERE file IN ({marks})", chunk)  # noqa: S608 - question marks
            kept_now = kept.union(row[0] for row in rows)
            folder.remove(name for name in chunk if name not in kept_now)

    def _write_payloads(self, batch: Sequence[Held]) -> None:
        limit = self.settings.inline_bytes
        items = []
        names = {}
        for held in batch:
            if len(held.payload) > limit and held.id not in self._written:
                name = self._new_name()
                names[held.id] = name
                items.append((name, held.payload))
        if items:
            self._disk.folder.write(items)
            self._written |= names

    def _insert(self, batch: Sequence[Held], weights: Sequence[int]) -> None:
        connection = self._disk.connection
        self._execute("BEGIN IMMEDIATE")
        fresh = batch
        if self._commit_failed:
            # What is there already was counted in the same transaction.
            fresh = [held for held in batch if not self._execute(_DELETE, (held.id,)).rowcount]
        first = self._next_seq
        connection.executemany(INSERT_HELD, held_rows(first, batch, weights, self._written))
        connection.executemany(INSERT_FAILURE, _failure_rows(first, batch))
        forgotten = count_in(connection, fresh, self.settings.max_issues)
        owned = owners.add(connection, zip((storable(held.owner) for held in batch), weights, strict=True))
        self._execute("COMMIT")
        self.issues_forgotten += forgotten
        self._next_seq += len(batch)
        self._retention.note(owned)

    def _leave_room(self) -> None:
        total, _, free = self._usage(self._directory)
        keep = self.settings.keep_free
        if free < (min(_KEEP_FREE, total // _SMALL_DISK) if keep is None else keep):
            words = f"the disk has {write_size(free)} left, which `quarantine.keep_free` leaves to the spool"
            raise DiskLowError(errno.ENOSPC, words)

    def _shrink(self) -> bool:
        spare = self._number("PRAGMA freelist_count") - _FREE_PAGES_KEPT
        if spare < _FREE_PAGES_KEPT:
            return False
        # as a script: `execute` would take one step of it, which is one page
        self._disk.connection.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES_KEPT})")
        self._since_checkpoint += 4096 * _FREE_PAGES_KEPT
        return True

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._disk.connection.execute(sql, parameters)

    def _number(self, sql: str) -> int:
        return int(self._execute(sql).fetchone()[0])


def _failure_rows(first: int, batch: Sequence[Held]) -> Iterator[FailureRow]:
    for seq, held in enumerate(batch, first):
        yield from failure_rows(seq, held.failures, fingerprints(held), held.blamed)


class _Closing:
    """Closes the writer when the world fails inside the block, and lets the error pass."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (sqlite3.Error, OSError)):
            self._writer.failed(error)
