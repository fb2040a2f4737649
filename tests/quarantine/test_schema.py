import sqlite3

import pytest
from sqlite_utils import Database

from mqttproxy.quarantine.database import VERSION
from mqttproxy.quarantine.schema import migrate, migrations


def migrated() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, VERSION)
    return connection


def test_the_version_is_the_number_of_migrations() -> None:
    connection = migrated()
    assert not migrations.pending(Database(connection))
    assert len(migrations.applied(Database(connection))) == VERSION
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


def test_migrating_again_changes_nothing() -> None:
    connection = migrated()
    before = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    migrate(connection, VERSION)
    assert connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
    connection.close()


def plan(sql: str) -> str:
    connection = migrated()
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
    connection.close()
    return "; ".join(row[3] for row in rows)


def test_counting_and_finding_the_oldest_do_not_touch_the_table() -> None:
    assert "COVERING INDEX held_by_time" in plan("SELECT count(*), sum(weight) FROM held")
    assert "COVERING INDEX held_by_time" in plan("SELECT seq, at, weight, file FROM held ORDER BY at LIMIT 5")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("topic = 'a'", "held_by_topic (topic=?"),
        ("topic >= 'a' AND topic < 'a0'", "held_by_t"),  # of time, in order, or of topic, and sorted: SQLite may choose
        ("client_id = 'a'", "held_by_client (client_id=?"),
        ("policy = 'a'", "held_by_policy (policy=?"),
        ("at >= 1", "held_by_time (at>?"),
        ("EXISTS (SELECT 1 FROM failures WHERE held = seq)", "PRIMARY KEY (held=?"),
    ],
)
def test_filters_use_indexes(condition: str, expected: str) -> None:
    assert expected in plan(f"SELECT * FROM held WHERE {condition} ORDER BY at DESC, seq DESC LIMIT 5")  # noqa: S608  # our own
