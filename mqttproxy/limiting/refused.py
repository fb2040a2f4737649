"""Who was refused, and why, for three days: bounded. What is older, or found no room, is in the audit trail."""

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from attrs import define, field

from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Identity
from mqttproxy.validation.words import cut, printable

KEPT: Final = 3 * 86_400.0  # seconds
LENGTH: Final = 256  # characters of each text


@define(eq=False)
class Refused:
    """A device that was refused for one reason, however often. Times are seconds since 1970."""

    identity: Identity
    reason: ReasonCode
    rule: str
    words: str
    first: float
    last: float
    times: int = 1

    def as_document(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "client_id": self.identity.client_id,
            "username": self.identity.username,
            "address": self.identity.address,
            "listener": self.identity.listener,
            "reason": self.reason.name.lower(),
            "rule": self.rule,
            "words": self.words,
            "first": self.first,
            "last": self.last,
            "times": self.times,
        }


@define(eq=False)
class RefusedClients:
    """All of them, those refused longest ago first."""

    most: int = 1000
    forgotten: int = 0  # although three days were not over
    changes: int = 0  # ever
    _kept: OrderedDict[tuple[str, str | None, str, str], Refused] = field(init=False, factory=OrderedDict)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept)

    def add(self, identity: Identity, reason: ReasonCode, rule: str, words: str, wall: float) -> None:
        """Remember that a device was refused."""
        self._forget_old(wall)
        self.changes += 1
        name = None if identity.username is None else _short(identity.username)
        told = Identity(_short(identity.client_id), name, identity.address, identity.listener)
        key = _key(told, rule)
        known = self._kept.get(key)
        if known is not None:
            known.last, known.times, known.words = wall, known.times + 1, _short(words)
            self._kept.move_to_end(key)
            return
        self._keep(Refused(told, reason, rule, _short(words), wall, wall))

    def restore(self, lines: Iterable[bytes], wall: float) -> int:
        """Take up what `as_lines` has written, before anything else is refused; returns how many lines are none."""
        damaged = 0
        for line in lines:
            one = _read(line)
            if one is None:
                damaged += 1
            elif _key(one.identity, one.rule) not in self._kept:
                self._keep(one)
        self._forget_old(wall)
        return damaged

    def _keep(self, one: Refused) -> None:
        if len(self._kept) >= self.most:
            self._kept.popitem(last=False)
            self.forgotten += 1
        self._kept[_key(one.identity, one.rule)] = one

    def newest(self, wall: float) -> list[Refused]:
        """Return all, the newest first."""
        self._forget_old(wall)
        return list(reversed(self._kept.values()))

    def _forget_old(self, wall: float) -> None:
        while self._kept and next(iter(self._kept.values())).last <= wall - KEPT:
            self._kept.popitem(last=False)


def as_lines(refused: Iterable[Refused]) -> bytes:
    """Return them as a file, one a line: so one that is damaged is one that is lost."""
    return b"".join(json.dumps(one.as_document(), ensure_ascii=True).encode() + b"\n" for one in refused)


def _read(line: bytes) -> Refused | None:
    try:
        told: Any = json.loads(line)
        texts = [told[key] for key in ("client_id", "address", "listener", "rule", "words")]
        times = [told[key] for key in ("first", "last", "times")]
        reason, username = ReasonCode[told["reason"].upper()], told["username"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    client_id, address, listener, rule, words = texts
    is_sound = (
        all(isinstance(text, str) for text in texts)
        and (username is None or isinstance(username, str))
        and all(isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time < 1e12 for time in times)
    )
    return Refused(Identity(client_id, username, address, listener), reason, rule, words, *times) if is_sound else None


def _key(who: Identity, rule: str) -> tuple[str, str | None, str, str]:
    return who.client_id, who.username, who.address, rule


def _short(text: str) -> str:
    return cut(printable(text, LENGTH), LENGTH)
