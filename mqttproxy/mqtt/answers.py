"""Properties of the answers we send: put together, made sayable, and cut down to what the peer takes."""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import asdict, replace

from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Disconnect,
    Properties,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    SubAck,
    UnsubAck,
)
from mqttproxy.mqtt.wire import unwanted_character

Answer = ConnAck | PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck | Disconnect | Auth

EXPLANATION_MAX: Final = 1000  # characters; an explanation quotes what a peer sent, which may be long
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def merged(first: Properties, second: Properties) -> Properties:
    """Return the properties of both; where both have one, that of `second`."""
    if second is NO_PROPERTIES:
        return first
    return replace(first, **{name: value for name, value in asdict(second).items() if value not in (None, ())})


def with_reason_string(properties: Properties, reason_string: str | None) -> Properties:
    """Return the properties with a reason string, if there is one."""
    return properties if reason_string is None else replace(properties, reason_string=reason_string)


def without_problems(properties: Properties) -> Properties:
    """Return the properties without what a peer does not want that asked for no problem information."""
    if properties is NO_PROPERTIES:
        return properties
    return replace(properties, user_properties=(), reason_string=None)


def sayable(properties: Properties) -> Properties:
    """Return the properties with explanations that MQTT can carry: a payload's own words may stand in them."""
    if properties is NO_PROPERTIES:
        return properties
    reason_string = properties.reason_string
    return replace(
        properties,
        reason_string=None if reason_string is None else _sayable(reason_string),
        user_properties=tuple((_sayable(name), _sayable(value)) for name, value in properties.user_properties),
    )


def _sayable(text: str) -> str:
    text = text[:EXPLANATION_MAX]
    if unwanted_character(text) is None:
        return text
    return "".join(_REPLACEMENT if unwanted_character(character) else character for character in text)


def shorter_and_shorter(packet: Answer) -> Iterator[Answer]:
    """Give the packet, then without user properties, then without reason string too. [MQTT-3.4.2-2] and its like."""
    yield packet
    if packet.properties.user_properties:
        packet = replace(packet, properties=replace(packet.properties, user_properties=()))
        yield packet
    if packet.properties.reason_string is not None:
        yield replace(packet, properties=replace(packet.properties, reason_string=None))
