"""The files of both databases, and the making of their tables.

Apart from the rooms that read and write them: tables are made with a library that serving devices does not need, so a
process of its own does it. That one in turn needs no room, and without them it takes a third of the time:

    python -m mqttproxy.tables DATA_DIR
"""

import sqlite3
import sys
from pathlib import Path
from typing import Final

from mqttproxy import sqlite
from mqttproxy.quarantine import database as quarantine

DATABASE: Final = "journal.sqlite3"
VERSION: Final = 6  # of the journal's tables: the number of migrations in schema.py


def journal_dir(data_dir: Path) -> Path:
    """Return where the database of the journal lives in a data folder."""
    return data_dir / "journal"


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database of the journal to its newest form.

    Raises:
        sqlite3.Error: it could not be written.

    """
    from mqttproxy.schema import migrate as to_version  # noqa: PLC0415 - 4 MB that a migrated database does not need

    to_version(connection, VERSION)


def are_made(data_dir: Path) -> bool:
    """Return whether all tables seem to be there in their newest form. Looks at the files' headers only."""
    return quarantine.is_made(quarantine.quarantine_dir(data_dir)) and _is_journal_made(data_dir)


def make_tables(data_dir: Path) -> None:
    """Make the databases that are missing, and bring those that are older to their newest form.

    Raises:
        sqlite3.Error, OSError: one of them cannot be made; the other one was.

    """
    try:
        if not quarantine.is_made(directory := quarantine.quarantine_dir(data_dir)):
            quarantine.open_for_writing(directory, sqlite.connect).close()
    finally:
        if not _is_journal_made(data_dir):
            path = journal_dir(data_dir) / DATABASE
            sqlite.open_for_writing(path, sqlite.connect, version=VERSION, migrate=migrate).close()


def _is_journal_made(data_dir: Path) -> bool:
    return sqlite.has_version(journal_dir(data_dir) / DATABASE, VERSION)


if __name__ == "__main__":
    make_tables(Path(sys.argv[1]))
