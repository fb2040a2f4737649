"""mqttproxy with bare segment files for its journal: `python -m bench.segments run proxy.toml`, for `bench.acks`.

What any store of our own could gain at most: runs of messages are written one after the other into a file of fixed
length, and synced. All else that a store must do is left out: no cursors, no sessions, no recovery. What a destination
that lags reads back comes from memory, as it would from the page cache. Measures only; a kill loses what it has
acknowledged.
"""

import os
from bisect import bisect_left
from pathlib import Path
from typing import Any, Final

from mqttproxy import outside
from mqttproxy.cli.commands import app
from mqttproxy.database import LAYOUT
from mqttproxy.journal.rows import Changes
from mqttproxy.journal.store import SqliteStore
from mqttproxy.spool.reader import Run, SqliteReader
from mqttproxy.spool.rows import ConsumedRow, RunRow

SEGMENT: Final = 64 * 1024 * 1024


class _Memory:
    """The runs that somebody needs, by number. The reader's thread has the list as it was."""

    runs: list[Run]

    def __init__(self) -> None:
        self.runs = []


MEMORY: Final = _Memory()


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
        runs = [_run_of(row) for row in changes.rows.get(RunRow, {}).values() if isinstance(row, RunRow)]
        data = b"".join(run.data for run in runs)
        if self._end + len(data) > SEGMENT:
            self._end = 0
        os.pwrite(self._file, data, self._end)
        self._end += len(data)
        os.fdatasync(self._file)
        consumed = [row for row in changes.rows.get(ConsumedRow, {}).values() if isinstance(row, ConsumedRow)]
        if consumed:
            upto = {row.mask: row.upto for row in consumed}
            MEMORY.runs = [run for run in MEMORY.runs if run.last > upto.get(run.mask, 0)]
        MEMORY.runs.extend(runs)


class SegmentReader(SqliteReader):
    """Reads back what segments were given since the start; what was there before is not looked for."""

    def runs(self, bit: int, after: int, size: int) -> list[Run]:
        """Return the next runs for a destination that end behind a number: at least one, about `size` bytes."""
        all_ = MEMORY.runs
        found: list[Run] = []
        for place in range(bisect_left(all_, after + 1, key=lambda run: run.last), len(all_)):
            if all_[place].mask & bit:
                found.append(all_[place])
                size -= len(all_[place].data)
                if size <= 0:
                    break
        return found


def _run_of(row: RunRow) -> Run:
    return Run(row.first, row.last, row.mask, row.epoch, row.at, row.messages, row.size, bytes(row.data))


def _make_store(directory: Path, **how: Any) -> Segments:
    return Segments(directory, LAYOUT, **how)


if __name__ == "__main__":
    vars(outside)["make_store"] = _make_store
    vars(outside)["SqliteReader"] = SegmentReader
    app()
