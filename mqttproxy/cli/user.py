"""`mqttproxy user add | list | passwd | remove`: the users of one authenticator, in its file or its database.

`prepare` makes the table of users in PostgreSQL, which is the only place that does not make itself. A running proxy
notices a change of a database within a second; a file it reads at start and at reload.
"""

import getpass
import json as jsonlib
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

from attrs import evolve, frozen
from cyclopts import App, Parameter, Token

from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.access.hashing import EXTRA, hash_password
from mqttproxy.access.users import User, UserDatabase, UserFile
from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.admitting import PasswordSettings, PostgresqlSettings
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.kinds import Labels
from mqttproxy.config.load import load_config, read_secret
from mqttproxy.config.users import UserSettings
from mqttproxy.config.users_file import attribute_fault, name_fault, write_users
from mqttproxy.sqlite import words
from mqttproxy.wholefile import write_whole

user_app: Final = App(name="user", help="Look after users and their passwords.")
SHORTEST: Final = 8  # bytes of a password


class UsageError(Exception):
    """The command was used wrongly, or cannot be done; in words."""


@Parameter(name="*")
@frozen(kw_only=True)
class Where:
    """Which users."""

    config: Path = Path("proxy.toml")
    """The configuration of the proxy, which tells where users are."""

    authenticator: str | None = None
    """Name of one of `[[access.passwords]]`; it need not be given if there is only one."""

    role: str | None = None
    """Of PostgreSQL, if the proxy's own may only read; its password is where libpq looks: PGPASSWORD, ~/.pgpass."""


def _attributes(_type: object, tokens: Sequence[Token]) -> tuple[tuple[str, str], ...]:
    found = []
    for token in tokens:
        name, equals, text = token.value.partition("=")
        if not equals or (fault := attribute_fault(name, text)):
            raise ValueError(f"{token.value!r} is not NAME=VALUE, {fault or 'with a value'}")
        found.append((name, text))
    return tuple(found)


Attributes = Annotated[tuple[tuple[str, str], ...], Parameter(converter=_attributes, n_tokens=1, negative=())]
Switch = Annotated[bool, Parameter(negative=())]
_ANYWHERE: Final = Where()


@user_app.command(name="add")
def add(
    name: str,
    /,
    *,
    where: Where = _ANYWHERE,
    attribute: Attributes = (),
    password_file: Path | None = None,
    scram: Switch = False,
    disabled: Switch = False,
) -> int:
    """Add a user. The password is asked for, or read from stdin if that is no terminal, or from a file.

    Args:
        name: as it stands in CONNECT.
        where: which users.
        attribute: NAME=VALUE, of its devices. May be given many times.
        password_file: file that holds the password.
        scram: it may prove its password by SCRAM, too; what is kept for that is easier to guess from than argon2id.
        disabled: it cannot connect for now.

    """

    def do(store: "_Store") -> None:
        if fault := name_fault(name):
            raise UsageError(f"{name!r} is no name of a user: {fault}")
        if store.find(name) is not None:
            raise UsageError(f"there is a user {name!r} already; `mqttproxy user passwd` gives it another password")
        kept, verifiers = _new_password(password_file, scram=scram)
        store.put(User(name, kept, dict(attribute), not disabled, verifiers))
        say(f"added {name}{store.note}")

    return _with(where, do)


@user_app.command(name="passwd")
def passwd(name: str, /, *, where: Where = _ANYWHERE, password_file: Path | None = None) -> int:
    """Give a user another password. It is asked for as by `add`.

    Args:
        name: of the user.
        where: which users.
        password_file: file that holds the password.

    """

    def do(store: "_Store") -> None:
        user = store.known(name)
        kept, verifiers = _new_password(password_file, scram=bool(user.scram))
        store.put(evolve(user, password=kept, scram=verifiers))
        say(f"changed the password of {name}{store.note}")

    return _with(where, do)


@user_app.command(name="remove")
def remove(name: str, /, *, where: Where = _ANYWHERE) -> int:
    """Remove a user. Devices that are connected as this user are disconnected.

    Args:
        name: of the user.
        where: which users.

    """

    def do(store: "_Store") -> None:
        store.known(name)
        store.remove(name)
        say(f"removed {name}{store.note}")

    return _with(where, do)


@user_app.command(name="list")
def list_(*, where: Where = _ANYWHERE, json: Switch = False) -> int:
    """List all users with their attributes; passwords are not shown, not even as they are kept.

    Args:
        where: which users.
        json: one JSON object a line, for programs.

    """

    def do(store: "_Store") -> None:
        for user in store.all():
            shown: dict[str, Any] = {"name": user.name, "enabled": user.enabled, "attributes": dict(user.attributes)}
            if json:
                say(jsonlib.dumps(shown))
            else:
                attributes = " ".join(f"{name}={text}" for name, text in sorted(user.attributes.items()))
                state = "" if user.enabled else "  disabled"
                say(printable(f"{user.name}{state}{'  ' if attributes else ''}{attributes}"))

    return _with(where, do)


@user_app.command(name="prepare")
def prepare(*, where: Where = _ANYWHERE, show: Switch = False) -> int:
    """Make the table of users in PostgreSQL, and what tells a running proxy that it has changed.

    Args:
        where: which users.
        show: only show the statements, for somebody else to execute.

    """

    def do(store: "_Store") -> None:
        if not isinstance(store, _TableStore):
            raise UsageError("these users are not in PostgreSQL; their file is made by `mqttproxy user add`")
        if show:
            say(store.sql().rstrip())
        else:
            store.users.make()
            say(f"made the table {store.settings.table}")

    return _with(where, do)


