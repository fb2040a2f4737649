import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from mqttproxy.migrating import migrate

steps = Migrations("example")


@steps()
def m001(db: Database) -> None:
    db.execute("CREATE TABLE t (a INTEGER)")


def test_a_database_is_brought_to_its_version_once() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(steps, connection, 7)
    migrate(steps, connection, 7)
    assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    assert connection.execute("SELECT * FROM t").fetchall() == []
    connection.close()
