"""Failures that are alike, as one issue: what people decide on, however many messages failed in that way.

An issue is known by its fingerprint: policy, schema version, normalised pointer and keyword. It is written in the same
commit as the messages. It goes on when they are gone.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from heapq import nlargest
from typing import Final, Literal, get_args

from attrs import define, field, frozen

from mqttproxy.quarantine.fingerprint import DEVICES_KEPT, fingerprint, normalise
from mqttproxy.quarantine.model import Failures, Held, HeldFacts, rules_of, storable, storable_or_none

State = Literal["open", "muted", "resolved", "regressed"]
STATES: Final[tuple[State, ...]] = get_args(State)

_NAME_LENGTH: Final = 100  # characters of a device's name that tell it from others

_SEEN: Final = """
    INSERT INTO issues (id, policy, schema, pointer, keyword, state, state_at, first_seen, last_seen, count, devices,
                        sample)
    VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, 0, ?)
    ON CONFLICT (id) DO UPDATE SET
        first_seen = min(first_seen, excluded.first_seen),
        last_seen = max(last_seen, excluded.last_seen),
        count = count + excluded.count,
        sample = excluded.sample,
        state_at = CASE state WHEN 'resolved' THEN excluded.last_seen ELSE state_at END,
        state = CASE state WHEN 'resolved' THEN 'regressed' ELSE state END
"""
FailureRow = tuple[int, int, str, str, str, str, str | None, str | None]
INSERT_FAILURE: Final = """
    INSERT INTO failures (held, place, pointer, keyword, message, issue, policy, schema) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_REMEMBER: Final = """
    INSERT OR IGNORE INTO issues (id, policy, schema, pointer, keyword, state, state_at, first_seen, last_seen, count,
                                  devices, sample)
    VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?, 1, 0, ?)
"""
# What nobody has decided anything about goes first, and of that what was seen once: a device that makes up a new
# failure for each message drives out its own.
_FORGET: Final = """
    DELETE FROM issues WHERE id IN (
        SELECT id FROM issues ORDER BY state <> 'open', count > 1, last_seen LIMIT ?
    )
"""


@frozen(kw_only=True)
class Issue:
    """Failures that are alike. Times are seconds since 1970; `devices` is at most `DEVICES_KEPT`.

    `state_at` is when the state was last changed, `sample` the identifier of the message that was held last.
    """

    id: str
    policy: str | None
    schema: str | None
    pointer: str
    keyword: str
    state: State
    state_at: float
    first_seen: float
    last_seen: float
    count: int
    devices: int
    sample: str


@define
class _Seen:
    """The messages of one batch that belong to an issue."""

    rule: tuple[str | None, str | None]
    pointer: str
    keyword: str
    first: float
    last: HeldFacts
    count: int = 0
    devices: dict[str, None] = field(factory=dict)


def device_name(held: HeldFacts) -> str:
    """Return who sent it, short; for what an upstream sent, that."""
    name = storable(held.client_id) or held.listener
    if len(name) <= _NAME_LENGTH:
        return name
    return f"{name[:_NAME_LENGTH]}…{blake2b(name.encode(), digest_size=6).hexdigest()}"


def fingerprints(held: HeldFacts) -> list[str]:
    """Return the fingerprint of each failure, in order."""
    pairs = zip(rules_of(held), held.failures, strict=True)
    return [fingerprint(*rule, pointer, keyword) for rule, (pointer, keyword, _) in pairs]


def count_in(connection: sqlite3.Connection, batch: Sequence[Held], most: int) -> int:
    """Count messages under their issues; return how many issues were forgotten to keep the bound.

    Args:
        connection: within a transaction.
        batch: messages that were not counted before.
        most: issues that may be there.

    Raises:
        sqlite3.Error: none of it counts.

    """
    seen = _gather(batch)
    if len(seen) > most:
        seen = dict(nlargest(most, seen.items(), key=lambda item: item[1].count))
    for issue, found in seen.items():
        _count(connection, issue, found)
    surplus: int = connection.execute("SELECT count(*) FROM issues").fetchone()[0] - most
    if surplus > 0:
        connection.execute(_FORGET, (surplus,))
    return max(surplus, 0)


def _gather(batch: Iterable[Held]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for held in batch:
        of_this: set[str] = set()
        failures = zip(fingerprints(held), rules_of(held), held.failures, strict=True)
        for issue, rule, (pointer, keyword, _) in failures:
            if issue in of_this:
                continue
            of_this.add(issue)
            found = seen.get(issue)
            if found is None:
                found = seen[issue] = _Seen(rule, normalise(pointer), keyword, held.at, held)
            found.last = held
            found.count += 1
            if len(found.devices) < DEVICES_KEPT:
                found.devices[device_name(held)] = None
    return seen


def _count(connection: sqlite3.Connection, issue: str, seen: _Seen) -> None:
    last = seen.last
    policy, schema = seen.rule
    facts = (issue, storable_or_none(policy), storable_or_none(schema), storable(seen.pointer))
    times = (last.at, seen.first, last.at)
    connection.execute(_SEEN, (*facts, storable(seen.keyword), *times, seen.count, last.id))
    known: int = connection.execute("SELECT devices FROM issues WHERE id = ?", (issue,)).fetchone()[0]
    new = 0
    for name in seen.devices if known < DEVICES_KEPT else ():
        new += connection.execute("INSERT OR IGNORE INTO issue_devices VALUES (?, ?)", (issue, name)).rowcount
        if known + new == DEVICES_KEPT:
            break
    if new:
        connection.execute("UPDATE issues SET devices = ? WHERE id = ?", (known + new, issue))


def remember(
    connection: sqlite3.Connection, seq: int, rules: Iterable[tuple[str | None, str | None]], failures: Failures
) -> None:
    """Make the issues of a message that was there before and fails in another way now. Known ones stay as they are."""
    row = connection.execute("SELECT id, at FROM held WHERE seq = ?", (seq,)).fetchone()
    for (policy, schema), (pointer, keyword, _) in zip(rules, failures, strict=True):
        issue = fingerprint(policy, schema, pointer, keyword)
        facts = (storable_or_none(policy), storable_or_none(schema), storable(normalise(pointer)), storable(keyword))
        connection.execute(_REMEMBER, (issue, *facts, *[row[1]] * 3, row[0]))


def count_states(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many issues are in each state."""
    found = dict(connection.execute("SELECT state, count(*) FROM issues GROUP BY state").fetchall())
    return {state: found.get(state, 0) for state in STATES}


def failure_rows(
    seq: int, failures: Failures, issues: Sequence[str], blamed: Sequence[tuple[str | None, str | None]]
) -> Iterable[FailureRow]:
    """Return the failures of a message as rows, for `INSERT_FAILURE`."""
    rules = blamed or [(None, None)] * len(failures)
    for place, ((pointer, keyword, message), issue, (policy, schema)) in enumerate(
        zip(failures, issues, rules, strict=True)
    ):
        yield seq, place, storable(pointer), storable(keyword), storable(message), issue, policy, schema
