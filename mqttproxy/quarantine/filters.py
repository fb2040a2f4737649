"""Which held messages: what people ask for, as a condition for SQLite."""

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec
from attrs import asdict, frozen

from mqttproxy.mqtt.topics import matches
from mqttproxy.quarantine.fingerprint import normalise
from mqttproxy.quarantine.model import storable

_OF_FAILURES: Final = "EXISTS (SELECT 1 FROM failures WHERE failures.held = held.seq AND {})"
# What is compared with one value: the filter's name, and what it asks.
_SIMPLE: Final = {
    "since": "at >= :since",
    "until": "at < :until",
    "client_id": "client_id = :client_id",
    "user": "username = :user",
    "policy": "(held.policy = :policy OR seq IN (SELECT held FROM failures WHERE policy = :policy))",
    "schema": "(held.schema = :schema OR seq IN (SELECT held FROM failures WHERE policy > '' AND schema = :schema))",
    "reason": "reason = :reason",
    "issue": "seq IN (SELECT held FROM failures WHERE issue = :issue)",
}


@frozen(kw_only=True)
class Filters:
    """Which messages; None: all. Times are seconds since 1970, `since` inclusive and `until` exclusive.

    `topic` is a valid topic filter, `reason` an MQTT reason code. `keyword` and `pointer` are of the same failure; a
    pointer is compared normalised, so that `/values/*` and `/values/3` find the same. `failure` is a part of a
    failure's pointer, keyword or message, exactly as written. Of `ids` and `states` any will do; empty: all.
    """

    since: float | None = None
    until: float | None = None
    topic: str | None = None
    client_id: str | None = None
    user: str | None = None
    policy: str | None = None
    schema: str | None = None
    reason: int | None = None
    issue: str | None = None
    keyword: str | None = None
    pointer: str | None = None
    failure: str | None = None
    ids: tuple[str, ...] = ()
    states: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return them as text."""
        return msgspec.json.encode(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> "Filters":
        """Return what `to_json` was given."""
        return _decode(text)


_decode: Final = msgspec.json.Decoder(Filters).decode


def prepare(connection: sqlite3.Connection) -> None:
    """Make known to a connection what the conditions call."""
    connection.create_function("topic_matches", 2, matches, deterministic=True)
    connection.create_function("normalised", 1, normalise, deterministic=True)


def conditions(filters: Filters) -> tuple[list[str], dict[str, object]]:
    """Return what must all be true of a row of `held`, and the values for it."""
    found: list[str] = ["true"]
    parameters: dict[str, object] = {}

    def add(condition: str, **values: object) -> None:
        found.append(condition)
        parameters.update(values)

    for name, condition in _SIMPLE.items():
        if (value := getattr(filters, name)) is not None:
            add(condition, **{name: storable(value) if isinstance(value, str) else value})
    if filters.topic is not None:
        _add_topic(storable(filters.topic), add)
    _add_failure(filters, add)
    for name, values in (("id", filters.ids), ("state", filters.states)):
        if values:
            marks = {f"{name}_{place}": storable(value) for place, value in enumerate(values)}
            add(f"{name} IN ({', '.join(f':{mark}' for mark in marks)})", **marks)
    return found, parameters


def _add_topic(topic: str, add: Callable[..., None]) -> None:
    start = _fixed_start(topic)
    if start == topic:
        add("topic = :topic", topic=topic)
        return
    if start:
        add("topic >= :start AND topic < :end", start=start, end=f"{start}0")  # "0" comes next after "/"
    add("topic_matches(:topic, topic)", topic=topic)


def _add_failure(filters: Filters, add: Callable[..., None]) -> None:
    of_one = []
    values: dict[str, object] = {}
    if filters.keyword is not None:
        of_one.append("keyword = :keyword")
        values["keyword"] = storable(filters.keyword)
    if filters.pointer is not None:
        of_one.append("normalised(pointer) = :pointer")
        values["pointer"] = normalise(storable(filters.pointer))
    if of_one:
        add(_OF_FAILURES.format(" AND ".join(of_one)), **values)
    if filters.failure is not None:
        # instr and not LIKE, which ends at a NUL
        condition = "(instr(pointer, :failure) OR instr(keyword, :failure) OR instr(message, :failure))"
        add(_OF_FAILURES.format(condition), failure=storable(filters.failure))


def _fixed_start(topic_filter: str) -> str:
    """Return the levels before the first wildcard: what matches begins so, and goes on with "/" or ends there."""
    fixed = []
    for level in topic_filter.split("/"):
        if level in {"+", "#"}:
            break
        fixed.append(level)
    return "/".join(fixed)
