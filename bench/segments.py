"""mqttproxy with bare segment files for its journal: `python -m bench.segments run proxy.toml`, for `bench.acks`.

What any store of our own could gain at most: runs of messages are written one after the other into a file of fixed
length, and synced. All else that a store must do is left out: no cursors, no sessions, nothing is deleted, nothing can
be read back. Measures only; what it acknowledges is lost.
"""

import os
from pathlib import Path
from typing import Any, Final

from mqttproxy import outside
from mqttproxy.cli.commands import app
from mqttproxy.database import LAYOUT
from mqttproxy.journal.rows import Changes
from mqttproxy.journal.store import SqliteStore
from mqttproxy.spool.rows import RunRow

SEGMENT: Final = 64 * 1024 * 1024


class Segments(SqliteStore):
    """SQLite for the start, and segments for all that comes after."""

    _file: int | None = None
    _end = 0

    def prepare(self, _changes: Changes) -> bool:
        """Leave all to the thread."""
        return False

    def apply(self, changes: Changes) -> None:
        """Write the runs over what is in the file, and sync."""
        if self._file is None:
            self._file = os.open(self._directory / "segment", os.O_RDWR | os.O_CREAT)
            os.pwrite(self._file, bytes(SEGMENT), 0)
            os.fsync(self._file)
        data = b"".join(row.data for row in changes.rows.get(RunRow, {}).values() if isinstance(row, RunRow))
        if self._end + len(data) > SEGMENT:
            self._end = 0
        os.pwrite(self._file, data, self._end)
        self._end += len(data)
        os.fdatasync(self._file)


def _make_store(directory: Path, **how: Any) -> Segments:
    return Segments(directory, LAYOUT, **how)


if __name__ == "__main__":
    vars(outside)["make_store"] = _make_store
    app()
