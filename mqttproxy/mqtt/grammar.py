"""Two tables of MQTT 5.0: which property and which reason code may stand in which packet.

Decoding and encoding both look here and nowhere else, so they cannot disagree.
"""

from enum import IntEnum
from typing import Final

from msgspec import Struct

from mqttproxy.mqtt.reasons import ReasonCode


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte; 0 is the will inside CONNECT, which has properties of its own."""

    WILL = 0
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Kind(IntEnum):
    """How a property's value stands on the wire."""

    BYTE = 1
    UINT16 = 2
    UINT32 = 4
    VARINT = 5
    STRING = 6
    BINARY = 7
    PAIR = 8


class Property(Struct, frozen=True):
    """One row of section 2.2.2.2. Numbers outside `low` to `high` are a protocol error."""

    identifier: int
    field: str
    kind: Kind
    packets: frozenset[PacketType]
    low: int = 0
    high: int = 0xFFFF_FFFF


_P = PacketType
_MESSAGE: Final = frozenset({_P.PUBLISH, _P.WILL})
_AUTHENTICATION: Final = frozenset({_P.CONNECT, _P.CONNACK, _P.AUTH})
_BOTH_GREETINGS: Final = frozenset({_P.CONNECT, _P.CONNACK})
_CONNACK: Final = frozenset({_P.CONNACK})
_ANSWERS: Final = frozenset(
    {_P.CONNACK, _P.PUBACK, _P.PUBREC, _P.PUBREL, _P.PUBCOMP, _P.SUBACK, _P.UNSUBACK, _P.DISCONNECT, _P.AUTH}
)
_ALL: Final = frozenset(_P) - {_P.PINGREQ, _P.PINGRESP}

PROPERTIES: Final = (
    Property(0x01, "payload_format_indicator", Kind.BYTE, _MESSAGE, high=1),
    Property(0x02, "message_expiry_interval", Kind.UINT32, _MESSAGE),
    Property(0x03, "content_type", Kind.STRING, _MESSAGE),
    Property(0x08, "response_topic", Kind.STRING, _MESSAGE),
    Property(0x09, "correlation_data", Kind.BINARY, _MESSAGE),
    Property(0x0B, "subscription_identifiers", Kind.VARINT, frozenset({_P.PUBLISH, _P.SUBSCRIBE}), low=1),
    Property(0x11, "session_expiry_interval", Kind.UINT32, _BOTH_GREETINGS | {_P.DISCONNECT}),
    Property(0x12, "assigned_client_identifier", Kind.STRING, _CONNACK),
    Property(0x13, "server_keep_alive", Kind.UINT16, _CONNACK),
    Property(0x15, "authentication_method", Kind.STRING, _AUTHENTICATION),
    Property(0x16, "authentication_data", Kind.BINARY, _AUTHENTICATION),
    Property(0x17, "request_problem_information", Kind.BYTE, frozenset({_P.CONNECT}), high=1),
    Property(0x18, "will_delay_interval", Kind.UINT32, frozenset({_P.WILL})),
    Property(0x19, "request_response_information", Kind.BYTE, frozenset({_P.CONNECT}), high=1),
    Property(0x1A, "response_information", Kind.STRING, _CONNACK),
    Property(0x1C, "server_reference", Kind.STRING, frozenset({_P.CONNACK, _P.DISCONNECT})),
    Property(0x1F, "reason_string", Kind.STRING, _ANSWERS),
    Property(0x21, "receive_maximum", Kind.UINT16, _BOTH_GREETINGS, low=1),
    Property(0x22, "topic_alias_maximum", Kind.UINT16, _BOTH_GREETINGS),
    Property(0x23, "topic_alias", Kind.UINT16, frozenset({_P.PUBLISH})),  # 0 has a reason of its own, see decoding
    Property(0x24, "maximum_qos", Kind.BYTE, _CONNACK, high=1),
    Property(0x25, "retain_available", Kind.BYTE, _CONNACK, high=1),
    Property(0x26, "user_properties", Kind.PAIR, _ALL),
    Property(0x27, "maximum_packet_size", Kind.UINT32, _BOTH_GREETINGS, low=1),
    Property(0x28, "wildcard_subscription_available", Kind.BYTE, _CONNACK, high=1),
    Property(0x29, "subscription_identifier_available", Kind.BYTE, _CONNACK, high=1),
    Property(0x2A, "shared_subscription_available", Kind.BYTE, _CONNACK, high=1),
)

_R = ReasonCode
_PUBLISHED: Final = frozenset(
    {
        _R.SUCCESS,
        _R.NO_MATCHING_SUBSCRIBERS,
        _R.UNSPECIFIED_ERROR,
        _R.IMPLEMENTATION_SPECIFIC_ERROR,
        _R.NOT_AUTHORIZED,
        _R.TOPIC_NAME_INVALID,
        _R.PACKET_IDENTIFIER_IN_USE,
        _R.QUOTA_EXCEEDED,
        _R.PAYLOAD_FORMAT_INVALID,
    }
)
_RELEASED: Final = frozenset({_R.SUCCESS, _R.PACKET_IDENTIFIER_NOT_FOUND})

