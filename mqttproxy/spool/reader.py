"""Reading runs back: what a destination that lags needs next, and what there is at the start. Blocking; for a thread.

With a connection of its own, so that reading does not hold up commits.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

_BUSY: Final = 5.0  # seconds that a reader waits, such as while the log is begun anew
_COLUMNS: Final = "first, last, mask, epoch, at, messages, size, data"


class Run(NamedTuple):
    """A run as it is on disk."""

    first: int
    last: int
    mask: int
    epoch: int
    at: float
    messages: int
    size: int
    data: bytes


class Sum(NamedTuple):
    """What there is of runs for the same destinations."""

    messages: int
    size: int
    last: int  # number of the last message, 0: there is none


class Reader(Protocol):
    """Where runs are read. Every call is made in a thread; all but `close` may raise `DISK_TROUBLE`."""

    def masks(self) -> list[int]:
        """Return the sets of destinations for which there are runs."""

    def total(self, mask: int, after: int) -> Sum:
        """Sum up the runs of a mask that end behind a number."""

    def runs(self, bit: int, after: int, size: int) -> list[Run]:
        """Return the next runs for a destination that end behind a number: at least one, about `size` bytes."""

    def oldest(self, bit: int, after: int) -> float | None:
        """Return when the next message for a destination came, by the wall clock; None: there is none."""

    def highest(self) -> int:
        """Return the highest number that a run has, 0: there is none."""

    def close(self) -> None:
        """Close it. It opens again by itself."""


class SqliteReader:
    """See `Reader`."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._connection: sqlite3.Connection | None = None
        self._identity = 0  # of the file

    def masks(self) -> list[int]:
        """See `Reader`."""
        return [mask for (mask,) in self._rows("SELECT DISTINCT mask FROM runs")]

    def total(self, mask: int, after: int) -> Sum:
        """See `Reader`."""
        found = self._rows(
            "SELECT SUM(messages), SUM(size), MAX(last) FROM runs WHERE mask = ? AND last > ?", mask, after
        )[0]
        return Sum(*(value or 0 for value in found))

    def runs(self, bit: int, after: int, size: int) -> list[Run]:
        """See `Reader`."""

        def take(rows: Iterator[Any]) -> list[Run]:
            found: list[Run] = []
            left = size
            for row in rows:
                found.append(Run(*row))
                left -= len(found[-1].data)
                if left <= 0:
                    break
            return found

        query = f"SELECT {_COLUMNS} FROM runs WHERE first >= ? AND last > ? AND (mask & ?) != 0 ORDER BY first"  # noqa: S608 - our own words
        return self._do(query, (self._begin(after), after, bit), take)

    def oldest(self, bit: int, after: int) -> float | None:
        """See `Reader`."""
        query = "SELECT at FROM runs WHERE first >= ? AND last > ? AND (mask & ?) != 0 ORDER BY first LIMIT 1"
        found = self._rows(query, self._begin(after), after, bit)
        return found[0][0] if found else None

    def highest(self) -> int:
        """See `Reader`."""
        return self._rows("SELECT MAX(last) FROM runs")[0][0] or 0

    def _begin(self, after: int) -> int:
        """Return where to begin to look: with the run that `after` may be in the middle of."""
        return self._rows("SELECT MAX(first) FROM runs WHERE first <= ?", after)[0][0] or 0

    def close(self) -> None:
        """See `Reader`."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.close()

    def _rows(self, query: str, *values: object) -> list[Any]:
        return self._do(query, values, list)

    def _do(self, query: str, values: Sequence[object], take: Callable[[Iterator[Any]], T]) -> T:
        """Run a query to its end at once, so that no reader keeps the log from being begun anew."""
        try:
            identity = self._path.stat().st_ino
            if identity != self._identity:  # it was set aside, and another one begun
                self.close()
            if self._connection is None:
                self._identity = identity
                uri = f"file:{self._path}?mode=ro"
                self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY, check_same_thread=False)
            with closing(self._connection.execute(query, values)) as cursor:
                return take(cursor)
        except (sqlite3.Error, OSError):
            self.close()
            raise
