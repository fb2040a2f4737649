"""What is on record, and what must still be written of it: states of rows, not a list of events.

A row that was changed three times is written once, and one that came and went before it was written not at all. So what
waits for a disk in trouble is never more than what there is, and written twice it does no harm.
"""

from collections import defaultdict
from typing import Any, ClassVar, Final

from msgspec import Struct

Key = Any  # what tells the rows of one kind apart: a number, a text or a pair


class Row(Struct, frozen=True, gc=False):
    """One row of a table. Times are wall clock seconds since 1970."""

    is_heavy: ClassVar = False  # to write it may take long

    @property
    def key(self) -> Key:
        """What tells it apart from the others of its kind."""
        raise NotImplementedError  # each kind has one of its own; a Struct cannot have abstract methods


Loaded = dict[type[Row], list[Row]]  # all rows of each kind, in the order of their keys


class Changes:
    """What is to be written: for each row that changed what it is now, or None: it is gone."""

    def __init__(self) -> None:
        self.rows: Final[defaultdict[type[Row], dict[Key, Row | None]]] = defaultdict(dict)
        self._new: Final[defaultdict[type[Row], set[Key]]] = defaultdict(set)
        self.count = 0

    @property
    def may_be_prepared(self) -> bool:
        """All of it is a matter of microseconds."""
        return not any(kind.is_heavy for kind, rows in self.rows.items() if rows)

    def __len__(self) -> int:
        """Return how many rows are to be written."""
        return self.count

    def put(self, row: Row, *, is_new: bool) -> None:
        """Note what a row is now. `is_new`: there surely is none, so that if it goes again nothing need be written."""
        kind, key = type(row), row.key
        rows = self.rows[kind]
        if key not in rows:
            self.count += 1
            if is_new:
                self._new[kind].add(key)
        rows[key] = row

    def remove(self, kind: type[Row], key: Key) -> None:
        """Note that a row is gone."""
        rows, new = self.rows[kind], self._new[kind]
        if key in new:
            new.remove(key)
            del rows[key]
            self.count -= 1
        else:
            self.count += key not in rows
            rows[key] = None
