"""From messages to the bytes of PUBLISH, the packet of which there are thousands a second."""

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct as Layout
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties, ProtocolVersion
from mqttproxy.mqtt.properties import write_publish_properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import check_topic_name
from mqttproxy.mqtt.wire import STRING_MAX, VARINT_MAX, write_string, write_varint

V311: Final = ProtocolVersion.V311
V5: Final = ProtocolVersion.V5

_USER_PROPERTY: Final = 0x26
_plain_alias: Final = Layout("!BBH").pack  # the property length, and the one property


class Stamp(Struct, frozen=True):
    """User properties that each message gets on its way over one MQTT 5 connection, but for those that have them."""

    name: str  # of the first; a message with a user property of this name is left as it is
    data: bytes  # encoded
    alone: bytes  # the property field of a message that has no others
    always: bytes = b""  # for one that has the first, and so gets nothing else

    def with_property(self, data: bytes) -> "Stamp":
        """Return it with one more, encoded, for one message."""
        both = self.data + data
        size = len(both)
        if size < 128:
            return Stamp(self.name, both, bytes((size,)) + both, data)
        alone = bytearray()
        write_varint(alone, size)
        return Stamp(self.name, both, bytes(alone) + both, data)


NO_STAMP: Final = Stamp("", b"", b"\0")


def stamp(user_properties: Sequence[tuple[str, str]]) -> Stamp:
    """Return these user properties, of which there is at least one, ready for any number of messages."""
    data = bytearray()
    for name, value in user_properties:
        data.append(_USER_PROPERTY)
        write_string(data, name)
        write_string(data, value)
    alone = bytearray()
    write_varint(alone, len(data))
    return Stamp(user_properties[0][0], bytes(data), bytes(alone + data))


def user_property(name: str) -> bytes:
    """Return the head of a user property, to be followed by the length of its value in two bytes, and the value."""
    data = bytearray((_USER_PROPERTY,))
    write_string(data, name)
    return bytes(data)


def encode_publish_into(  # noqa: PLR0917 # by position is quicker
    out: bytearray,
    message: Message,
    version: ProtocolVersion,
    packet_id: int,
    dup: bool,
    stamped: Stamp = NO_STAMP,
) -> None:
    """Append a PUBLISH that carries `message`; its QoS is trusted, and properties of another packet are left out.

    Args:
        out: what is to be sent.
        message: what the PUBLISH carries.
        version: the very member of `ProtocolVersion`.
        packet_id: 1 to 65535, held to by the caller; not looked at for QoS 0.
        dup: it was sent before.
        stamped: what it gets beside its own properties.

    Raises:
        LocalProtocolError: a topic, property or size that cannot be said; `out` is as it was.

    """
    topic = topic_field(message.topic) if message.topic else _no_topic(message.properties, version)
    payload = message.payload
    qos = message.qos
    first = 0x30 | qos << 1
    if message.retain:
        first |= 1
    if dup:
        first |= 8
    tail = packet_id.to_bytes(2, "big") if qos else b""
    if version is V5:
        tail += stamped.alone if message.properties is NO_PROPERTIES else _property_field(message.properties, stamped)
    size = len(topic) + len(tail) + len(payload)
    if size > VARINT_MAX:
        raise LocalProtocolError(f"a PUBLISH of {size} bytes cannot be said", ReasonCode.PACKET_TOO_LARGE)
    out.append(first)
    if size < 128:
        out.append(size)
    elif size < 16_384:  # most of the others; a call less
        out.append(size & 127 | 128)
        out.append(size >> 7)
    else:
        write_varint(out, size)
    out += topic
    out += tail
    out += payload


def encode_aliased_into(  # noqa: PLR0917 # as above
    out: bytearray, message: Message, packet_id: int, alias: int, topic: bytes, stamped: Stamp = NO_STAMP
) -> None:
    """Append a PUBLISH of MQTT 5 with a topic alias, never sent before; else as `encode_publish_into`.

    Args:
        out: what is to be sent.
        message: what the PUBLISH carries; its topic is not looked at.
        packet_id: as there.
        alias: from 1 to what the peer takes.
        topic: from `topic_field`, to set the alias; or two zero bytes, to use it.
        stamped: as there.

    Raises:
        LocalProtocolError: as there.

    """
    payload, qos, properties = message.payload, message.qos, message.properties
    first = 0x30 | qos << 1
    if message.retain:
        first |= 1
    tail = packet_id.to_bytes(2, "big") if qos else b""
    tail += (
        _plain_alias(3, 0x23, alias)
        if properties is NO_PROPERTIES and stamped is NO_STAMP
        else _property_field(replace(properties, topic_alias=alias), stamped)
    )
    size = len(topic) + len(tail) + len(payload)
    if size > VARINT_MAX:
        raise LocalProtocolError(f"a PUBLISH of {size} bytes cannot be said", ReasonCode.PACKET_TOO_LARGE)
    out.append(first)
    write_varint(out, size)
    out += topic
    out += tail
    out += payload


@lru_cache(maxsize=4096)
def topic_field(topic: str) -> bytes:
    """Return a checked topic name with its length; topics recur, and fan-out says each one several times.

    What is remembered is bounded in bytes too, because messages come from a decoder with its limit for topics.
    """
    _check_topic(topic)
    field = bytearray()
    write_string(field, topic)
    return bytes(field)


def _check_topic(topic: str) -> None:
    try:
        check_topic_name(topic, max_bytes=STRING_MAX, max_levels=STRING_MAX + 1)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"topic name: {error}", error.reason) from error


def _no_topic(properties: Properties, version: ProtocolVersion) -> bytes:
    """Return the empty topic name, which only an alias makes sayable."""
    if version is V311 or properties.topic_alias is None:
        raise LocalProtocolError("neither topic name nor topic alias")
    return b"\0\0"


def _property_field(properties: Properties, stamped: Stamp = NO_STAMP) -> bytes:
    field = bytearray()
    data = stamped.data
    if data and any([name == stamped.name for name, _ in properties.user_properties]):  # noqa: C419 # quicker
        data = stamped.always
    write_publish_properties(field, properties, data)
    return bytes(field)
