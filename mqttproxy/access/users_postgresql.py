"""Users in a table of a PostgreSQL server: asked anew each time, over connections that are kept while they are good."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from math import ceil
from threading import Lock
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.sql import SQL, Composed, Identifier
from psycopg.types.json import Jsonb

from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.access.users import User
from mqttproxy.config.admitting import PostgresqlSettings
from mqttproxy.config.authenticator_checks import is_on_this_machine
from mqttproxy.config.load import read_secret
from mqttproxy.config.users_file import is_argon2id, name_fault

T = TypeVar("T")

REST: Final = 1.0  # seconds after it could not be reached in which nobody waits for it again
PROBE: Final = 30  # seconds of silence after which the kernel asks whether the server is still there
LONGEST: Final = 300  # characters of what the server says of an error

_ALL: Final = 'SELECT name, password, attributes, enabled, scram FROM {table} ORDER BY name COLLATE "C"'
_ONE: Final = "SELECT name, password, attributes, enabled, scram FROM {table} WHERE name = %s"
_PUT: Final = """\
INSERT INTO {table} (name, password, attributes, enabled, scram) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET (password, attributes, enabled, scram) =
        (excluded.password, excluded.attributes, excluded.enabled, excluded.scram)
"""
# What the proxy's role needs of it: SELECT on both tables. Whoever writes to the first needs no right to the second.
_TABLE: Final = """\
CREATE TABLE {table} (
    name text PRIMARY KEY,
    password text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{{}}',
    enabled boolean NOT NULL DEFAULT true,
    scram jsonb NOT NULL DEFAULT '{{}}'
);
CREATE TABLE {changes} (number bigint NOT NULL);
INSERT INTO {changes} VALUES (0);
CREATE FUNCTION {changed}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    EXECUTE format('UPDATE %I.%I SET number = number + 1', TG_TABLE_SCHEMA, TG_TABLE_NAME || '_changes');
    RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {changed}();
