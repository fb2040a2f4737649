"""Reading runs back: what a destination that lags needs next, and what there is at the start. Blocking; for a thread.

With a connection of its own, so that reading does not hold up commits.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from mqttproxy.spool.encoding import Record, Sender, decode_run, seal

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

    def decode(self, skip: int = 0) -> list[tuple[Record, Sender] | None]:
        """Return its messages without the first `skip`, None for each that is damaged."""
        return decode_run(self.data, self.messages, skip, seal(*self[:-1]))


def run_of(values: Sequence[Any]) -> Run:
    """Return the run of a row. Numbers that cannot be are made such as can: if that is wrong, no checksum fits."""
    first, last, mask, epoch, at, messages, size, data = values
    data = data if type(data) is bytes else b""
    counts = [count for count in (messages, _int(last) - first + 1) if type(count) is int and 0 < count <= len(data)]
    count = min(counts, default=1)
    at = at if type(at) is float else 0.0
    return Run(first, first + count - 1, _int(mask), _int(epoch), at, count, _int(size), data)


def _int(value: object) -> int:
    return value if type(value) is int else 0


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
        return [_int(mask) for (mask,) in self._rows("SELECT DISTINCT mask FROM runs")]

    def total(self, mask: int, after: int) -> Sum:
        """See `Reader`."""
        found = self._rows(
            "SELECT SUM(messages), SUM(size), MAX(last) FROM runs WHERE mask = ? AND last > ?", mask, after
        )[0]
        return Sum(*map(_int, found))

    def runs(self, bit: int, after: int, size: int) -> list[Run]:
        """See `Reader`."""

        def take(rows: Iterator[Any]) -> list[Run]:
            found: list[Run] = []
            left = size
            for run in map(run_of, rows):
                if run.last > after:
                    found.append(run)
                    left -= len(run.data)
                    if left <= 0:
                        break
            return found

        query = f"SELECT {_COLUMNS} FROM runs WHERE first >= ? AND (mask & ?) != 0 ORDER BY first"  # noqa: S608 - our own words
        return self._do(query, (self._begin(after), bit), take)

    def oldest(self, bit: int, after: int) -> float | None:
        """See `Reader`."""
        found = self.runs(bit, after, 1)
        return found[0].at if found else None

    def highest(self) -> int:
        """See `Reader`."""
        found = self._rows(f"SELECT {_COLUMNS} FROM runs ORDER BY first DESC LIMIT 1")  # noqa: S608 - our own words
        return run_of(found[0]).last if found else 0

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
                self._connection.text_factory = bytes  # there is none, and damage may make some of what is
            with closing(self._connection.execute(query, values)) as cursor:
                return take(cursor)
        except (sqlite3.Error, OSError):
            self.close()
            raise
