"""Users in PostgreSQL, on a real server: what happens when it is away, slow, or says what is no user (BAD-INPUT D6)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import monotonic
from typing import Any

import psycopg
import pytest
from attrs import evolve

from mqttproxy.access import users_postgresql
from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.access.users_postgresql import REST, Connection, UserTable, table_sql
from mqttproxy.config.kinds import Seconds
from tests.access.users_of_tests import user
from tests.postgresql import PASSWORD, READER, Server, Table


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(table: Table, clock: Clock) -> Iterator[UserTable]:
    """The table as the proxy reads it, with a user in it."""
    table.owners.put(user())
    settings = evolve(table.reader, statement_timeout=Seconds(0.4))
    users = UserTable(settings, now=clock.now)
    yield users
    users.close()


def backends(server: Server) -> int:
    """Return how many connections the reader has."""
    with psycopg.connect(host=str(server.folder), port=server.port, user="postgres") as connection:
        asked = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (READER,))
        row: Any = asked.fetchone()
    return int(row[0])


def test_a_role_that_may_only_read_is_enough_and_cannot_write(users: UserTable) -> None:
    assert users.find("ada") is not None
    assert users.stamp() is not None
    for write in (lambda: users.put(user("eve")), lambda: users.remove("ada"), users.make):
        with pytest.raises(BackEndDownError, match=r"permission denied|already exists"):
            write()
    assert users.find("ada") is not None  # what a server refuses is no reason not to ask it any more


def test_a_server_that_is_away_is_told_and_one_that_is_back_is_asked_again(
    users: UserTable, clock: Clock, postgresql: Server
) -> None:
    users.find("ada")
    postgresql.stop()
    try:
        with pytest.raises(BackEndDownError, match=r"127\.0\.0\.1"):
            users.find("ada")
    finally:
        postgresql.start()
    clock.time += REST
    assert users.find("ada") is not None


def test_a_server_that_was_restarted_meanwhile_is_no_failure(users: UserTable, postgresql: Server) -> None:
    users.find("ada")
    postgresql.stop()
    postgresql.start()
    assert users.find("ada") is not None


def test_nobody_waits_again_for_a_server_that_was_just_not_there(
    users: UserTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled = 0

    def dial(*_: object, **__: object) -> Connection:
        nonlocal dialled
        dialled += 1
        raise psycopg.OperationalError("no route to host")

    monkeypatch.setattr(Connection, "connect", dial)
    for at in (0.0, 0.5, 0.99, 1.0, 1.5):
        clock.time = at
        with pytest.raises(BackEndDownError, match="no route to host"):
            users.find("ada")
    assert dialled == 2


def test_a_server_that_answers_nothing_is_waited_for_no_longer_than_may_be(
    users: UserTable, clock: Clock, postgresql: Server
) -> None:
    users.find("ada")
    began = monotonic()
    with postgresql.frozen(), pytest.raises(BackEndDownError, match="no answer in time"):
        users.find("ada")
    assert 0.4 <= monotonic() - began < 3.0  # and dials no other connection, which would be no better
    clock.time += REST
    assert users.find("ada") is not None


def test_a_server_that_takes_connections_and_says_nothing_is_given_up(table: Table, postgresql: Server) -> None:
    users = UserTable(evolve(table.reader, connect_timeout=Seconds(2.0)))
    began = monotonic()
    with postgresql.frozen(), pytest.raises(BackEndDownError):
        users.find("ada")
    assert monotonic() - began < 8.0
    users.close()


def test_a_table_that_somebody_has_locked_is_given_up_by_the_server_itself(
    users: UserTable, table: Table, postgresql: Server
) -> None:
    users.find("ada")
    with psycopg.connect(host=str(postgresql.folder), port=postgresql.port, user="postgres") as other:
        other.execute(f"LOCK TABLE {table.name}".encode())
        with pytest.raises(BackEndDownError, match=r"statement timeout|no answer in time"):
            users.find("ada")


@pytest.mark.parametrize(
    "row",
    [
        "('eve', 'correct horse', '{}')",
        "('eve', '$argon2id$v=19$m=99999999,t=3,p=4$c29tZXNhbHRzb21l$YWJjZGVmZ2hpamtsbW5vcA', '{}')",
        "('eve', '{good}', '[1]')",
        "('eve', '{good}', '{{\"site\": 7}}')",
        "('eve', '{good}', 'null')",
    ],
)
def test_D6_a_row_that_is_no_user_lets_nobody_in_and_disturbs_no_other(
    row: str, users: UserTable, table: Table
) -> None:
    text = row.replace("{good}", user().password).replace("{{", "{").replace("}}", "}")
    table.server.execute(f"INSERT INTO {table.name} (name, password, attributes) VALUES {text}")  # noqa: S608 # ours
    with pytest.raises(BackEndDownError, match="'eve'") as raised:
        users.find("eve")
    assert "argon2id$" not in str(raised.value)
    assert users.find("ada") is not None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {table} SET enabled = false WHERE name = 'ada'",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
        "INSERT INTO {table} (name, password) VALUES ('eve', '')",
    ],
)
def test_whoever_changes_users_it_is_noticed_once_it_is_committed(
    statement: str, users: UserTable, table: Table, postgresql: Server
) -> None:
    postgresql.execute(
        f"DROP ROLE IF EXISTS clerk; CREATE ROLE clerk; GRANT ALL ON {table.name} TO clerk"  # and not on what counts
    )
    before = users.stamp()
    with psycopg.connect(host=str(postgresql.folder), port=postgresql.port, user="postgres") as other:
        other.execute("SET ROLE clerk")
        other.execute(statement.format(table=table.name).encode())
        assert users.stamp() == before
        other.commit()
        assert users.stamp() != before
    postgresql.execute("DROP OWNED BY clerk; DROP ROLE clerk")


def test_there_are_no_more_connections_than_threads_that_ask_and_they_are_kept(
    users: UserTable, postgresql: Server
) -> None:
    barrier = Barrier(4)

    def ask(_: int) -> None:
        barrier.wait()
        for _ in range(10):
            assert users.find("ada") is not None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert 1 <= backends(postgresql) <= 4
    kept = len(users._kept)
    assert 1 <= kept <= 4
    users.find("ada")
    assert len(users._kept) == kept
    users.close()
    assert users._kept == []


def test_who_asks_after_the_end_leaves_no_connection_behind(users: UserTable) -> None:
    users.close()
    assert users.find("ada") is not None  # a question that was on its way when another configuration came in force
    assert users._kept == []


def test_a_wrong_password_and_a_missing_file_are_told_and_the_password_is_not(table: Table) -> None:
    wrong = table.server.folder.with_name("wrong.password")
    wrong.write_text("not this one")
    try:
        with pytest.raises(BackEndDownError, match="password authentication failed") as raised:
            UserTable(evolve(table.reader, password_file=wrong)).find("ada")
        assert "not this one" not in str(raised.value)
    finally:
        wrong.unlink()
    with pytest.raises(BackEndDownError, match="No such file"):
        UserTable(evolve(table.reader, password_file=wrong)).find("ada")


def test_a_password_that_was_changed_in_its_file_needs_no_reload(users: UserTable, postgresql: Server) -> None:
    postgresql.execute(f"ALTER ROLE {READER} PASSWORD 'new'")
    postgresql.password_file.write_text("new\n")
    try:
        assert users.find("ada") is not None
    finally:
        postgresql.execute(f"ALTER ROLE {READER} PASSWORD '{PASSWORD}'")
        postgresql.password_file.write_text(f"{PASSWORD}\n")


@pytest.mark.parametrize(
    ("url", "ca", "tls"),
    [
        ("postgresql://r@db.example/d", None, ("verify-full", "system")),
        ("postgresql://r@db.example/d", "ca.pem", ("verify-full", "ca.pem")),
        ("postgresql://r@127.0.0.1/d", "ca.pem", ("verify-full", "ca.pem")),
        ("postgresql://r@127.0.0.1/d", None, (None, None)),
        ("postgresql://r@%2Frun%2Fpostgresql/d", None, (None, None)),
    ],
)
def test_over_a_network_the_server_must_prove_who_it_is(
    url: str, ca: str | None, tls: tuple[str | None, str | None], table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def dial(*_: object, **how: Any) -> Connection:
        asked.update(how)
        raise psycopg.OperationalError("nobody there")

    monkeypatch.setattr(Connection, "connect", dial)
    with pytest.raises(BackEndDownError):
        UserTable(evolve(table.reader, url=url, ca=None if ca is None else Path(ca))).find("ada")
    assert (asked.get("sslmode"), asked.get("sslrootcert")) == tls


def test_over_a_network_a_server_without_tls_is_not_asked(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_postgresql, "is_on_this_machine", lambda _url: False)
    with pytest.raises(BackEndDownError, match="SSL"):
        UserTable(table.reader).find("ada")


def test_a_table_may_stand_in_a_schema_and_be_made_by_somebody_else(postgresql: Server) -> None:
    postgresql.execute("DROP SCHEMA IF EXISTS devices CASCADE; CREATE SCHEMA devices;" + table_sql("devices.users"))
    postgresql.execute(
        f"GRANT USAGE ON SCHEMA devices TO {READER}; GRANT SELECT ON ALL TABLES IN SCHEMA devices TO {READER}"
    )
    table = Table(postgresql, "devices.users", postgresql.password_file)
    users = UserTable(table.reader)
    before = users.stamp()
    table.owners.put(user())
    assert users.find("ada") is not None
    assert users.stamp() != before
    users.close()
    table.owners.close()


def test_making_a_table_that_is_there_changes_nothing(users: UserTable, table: Table) -> None:
    with pytest.raises(BackEndDownError, match="already exists"):
        table.owners.make()
    assert users.find("ada") is not None