# Sections 3.2.2.2, 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.9.3, 3.11.3, 3.14.2.1, 3.15.2.1.
REASONS: Final[dict[PacketType, frozenset[ReasonCode]]] = {
    _P.CONNACK: frozenset(
        {
            _R.SUCCESS,
            _R.UNSPECIFIED_ERROR,
            _R.MALFORMED_PACKET,
            _R.PROTOCOL_ERROR,
            _R.IMPLEMENTATION_SPECIFIC_ERROR,
            _R.UNSUPPORTED_PROTOCOL_VERSION,
            _R.CLIENT_IDENTIFIER_NOT_VALID,
            _R.BAD_USER_NAME_OR_PASSWORD,
            _R.NOT_AUTHORIZED,
            _R.SERVER_UNAVAILABLE,
            _R.SERVER_BUSY,
            _R.BANNED,
            _R.BAD_AUTHENTICATION_METHOD,
            _R.TOPIC_NAME_INVALID,
            _R.PACKET_TOO_LARGE,
            _R.QUOTA_EXCEEDED,
            _R.PAYLOAD_FORMAT_INVALID,
            _R.RETAIN_NOT_SUPPORTED,
            _R.QOS_NOT_SUPPORTED,
            _R.USE_ANOTHER_SERVER,
            _R.SERVER_MOVED,
            _R.CONNECTION_RATE_EXCEEDED,
        }
    ),
    _P.PUBACK: _PUBLISHED,
    _P.PUBREC: _PUBLISHED,
    _P.PUBREL: _RELEASED,
    _P.PUBCOMP: _RELEASED,
    _P.SUBACK: frozenset(
        {
            _R.SUCCESS,
            _R.GRANTED_QOS_1,
            _R.GRANTED_QOS_2,
            _R.UNSPECIFIED_ERROR,
            _R.IMPLEMENTATION_SPECIFIC_ERROR,
            _R.NOT_AUTHORIZED,
            _R.TOPIC_FILTER_INVALID,
            _R.PACKET_IDENTIFIER_IN_USE,
            _R.QUOTA_EXCEEDED,
            _R.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
            _R.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            _R.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
        }
    ),
    _P.UNSUBACK: frozenset(
        {
            _R.SUCCESS,
            _R.NO_SUBSCRIPTION_EXISTED,
            _R.UNSPECIFIED_ERROR,
            _R.IMPLEMENTATION_SPECIFIC_ERROR,
            _R.NOT_AUTHORIZED,
            _R.TOPIC_FILTER_INVALID,
            _R.PACKET_IDENTIFIER_IN_USE,
        }
    ),
    _P.DISCONNECT: frozenset(
        {
            _R.SUCCESS,
            _R.DISCONNECT_WITH_WILL,
            _R.UNSPECIFIED_ERROR,
            _R.MALFORMED_PACKET,
            _R.PROTOCOL_ERROR,
            _R.IMPLEMENTATION_SPECIFIC_ERROR,
            _R.NOT_AUTHORIZED,
            _R.SERVER_BUSY,
            _R.SERVER_SHUTTING_DOWN,
            _R.KEEP_ALIVE_TIMEOUT,
            _R.SESSION_TAKEN_OVER,
            _R.TOPIC_FILTER_INVALID,
            _R.TOPIC_NAME_INVALID,
            _R.RECEIVE_MAXIMUM_EXCEEDED,
            _R.TOPIC_ALIAS_INVALID,
            _R.PACKET_TOO_LARGE,
            _R.MESSAGE_RATE_TOO_HIGH,
            _R.QUOTA_EXCEEDED,
            _R.ADMINISTRATIVE_ACTION,
            _R.PAYLOAD_FORMAT_INVALID,
            _R.RETAIN_NOT_SUPPORTED,
            _R.QOS_NOT_SUPPORTED,
            _R.USE_ANOTHER_SERVER,
            _R.SERVER_MOVED,
            _R.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
            _R.CONNECTION_RATE_EXCEEDED,
            _R.MAXIMUM_CONNECT_TIME,
            _R.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            _R.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
        }
    ),
    _P.AUTH: frozenset({_R.SUCCESS, _R.CONTINUE_AUTHENTICATION, _R.REAUTHENTICATE}),
}
# What a SUBACK of MQTT 3.1.1 may say. [MQTT-3.9.3-2]
SUBACK_311: Final = frozenset({_R.SUCCESS, _R.GRANTED_QOS_1, _R.GRANTED_QOS_2, _R.UNSPECIFIED_ERROR})
