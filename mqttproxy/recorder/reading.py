"""What was recorded, read beside a proxy that may be running. Blocking; for commands."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import msgspec

from mqttproxy.mqtt.topics import FilterTree
from mqttproxy.recorder.model import ROW, Recorded, decode_told
from mqttproxy.recorder.tape import DATABASE, MINUTE, VERSION, recorder_dir
from mqttproxy.sqlite import BrokenDatabaseError, refuse_newer

_BUSY_TIMEOUT: Final = 2.0  # seconds
_COLUMNS: Final = "seq, id, at, topic, told, payload"


class Playback:
    """The recorder's file, open for reading; a context manager."""

    def __init__(self, data_dir: Path) -> None:
        """Open it.

        Args:
            data_dir: of the proxy.

        Raises:
            FileNotFoundError: nothing was ever recorded here.
            sqlite3.Error: it cannot be read.

        """
        path = recorder_dir(data_dir) / DATABASE
        path.stat()
        self._connection: Final = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None
        )
        try:
            version = refuse_newer(self._connection, VERSION)
        except BaseException:
            self._connection.close()
            raise
        if version < VERSION:  # its tables are being made just now
            self._connection.close()
            raise FileNotFoundError(f"{path}: nothing was recorded yet")

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._connection.close()

    def get(self, name: str) -> Recorded | None:
        """Return the message that a name stands for (see `Recorded.name`); of several the newest, None: there is none.

        Raises:
            sqlite3.Error: it cannot be read.

        """
        found = self._one("id = ?", name)
        row = name.removeprefix(ROW)
        if found is None and row != name and row.isascii() and row.isdigit() and len(row) < 19:
            found = self._one("seq = ?", int(row))
        return found

    def since(self, at: float, topics: Sequence[str] = ("#",)) -> Iterator[Recorded]:
        """Yield what was recorded from a moment on, in order.

        Args:
            at: seconds since 1970.
            topics: filters, one of which must match.

        Raises:
            sqlite3.Error: it cannot be read.

        """
        tree: FilterTree[int] = FilterTree()
        for topic_filter in topics:
            tree.add(topic_filter, 0)
        everything = "#" in topics
        cursor = self._connection.execute(f"SELECT {_COLUMNS} FROM messages WHERE at >= ? ORDER BY seq", (at,))  # noqa: S608 # our own names
        for row in cursor:
            if (everything and row[3][:1] != "$") or tree.match(row[3]):
                yield _recorded(row)

    def left_out(self, at: float) -> dict[str, int]:
        """Return how many messages were not recorded from a moment on, to the minute, by reason.

        Raises:
            sqlite3.Error: it cannot be read.

        """
        return dict(
            self._connection.execute(
                "SELECT reason, sum(count) FROM left_out WHERE minute >= ? GROUP BY reason", (int(at / MINUTE),)
            )
        )

    def _one(self, condition: str, value: object) -> Recorded | None:
        cursor = self._connection.execute(
            f"SELECT {_COLUMNS} FROM messages WHERE {condition} ORDER BY seq DESC LIMIT 1",  # noqa: S608 # our own words
            (value,),
        )
        row = cursor.fetchone()
        return None if row is None else _recorded(row)


def _recorded(row: tuple[int, str | None, float, str, str, bytes]) -> Recorded:
    seq, identifier, at, topic, told, payload = row
    try:
        return Recorded(seq=seq, id=identifier, at=at, topic=topic, payload=payload, told=decode_told(told))
    except msgspec.MsgspecError as error:
        raise BrokenDatabaseError(f"message {ROW}{seq} is damaged: {error}") from error
