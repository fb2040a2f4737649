"""One function for each packet type: its body, of which all bytes are there, becomes a packet or a RemoteProtocolError.

PUBLISH and whatever changes a decoder's state stand in `decode.py`.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.grammar import REASONS, SUBACK_311, PacketType
from mqttproxy.mqtt.limits import DecodeLimits
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    RetainHandling,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from mqttproxy.mqtt.properties import read_properties
from mqttproxy.mqtt.reasons import REASON_OF_CONNACK_311, ReasonCode
from mqttproxy.mqtt.topics import SHARE, check_topic_name
from mqttproxy.mqtt.wire import Reader, decode_string, malformed

V311: Final = ProtocolVersion.V311
V5: Final = ProtocolVersion.V5

Ack = TypeVar("Ack", PubAck, PubRec, PubRel, PubComp)
Body = Callable[[Reader, ProtocolVersion, DecodeLimits], Packet]

# MQTT 3.1 differs from 3.1.1 in its name and number only, as far as a server is concerned.
_LEVELS: Final = {(b"MQTT", 5): V5, (b"MQTT", 4): V311, (b"MQIsdp", 3): V311}
_NAMES: Final = {name for name, _ in _LEVELS}
# By number: an enumeration's hash is computed in Python, and too slow for what comes with acknowledgements.
_REASON: Final = tuple({int(reason): reason for reason in REASONS.get(packet, ())} for packet in PacketType)
_PINGREQ: Final = PingReq()
_PINGRESP: Final = PingResp()


def read_level(body: Reader) -> tuple[ProtocolVersion, bool]:
    """Read the protocol name and level of CONNECT; return the version to answer in, and whether we speak it.

    Raises:
        RemoteProtocolError: with another name only MQTT 5 has words for that. [MQTT-3.1.2-1]

    """
    name = body.binary()
    level = body.byte()
    version = _LEVELS.get((name, level))
    if version is not None:
        return version, True
    if name not in _NAMES and level & 0x7F < V5:
        raise RemoteProtocolError("not MQTT", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)
    # A Mosquitto bridge tries level 4 with the top bit set first, and must be refused in the words of 3.1.1.
    return (V5 if level & 0x7F >= V5 else V311), False


def connect(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> Connect:
    """Read what follows the level in CONNECT."""
    flags = body.byte()
    keep_alive = body.uint16()
    has_will, will_qos = flags & 0x04, flags >> 3 & 3
    if flags & 0x01:  # [MQTT-3.1.2-3]
        raise malformed("the reserved flag of CONNECT is set")
    if not has_will and flags & 0x38:  # [MQTT-3.1.2-11, -13]
        raise malformed("CONNECT has will flags and no will")
    if will_qos == 3:  # [MQTT-3.1.2-12]
        raise malformed("the will has QoS 3")
    if version is V311 and flags & 0xC0 == 0x40:  # [MQTT-3.1.2-22] of 3.1.1
        raise malformed("CONNECT has a password and no user name")
    properties = read_properties(body, PacketType.CONNECT, limits) if version is V5 else NO_PROPERTIES
    clean_start = bool(flags & 0x02)
    client_id = _client_id(body.binary(), limits)
    if not client_id and version is V311 and not clean_start:  # [MQTT-3.1.3-8] of 3.1.1
        raise RemoteProtocolError("a session to keep needs a client identifier", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)
    will = _will(body, version, limits, will_qos, retain=bool(flags & 0x20)) if has_will else None
    username = body.string() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    body.end()
    return Connect(
        client_id=client_id,
        version=version,
        clean_start=clean_start,
        keep_alive=keep_alive,
        username=username,
        password=password,
        will=will,
        properties=properties,
    )


def _client_id(raw: bytes, limits: DecodeLimits) -> str:
    if len(raw) > limits.client_id_bytes:
        raise RemoteProtocolError(
            f"the client identifier has {len(raw)} bytes, more than {limits.client_id_bytes}",
            ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        )
    try:
        return decode_string(raw)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"the client identifier: {error}", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID) from None


def _will(body: Reader, version: ProtocolVersion, limits: DecodeLimits, qos: int, *, retain: bool) -> Will:
    properties = read_properties(body, PacketType.WILL, limits) if version is V5 else NO_PROPERTIES
    topic = body.string()
    check_topic_name(topic, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels)
    payload = body.binary()
    if len(payload) > limits.payload_size:
        raise RemoteProtocolError("the payload of the will is too large", ReasonCode.PACKET_TOO_LARGE)
    return Will(topic, payload, qos, retain, properties)


def _connack(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> ConnAck:
    flags = body.byte()
    code = body.byte()
    properties = NO_PROPERTIES
    if flags > 1:  # [MQTT-3.2.2-1]
        raise malformed("a reserved flag of CONNACK is set")
    if version is V5:
        reason = _reason(code, PacketType.CONNACK)
        properties = read_properties(body, PacketType.CONNACK, limits)
    elif code in REASON_OF_CONNACK_311:
        reason = REASON_OF_CONNACK_311[code]
    else:
        raise RemoteProtocolError(f"CONNACK with return code {code}")
    body.end()
    if flags and reason:  # [MQTT-3.2.2-6]
        raise RemoteProtocolError("CONNACK refuses and speaks of a session")
    return ConnAck(reason, bool(flags), properties)


def _reason(code: int, packet: PacketType) -> ReasonCode:
    reason = _REASON[packet].get(code)
    if reason is None:
        raise RemoteProtocolError(f"{packet.name} with reason {code:#04x}")
    return reason


def _packet_id(body: Reader) -> int:
    packet_id = body.uint16()
    if not packet_id:  # [MQTT-2.2.1-3]
        raise RemoteProtocolError("packet identifier 0")
    return packet_id


def _reason_and_properties(
    body: Reader, version: ProtocolVersion, limits: DecodeLimits, packet: PacketType
) -> tuple[ReasonCode, Properties]:
    """Read the two fields at the end of an answer; both may be left out, or the second one."""
    reason, properties = ReasonCode.SUCCESS, NO_PROPERTIES
    if version is V5 and body.position < body.stop:
        reason = _reason(body.byte(), packet)
        if body.position < body.stop:
            properties = read_properties(body, packet, limits)
    body.end()
    return reason, properties


def _acknowledgement(packet: PacketType, make: type[Ack]) -> Body:
    def read(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> Ack:
        packet_id = _packet_id(body)
        return make(packet_id, *_reason_and_properties(body, version, limits, packet))

    return read


def _subscribe(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> Subscribe:
    packet_id = _packet_id(body)
    properties = read_properties(body, PacketType.SUBSCRIBE, limits) if version is V5 else NO_PROPERTIES
    subscriptions: list[Subscription] = []
    while body.position < body.stop:
        _check_room(len(subscriptions), limits)
        subscriptions.append(_subscription(body.string(), body.byte(), version))
    if not subscriptions:  # [MQTT-3.8.3-2]
        raise RemoteProtocolError("SUBSCRIBE without a topic filter")
    return Subscribe(packet_id, tuple(subscriptions), properties)


def _check_room(filters: int, limits: DecodeLimits) -> None:
    if filters >= limits.topic_filters:
        raise RemoteProtocolError("too many topic filters in one packet", ReasonCode.QUOTA_EXCEEDED)


def _subscription(topic_filter: str, options: int, version: ProtocolVersion) -> Subscription:
    if options & (0xC0 if version is V5 else 0xFC):  # [MQTT-3.8.3-5]
        raise malformed("a reserved bit of the subscription options is set")
    qos, handling = options & 3, options >> 4
    if qos == 3 or handling == 3:
        raise RemoteProtocolError("a subscription with QoS or retain handling 3")
    no_local = bool(options & 4)
    if no_local and topic_filter.startswith(SHARE):  # [MQTT-3.8.3-4]
        raise RemoteProtocolError("no local on a shared subscription")
    return Subscription(topic_filter, qos, no_local, bool(options & 8), RetainHandling(handling))


def _suback(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> SubAck:
    packet_id = _packet_id(body)
    properties = read_properties(body, PacketType.SUBACK, limits) if version is V5 else NO_PROPERTIES
    reasons = _reasons(body, PacketType.SUBACK, limits)
    if version is V311 and not SUBACK_311.issuperset(reasons):
        raise RemoteProtocolError("SUBACK with a return code that MQTT 3.1.1 does not have")
    return SubAck(packet_id, reasons, properties)


def _reasons(body: Reader, packet: PacketType, limits: DecodeLimits) -> tuple[ReasonCode, ...]:
    codes = body.rest()
    if not codes:
        raise RemoteProtocolError(f"{packet.name} without a reason")
    _check_room(len(codes) - 1, limits)
    return tuple(_reason(code, packet) for code in codes)


def _unsubscribe(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> Unsubscribe:
    packet_id = _packet_id(body)
    properties = read_properties(body, PacketType.UNSUBSCRIBE, limits) if version is V5 else NO_PROPERTIES
    filters: list[str] = []
    while body.position < body.stop:
        _check_room(len(filters), limits)
        filters.append(body.string())
    if not filters:  # [MQTT-3.10.3-2]
        raise RemoteProtocolError("UNSUBSCRIBE without a topic filter")
    return Unsubscribe(packet_id, tuple(filters), properties)


def _unsuback(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> UnsubAck:
    packet_id = _packet_id(body)
    if version is V311:
        body.end()
        return UnsubAck(packet_id)
    properties = read_properties(body, PacketType.UNSUBACK, limits)
    return UnsubAck(packet_id, _reasons(body, PacketType.UNSUBACK, limits), properties)


def _pingreq(body: Reader, _version: ProtocolVersion, _limits: DecodeLimits) -> PingReq:
    body.end()
    return _PINGREQ


def _pingresp(body: Reader, _version: ProtocolVersion, _limits: DecodeLimits) -> PingResp:
    body.end()
    return _PINGRESP


def _disconnect(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> Disconnect:
    return Disconnect(*_reason_and_properties(body, version, limits, PacketType.DISCONNECT))


def _auth(body: Reader, version: ProtocolVersion, limits: DecodeLimits) -> Auth:
    if version is V311:
        raise malformed("AUTH is not a packet of MQTT 3.1.1")
    empty = body.position == body.stop
    reason, properties = _reason_and_properties(body, version, limits, PacketType.AUTH)
    if properties.authentication_method is None and not empty:  # 3.15.2.2.2
        raise RemoteProtocolError("AUTH without an authentication method")
    return Auth(reason, properties)


# By the whole first byte, because the lower four bits are fixed. [MQTT-2.1.3-1]
BODIES: Final[dict[int, Body]] = {
    0x20: _connack,
    0x40: _acknowledgement(PacketType.PUBACK, PubAck),
    0x50: _acknowledgement(PacketType.PUBREC, PubRec),
    0x62: _acknowledgement(PacketType.PUBREL, PubRel),
    0x70: _acknowledgement(PacketType.PUBCOMP, PubComp),
    0x82: _subscribe,
    0x90: _suback,
    0xA2: _unsubscribe,
    0xB0: _unsuback,
    0xC0: _pingreq,
    0xD0: _pingresp,
    0xE0: _disconnect,
    0xF0: _auth,
}
