"""What is known of a device from what it says of itself, and from where it came in: `[[access.attributes]]`.

Attributes choose policies, and later topics: a text with a wildcard, a separator or a control character would choose
what it should not (`BAD-INPUT` D1). A device that says such a one does not come in.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from attrs import frozen

from mqttproxy.config.attribute_patterns import AttributePattern, parse_pattern
from mqttproxy.config.model import AccessSettings, AttributeSettings
from mqttproxy.mqtt.reasons import ReasonCode

LONGEST: Final = 256  # characters of one attribute
_UNSAFE: Final = frozenset("+#/")
_ANSWERS: Final = {
    "client_id": ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    "username": ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    "connect_property": ReasonCode.NOT_AUTHORIZED,
}


class UnsafeAttributeError(ValueError):
    """An attribute holds what it must not. `reason` is for CONNACK."""

    def __init__(self, name: str, reason: ReasonCode) -> None:
        super().__init__(f"attribute {name} holds a wildcard, a separator or a control character, or is too long")
        self.reason = reason


@frozen
class _Rule:
    settings: AttributeSettings
    pattern: AttributePattern

    def texts(self, client_id: str, username: str | None, properties: Iterable[tuple[str, str]]) -> Iterable[str]:
        match self.settings.source:
            case "client_id":
                return (client_id,)
            case "username":
                return () if username is None else (username,)
        return (value for name, value in properties if name == self.settings.property)


@lru_cache(maxsize=4)  # of settings: those in force, and those before
def _rules(settings: AccessSettings) -> tuple[_Rule, ...]:
    patterns = ((entry, parse_pattern(entry.pattern)) for entry in settings.attributes)
    return tuple(_Rule(entry, pattern) for entry, pattern in patterns if isinstance(pattern, AttributePattern))


def attributes_of(
    settings: AccessSettings,
    labels: Iterable[tuple[str, str]],
    client_id: str,
    username: str | None,
    properties: Iterable[tuple[str, str]] = (),
) -> Mapping[str, str]:
    """Return the attributes of a device.

    Args:
        settings: `[access]`, checked.
        labels: of the listener; nothing that a device says can change them.
        client_id: of the device.
        username: if it has one.
        properties: the user properties of its CONNECT. Where one stands twice, the first counts.

    Raises:
        UnsafeAttributeError: one cannot be used.

    """
    found: dict[str, str] = dict(labels)
    for rule in _rules(settings):
        for text in rule.texts(client_id, username, properties):
            for name, value in (rule.pattern.read(text) or {}).items():
                if len(value) > LONGEST or not value.isprintable() or _UNSAFE & set(value):
                    raise UnsafeAttributeError(name, _ANSWERS[rule.settings.source])
                found.setdefault(name, value)
    return found