def _with(where: Where, do: "Callable[[_Store], None]") -> int:
    """Do something with the users; returns the exit code."""
    try:
        with closing(_store(where)) as store:
            do(store)
    except ConfigError as error:
        return tell(error)
    except UsageError as error:
        complain(str(error))
        return 1
    except ImportError:
        extras = f"{EXTRA}; for --scram, mqttproxy[scram] brings scramp"
        complain(f"a library is missing: {extras}; for users in PostgreSQL, mqttproxy[postgresql] brings psycopg")
        return 1
    except (BackEndDownError, sqlite3.Error, OSError) as error:
        complain(words(error) if isinstance(error, sqlite3.Error) else str(error))
        return 1
    return 0


def _store(where: Where) -> "_Store":
    entries = load_config(where.config).access.passwords
    chosen = [one for one in entries if where.authenticator in (None, one.name)]
    if not chosen:
        wanted = "" if where.authenticator is None else f" {where.authenticator!r}"
        raise UsageError(f"{where.config} has no [[access.passwords]]{wanted}")
    if len(chosen) > 1:
        names = ", ".join(one.name for one in chosen)
        raise UsageError(f"which users? Choose with --authenticator: {names}")
    if chosen[0].postgresql.url is not None:
        return _TableStore(chosen[0].postgresql, where.role)
    if where.role is not None:
        raise UsageError("--role is for users in PostgreSQL")
    return _FileStore(chosen[0]) if chosen[0].file is not None else _DatabaseStore(chosen[0])


class _Store(ABC):
    """Users as commands see them."""

    note = ""

    @abstractmethod
    def find(self, name: str) -> User | None:
        """Return a user, None: there is none."""

    @abstractmethod
    def all(self) -> list[User]:
        """Return all of them, by name."""

    @abstractmethod
    def put(self, user: User) -> None:
        """Add a user, or change one."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a user."""

    def close(self) -> None:  # noqa: B027 # only one of them keeps anything open
        """Let go of connections."""

    def known(self, name: str) -> User:
        """Return a user. Raises UsageError: there is none."""
        user = self.find(name)
        if user is None:
            raise UsageError(f"there is no user {name!r}")
        return user


class _FileStore(_Store):
    note = "; a running proxy reads the file again at its next reload"

    def __init__(self, settings: PasswordSettings) -> None:
        assert settings.file is not None  # noqa: S101 # which is why it was chosen
        self._path = settings.file
        self._users = UserFile(self._path).users

    def find(self, name: str) -> User | None:
        return self._users.get(name)

    def all(self) -> list[User]:
        return sorted(self._users.values(), key=lambda user: user.name)

    def put(self, user: User) -> None:
        self._users[user.name] = user
        self._write()

    def remove(self, name: str) -> None:
        del self._users[name]
        self._write()

    def _write(self) -> None:
        settings = [
            UserSettings(
                name=user.name,
                password=user.password,
                attributes=Labels(tuple(user.attributes.items())),
                scram=Labels(tuple(user.scram.items())),
                enabled=user.enabled,
            )
            for user in self._users.values()
        ]
        write_whole(self._path, write_users(settings).encode())


class _DatabaseStore(_Store):
    def __init__(self, settings: PasswordSettings) -> None:
        assert settings.database is not None  # noqa: S101 # which is why it was chosen
        self._path = settings.database
        self._users = UserDatabase(self._path)

    def find(self, name: str) -> User | None:
        return self._users.find(name) if self._path.exists() else None

    def all(self) -> list[User]:
        return self._users.all()

    def put(self, user: User) -> None:
        self._users.put(user)

    def remove(self, name: str) -> None:
        self._users.remove(name)


class _TableStore(_Store):
    def __init__(self, settings: PostgresqlSettings, role: str | None) -> None:
        from mqttproxy.access.users_postgresql import UserTable, table_sql  # noqa: PLC0415 - an extra

        self.settings = settings
        self.users = UserTable(settings, role=role)
        self._table_sql = table_sql

    def sql(self) -> str:
        """Return the statements that make the table."""
        return self._table_sql(self.settings.table)

    def find(self, name: str) -> User | None:
        return self.users.find(name)

    def all(self) -> list[User]:
        return self.users.all()

    def put(self, user: User) -> None:
        self.users.put(user)

    def remove(self, name: str) -> None:
        self.users.remove(name)

    def close(self) -> None:
        self.users.close()


def _new_password(file: Path | None, *, scram: bool) -> tuple[str, dict[str, str]]:
    """Return a new password as it is kept, and for SCRAM. Raises UsageError, OSError, ImportError."""
    if file is not None:
        password = read_secret(file)
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ").encode()
        if getpass.getpass("Again: ").encode() != password:
            raise UsageError("these are two different passwords")
    else:
        password = sys.stdin.buffer.readline().rstrip(b"\r\n")
    if len(password) < SHORTEST:
        raise UsageError(f"a password has at least {SHORTEST} bytes")
    kept = hash_password(password)
    if not scram:
        return kept, {}
    from mqttproxy.access.scram import make_verifiers  # noqa: PLC0415 - an extra

    try:
        return kept, make_verifiers(password.decode())
    except UnicodeDecodeError as error:
        raise UsageError("a password for SCRAM is UTF-8") from error
