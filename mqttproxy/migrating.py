"""Bringing tables to their newest form. Only imported when there is something to migrate: sqlite-utils costs 4 MB."""

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations


def migrate(migrations: Migrations, connection: sqlite3.Connection, version: int) -> None:
    """Bring a database to the newest form, and mark it with its version.

    Raises:
        sqlite3.Error: it could not be written; it stands at the last complete step.

    """
    migrations.apply(Database(connection, execute_plugins=False))
    connection.execute(f"PRAGMA user_version = {version:d}")
