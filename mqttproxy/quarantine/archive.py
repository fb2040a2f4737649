"""Looking into the quarantine, and removing from it, beside the proxy that fills it. Blocking.

Not for the running proxy at rest: sqlite-utils costs 4 MB.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from attrs import frozen
from sqlite_utils import Database

from mqttproxy.quarantine import releases
from mqttproxy.quarantine.database import connect_existing
from mqttproxy.quarantine.filters import Filters, conditions, prepare
from mqttproxy.quarantine.issues import Issue, State
from mqttproxy.quarantine.model import Record, attributes_from_json, properties_from_json, storable
from mqttproxy.quarantine.payloads import FOLDER, PayloadFolder
from mqttproxy.quarantine.releases import Order, Release
from mqttproxy.quarantine.retention import SLICE, remove_rows

_PAGE: Final = SLICE  # records read in one go, so that a slow reader of ours never keeps the log from being cut
Row = dict[str, Any]  # a column's type is SQLite's

_COLUMNS: Final = (
    "seq, id, at, state, client_id, username, address, listener, topic, qos, retain, policy, schema, reason, "
    "payload_size, file, properties, destination, attributes, is_masked, "
    "release, released_at"
)


@frozen
class Total:
    """How many messages, and how many bytes their payloads have."""

    messages: int
    payload_bytes: int


class Archive:
    """The messages of one quarantine. Close it, or use it in a `with` block.

    Every method may raise `sqlite3.Error` and `OSError`: the disk, a damaged file, or a lock that lasts.
    """

    def __init__(self, directory: Path, *, writable: bool = False) -> None:
        """Open it.

        Args:
            directory: of the quarantine.
            writable: needed by what changes something.

        Raises:
            FileNotFoundError: nothing was ever held here.
            NewerDatabaseError: a newer version of this program made it.

        """
        self._folder: Final = PayloadFolder(directory / FOLDER)
        try:
            self._connection: Final = connect_existing(directory, "rw" if writable else "ro")
        except BaseException:
            self._folder.close()
            raise
        prepare(self._connection)
        self._database: Final = Database(self._connection, execute_plugins=False)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Give everything back."""
        self._connection.close()
        self._folder.close()

    def get(self, identifier: str) -> Record | None:
        """Return one message, None: not there, or no longer."""
        return next(self._records(self._rows("id = :id", {"id": storable(identifier)}, _COLUMNS)), None)

    def search(
        self,
        filters: Filters,
        *,
        limit: int | None = None,
        oldest_first: bool = False,
        after: Record | None = None,
    ) -> Iterator[Record]:
        """Return the messages that all filters fit, the newest first or the oldest.

        Read page by page: messages that come or go meanwhile may or may not be among them.

        Args:
            filters: which messages.
            limit: at most so many.
            oldest_first: in this order.
            after: only what comes behind this one in that order.

        """
        pages = self._pages(filters, _COLUMNS, limit=limit, oldest_first=oldest_first, after=after)
        for page in pages:
            yield from self._records(page)

    def payload(self, record: Record) -> bytes | None:
        """Return the original bytes, None: the message has been removed meanwhile.

        Raises:
            OSError: the file that should hold them cannot be read.

        """
        if record.file is None:
            row = self._connection.execute("SELECT payload FROM held WHERE seq = ?", (record.seq,)).fetchone()
            return None if row is None else bytes(row[0])
        try:
            return self._folder.read(record.file)
        except FileNotFoundError:
            if self.get(record.id) is None:
                return None
            raise

    def total(self, filters: Filters) -> Total:
        """Return how many messages all filters fit."""
        where, parameters = conditions(filters)
        columns = "count(*) AS messages, coalesce(sum(payload_size), 0) AS size"
        row = self._rows(" AND ".join(where), parameters, columns)[0]
        return Total(row["messages"], row["size"])

    def purge(self, filters: Filters) -> int:
        """Remove the messages that all filters fit and that are there now; return how many.

        In slices, so that a running proxy never waits long for its commits.

        """
        newest = self._connection.execute("SELECT coalesce(max(seq), 0) FROM held").fetchone()[0]
        removed = 0
        for page in self._pages(filters, "seq, at, file", oldest_first=True, newest=newest):
            removed += remove_rows(self._connection, self._folder, [(row["seq"], row["file"]) for row in page])
        return removed

    def _pages(
        self,
        filters: Filters,
        columns: str,
        *,
        limit: int | None = None,
        oldest_first: bool = False,
        newest: int | None = None,
        after: Record | None = None,
    ) -> Iterator[list[Row]]:
        where, parameters = conditions(filters)
        if newest is not None:
            where.append("seq <= :newest")
            parameters["newest"] = newest
        direction, sign = ("ASC", ">") if oldest_first else ("DESC", "<")
        order = f"at {direction}, seq {direction}"
        behind = f"(at, seq) {sign} (:last_at, :last_seq)"
        if after is not None:
            where.append(behind)
            parameters |= {"last_at": after.at, "last_seq": after.seq}
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._rows(" AND ".join(where), parameters, columns, order=order, limit=size)
            if page:
                yield page
            if len(page) < size:
                return
            if "last_at" not in parameters:
                where.append(behind)
            parameters |= {"last_at": page[-1]["at"], "last_seq": page[-1]["seq"]}
            left = None if left is None else left - size

    def _rows(
        self, where: str, parameters: dict[str, object], columns: str, *, order: str | None = None, limit: int = 1
    ) -> list[Row]:
        table = self._database.table("held")
        return list(table.rows_where(where, parameters, select=columns, order_by=order, limit=limit))

    def _records(self, rows: Sequence[Row]) -> Iterator[Record]:
        failures = self._failures([row["seq"] for row in rows])
        for row in rows:
            row["retain"] = bool(row["retain"])
            row["properties"] = properties_from_json(row["properties"])
            of_row = failures.get(row["seq"], ())
            told = tuple((failure["pointer"], failure["keyword"], failure["message"]) for failure in of_row)
            row["attributes"], row["is_masked"] = attributes_from_json(row["attributes"]), bool(row["is_masked"])
            rules = tuple((failure["policy"], failure["schema"]) for failure in of_row)
            blamed = rules if any(rule != (None, None) for rule in rules) else ()
            issues = tuple(dict.fromkeys(failure["issue"] for failure in of_row))
            yield Record(**row, failures=told, issues=issues, blamed=blamed)

    def _failures(self, seqs: Sequence[int]) -> dict[int, list[Row]]:
        found: dict[int, list[Row]] = {}
        marks = ",".join("?" * len(seqs))
        for row in self._database.table("failures").rows_where(f"held IN ({marks})", seqs, order_by="held, place"):
            found.setdefault(row["held"], []).append(row)
        return found

    # Issues.

    def issues(self, states: Sequence[State] = (), policy: str | None = None) -> list[Issue]:
        """Return the issues in these states (none given: in all), of a policy or all, the last seen first."""
        where = ["true"]
        if states:
            where.append(f"state IN ({','.join('?' * len(states))})")
        if policy is not None:
            where.append("policy = ?")
        values = [*states, *([] if policy is None else [policy])]
        rows = self._database.table("issues").rows_where(" AND ".join(where), values, order_by="last_seen DESC, id")
        return [Issue(**row) for row in rows]

    def issue(self, identifier: str) -> Issue | None:
        """Return one issue, None: there is none."""
        rows = self._database.table("issues").rows_where("id = ?", [storable(identifier)])
        return next((Issue(**row) for row in rows), None)

    def devices(self, identifier: str) -> list[str]:
        """Return the devices of an issue, as far as they were kept."""
        rows = self._database.table("issue_devices").rows_where("issue = ?", [storable(identifier)], order_by="device")
        return [row["device"] for row in rows]

    def set_state(self, identifier: str, state: State, at: float) -> bool:
        """Decide on an issue at this time; False: there is none."""
        cursor = self._connection.execute(
            "UPDATE issues SET state = ?, state_at = ? WHERE id = ?", (state, at, storable(identifier))
        )
        return bool(cursor.rowcount)

    # Releases.

    def order(self, order: Order, now: float) -> Release:
        """Put an order on record, for the running proxy."""
        return releases.add(self._connection, order, now)

    def release(self, number: int) -> Release | None:
        """Return a release, None: there is none."""
        return releases.get(self._connection, number)

    def releases(self, limit: int) -> list[Release]:
        """Return releases, the newest first, at most so many."""
        return releases.all_of(self._connection, limit)

    def cancel(self, number: int, now: float) -> bool:
        """Stop a release; False: it is over, or was never there."""
        return releases.cancel(self._connection, number, now)
