"""Held messages and disks for the tests of this room."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mqttproxy.config.model import Bytes, QuarantineSettings
from mqttproxy.quarantine.ids import IdFactory
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.writer import Writer

NOW = 1_800_000_000.0
SETTINGS = QuarantineSettings(client_share=1.0)
SMALL_INLINE = QuarantineSettings(client_share=1.0, inline_bytes=Bytes(10))

_new_id = IdFactory(lambda: NOW)


def make_held(**changes: Any) -> Held:
    """Return a message that was held, with whatever the test cares about."""
    facts: dict[str, Any] = {
        "id": _new_id(),
        "at": NOW,
        "client_id": "dev-1",
        "username": "ada",
        "address": "192.0.2.7",
        "listener": "plain",
        "topic": "sensor/1/temperature",
        "payload": b"{}",
        "qos": 1,
        "retain": False,
        "policy": "temperature",
        "schema": "temperature@1",
        "reason": 0x99,
        "failures": (("/value", "required", "value is missing"),),
    }
    return Held(**facts | changes)


def make_writer(directory: Path, settings: QuarantineSettings = SETTINGS, **changes: Any) -> Writer:
    """Return a writer in a folder, at the time `NOW`."""
    arguments: dict[str, Any] = {
        "now": lambda: NOW,
        "new_name": _new_id,
        "usage": lambda _: (10**13, 0, 10**12),
        "connect": Disk().connect,
    }
    return Writer(directory, settings, **arguments | changes)


class Disk:
    """Opens databases whose statements fail as the test wants."""

    def __init__(self) -> None:
        self.before: dict[str, Exception] = {}  # statement -> what it raises instead of being executed
        self.after: dict[str, Exception] = {}  # statement -> what it raises although it was executed
        self.pages: int | None = None  # at most so many in the database
        self.opened = 0

    def connect(self, path: Path) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:  # type: ignore[override]  # the stub also takes mappings
                if error := disk.before.get(sql):
                    raise error
                cursor = super().execute(sql, parameters)
                if error := disk.after.get(sql):
                    raise error
                return cursor

        self.opened += 1
        connection = sqlite3.connect(
            path, timeout=0.05, isolation_level=None, check_same_thread=False, factory=Connection
        )
        if self.pages is not None:
            connection.execute(f"PRAGMA max_page_count = {self.pages}")
        return connection


def io_error() -> sqlite3.OperationalError:
    """Return what SQLite says when fsync fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    return error


def damage(database: Path) -> None:
    """Overwrite everything behind the first page."""
    with database.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def files_in(folder: Path) -> Iterator[str]:
    """Return the names of what is in a folder."""
    return (path.name for path in folder.iterdir())
