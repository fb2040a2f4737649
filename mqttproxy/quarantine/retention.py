"""Which held messages go, so that the whole keeps to its bounds. Blocking: for the writer's thread.

What is too old goes in any case. Of a whole that has too much, those lose their own oldest who have more than a share;
if nobody has, the oldest of all go. So nobody washes out what others had, and nothing goes while there is room.
"""

import sqlite3
from collections.abc import Sequence
from heapq import nlargest
from typing import Final

from attrs import define, field, frozen

from mqttproxy.config.model import QuarantineSettings
from mqttproxy.quarantine import owners
from mqttproxy.quarantine.payloads import PayloadFolder

SLICE: Final = 500  # messages removed in one transaction, so that a commit never waits long behind it

BOUNDS: Final = ("age", "count", "bytes", "quota")  # what removes messages

_OLDEST: Final = "SELECT seq, at, weight, file FROM held ORDER BY at LIMIT ?"
_OLDEST_OF: Final = "SELECT seq, weight, file FROM held WHERE owner = ? ORDER BY at LIMIT ?"


@frozen
class Removed:
    """What was removed: messages by each of `BOUNDS`, their `size` in bytes; how many of each owner by the quota."""

    expired: dict[str, int]
    size: int
    owners: dict[str, int]


class Retention:
    """Removes messages, and knows for it who has too much.

    `over` are the owners that have more than their share, of messages or of bytes, with how many shares that is. So
    there are never more of them than shares in both bounds.
    """

    def __init__(self) -> None:
        """Make one that knows nobody yet: see `look`."""
        self.over: dict[str, float] = {}
        self._quota: owners.Quota | None = None  # that `over` is about

    def look(self, connection: sqlite3.Connection, settings: QuarantineSettings) -> None:
        """Find out who has more than a share: at first, and after others have removed messages."""
        self._quota = owners.quota_of(settings)
        self.over.clear()
        if self._quota is not None:
            self.note(owners.all_over(connection, self._quota))

    def note(self, owned: dict[str, tuple[int, int]]) -> None:
        """Take notice of how many messages and bytes these owners have now."""
        for owner, has in owned.items():
            if self._quota is not None and self._quota.is_over(*has):
                self.over[owner] = self._quota.shares(*has)
            else:
                self.over.pop(owner, None)

    def trim(
        self,
        connection: sqlite3.Connection,
        folder: PayloadFolder,
        settings: QuarantineSettings,
        *,
        now: float,
        messages: int,
        size: int,
    ) -> Removed:
        """Remove a slice of what is too old or too much.

        Args:
            connection: to the database.
            folder: of the payload files.
            settings: the bounds.
            now: seconds since 1970.
            messages: that are held.
            size: of them, in bytes.

        Raises:
            sqlite3.Error, OSError: as in `remove_rows`; `look` again then.

        """
        if self._quota != owners.quota_of(settings):
            self.look(connection, settings)
        doomed = _Doomed(settings, messages, size)
        self._take_oldest(doomed, connection, now - settings.max_age)
        trimmed = self._take_of_owners(doomed, connection)
        if doomed.rows:
            # Without a quota nobody needs to know.
            owned = [] if self._quota is None else owners.of(connection, [seq for seq, _ in doomed.rows])
            remove_rows(connection, folder, doomed.rows)
            self.note({owner: owners.has(connection, owner) for owner in owned})
        return Removed(doomed.expired, size - doomed.size, trimmed)

    def _take_oldest(self, doomed: "_Doomed", connection: sqlite3.Connection, oldest: float) -> None:
        """Take what is too old; and what the whole has too much, if nobody has more than a share."""
        for seq, at, weight, file in connection.execute(_OLDEST, (SLICE,)).fetchall():
            if at < oldest:
                bound = "age"
            elif self.over or not doomed.is_over():
                break
            else:
                bound = "count" if doomed.messages > doomed.settings.max_messages else "bytes"
            doomed.take(seq, weight, file, bound)

    def _take_of_owners(self, doomed: "_Doomed", connection: sqlite3.Connection) -> dict[str, int]:
        """Take what the whole has too much from those who have most, down to the share of each; return how many."""
        trimmed: dict[str, int] = {}
        for owner in nlargest(doomed.room, self.over, key=self.over.__getitem__):
            if self._quota is None or not (doomed.room and doomed.is_over()):
                break
            del self.over[owner]  # removing what it has notes it again if that is too much still
            messages, size = owners.has(connection, owner)
            for seq, weight, file in connection.execute(_OLDEST_OF, (owner, doomed.room)).fetchall():
                if not (doomed.is_over() and self._quota.is_over(messages, size)):
                    break
                doomed.take(seq, weight, file, "quota")
                messages, size = messages - 1, size - weight
                trimmed[owner] = trimmed.get(owner, 0) + 1
        return trimmed


@define
class _Doomed:
    """What is to go, and how much there is without it."""

    settings: QuarantineSettings
    messages: int
    size: int
    rows: list[tuple[int, str | None]] = field(factory=list)
    expired: dict[str, int] = field(factory=lambda: dict.fromkeys(BOUNDS, 0))

    @property
    def room(self) -> int:
        return SLICE - len(self.rows)

    def is_over(self) -> bool:
        return is_over(self.settings, self.messages, self.size)

    def take(self, seq: int, weight: int, file: str | None, bound: str) -> None:
        self.rows.append((seq, file))
        self.messages -= 1
        self.size -= weight
        self.expired[bound] += 1


def is_over(settings: QuarantineSettings, messages: int, size: int) -> bool:
    """Return whether that is more than the whole may have."""
    return messages > settings.max_messages or size > settings.max_bytes


def remove_rows(connection: sqlite3.Connection, folder: PayloadFolder, rows: Sequence[tuple[int, str | None]]) -> int:
    """Remove messages in one transaction, and their payload files once that is durable; return how many were there.

    Args:
        connection: to the database, with foreign keys on.
        folder: of the payload files.
        rows: sequence number and payload file of each.

    Raises:
        sqlite3.Error, OSError: all or none of the rows are gone; files without a row are removed at the next start.

    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        cursor = connection.executemany("DELETE FROM held WHERE seq = ?", ((seq,) for seq, _ in rows))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    folder.remove(file for _, file in rows if file is not None)
    return cursor.rowcount
