"""The rows of sessions in SQLite: read whole at the start, then only written. Blocking; runs in the journal's thread.

Any `sqlite3.Error` or `OSError` leaves the store closed; the next call opens it anew, because a connection cannot be
trusted after a failed write: a second fsync may succeed although data is lost.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties, RetainHandling, Subscription
from mqttproxy.sessions.journal import Loaded
from mqttproxy.sessions.records import (
    KINDS,
    Changes,
    IncomingRow,
    Key,
    MessageRow,
    QueuedRow,
    RetainedRow,
    Row,
    SessionRow,
    SubscriptionRow,
    WillRow,
)
from mqttproxy.sqlite import (
    BrokenDatabaseError,
    Connect,
    connect,
    has_version,
    is_broken,
    is_busy,
    open_for_writing,
    renew_log,
    set_aside,
)

T = TypeVar("T")

DATABASE: Final = "sessions.sqlite3"
VERSION: Final = 1  # of the tables: the number of migrations in schema.py

_CHECKPOINT_EVERY: Final = 4 * 1024 * 1024  # bytes written to the log, about
_ROW_COST: Final = 256  # of them for a row, beside its payload
_FREE_PAGES_KEPT: Final = 1024  # for new rows; what is free beyond is given back to the file system

_encode_json: Final = msgspec.json.Encoder().encode
_decode_properties: Final = msgspec.json.Decoder(Properties).decode
_decode_identifiers: Final = msgspec.json.Decoder(tuple[int, ...]).decode

# What no session has any more. There is none unless a broken database was set aside while its sessions were there.
_REMOVE_ORPHANS: Final = (
    "DELETE FROM subscriptions WHERE session NOT IN (SELECT number FROM sessions)",
    "DELETE FROM incoming_qos2 WHERE session NOT IN (SELECT number FROM sessions)",
    "DELETE FROM queued WHERE session NOT IN (SELECT number FROM sessions)",
    "DELETE FROM queued WHERE message NOT IN (SELECT number FROM messages)",
    "DELETE FROM messages WHERE number NOT IN (SELECT message FROM queued)",
)


def sessions_dir(data_dir: Path) -> Path:
    """Return where the sessions live in a data folder."""
    return data_dir / "sessions"


def is_made(directory: Path) -> bool:
    """Return whether the tables seem to be there in their newest form. Looks at the file's header only."""
    return has_version(directory / DATABASE, VERSION)


def make_tables(directory: Path) -> None:
    """Make the database, or bring it to its newest form.

    Raises:
        sqlite3.Error, OSError: it cannot be.

    """
    _open(directory, connect).close()


