import sqlite3

import pytest
from sqlite_utils import Database

from mqttproxy.quarantine.database import VERSION
from mqttproxy.quarantine.fingerprint import fingerprint
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
        ("owner = 'a'", "held_by_owner (owner=?"),
        ("EXISTS (SELECT 1 FROM failures WHERE held = seq)", "PRIMARY KEY (held=?"),
        ("seq IN (SELECT held FROM failures WHERE issue = 'a')", "failures_by_issue (issue=?"),
    ],
)
def test_filters_use_indexes(condition: str, expected: str) -> None:
    assert expected in plan(f"SELECT * FROM held WHERE {condition} ORDER BY at DESC, seq DESC LIMIT 5")  # noqa: S608  # our own


OLD = """
    INSERT INTO held VALUES
        (1, 'a', 10.0, 'held', 'one', NULL, '', 'plain', 't', 1, 0, 'p', 's@1', 153, 0, 0, NULL, NULL, ''),
        (2, 'b', 20.0, 'held', 'two', NULL, '', 'plain', 't', 1, 0, 'p', 's@1', 153, 0, 0, NULL, NULL, ''),
        (3, 'c', 30.0, 'held', '', NULL, '', 'upstream:x', 't', 1, 0, NULL, NULL, 131, 0, 0, NULL, NULL, ''),
        (4, 'd', 40.0, 'held', 'one', NULL, '', 'plain', 't', 1, 0, NULL, NULL, 131, 0, 0, NULL, NULL, '');
    INSERT INTO failures VALUES (1, 0, '/v/1', 'type', ''), (1, 1, '/v/2', 'type', ''), (2, 0, '/v/7', 'type', ''),
        (3, 0, '', 'upstream', 'upstream b-1 answered 0x83 x'),
        (4, 0, '', 'upstream_poison', 'the link to upstream b was lost 3 times while this message was in flight');
"""


def test_what_was_held_before_there_were_issues_is_grouped() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.apply(Database(connection), stop_before="m002_issues_and_releases")
    connection.executescript(OLD)
    migrate(connection, VERSION)
    issues = connection.execute(
        "SELECT pointer, keyword, state, first_seen, last_seen, count, devices, sample FROM issues ORDER BY last_seen"
    ).fetchall()
    assert issues == [
        ("/v/*", "type", "open", 10.0, 20.0, 2, 2, "b"),
        ("", "upstream", "open", 30.0, 30.0, 1, 1, "c"),
        ("", "upstream_poison", "open", 40.0, 40.0, 1, 1, "d"),
    ]
    assert connection.execute("SELECT id, destination FROM held").fetchall() == [
        ("a", None), ("b", None), ("c", "b-1"), ("d", "b"),
    ]  # fmt: skip
    (of_a,) = set(connection.execute("SELECT issue FROM failures WHERE held = 1").fetchall())
    assert of_a == (fingerprint("p", "s@1", "/v/0", "type"),)
    assert connection.execute("SELECT device FROM issue_devices ORDER BY 1").fetchall() == [
        ("one",), ("one",), ("two",), ("upstream:x",),
    ]  # fmt: skip
    connection.close()


def test_what_was_held_before_there_were_owners_is_counted_as_its_users_or_its_addresss() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.apply(Database(connection), stop_before="m003_owners")
    columns = (
        "seq, id, at, state, client_id, username, address, listener, topic, qos, retain, reason, weight, payload_size"
    )
    connection.executescript(f"""
        INSERT INTO held ({columns}) VALUES
            (1, 'a', 1.0, 'held', 'one', 'ada', '192.0.2.7', 'plain', 't', 1, 0, 153, 10, 0),
            (2, 'b', 2.0, 'released', 'two', 'ada', '192.0.2.8', 'plain', 't', 1, 0, 153, 20, 0),
            (3, 'c', 3.0, 'held', 'three', NULL, '2001:db8::1:2:3:4', 'plain', 't', 1, 0, 153, 30, 0),
            (4, 'd', 4.0, 'held', '', NULL, 'main', 'upstream:main', 't', 1, 0, 153, 40, 0);
    """)  # noqa: S608 # our own words
    migrate(connection, VERSION)
    owners = "SELECT owner, messages, bytes FROM owners ORDER BY owner"
    assert connection.execute(owners).fetchall() == [
        ("address:2001:db8::", 1, 30), ("upstream:main", 1, 40), ("user:ada", 2, 30),
    ]  # fmt: skip
    connection.execute("DELETE FROM held WHERE seq IN (1, 3)")
    assert connection.execute(owners).fetchall() == [("upstream:main", 1, 40), ("user:ada", 1, 20)]
    connection.close()
