"""Releases on record: which held messages are to be let go, how, and how far that has come. Blocking, one connection.

A command writes the order, the running proxy does it in batches. `claim` marks a batch as `releasing` in a commit of
its own; then each message goes into the journal together with a `ReleaseRow` that names it; then `settle` says in one
commit what became of the batch, and the rows go. After a kill `recover` asks the journal: what it names was let go,
what it does not was not. So no message is let go twice, and none is forgotten.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, get_args

import msgspec
from attrs import field, frozen

from mqttproxy.quarantine.filters import Filters, conditions
from mqttproxy.quarantine.fingerprint import fingerprint
from mqttproxy.quarantine.issues import INSERT_FAILURE, failure_rows, remember
from mqttproxy.quarantine.model import Failures, Held, attributes_from_json, properties_from_json, storable_or_none
from mqttproxy.quarantine.payloads import PayloadFolder

State = Literal["waiting", "running", "done", "stopped", "cancelled"]
STATES: Final[tuple[State, ...]] = get_args(State)
AT_WORK: Final = ("waiting", "running")

WINDOW: Final = 5000  # messages that are looked at in one go, so that a commit never waits long behind it

_COLUMNS: Final = (
    "seq, id, at, client_id, username, address, listener, topic, qos, retain, policy, schema, reason, properties, "
    "destination, attributes, is_masked, file, payload"
)
_INSERT: Final = """
    INSERT INTO releases (state, words, made_at, filters, recipe, destinations, options, rate, failure_ratio, upto,
                          cursor, total, released, failed)
    VALUES ('waiting', '', ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, 0)