class SqliteStore:
    """The rows of sessions in a folder of their own, a `Store`."""

    def __init__(self, directory: Path, *, connect: Connect = connect, wall: Callable[[], float] = time.time) -> None:
        """Make one that is not open yet.

        Args:
            directory: of the sessions, `sessions_dir(data_dir)`.
            connect: opens the database file; tests have failing ones.
            wall: seconds since 1970.

        """
        self.set_aside: list[tuple[Path, str]] = []
        self._directory: Final = directory
        self._connect: Final = connect
        self._wall: Final = wall
        self._opened: sqlite3.Connection | None = None
        self._since_checkpoint = 0
        self._log_in_doubt = False  # the write-ahead log may have a hole that only memory hides
        self._broken: str | None = None

    def load(self) -> Loaded:
        """Read everything.

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

    def close(self) -> None:
        """Close the database. Never raises."""
        if self._opened is not None:
            connection, self._opened = self._opened, None
            with suppress(sqlite3.Error):
                connection.close()  # this copies from the log only what earlier commits had made durable

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
            connection = _open(self._directory, self._connect)
        except BrokenDatabaseError as error:
            self._set_aside(str(error))
            connection = _open(self._directory, self._connect)
        try:
            renew_log(connection, in_doubt=self._log_in_doubt)
        except BaseException:
            connection.close()
            raise
        self._log_in_doubt = False
        return connection

    def _set_aside(self, reason: str) -> None:
        self.set_aside.append((set_aside(self._directory, (DATABASE,), self._wall()), reason))
        self._broken = None

    def _load(self, connection: sqlite3.Connection) -> Loaded:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _REMOVE_ORPHANS:
            connection.execute(statement)
        connection.execute("COMMIT")
        return {
            kind: [table.read(values) for values in connection.execute(table.select)] for kind, table in _TABLES.items()
        }

    def _apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for kind in KINDS:
            rows = changes.rows[kind]
            if rows:
                table = _TABLES[kind]
                gone = [table.key(key) for key, row in rows.items() if row is None]
                if gone:
                    connection.executemany(table.delete, gone)
                connection.executemany(table.replace, (table.write(row) for row in rows.values() if row is not None))
        connection.execute("COMMIT")
        self._since_checkpoint += _ROW_COST * len(changes) + sum(_payloads(changes))
        if self._since_checkpoint >= _CHECKPOINT_EVERY:
            self._since_checkpoint = 0
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if connection.execute("PRAGMA freelist_count").fetchone()[0] > 2 * _FREE_PAGES_KEPT:
                # as a script: `execute` would take one step of it, which is one page
                connection.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES_KEPT})")


def _open(directory: Path, connect: Connect) -> sqlite3.Connection:
    return open_for_writing(directory / DATABASE, connect, version=VERSION, migrate=_migrate)


def _migrate(connection: sqlite3.Connection) -> None:
    from mqttproxy.sessions.schema import migrate  # noqa: PLC0415 - 4 MB that a migrated database does not need

    migrate(connection, VERSION)


def _payloads(changes: Changes) -> Iterable[int]:
    for kind in (MessageRow, RetainedRow, WillRow):
        for row in changes.rows[kind].values():
            yield len(getattr(row, "payload", b""))


# Rows to values of columns and back.


class _Table(NamedTuple):
    name: str
    columns: str
    keys: str
    write: Callable[[Any], Sequence[object]]
    read: Callable[[Any], Row]

    @property
    def select(self) -> str:
        return f"SELECT {self.columns} FROM {self.name} ORDER BY {self.keys}"  # noqa: S608 - our own words

    @property
    def replace(self) -> str:
        marks = ", ".join("?" * (self.columns.count(",") + 1))
        return f"INSERT OR REPLACE INTO {self.name} ({self.columns}) VALUES ({marks})"  # noqa: S608 - our own words

    @property
    def delete(self) -> str:
        condition = " AND ".join(f"{key} = ?" for key in self.keys.split(", "))
        return f"DELETE FROM {self.name} WHERE {condition}"  # noqa: S608 - our own words

    def key(self, key: Key) -> Sequence[object]:
        return key if isinstance(key, tuple) else (key,)


def _to_json(properties: Properties) -> str | None:
    return None if properties == NO_PROPERTIES else _encode_json(properties).decode()


def _from_json(text: str | None) -> Properties:
    return NO_PROPERTIES if text is None else _decode_properties(text)


def _write_session(row: SessionRow) -> Sequence[object]:
    return row.number, row.client_id, row.expiry, row.ended_at


def _write_subscription(row: SubscriptionRow) -> Sequence[object]:
    of = row.subscription
    handling = int(of.retain_handling)
    return row.session, of.topic_filter, of.qos, of.no_local, of.retain_as_published, handling, row.identifier


def _read_subscription(values: Any) -> SubscriptionRow:
    session, topic_filter, qos, no_local, as_published, handling, identifier = values
    subscription = Subscription(topic_filter, qos, bool(no_local), bool(as_published), RetainHandling(handling))
    return SubscriptionRow(session, subscription, identifier)


def _write_message(row: MessageRow) -> Sequence[object]:
    return row.number, row.topic, row.expires_at, _to_json(row.properties), row.payload


def _read_message(values: Any) -> MessageRow:
    number, topic, expires_at, properties, payload = values
    return MessageRow(number, topic, payload, _from_json(properties), expires_at)


def _write_queued(row: QueuedRow) -> Sequence[object]:
    identifiers = _encode_json(row.identifiers).decode() if row.identifiers else None
    shared_filter = row.shared_filter or None
    return (
        row.number, row.session, row.message, row.qos, row.retain, identifiers, shared_filter, row.packet_id,
        row.released,
    )  # fmt: skip


def _read_queued(values: Any) -> QueuedRow:
    number, session, message, qos, retain, identifiers, shared_filter, packet_id, released = values
    return QueuedRow(
        number, session, message, qos, bool(retain), () if identifiers is None else _decode_identifiers(identifiers),
        shared_filter or "", packet_id, bool(released),
    )  # fmt: skip


def _write_incoming(row: IncomingRow) -> Sequence[object]:
    return row.session, row.packet_id


def _write_retained(row: RetainedRow) -> Sequence[object]:
    return row.topic, row.qos, row.expires_at, _to_json(row.properties), row.payload


def _read_retained(values: Any) -> RetainedRow:
    topic, qos, expires_at, properties, payload = values
    return RetainedRow(topic, payload, qos, _from_json(properties), expires_at)


def _write_will(row: WillRow) -> Sequence[object]:
    return (
        row.number, row.client_id, row.username, row.address, row.listener, row.delay, row.due, row.topic, row.qos,
        row.retain, _to_json(row.properties), row.payload,
    )  # fmt: skip


def _read_will(values: Any) -> WillRow:
    number, client_id, username, address, listener, delay, due, topic, qos, retain, properties, payload = values
    return WillRow(
        number, client_id, username, address, listener, topic, payload, qos, bool(retain), delay, due,
        _from_json(properties),
    )  # fmt: skip


_TABLES: Final[dict[type[Row], _Table]] = {
    SessionRow: _Table(
        "sessions", "number, client_id, expiry, ended_at", "number", _write_session, lambda values: SessionRow(*values)
    ),
    SubscriptionRow: _Table(
        "subscriptions",
        "session, topic_filter, qos, no_local, retain_as_published, retain_handling, identifier",
        "session, topic_filter",
        _write_subscription,
        _read_subscription,
    ),
    MessageRow: _Table(
        "messages", "number, topic, expires_at, properties, payload", "number", _write_message, _read_message
    ),
    QueuedRow: _Table(
        "queued",
        "number, session, message, qos, retain, identifiers, shared_filter, packet_id, released",
        "number",
        _write_queued,
        _read_queued,
    ),
    IncomingRow: _Table(
        "incoming_qos2",
        "session, packet_id",
        "session, packet_id",
        _write_incoming,
        lambda values: IncomingRow(*values),
    ),
    RetainedRow: _Table(
        "retained", "topic, qos, expires_at, properties, payload", "topic", _write_retained, _read_retained
    ),
    WillRow: _Table(
        "wills",
        "number, client_id, username, address, listener, delay, due, topic, qos, retain, properties, payload",
        "number",
        _write_will,
        _read_will,
    ),
}