"""


class TooSlowError(psycopg.OperationalError):
    """The server has not answered in time: nothing more is asked over this connection."""


class Connection(psycopg.Connection[Any]):
    """One that waits for answers until `until` (monotonic seconds) and no longer, whatever has become of the server."""

    until = 0.0
    is_used = False

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for what a generator of psycopg waits for. Raises TooSlowError."""
        return super().wait(self._until(gen), *args, **kwargs)

    def _until(self, gen: PQGen[T]) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= self.until:
                    raise TooSlowError("no answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # what the generator gives


class UserTable:
    """See the module. May be used from several threads; each has a connection of its own while it asks."""

    is_live = True

    def __init__(
        self, settings: PostgresqlSettings, *, role: str | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Make it; nothing is dialled.

        Args:
            settings: its table, with `url`.
            role: of the server, instead of the one in `url`; its password is where libpq looks for one.
            now: monotonic seconds, for `REST`.

        """
        self._settings = settings
        self._role = role
        self._now = now
        self._lock = Lock()
        self._kept: list[Connection] = []
        self._is_closed = False
        self._rests_until = 0.0
        self._trouble = ""
        parts = settings.table.split(".")
        self._table, self._changes, self._changed = (
            Identifier(*parts[:-1], parts[-1] + end) for end in ("", "_changes", "_changed")
        )

    def find(self, name: str) -> User | None:
        """Return a user, None: there is none.

        Raises:
            BackEndDownError: the server cannot be asked, or what is there is no user.

        """
        if name_fault(name):  # nobody is called like that
            return None
        rows, _ = self._ask(_ONE, (name,))
        return _of_row(rows[0]) if rows else None

    def stamp(self) -> object:
        """Return how often users have changed. Raises BackEndDownError."""
        rows, _ = self._ask("SELECT number FROM {changes}")
        return rows[0][0] if rows else None

    def all(self) -> list[User]:
        """Return all of them, by name. Raises BackEndDownError."""
        rows, _ = self._ask(_ALL)
        return [_of_row(row) for row in rows]

    def put(self, user: User) -> None:
        """Add a user, or change one. Raises BackEndDownError."""
        attributes, scram = (Jsonb(dict(one)) for one in (user.attributes, user.scram))
        self._ask(_PUT, (user.name, user.password, attributes, user.enabled, scram))

    def remove(self, name: str) -> bool:
        """Remove a user; False: there was none. Raises BackEndDownError."""
        return self._ask("DELETE FROM {table} WHERE name = %s", (name,))[1] > 0

    def make(self) -> None:
        """Make the table, and what counts its changes; all of it or nothing. Raises BackEndDownError."""
        self._ask(_TABLE)

    def close(self) -> None:
        """Let go of all connections; those in use are closed when they are given back."""
        with self._lock:
            self._is_closed = True
        self._let_go()

    def _ask(self, question: LiteralString, values: Sequence[object] | None = None) -> tuple[list[Any], int]:
        """Return the rows that answer a question, and how many rows it was about."""
        with self._lock:
            if self._now() < self._rests_until:
                raise BackEndDownError(self._trouble)
        query = SQL(question).format(table=self._table, changes=self._changes, changed=self._changed)
        try:
            while (kept := self._take()) is not None:
                with suppress(_GoneError):  # the server was restarted meanwhile, and the others are gone as well
                    return self._ask_over(kept, query, values)
            return self._ask_over(self._dial(), query, values)
        except (psycopg.Error, OSError, ValueError) as error:
            raise self._down(error) from error

    def _ask_over(
        self, connection: Connection, query: Composed, values: Sequence[object] | None
    ) -> tuple[list[Any], int]:
        is_new, connection.is_used = not connection.is_used, True
        connection.until = time.monotonic() + self._settings.statement_timeout
        try:
            cursor = connection.execute(query, values)
            answer = (cursor.fetchall() if cursor.description else []), cursor.rowcount
        except BaseException as error:
            is_gone = isinstance(error, psycopg.OperationalError) and connection.closed
            connection.close()
            if is_gone and not is_new:
                raise _GoneError from error
            raise
        self._give_back(connection)
        return answer

    def _dial(self) -> Connection:
        settings = self._settings
        more: dict[str, Any] = {}
        if self._role is not None:
            more["user"] = self._role
        elif settings.password_file is not None:
            more["password"] = read_secret(settings.password_file).decode()
        if settings.ca is not None or not is_on_this_machine(settings.url or ""):
            more |= {"sslmode": "verify-full", "sslrootcert": str(settings.ca or "system")}
        milliseconds = ceil(settings.statement_timeout * 1000)
        return Connection.connect(
            settings.url or "",
            autocommit=True,
            prepare_threshold=None,  # poolers between us and the server may not know of prepared statements
            connect_timeout=ceil(settings.connect_timeout),
            client_encoding="utf8",
            application_name="mqttproxy",
            gssencmode="disable",
            keepalives_idle=PROBE,
            options=f"-c statement_timeout={milliseconds}",
            **more,
        )

    def _take(self) -> Connection | None:
        with self._lock:
            return self._kept.pop() if self._kept else None

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._is_closed:
                self._kept.append(connection)
                return
        connection.close()

    def _let_go(self) -> None:
        while (kept := self._take()) is not None:
            kept.close()

    def _down(self, error: Exception) -> BackEndDownError:
        """Return what to raise. If the server cannot be reached, nobody waits for it again for a moment."""
        said = " ".join(str(error).split())[:LONGEST] or type(error).__name__
        words = f"users in {self._settings.table} of {(self._settings.url or '').rpartition('@')[2]}: {said}"
        if isinstance(error, psycopg.OperationalError):
            self._let_go()
            with self._lock:
                self._rests_until, self._trouble = self._now() + REST, words
        return BackEndDownError(words)


class _GoneError(Exception):
    """A connection that was kept has ended meanwhile."""


def table_sql(table: str) -> str:
    """Return how a table of users is made, for whoever may do that."""
    return _TABLE.format(table=table, changes=f"{table}_changes", changed=f"{table}_changed")


def _of_row(row: tuple[Any, ...]) -> User:
    """Return a user. Raises BackEndDownError: others may write there too, and what is no user lets nobody in."""
    name, password, attributes, enabled, scram = row
    if not is_argon2id(password):
        raise BackEndDownError(f"what is kept as the password of {name!r} is no argon2id")
    if not all(_are_texts(one) for one in (attributes, scram)):
        raise BackEndDownError(f"attributes or scram of {name!r} is no object of texts")
    return User(name, password, attributes, enabled, scram)


def _are_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())
