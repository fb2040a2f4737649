"""Who was refused, and why, for three days: in memory, bounded. What is older, or was before a restart, is audited."""

from collections import OrderedDict
from typing import Final

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
    _kept: OrderedDict[tuple[str, str | None, str, str], Refused] = field(init=False, factory=OrderedDict)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept)

    def add(self, identity: Identity, reason: ReasonCode, rule: str, words: str, wall: float) -> None:
        """Remember that a device was refused."""
        self._forget_old(wall)
        name = None if identity.username is None else _short(identity.username)
        told = Identity(_short(identity.client_id), name, identity.address, identity.listener)
        key = (told.client_id, name, told.address, rule)
        known = self._kept.get(key)
        if known is not None:
            known.last, known.times, known.words = wall, known.times + 1, _short(words)
            self._kept.move_to_end(key)
            return
        if len(self._kept) >= self.most:
            self._kept.popitem(last=False)
            self.forgotten += 1
        self._kept[key] = Refused(told, reason, rule, _short(words), wall, wall)

    def newest(self, wall: float) -> list[Refused]:
        """Return all, the newest first."""
        self._forget_old(wall)
        return list(reversed(self._kept.values()))

    def _forget_old(self, wall: float) -> None:
        while self._kept and next(iter(self._kept.values())).last <= wall - KEPT:
            self._kept.popitem(last=False)


def _short(text: str) -> str:
    return cut(printable(text, LENGTH), LENGTH)
