"""Looking into the quarantine, and removing from it, beside the proxy that fills it. Blocking.

Not for the running proxy at rest: sqlite-utils costs 4 MB.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from attrs import frozen
from sqlite_utils import Database

from mqttproxy.mqtt.topics import matches
from mqttproxy.quarantine.database import connect_existing
from mqttproxy.quarantine.model import Failures, Record, properties_from_json, storable
from mqttproxy.quarantine.payloads import FOLDER, PayloadFolder
from mqttproxy.quarantine.writer import SLICE, remove_rows

_PAGE: Final = SLICE  # records read in one go, so that a slow reader of ours never keeps the log from being cut
Row = dict[str, Any]  # a column's type is SQLite's

_COLUMNS: Final = (
    "seq, id, at, state, client_id, username, address, listener, topic, qos, retain, policy, schema, reason, "
    "payload_size, file, properties"
)


@frozen(kw_only=True)
class Filters:
    """Which messages; None: all. Times are seconds since 1970, `since` inclusive and `until` exclusive.

    `topic` is a valid topic filter. `failure` is a part of a failure's pointer, keyword or message, exactly as written.
    """

    since: float | None = None
    until: float | None = None
    topic: str | None = None
    client_id: str | None = None
    policy: str | None = None
    failure: str | None = None


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
            writable: needed by `purge` only.

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
        self._database: Final = Database(self._connection, execute_plugins=False)
        self._database.register_function(_matches, name="topic_matches", deterministic=True)

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

    def search(self, filters: Filters, *, limit: int | None = None, oldest_first: bool = False) -> Iterator[Record]:
        """Return the messages that all filters fit, the newest first or the oldest.

        Read page by page: messages that come or go meanwhile may or may not be among them.

        """
        pages = self._pages(filters, _COLUMNS, limit=limit, oldest_first=oldest_first)
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
        conditions, parameters = _conditions(filters)
        columns = "count(*) AS messages, coalesce(sum(payload_size), 0) AS size"
        row = self._rows(" AND ".join(conditions), parameters, columns)[0]
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
    ) -> Iterator[list[Row]]:
        conditions, parameters = _conditions(filters)
        if newest is not None:
            conditions.append("seq <= :newest")
            parameters["newest"] = newest
        direction, sign = ("ASC", ">") if oldest_first else ("DESC", "<")
        order = f"at {direction}, seq {direction}"
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._rows(" AND ".join(conditions), parameters, columns, order=order, limit=size)
            if page:
                yield page
            if len(page) < size:
                return
            if "last_at" not in parameters:
                conditions.append(f"(at, seq) {sign} (:last_at, :last_seq)")
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
            yield Record(**row, failures=failures.get(row["seq"], ()))

    def _failures(self, seqs: Sequence[int]) -> dict[int, Failures]:
        found: dict[int, Failures] = {}
        marks = ",".join("?" * len(seqs))
        for row in self._database.table("failures").rows_where(f"held IN ({marks})", seqs, order_by="held, place"):
            found[row["held"]] = (*found.get(row["held"], ()), (row["pointer"], row["keyword"], row["message"]))
        return found


def _conditions(filters: Filters) -> tuple[list[str], dict[str, object]]:
    conditions: list[str] = ["true"]
    parameters: dict[str, object] = {}

    def add(condition: str, **values: object) -> None:
        conditions.append(condition)
        parameters.update(values)

    if filters.since is not None:
        add("at >= :since", since=filters.since)
    if filters.until is not None:
        add("at < :until", until=filters.until)
    if filters.client_id is not None:
        add("client_id = :client", client=storable(filters.client_id))
    if filters.policy is not None:
        add("policy = :policy", policy=storable(filters.policy))
    if filters.topic is not None:
        topic = storable(filters.topic)
        start = _fixed_start(topic)
        if start == topic:
            add("topic = :topic", topic=topic)
        else:
            if start:
                add("topic >= :start AND topic < :end", start=start, end=f"{start}0")  # "0" comes next after "/"
            add("topic_matches(:topic, topic)", topic=topic)
    if filters.failure is not None:
        # instr and not LIKE, which ends at a NUL
        add(
            "EXISTS (SELECT 1 FROM failures WHERE failures.held = held.seq AND (instr(pointer, :failure)"
            " OR instr(keyword, :failure) OR instr(message, :failure)))",
            failure=storable(filters.failure),
        )
    return conditions, parameters


def _fixed_start(topic_filter: str) -> str:
    """Return the levels before the first wildcard: what matches begins so, and goes on with "/" or ends there."""
    fixed = []
    for level in topic_filter.split("/"):
        if level in {"+", "#"}:
            break
        fixed.append(level)
    return "/".join(fixed)


def _matches(topic_filter: str, topic: str) -> bool:
    return matches(topic_filter, topic)
