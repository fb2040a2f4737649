"""Opening the database of held messages: made if missing, checked, brought to the newest form, set aside if broken.

Blocking; runs in the writer's thread or in a command.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mqttproxy.quarantine.payloads import FOLDER

DATABASE: Final = "held.sqlite3"
VERSION: Final = 1  # of the tables: the number of migrations in schema.py

_BUSY_TIMEOUT: Final = 2.0  # seconds that a writer waits for another one before it is told "locked"
_CHECKED_WHOLE: Final = 64 * 1024 * 1024  # a larger database is not read through at start: that would delay it
_LOG_KEPT: Final = 16 * 1024 * 1024  # size to which a log that had grown is cut when it begins anew
_VERSION_AT: Final = slice(60, 64)  # where `user_version` stands in the file, see sqlite.org/fileformat2.html
_BROKEN_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

Connect = Callable[[Path], sqlite3.Connection]


class BrokenDatabaseError(sqlite3.DatabaseError):
    """What is in the file is no longer our database."""


class NewerDatabaseError(sqlite3.DatabaseError):
    """A newer version of this program made the database: we must not touch it."""


def quarantine_dir(data_dir: Path) -> Path:
    """Return where the quarantine lives in a data folder."""
    return data_dir / "quarantine"


def connect(path: Path) -> sqlite3.Connection:
    """Open a file for writing, as `Connect` wants it: no transactions but our own, usable from any one thread."""
    return sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


def connect_existing(directory: Path, mode: str) -> sqlite3.Connection:
    """Open the quarantine beside a proxy that may be running.

    Args:
        directory: of the quarantine.
        mode: "ro" to look, "rw" to remove.

    Raises:
        FileNotFoundError: nothing was ever held here.
        NewerDatabaseError: made by a newer version of this program.
        sqlite3.Error: it cannot be read.

    """
    path = directory / DATABASE
    path.stat()
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        _refuse_newer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def is_made(directory: Path) -> bool:
    """Return whether the tables seem to be there in their newest form. Looks at the file's header only."""
    try:
        with (directory / DATABASE).open("rb") as source:
            return int.from_bytes(source.read(100)[_VERSION_AT]) >= VERSION
    except OSError:
        return False


def open_for_writing(directory: Path, connect: Connect) -> sqlite3.Connection:
    """Open the database, made and checked, with durable commits.

    Raises:
        BrokenDatabaseError: see `set_aside`.
        NewerDatabaseError: a person must decide.
        sqlite3.Error, OSError: the disk does not let us.

    """
    _make_private(directory)
    connection = connect(directory / DATABASE)
    try:
        _prepare(connection, directory)
    except sqlite3.DatabaseError as error:
        connection.close()
        if is_broken(error) and not isinstance(error, BrokenDatabaseError):
            raise BrokenDatabaseError(str(error)) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def is_broken(error: BaseException) -> bool:
    """Return whether the error says that the file itself is damaged, so that no retry can help."""
    return isinstance(error, BrokenDatabaseError) or _code(error) in _BROKEN_CODES


def is_busy(error: BaseException) -> bool:
    """Return whether another process had the database locked; the disk is fine then."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def set_aside(directory: Path, now: float) -> Path:
    """Move a broken database with its payload files to a folder of its own, where nothing is ever removed by us.

    Args:
        directory: of the quarantine.
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
    # The log belongs to the database: without it, what was committed last would be missing.
    for name in (f"{DATABASE}-wal", f"{DATABASE}-shm", FOLDER, DATABASE):
        if (directory / name).exists():
            (directory / name).rename(aside / name)
    _sync_directory(directory)
    return aside


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    payloads = directory / FOLDER
    payloads.mkdir(mode=0o700, exist_ok=True)
    payloads.chmod(0o700)
    path = directory / DATABASE
    try:
        # SQLite gives its log files the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Never open and close it here: that would drop the locks of other connections in this process.
        path.chmod(0o600)
    _sync_directory(directory)
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, directory: Path) -> None:
    version = _refuse_newer(connection)
    if version == 0:
        if any((directory / FOLDER).iterdir()):
            raise BrokenDatabaseError("it is empty, but there are payload files")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only possible before the first table
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a commit backs an acknowledgement
    connection.execute("PRAGMA foreign_keys = ON")
    # SQLite swallows errors of its automatic checkpoints; the writer makes them itself.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
    if version < VERSION:
        from mqttproxy.quarantine.schema import migrate  # noqa: PLC0415 - 4 MB that a migrated database does not need

        migrate(connection, VERSION)
    _check(connection, directory / DATABASE)


def _refuse_newer(connection: sqlite3.Connection) -> int:
    with closing(connection.execute("PRAGMA user_version")) as cursor:
        version = int(cursor.fetchone()[0])
    if version > VERSION:
        raise NewerDatabaseError(
            f"the database has version {version}, this program knows {VERSION}: use the newer program"
        )
    return version


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > _CHECKED_WHOLE:
        return  # damage shows when it is met, and the database is set aside then
    with closing(connection.execute("PRAGMA quick_check(1)")) as cursor:
        answer = cursor.fetchone()[0]
    if answer != "ok":
        raise BrokenDatabaseError(str(answer))


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