"""


@frozen(kw_only=True)
class Options:
    """How messages change besides the recipe.

    Attributes:
        ignore_expiry: their message expiry interval is taken off, so that it does not matter how long they were held.
        clear_retain: none of them is retained.

    """

    ignore_expiry: bool = False
    clear_retain: bool = False


@frozen(kw_only=True)
class Order:
    """What a person asks for.

    Attributes:
        filters: which messages.
        recipe: the text of the file with the steps that mend them; None: they go as they are.
        destinations: where to, of those that their routes lead to; None: to all.
        options: how they change besides.
        rate: messages a second.
        failure_ratio: stop when more than this part of them fails again.

    """

    filters: Filters
    recipe: str | None = None
    destinations: tuple[str, ...] | None = None
    options: Options = field(default=Options())
    rate: float = 50.0
    failure_ratio: float = 0.1


@frozen(kw_only=True)
class Release:
    """An order on record. Times are seconds since 1970.

    Attributes:
        number: of the release.
        state: where it stands.
        words: why it stands there, for people.
        made_at, ended_at: when it was ordered and was over.
        order: what was asked for.
        upto: the last message that was there when it was ordered, by its number.
        cursor: the last that was looked at.
        total: messages that fitted when it was ordered.
        released, failed: what became of them.

    """

    number: int
    state: State
    words: str
    made_at: float
    ended_at: float | None
    order: Order
    upto: int
    cursor: int
    total: int
    released: int
    failed: int


@frozen
class Claimed:
    """A message that is to be let go. `trouble`: its payload cannot be read, and why."""

    seq: int
    held: Held
    trouble: str | None = None


@frozen
class Batch:
    """What is to be let go next, in order. `upto`: everything up to this number was looked at."""

    release: Release
    items: Sequence[Claimed]
    upto: int


@frozen
class Again:
    """Why a message failed again."""

    policy: str | None
    schema: str | None
    reason: int
    failures: Failures
    blamed: tuple[tuple[str | None, str | None], ...] = ()


@frozen(kw_only=True)
class Outcome:
    """What became of a batch: of those that are in neither, nothing.

    Attributes:
        released: by their numbers.
        failed: by their numbers, and why.
        upto: everything up to this number was dealt with.
        state, words: where the release stands now.

    """

    released: Collection[int]
    failed: dict[int, Again]
    upto: int
    state: State = "running"
    words: str = ""


# The command's side.


def add(connection: sqlite3.Connection, order: Order, now: float) -> Release:
    """Put an order on record.

    Raises:
        sqlite3.Error: it is not.

    """
    with transaction(connection):
        upto = _number(connection, "SELECT coalesce(max(seq), 0) FROM held")
        where, values = conditions(order.filters)
        total = connection.execute(f"SELECT count(*) FROM held WHERE {' AND '.join(where)}", values).fetchone()[0]  # noqa: S608 # our own words
        destinations = None if order.destinations is None else msgspec.json.encode(order.destinations).decode()
        options = msgspec.json.encode(order.options).decode()
        facts = (now, order.filters.to_json(), order.recipe, destinations, options, order.rate, order.failure_ratio)
        number = connection.execute(_INSERT, (*facts, upto, total)).lastrowid
    found = get(connection, number or 0)
    if found is None:
        raise sqlite3.DatabaseError("the release that was just written is not there")
    return found


def get(connection: sqlite3.Connection, number: int) -> Release | None:
    """Return a release, None: there is none."""
    return next(_found(connection, "number = ?", number), None)


def all_of(connection: sqlite3.Connection, limit: int) -> list[Release]:
    """Return releases, the newest first, at most so many."""
    return list(_found(connection, "true ORDER BY number DESC LIMIT ?", limit))


def cancel(connection: sqlite3.Connection, number: int, now: float) -> bool:
    """Stop a release; False: it was over, or never there. What it has claimed is still dealt with."""
    sql = "UPDATE releases SET state = 'cancelled', ended_at = ? WHERE number = ? AND state IN ('waiting', 'running')"
    return bool(connection.execute(sql, (now, number)).rowcount)


# The proxy's side.


def next_one(connection: sqlite3.Connection) -> int | None:
    """Return the number of the oldest release that is not over, None: there is nothing to do."""
    sql = "SELECT min(number) FROM releases WHERE state IN ('waiting', 'running')"
    found: int | None = connection.execute(sql).fetchone()[0]
    return found


def claim(connection: sqlite3.Connection, folder: PayloadFolder, number: int, most: int, now: float) -> Batch | None:
    """Mark the next messages of a release as being released, and return them; None: it is over or was cancelled.

    Args:
        connection: that writes.
        folder: of large payloads.
        number: of the release; nothing that was claimed for it before is under way.
        most: messages at once.
        now: seconds since 1970.

    Raises:
        sqlite3.Error: whether they are marked is not known; call it again.

    """
    with transaction(connection):
        connection.execute("UPDATE held SET state = 'held' WHERE release = ? AND state = 'releasing'", (number,))
        release = get(connection, number)
        if release is None or release.state not in AT_WORK:
            return None
        upto = min(release.upto, release.cursor + WINDOW)
        rows = _select(connection, release, upto, most)
        if not rows and upto == release.upto:
            connection.execute("UPDATE releases SET state = 'done', ended_at = ? WHERE number = ?", (now, number))
            return None
        if len(rows) == most:
            upto = rows[-1][0]
        connection.executemany(
            "UPDATE held SET state = 'releasing', release = ? WHERE seq = ?", [(number, row[0]) for row in rows]
        )
        connection.execute("UPDATE releases SET state = 'running' WHERE number = ?", (number,))
    return Batch(release, [_claimed(row, folder) for row in rows], upto)


def settle(connection: sqlite3.Connection, number: int, outcome: Outcome, now: float) -> None:
    """Put on record what became of a batch. May be called again with the same.

    Raises:
        sqlite3.Error: whether it is on record is not known; call it again.

    """
    with transaction(connection):
        released = sum(_let_go(connection, number, seq, now) for seq in outcome.released)
        failed = sum(_failed_again(connection, number, seq, again) for seq, again in outcome.failed.items())
        connection.execute("UPDATE held SET state = 'held' WHERE release = ? AND state = 'releasing'", (number,))
        connection.execute(
            "UPDATE releases SET released = released + ?, failed = failed + ?, cursor = max(cursor, ?)"
            " WHERE number = ?",
            (released, failed, outcome.upto, number),
        )
        ended = None if outcome.state in AT_WORK else now
        connection.execute(
            "UPDATE releases SET state = ?, words = ?, ended_at = ?"
            " WHERE number = ? AND state IN ('waiting', 'running')",
            (outcome.state, outcome.words, ended, number),
        )


def recover(connection: sqlite3.Connection, named: Collection[str], now: float) -> int:
    """Decide on what was being released when the process ended; return how many of these had been let go.

    Args:
        connection: that writes.
        named: identifiers of messages that the journal names as let go.
        now: seconds since 1970.

    Raises:
        sqlite3.Error: nothing is decided, or all; call it again.

    """
    with transaction(connection):
        rows = connection.execute("SELECT seq, id, release FROM held WHERE state = 'releasing'").fetchall()
        gone = [(seq, release) for seq, identifier, release in rows if identifier in named]
        for seq, release in gone:
            _let_go(connection, release, seq, now)
            connection.execute("UPDATE releases SET released = released + 1 WHERE number = ?", (release,))
        connection.execute("UPDATE held SET state = 'held' WHERE state = 'releasing'")
    return len(gone)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do everything in the block or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _select(connection: sqlite3.Connection, release: Release, upto: int, most: int) -> list[Any]:
    where, values = conditions(release.order.filters)
    condition = " AND ".join([*where, "state = 'held'", "seq > :cursor", "seq <= :upto"])
    sql = f"SELECT {_COLUMNS} FROM held WHERE {condition} ORDER BY seq LIMIT :most"  # noqa: S608 # our own words
    return connection.execute(sql, {**values, "cursor": release.cursor, "upto": upto, "most": most}).fetchall()


def _claimed(row: Sequence[Any], folder: PayloadFolder) -> Claimed:
    seq, *facts, file, payload = row
    names = _COLUMNS.split(", ")[1:-2]
    told = dict(zip(names, facts, strict=True))
    told["attributes"] = attributes_from_json(told["attributes"])
    told["retain"], told["is_masked"] = bool(told["retain"]), bool(told["is_masked"])
    told["properties"] = properties_from_json(told["properties"])
    trouble = None
    if file is not None:
        try:
            payload = folder.read(file)
        except OSError as error:
            payload, trouble = b"", f"the payload cannot be read: {error}"
    return Claimed(seq, Held(**told, failures=(), payload=payload), trouble)


def _let_go(connection: sqlite3.Connection, number: int, seq: int, now: float) -> int:
    return connection.execute(
        "UPDATE held SET state = 'released', released_at = ? WHERE seq = ? AND release = ? AND state = 'releasing'",
        (now, seq, number),
    ).rowcount


def _failed_again(connection: sqlite3.Connection, number: int, seq: int, again: Again) -> int:
    facts = (storable_or_none(again.policy), storable_or_none(again.schema), again.reason)
    changed = connection.execute(
        "UPDATE held SET state = 'held', policy = ?, schema = ?, reason = ?"
        " WHERE seq = ? AND release = ? AND state = 'releasing'",
        (*facts, seq, number),
    ).rowcount
    if changed:
        connection.execute("DELETE FROM failures WHERE held = ?", (seq,))
        rules = again.blamed or [(again.policy, again.schema)] * len(again.failures)
        issues = [fingerprint(*rule, *failure[:2]) for rule, failure in zip(rules, again.failures, strict=True)]
        remember(connection, seq, rules, again.failures)
        connection.executemany(INSERT_FAILURE, failure_rows(seq, again.failures, issues, again.blamed))
    return changed


def _found(connection: sqlite3.Connection, condition: str, value: object) -> Iterator[Release]:
    columns = (
        "number, state, words, made_at, ended_at, filters, recipe, destinations, options, rate, failure_ratio, upto,"
        " cursor, total, released, failed"
    )
    for row in connection.execute(f"SELECT {columns} FROM releases WHERE {condition}", (value,)).fetchall():  # noqa: S608 # our own words
        number, state, words, made_at, ended_at, filters, recipe, destinations, options, *numbers = row
        rate, ratio, upto, cursor, total, released, failed = numbers
        order = Order(
            filters=Filters.from_json(filters),
            recipe=recipe,
            destinations=None if destinations is None else msgspec.json.decode(destinations, type=tuple[str, ...]),
            options=msgspec.json.decode(options, type=Options),
            rate=rate,
            failure_ratio=ratio,
        )
        yield Release(
            number=number, state=state, words=words, made_at=made_at, ended_at=ended_at, order=order, upto=upto,
            cursor=cursor, total=total, released=released, failed=failed,
        )  # fmt: skip


def _number(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])
