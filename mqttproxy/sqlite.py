"""Database files that back promises: made if missing, private, with durable commits, checked, set aside if broken.

Blocking; for a thread or a command. What stands in a database is its room's affair.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from mqttproxy.wholefile import sync_directory

_BUSY_TIMEOUT: Final = 2.0  # seconds that a writer waits for another one before it is told "locked"
_CHECKED_WHOLE: Final = 64 * 1024 * 1024  # a larger database is not read through at start: that would delay it
_LOG_KEPT: Final = 16 * 1024 * 1024  # size to which a log that had grown is cut when it begins anew
_VERSION_AT: Final = slice(60, 64)  # where `user_version` stands in the file, see sqlite.org/fileformat2.html
_NO_TEXT: Final = "Could not decode to UTF-8"  # said by Python's module, without a code
_BROKEN_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# What the disk can do to us. Whatever is not here is our bug, and must end the process.
DISK_TROUBLE: Final = (sqlite3.Error, OSError)

Connect = Callable[[Path], sqlite3.Connection]


class BrokenDatabaseError(sqlite3.DatabaseError):
    """What is in the file is no longer our database."""


class NewerDatabaseError(sqlite3.DatabaseError):
    """A newer version of this program made the database: we must not touch it."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file for writing, as `Connect` wants it: no transactions but our own, usable from any one thread."""
    return sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


def has_version(path: Path, version: int) -> bool:
    """Return whether the tables seem to be there in this form or a newer one. Looks at the file's header only."""
    try:
        with path.open("rb") as source:
            return int.from_bytes(source.read(100)[_VERSION_AT]) >= version
    except OSError:
        return False


def open_for_writing(
    path: Path,
    connect: Connect,
    *,
    version: int,
    migrate: Callable[[sqlite3.Connection], None],
    made: Callable[[], None] = lambda: None,
) -> sqlite3.Connection:
    """Open a database, made and checked, with durable commits.

    Args:
        path: of the file; its folder is for us alone.
        connect: opens it.
        version: of the tables, as this program knows them.
        migrate: brings them to that version, and marks the database with it.
        made: called before, where there were no tables; it may find that there should have been.

    Raises:
        BrokenDatabaseError: see `set_aside`.
        NewerDatabaseError: a person must decide.
        sqlite3.Error, OSError: the disk does not let us.

    """
    _make_private(path)
    connection = connect(path)
    try:
        found = refuse_newer(connection, version)
        if found == 0:
            made()
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only possible before the first table
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit backs an acknowledgement
        connection.execute("PRAGMA foreign_keys = ON")
        # Debian builds SQLite so that it overwrites what is deleted, which doubles the work of the spool.
        connection.execute("PRAGMA secure_delete = OFF")
        # SQLite swallows errors of its automatic checkpoints; the writer makes them itself.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
        if found < version:
            migrate(connection)
        _check(connection, path)
    except UnicodeDecodeError as error:  # in what SQLite says of its tables
        connection.close()
        raise BrokenDatabaseError(str(error)) from error
    except sqlite3.DatabaseError as error:
        connection.close()
        if is_broken(error) and not isinstance(error, BrokenDatabaseError):
            raise BrokenDatabaseError(str(error)) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_newer(connection: sqlite3.Connection, version: int) -> int:
    """Return the version of the tables, 0: there are none.

    Raises:
        NewerDatabaseError: this program does not know them.

    """
    with closing(connection.execute("PRAGMA user_version")) as cursor:
        found = int(cursor.fetchone()[0])
    if found > version:
        raise NewerDatabaseError(
            f"the database has version {found}, this program knows {version}: use the newer program"
        )
    return found


def is_broken(error: BaseException) -> bool:
    """Return whether the error says that the file itself is damaged, so that no retry can help."""
    return (
        isinstance(error, BrokenDatabaseError)
        or _code(error) in _BROKEN_CODES
        or (isinstance(error, sqlite3.OperationalError) and str(error).startswith(_NO_TEXT))
    )


def is_busy(error: BaseException) -> bool:
    """Return whether another process had the database locked; the disk is fine then."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def words(error: BaseException) -> str:
    """Return what went wrong, for people."""
    name = getattr(error, "sqlite_errorname", None)
    if name is None:
        return str(error)
    # On a full disk only the first write is told as SQLITE_FULL: the next connection cannot even make its index.
    return f"{error} ({name})" + (": the disk seems to be full" if name == "SQLITE_IOERR_SHMSIZE" else "")


def close_after_error(connection: sqlite3.Connection, path: Path) -> None:
    """Close a connection of which a write has failed. Never raises.

    The last connection to a database syncs its log when it closes. On a descriptor whose sync has failed that would
    succeed, whatever became of the data; so another connection, with descriptors of its own, is made the last one.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0)) as other:
        with suppress(sqlite3.Error):
            other.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()  # it is in use only now
        with suppress(sqlite3.Error):
            connection.close()
    with suppress(sqlite3.Error):
        connection.close()


def renew_log(connection: sqlite3.Connection, *, in_doubt: bool) -> None:
    """Begin a new write-ahead log.

    After a failed write some frames may be in the page cache and not on disk. Frames behind them would be lost with
    them in a power failure, however durable they are.

    Args:
        connection: to the database.
        in_doubt: a write has failed since the log was begun.

    Raises:
        sqlite3.Error: it is in doubt, and others read it; or the disk does not let us.

    """
    with closing(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")) as cursor:
        busy = cursor.fetchone()[0]
    if busy and in_doubt:
        raise sqlite3.OperationalError("after a write error: waiting until no other process reads the database")


def set_aside(directory: Path, names: Sequence[str], now: float) -> Path:
    """Move a broken database to a folder of its own, where nothing is ever removed by us.

    Args:
        directory: where it is.
        names: of the database file, and of whatever belongs to it.
        now: seconds since 1970, for the folder's name.

    Returns:
        the folder.

    Raises:
        OSError: it cannot be moved.

    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    number = 1
    while (aside := directory / f"broken-{stamp}-{number}").exists():
        number += 1
    aside.mkdir(mode=0o700)
    database, *others = names
    # The log belongs to the database: without it, what was committed last would be missing.
    for name in (f"{database}-wal", f"{database}-shm", *others, database):
        if (directory / name).exists():
            (directory / name).rename(aside / name)
    sync_directory(directory)
    return aside


def _make_private(path: Path) -> None:
    directory = path.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    try:
        # SQLite gives its log files the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Never open and close it here: that would drop the locks of other connections in this process.
        path.chmod(0o600)
    sync_directory(directory)
    sync_directory(directory.parent)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > _CHECKED_WHOLE:
        return  # damage shows when it is met, and the database is set aside then
    # Not only a quick check: what an index says is believed too.
    with closing(connection.execute("PRAGMA integrity_check(1)")) as cursor:
        answer = cursor.fetchone()[0]
    if answer != "ok":
        raise BrokenDatabaseError(str(answer))


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
