"""Users and where they are kept: a file, or an SQLite database. All places are asked by the same port, `Users`.

The third place, a PostgreSQL server, has a module of its own: it needs an extra.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from attrs import field, frozen

from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.users import UserSettings
from mqttproxy.config.users_file import parse_users
from mqttproxy.sqlite import DISK_TROUBLE, connect, refuse_newer, words

VERSION: Final = 1  # of the table
_TABLE: Final = """
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password TEXT NOT NULL,
    attributes TEXT NOT NULL DEFAULT '{}',
    enabled INTEGER NOT NULL DEFAULT 1,
    scram TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID
"""
_ALL: Final = "SELECT name, password, attributes, enabled, scram FROM users ORDER BY name"
_ONE: Final = "SELECT name, password, attributes, enabled, scram FROM users WHERE name = ?"
_PUT: Final = "INSERT OR REPLACE INTO users (name, password, attributes, enabled, scram) VALUES (?, ?, ?, ?, ?)"


@frozen
class User:
    """One user. `password` as argon2id, in PHC form; `scram` by mechanism, see `scram.Verifier`."""

    name: str
    password: str = field(repr=False)
    attributes: Mapping[str, str]
    enabled: bool = True
    scram: Mapping[str, str] = field(factory=dict, repr=False)


class Users(Protocol):
    """Where users are looked up. Blocking; for a thread."""

    @property
    def is_live(self) -> bool:
        """Whether users may change without a reload, see `stamp`."""

    def find(self, name: str) -> User | None:
        """Return a user, None: there is none. Raises BackEndDownError."""

    def stamp(self) -> object:
        """Return what differs when users have changed by themselves. Raises BackEndDownError."""

    def close(self) -> None:
        """Let go of connections: nobody is looked up any more."""


class UserFile:
    """Users of a TOML file, as it was when it was read."""

    is_live = False

    def __init__(self, path: Path, called: str = "") -> None:
        """Read it.

        Raises:
            ConfigError: with all that is wrong with it.

        """
        try:
            text = path.read_bytes()
        except OSError as error:
            found = f"a file that cannot be read ({error.strerror or error})"
            raise ConfigError([Fault(called or str(path), "", found, "a readable file")]) from error
        self.users: dict[str, User] = {user.name: _of_settings(user) for user in parse_users(text, called or str(path))}

    def find(self, name: str) -> User | None:
        """Return a user, None: there is none."""
        return self.users.get(name)

    def stamp(self) -> object:
        """Return None: a file is read anew at a reload only."""
        return None

    def close(self) -> None:
        """Do nothing: no connection is kept."""


def _of_settings(settings: UserSettings) -> User:
    return User(settings.name, settings.password, dict(settings.attributes), settings.enabled, dict(settings.scram))


class UserDatabase:
    """Users of an SQLite database, asked anew each time, so that a change is there at once."""

    is_live = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, name: str) -> User | None:
        """Return a user, None: there is none.

        Raises:
            BackEndDownError: the database cannot be read, or is not there.

        """
        with self._reading() as connection:
            row = connection.execute(_ONE, (name,)).fetchone()
        return None if row is None else _of_row(row)

    def stamp(self) -> object:
        """Return what differs after a commit: when its file was written last, and its size. Raises BackEndDownError."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise BackEndDownError(f"users in {self._path}: {words(error)}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def all(self) -> list[User]:
        """Return all of them, by name. Raises BackEndDownError."""
        with self._reading() as connection:
            rows = connection.execute(_ALL).fetchall()
        return [_of_row(row) for row in rows]

    def put(self, user: User) -> None:
        """Add a user, or change one. Raises sqlite3.Error, OSError."""
        attributes, scram = (json.dumps(dict(one)) for one in (user.attributes, user.scram))
        values = (user.name, user.password, attributes, int(user.enabled), scram)
        with closing(self._opened()) as connection:
            connection.execute(_PUT, values)

    def remove(self, name: str) -> bool:
        """Remove a user; False: there was none. Raises sqlite3.Error, OSError."""
        with closing(self._opened()) as connection:
            return connection.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount > 0

    def _opened(self) -> sqlite3.Connection:
        """Open it for writing, made if missing, for its owner only. Its folder may be others' too, and stays so."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = connect(self._path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if refuse_newer(connection, VERSION) < VERSION:
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                refuse_newer(connection, VERSION)
                yield connection
        except (*DISK_TROUBLE, ValueError, TypeError) as error:
            raise BackEndDownError(f"users in {self._path}: {words(error)}") from error


def _of_row(row: tuple[str, str, str, int, str]) -> User:
    name, password, attributes, enabled, scram = row
    return User(name, password, json.loads(attributes), bool(enabled), json.loads(scram))
