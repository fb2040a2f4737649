"""Which certificates there are, and which of them were revoked: a SQLite database beside the key of the CA.

It is the truth; the revocation list is made from it. What is done is committed here before anybody gets a file.
"""

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from mqttproxy import sqlite
from mqttproxy.pki.forms import RevokedSerial
from mqttproxy.pki.wanted import Kind, Wanted

DATABASE: Final = "index.sqlite3"
VERSION: Final = 1

_TABLES: Final = (
    """CREATE TABLE certificates (
      serial TEXT PRIMARY KEY,
      name TEXT NOT NULL,
      kind TEXT NOT NULL,
      hosts TEXT NOT NULL,
      device_serial TEXT,
      mac TEXT,
      not_after INTEGER,
      pem TEXT NOT NULL,
      replaces TEXT,
      revoked_at INTEGER,
      reason TEXT
    ) STRICT""",
    "CREATE INDEX certificates_by_name ON certificates (name)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
)


@frozen(kw_only=True)
class Record:
    """A certificate as the index knows it. `what` and `not_after`: None if only a revocation list has told of it."""

    serial: int
    what: Wanted | None
    not_after: dt.datetime | None
    pem: str
    replaces: int | None = None
    revoked_at: dt.datetime | None = None
    reason: str = ""

    def is_valid(self, now: dt.datetime) -> bool:
        """Tell whether it was neither revoked nor has ended."""
        return self.revoked_at is None and self.not_after is not None and self.not_after > now


class Index:
    """The open database. One process at a time changes it: see `changing`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, directory: Path) -> "Index":
        """Open it, made if it is not there.

        Raises:
            BrokenDatabaseError, NewerDatabaseError, sqlite3.Error, OSError: see `sqlite.open_for_writing`.

        """
        path = directory / DATABASE
        return cls(sqlite.open_for_writing(path, sqlite.connect, version=VERSION, migrate=_make_tables))

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Do what is in the block as one step, that nobody else comes into; durable when the block has ended."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def add(self, record: Record) -> None:
        """Take a certificate in."""
        what = record.what or Wanted("", "device")
        self._connection.execute(
            "INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                f"{record.serial:x}",
                what.name,
                what.kind if record.what else "unknown",
                " ".join(what.hosts),
                what.device_serial,
                what.mac,
                None if record.not_after is None else int(record.not_after.timestamp()),
                record.pem,
                None if record.replaces is None else f"{record.replaces:x}",
                None if record.revoked_at is None else int(record.revoked_at.timestamp()),
                record.reason or None,
            ),
        )

    def revoke(self, serial: int, at: dt.datetime, reason: str) -> None:
        """Mark a certificate as revoked, once and for all."""
        self._connection.execute(
            "UPDATE certificates SET revoked_at = ?, reason = ? WHERE serial = ? AND revoked_at IS NULL",
            (int(at.timestamp()), reason, f"{serial:x}"),
        )

    def find(self, serial: int) -> Record | None:
        """Return the certificate with a serial number."""
        return next(self._select("WHERE serial = ?", f"{serial:x}"), None)

    def named(self, name: str) -> list[Record]:
        """Return all certificates with a name, the one that lasts longest first."""
        return list(self._select("WHERE name = ? AND kind != 'unknown' ORDER BY not_after DESC", name))

    def bound(self, what: Wanted) -> list[Record]:
        """Return all certificates that are bound to the same serial number or MAC address."""
        return list(self._select("WHERE device_serial = ? OR mac = ?", what.device_serial, what.mac))

    def all(self) -> Iterator[Record]:
        """Yield all certificates, by name."""
        return self._select("ORDER BY name, not_after")

    def revoked(self, now: dt.datetime) -> list[RevokedSerial]:
        """Return those that a list must name: revoked, and not ended by themselves."""
        found = self._select("WHERE revoked_at IS NOT NULL AND (not_after IS NULL OR not_after > ?) ORDER BY serial",
                             int(now.timestamp()))  # fmt: skip
        return [RevokedSerial(one.serial, one.revoked_at, one.reason) for one in found if one.revoked_at is not None]

    def fact(self, name: str) -> int | None:
        """Return a number that is kept here."""
        with closing(self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,))) as cursor:
            row = cursor.fetchone()
        return None if row is None else int(row[0])

    def keep(self, name: str, value: int) -> None:
        """Keep a number."""
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _select(self, how: str, *values: Any) -> Iterator[Record]:
        with closing(self._connection.execute(f"SELECT * FROM certificates {how}", values)) as cursor:  # noqa: S608 - texts of this file
            for row in cursor:
                yield _record(row)


def _record(row: tuple[Any, ...]) -> Record:
    serial, name, kind, hosts, device_serial, mac, not_after, pem, replaces, revoked_at, reason = row
    known: dict[str, Kind] = {"device": "device", "server": "server"}
    return Record(
        serial=int(serial, 16),
        what=Wanted(name, known[kind], tuple(hosts.split()), device_serial, mac) if kind in known else None,
        not_after=_time(not_after),
        pem=pem,
        replaces=None if replaces is None else int(replaces, 16),
        revoked_at=_time(revoked_at),
        reason=reason or "",
    )


def _time(seconds: int | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION:d}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
