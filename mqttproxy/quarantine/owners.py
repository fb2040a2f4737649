"""Whose a held message is, for the bound on what one of them may have: so that nobody washes out what others had held.

Not the client identifier: whoever sends nothing but invalid messages would take a new one for each.
"""

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from attrs import frozen

from mqttproxy.config.model import QuarantineSettings
from mqttproxy.quarantine.model import storable
from mqttproxy.transport.addresses import counted_as

UPSTREAM: Final = "upstream:"  # begins the name of the listener of what an upstream sent

_LONGEST: Final = 100  # characters of a name that are kept as they are

_ADD: Final = """
    INSERT INTO owners (owner, messages, bytes) VALUES (?, ?, ?)
    ON CONFLICT (owner) DO UPDATE SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes
"""
_HAS: Final = "SELECT messages, bytes FROM owners WHERE owner = ?"


@frozen
class Quota:
    """What one owner may have, by `messages` and `size` in bytes. The newest message of an owner is always kept."""

    messages: int
    size: int

    def is_over(self, messages: int, size: int) -> bool:
        """Return whether that is more."""
        return messages > 1 and (messages > self.messages or size > self.size)


def quota_of(settings: QuarantineSettings) -> Quota | None:
    """Return what one owner may have, None: all."""
    if settings.client_share >= 1:
        return None
    return Quota(int(settings.max_messages * settings.client_share), int(settings.max_bytes * settings.client_share))


def owner_of(username: str | None, address: str, listener: str, *, is_authenticated: bool) -> str:
    """Return who is counted together: a user who was asked who it is; else an address, with IPv6 a /64; an upstream."""
    if listener.startswith(UPSTREAM):
        return listener
    if username is not None and is_authenticated:
        return f"user:{_short(username)}"
    return f"address:{counted_as(address)}"


def add(connection: sqlite3.Connection, owned: Iterable[tuple[str, int]]) -> dict[str, tuple[int, int]]:
    """Count messages that are new under their owners; what is deleted is counted by the database itself.

    Args:
        connection: within a transaction.
        owned: owner and weight of each.

    Returns:
        how many messages and bytes each of these owners has now.

    """
    found: dict[str, list[int]] = {}
    for owner, weight in owned:
        sums = found.setdefault(owner, [0, 0])
        sums[0] += 1
        sums[1] += weight
    connection.executemany(_ADD, [(owner, *sums) for owner, sums in found.items()])
    return {owner: has(connection, owner) for owner in found}


def has(connection: sqlite3.Connection, owner: str) -> tuple[int, int]:
    """Return how many messages and bytes an owner has."""
    messages, size = connection.execute(_HAS, (owner,)).fetchone() or (0, 0)
    return messages, size


def all_over(connection: sqlite3.Connection, quota: Quota) -> list[str]:
    """Return who has more. Goes through all owners."""
    sql = "SELECT owner FROM owners WHERE messages > 1 AND (messages > ? OR bytes > ?)"
    return [row[0] for row in connection.execute(sql, (quota.messages, quota.size))]


def _short(name: str) -> str:
    name = storable(name)
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}…{blake2b(name.encode(), digest_size=6).hexdigest()}"
