"""Opening the database of held messages: made if missing, checked, brought to the newest form, set aside if broken.

Blocking; runs in the writer's thread or in a command.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mqttproxy import sqlite
from mqttproxy.quarantine.payloads import FOLDER
from mqttproxy.sqlite import (
    BrokenDatabaseError,
    Connect,
    NewerDatabaseError,
    connect,
    is_broken,
    is_busy,
    refuse_newer,
)

__all__ = [
    "DATABASE",
    "VERSION",
    "BrokenDatabaseError",
    "Connect",
    "NewerDatabaseError",
    "connect",
    "connect_existing",
    "is_broken",
    "is_busy",
    "is_made",
    "open_for_writing",
    "quarantine_dir",
    "remove_older",
    "set_aside",
]

DATABASE: Final = "held.sqlite3"
VERSION: Final = 3  # of the tables: the number of migrations in schema.py

_SET_ASIDE_KEPT: Final = 2  # broken databases, the latest ones
_BUSY_TIMEOUT: Final = 2.0  # seconds that a command waits for the proxy before it is told "locked"


def quarantine_dir(data_dir: Path) -> Path:
    """Return where the quarantine lives in a data folder."""
    return data_dir / "quarantine"


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
        refuse_newer(connection, VERSION)
    except BaseException:
        connection.close()
        raise
    return connection


def is_made(directory: Path) -> bool:
    """Return whether the tables seem to be there in their newest form. Looks at the file's header only."""
    return sqlite.has_version(directory / DATABASE, VERSION)


def open_for_writing(directory: Path, connect: Connect) -> sqlite3.Connection:
    """Open the database, made and checked, with durable commits, and make the folder of payload files.

    Raises:
        BrokenDatabaseError: see `set_aside`.
        NewerDatabaseError: a person must decide.
        sqlite3.Error, OSError: the disk does not let us.

    """
    payloads = directory / FOLDER
    payloads.mkdir(mode=0o700, parents=True, exist_ok=True)
    payloads.chmod(0o700)

    def made() -> None:
        if any(payloads.iterdir()):
            raise BrokenDatabaseError("it is empty, but there are payload files")

    return sqlite.open_for_writing(directory / DATABASE, connect, version=VERSION, migrate=_migrate, made=made)


def set_aside(directory: Path, now: float) -> Path:
    """Move a broken database with its payload files to a folder of its own; see `remove_older`.

    Args:
        directory: of the quarantine.
        now: seconds since 1970, for the folder's name.

    Returns:
        the folder.

    Raises:
        OSError: it cannot be moved.

    """
    return sqlite.set_aside(directory, (DATABASE, FOLDER), now)


def remove_older(directory: Path) -> Iterator[Path]:
    """Remove what was set aside before, but for the two latest, and yield each that is gone.

    Raises:
        OSError: something cannot be removed.

    """

    def age(folder: Path) -> tuple[str, int]:
        stamp, _, number = folder.name.rpartition("-")
        return stamp, int(number)

    for folder in sorted(directory.glob("broken-*-*[0-9]"), key=age)[:-_SET_ASIDE_KEPT]:
        shutil.rmtree(folder)
        yield folder


def _migrate(connection: sqlite3.Connection) -> None:
    from mqttproxy.quarantine.schema import migrate  # noqa: PLC0415 - 4 MB that a migrated database does not need

    migrate(connection, VERSION)
