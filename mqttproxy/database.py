"""The one database of what must not be lost: the tables of all rooms, written in the same commits."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from mqttproxy import sqlite, tables
from mqttproxy.apart import run_apart
from mqttproxy.journal.store import Layout, SqliteStore
from mqttproxy.quarantine.rows import TABLES as OF_RELEASES
from mqttproxy.sessions.tables import REMOVE_ORPHANS, TABLES as OF_SESSIONS
from mqttproxy.spool.tables import TABLES as OF_SPOOL
from mqttproxy.tables import DATABASE, VERSION, journal_dir, migrate
from mqttproxy.wholefile import sync_directory

TABLES_MADE: Final = 60.0  # seconds that making the tables may take in a process of its own

_BEFORE: Final = "sessions"  # folder and file of versions that had sessions only


LAYOUT: Final = Layout(
    database=DATABASE,
    version=VERSION,
    tables=OF_SPOOL | OF_SESSIONS | OF_RELEASES,
    tidy=REMOVE_ORPHANS,
    migrate=migrate,
    saved=(
        "releases", "destinations", "in_flight", "runs",
        "sessions", "subscriptions", "messages", "queued", "incoming_qos2", "retained", "wills",
    ),
)  # fmt: skip


def make_store(
    directory: Path,
    *,
    connect: sqlite.Connect = sqlite.connect,
    wall: Callable[[], float] = time.time,
    survives_power_loss: bool = True,
) -> SqliteStore:
    """Return the store of the journal, see `SqliteStore`."""
    return SqliteStore(directory, LAYOUT, connect=connect, wall=wall, survives_power_loss=survives_power_loss)


async def make_tables(data_dir: Path) -> None:
    """Make the tables of both databases, or renew them, where their maker does not stay in memory.

    Whatever goes wrong: each room then tries for itself, and knows what is to be done about it.

    """
    with suppress(OSError, trio.TooSlowError):
        if not tables.are_made(data_dir):
            await run_apart("mqttproxy.tables", str(data_dir), seconds=TABLES_MADE)


def take_over_former(data_dir: Path) -> None:
    """Give the database of a version that had only sessions its new name. Does nothing where there is none.

    Raises:
        OSError: it cannot be renamed.

    """
    former, directory = data_dir / _BEFORE, journal_dir(data_dir)
    names = (f"{_BEFORE}.sqlite3", DATABASE)  # the new one, if this was cut off before its last step
    if directory.exists() or not any((former / name).exists() for name in names):
        return
    for end in ("-wal", "-shm", ""):  # the log belongs to the database, which goes last
        if (former / f"{_BEFORE}.sqlite3{end}").exists():
            (former / f"{_BEFORE}.sqlite3{end}").rename(former / f"{DATABASE}{end}")
    former.rename(directory)
    sync_directory(data_dir)
