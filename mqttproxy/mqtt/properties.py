"""The properties of an MQTT 5 packet, read and written by the table in `grammar.py`."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from msgspec.structs import astuple, replace

from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.grammar import PROPERTIES, Kind, PacketType, Property
from mqttproxy.mqtt.limits import DecodeLimits
from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import check_topic_name
from mqttproxy.mqtt.wire import STRING_MAX, Reader, malformed, write_binary, write_string, write_uint, write_varint

Value = int | str | bytes | tuple[int, ...] | tuple[tuple[str, str], ...]

_READ: Final[dict[Kind, Callable[[Reader], int | str | bytes]]] = {
    Kind.BYTE: Reader.byte,
    Kind.UINT16: Reader.uint16,
    Kind.UINT32: Reader.uint32,
    Kind.VARINT: Reader.varint,
    Kind.STRING: Reader.string,
    Kind.BINARY: Reader.binary,
}
# The table turned for reading, by place and identifier, and for writing, by place and field: an enumeration's hash is
# computed in Python, so sets and dictionaries of them are too slow here.
_READABLE: Final = tuple({row.identifier: row for row in PROPERTIES if place in row.packets} for place in PacketType)
_WRITABLE: Final = tuple(
    tuple(
        next((row for row in PROPERTIES if row.field == field and place in row.packets), None)
        for field in Properties.__struct_fields__
    )
    for place in PacketType
)
_READ_ROW: Final = {row.identifier: _READ[row.kind] for row in PROPERTIES if row.kind is not Kind.PAIR}
_PUBLISH_ROWS: Final = tuple(row for row in _WRITABLE[PacketType.PUBLISH] if row is not None)
_publish_values: Final = attrgetter(*(row.field for row in _PUBLISH_ROWS))
_PAIR: Final = Kind.PAIR
_VARINT: Final = Kind.VARINT


def read_properties(packet: Reader, place: PacketType, limits: DecodeLimits) -> Properties:
    """Read the property length and the properties that may stand in `place`, in one pass.

    Raises:
        RemoteProtocolError: MALFORMED_PACKET, PROTOCOL_ERROR, QUOTA_EXCEEDED for too many user properties, or what
            `check_topic_name` says of a response topic.

    """
    length = packet.varint()
    if not length:
        return NO_PROPERTIES
    end_of_packet = packet.stop
    stop = packet.position + length
    if stop > end_of_packet:
        raise malformed("the properties run over the end of their packet")
    packet.stop = stop  # until they are read, no field may lead out of the properties
    rows = _READABLE[place]
    values: dict[str, int | str | bytes] = {}
    user: list[tuple[str, str]] = []
    subscriptions: list[int] = []
    while packet.position < stop:
        row = rows.get(packet.byte())
        if row is None:
            raise malformed(f"a property is not one of {place.name}")
        if row.kind is _PAIR:
            if len(user) >= limits.user_properties:
                raise RemoteProtocolError("too many user properties", ReasonCode.QUOTA_EXCEEDED)
            user.append((packet.string(), packet.string()))
        elif row.kind is _VARINT:
            _add_subscription_identifier(subscriptions, packet, place, limits)
        else:
            _read_single(values, row, packet)
    packet.stop = end_of_packet
    made = Properties(
        user_properties=tuple(user),
        subscription_identifiers=tuple(subscriptions),
        **values,  # type: ignore[arg-type]  # the table gives each field its type
    )
    _check_together(made, limits)
    return made


def _add_subscription_identifier(found: list[int], reader: Reader, place: PacketType, limits: DecodeLimits) -> None:
    value = reader.varint()
    if not value:
        raise RemoteProtocolError("subscription identifier 0")
    if found and place is PacketType.SUBSCRIBE:
        raise RemoteProtocolError("a second subscription identifier in SUBSCRIBE")
    if len(found) >= limits.subscription_identifiers:
        raise RemoteProtocolError("too many subscription identifiers", ReasonCode.QUOTA_EXCEEDED)
    found.append(value)


def _read_single(values: dict[str, int | str | bytes], row: Property, reader: Reader) -> None:
    if row.field in values:
        raise RemoteProtocolError(f"{row.field} stands twice")
    value = _READ_ROW[row.identifier](reader)
    if isinstance(value, int) and not row.low <= value <= row.high:
        raise RemoteProtocolError(f"{row.field} is {value}")
    values[row.field] = value


def _check_together(properties: Properties, limits: DecodeLimits) -> None:
    if properties.response_topic is not None:  # [MQTT-3.3.2-14]
        check_topic_name(properties.response_topic, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels)
    if properties.authentication_data is not None and properties.authentication_method is None:
        raise RemoteProtocolError("authentication data without a method")


def without_topic_alias(properties: Properties) -> Properties:
    """Return the properties that belong to the message; the alias belongs to the connection."""
    made = replace(properties, topic_alias=None)
    return NO_PROPERTIES if made == NO_PROPERTIES else made


def write_properties(out: bytearray, properties: Properties, place: PacketType) -> None:
    """Append the property length and the properties.

    Raises:
        LocalProtocolError: one of them may not stand in `place`, or its value cannot be said.

    """
    if properties is NO_PROPERTIES:
        out.append(0)
        return
    check_place(properties, place)
    body = bytearray()
    for row, value in zip(_WRITABLE[place], astuple(properties), strict=False):
        if row is not None and value is not None:
            _write_value(body, row, value)
    _check_sayable(properties, place)
    write_varint(out, len(body))
    out += body


def check_place(properties: Properties, place: PacketType) -> None:
    """Check that all of the properties may stand in `place`.

    Raises:
        LocalProtocolError: one may not.

    """
    for field, row, value in zip(Properties.__struct_fields__, _WRITABLE[place], astuple(properties), strict=False):
        if row is None and value is not None and value != ():
            raise LocalProtocolError(f"{field} may not stand in {place.name}")


def write_publish_properties(out: bytearray, properties: Properties, more: bytes = b"") -> None:
    """Append the property length and those properties that a PUBLISH can hold, in half the time.

    What it cannot hold, such as the delay of a will that is published now, is left out. `more`: encoded ones to add.

    Raises:
        LocalProtocolError: a value cannot be said.

    """
    body = bytearray()
    for row, value in zip(_PUBLISH_ROWS, _publish_values(properties), strict=False):
        if value is not None:
            _write_value(body, row, value)
    _check_sayable(properties, PacketType.PUBLISH)
    body += more
    write_varint(out, len(body))
    out += body


def _write_value(body: bytearray, row: Property, value: Value) -> None:
    if isinstance(value, tuple):
        for item in value:
            body.append(row.identifier)
            if isinstance(item, int):
                _check_number(row, item)
                write_varint(body, item)
            else:
                write_string(body, item[0])
                write_string(body, item[1])
        return
    body.append(row.identifier)
    if isinstance(value, str):
        write_string(body, value)
    elif isinstance(value, bytes):
        write_binary(body, value)
    else:
        _check_number(row, value)
        write_uint(body, value, row.kind)  # these kinds are named by their size


def _check_number(row: Property, value: int) -> None:
    if not row.low <= value <= row.high:
        raise LocalProtocolError(f"{row.field} is {value}")


def _check_sayable(properties: Properties, place: PacketType) -> None:
    if properties.response_topic is not None:
        try:
            check_topic_name(properties.response_topic, max_bytes=STRING_MAX, max_levels=STRING_MAX)
        except RemoteProtocolError as error:
            raise LocalProtocolError(f"response topic: {error}", error.reason) from error
    if properties.authentication_data is not None and properties.authentication_method is None:
        raise LocalProtocolError("authentication data without a method")
    if place is PacketType.SUBSCRIBE and len(properties.subscription_identifiers) > 1:
        raise LocalProtocolError("a second subscription identifier in SUBSCRIBE")
    if properties.topic_alias == 0:
        raise LocalProtocolError("topic alias 0", ReasonCode.TOPIC_ALIAS_INVALID)
