"""The tables of the quarantine and how they came to be: one migration for each step, never changed once released.

Only imported when there is something to migrate, because sqlite-utils costs 4 MB; run as a module for the same reason:

    python -m mqttproxy.quarantine.schema DIRECTORY
"""

import sqlite3
import sys
from pathlib import Path
from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from mqttproxy.quarantine.database import connect, open_for_writing

migrations: Final = Migrations("quarantine")


@migrations()
def m001_held_and_failures(db: Database) -> None:
    """Make the first tables. `payload` stands last, so that filters need not read over it."""
    db.execute("""
        CREATE TABLE held (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            at REAL NOT NULL,
            state TEXT NOT NULL,
            client_id TEXT NOT NULL,
            username TEXT,
            address TEXT NOT NULL,
            listener TEXT NOT NULL,
            topic TEXT NOT NULL,
            qos INTEGER NOT NULL,
            retain INTEGER NOT NULL,
            policy TEXT,
            schema TEXT,
            reason INTEGER NOT NULL,
            weight INTEGER NOT NULL,
            payload_size INTEGER NOT NULL,
            file TEXT,
            properties TEXT,
            payload BLOB
        )
    """)
    db.execute("""
        CREATE TABLE failures (
            held INTEGER NOT NULL REFERENCES held(seq) ON DELETE CASCADE,
            place INTEGER NOT NULL,
            pointer TEXT NOT NULL,
            keyword TEXT NOT NULL,
            message TEXT NOT NULL,
            PRIMARY KEY (held, place)
        ) WITHOUT ROWID
    """)
    # The first one also answers "how many, how large" and "which are the oldest" without touching the table.
    db.execute("CREATE INDEX held_by_time ON held(at, weight, file)")
    db.execute("CREATE INDEX held_by_topic ON held(topic, at)")
    db.execute("CREATE INDEX held_by_client ON held(client_id, at)")
    db.execute("CREATE INDEX held_by_policy ON held(policy, at)")
    db.execute("CREATE INDEX held_by_file ON held(file) WHERE file IS NOT NULL")


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the database to the newest form, and mark it with its version.

    Raises:
        sqlite3.Error: it could not be written; it stands at the last complete step.

    """
    migrations.apply(Database(connection, execute_plugins=False))
    connection.execute(f"PRAGMA user_version = {version:d}")


if __name__ == "__main__":
    open_for_writing(Path(sys.argv[1]), connect).close()
