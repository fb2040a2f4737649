"""Whose messages a policy is for, and for which share of devices it is enforced. Both depend on the identity alone."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final

from attrs import frozen

from mqttproxy.config.conditions import Condition, Glob, parse_condition
from mqttproxy.config.model import WhenSettings
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.words import shown

_STEPS: Final = 1 << 64
_FIELDS: Final[dict[str, Callable[[Identity], str | None]]] = {
    "client_id": lambda identity: identity.client_id,
    "username": lambda identity: identity.username,
    "listener": lambda identity: identity.listener,
}


@frozen
class _Question:
    """One thing that is asked of an identity: any of the conditions must fit."""

    name: str  # as in the settings
    value_of: Callable[[Identity], str | None]
    conditions: tuple[Condition, ...]
    words: str

    def why_not(self, identity: Identity) -> str | None:
        value = self.value_of(identity)
        if value is None:
            return f"the sender has no {self.name}"
        if any(condition.fits(value) for condition in self.conditions):
            return None
        return f"{self.name} {shown(value)} is not {self.words}"


@frozen
class Selector:
    """What `[policies.when]` asks of an identity."""

    questions: tuple[_Question, ...]

    def why_not(self, identity: Identity) -> str | None:
        """Return in words why this sender is not meant, or None: it is."""
        for question in self.questions:
            if (words := question.why_not(identity)) is not None:
                return words
        return None


def make_selector(when: WhenSettings) -> Selector | None:
    """Return what the settings ask, or None: nothing, everybody is meant."""
    questions = [
        _question(name, value_of, map(Glob, globs), globs)
        for name, value_of in _FIELDS.items()
        if (globs := getattr(when, name)) is not None
    ]
    for name, texts in when.attributes or ():
        conditions = [condition for text in texts if (condition := parse_condition(text)) is not None]
        questions.append(_question(f"attribute {name}", _attribute(name), conditions, texts))
    return Selector(tuple(questions)) if questions else None


def _question(
    name: str, value_of: Callable[[Identity], str | None], conditions: Iterable[Condition], texts: Iterable[str]
) -> _Question:
    return _Question(name, value_of, tuple(conditions), " or ".join(map(repr, texts)))


def _attribute(name: str) -> Callable[[Identity], str | None]:
    return lambda identity: identity.attributes.get(name)


def place_of(policy: str, client_id: str) -> float:
    """Return where a device stands among all for a policy: from 0 up to 100, the same for ever.

    Whoever is among the first 10 per cent is among the first 20 per cent too. Each policy shuffles anew.
    """
    digest = blake2b(f"{policy}\0{client_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _STEPS * 100
