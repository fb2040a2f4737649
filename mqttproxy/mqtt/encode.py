"""From packets to bytes, in either version, as strictly as they are read.

What MQTT 3.1.1 has no place for in an answer or a message (properties, reasons of acknowledgements) is left out in
silence: the peer cannot be told. What no version can say is a LocalProtocolError.
"""

from struct import Struct as Layout
from typing import Final

from mqttproxy.mqtt.encode_publish import encode_publish_into, topic_field
from mqttproxy.mqtt.errors import LocalProtocolError
from mqttproxy.mqtt.grammar import REASONS, PacketType
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
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)
from mqttproxy.mqtt.properties import check_place, write_properties
from mqttproxy.mqtt.reasons import CONNACK_311, ReasonCode
from mqttproxy.mqtt.topics import SHARE
from mqttproxy.mqtt.wire import write_binary, write_string, write_uint, write_varint

V311: Final = ProtocolVersion.V311
V5: Final = ProtocolVersion.V5
PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x62
PUBCOMP: Final = 0x70

_ACKS: Final = {PubAck: PUBACK, PubRec: PUBREC, PubRel: PUBREL, PubComp: PUBCOMP}
_plain_ack: Final = Layout("!BBH").pack


def encode(packet: Packet, version: ProtocolVersion) -> bytes:
    """Return the bytes of a packet.

    Raises:
        LocalProtocolError: MQTT has no way to say it in this version, or forbids it.

    """
    if isinstance(packet, Publish):
        return _publish(packet, version)
    body = bytearray()
    first = _write_body(body, packet, version)
    out = bytearray((first,))
    write_varint(out, len(body))
    out += body
    return bytes(out)


def encode_ack_into(out: bytearray, first_byte: int, packet_id: int) -> None:
    """Append a successful acknowledgement, which is the same in both versions.

    Args:
        out: what is to be sent.
        first_byte: PUBACK, PUBREC, PUBREL or PUBCOMP of this module.
        packet_id: 1 to 65535, held to by the caller.

    """
    out += _plain_ack(first_byte, 2, packet_id)


def _publish(packet: Publish, version: ProtocolVersion) -> bytes:
    _check_qos(packet.qos)
    if packet.qos:
        _check_packet_id(packet.packet_id)
    elif packet.packet_id or packet.dup:  # [MQTT-2.2.1-2], [MQTT-3.3.1-2]
        raise LocalProtocolError("a QoS 0 PUBLISH has neither packet identifier nor DUP")
    if version is V5:
        check_place(packet.properties, PacketType.PUBLISH)
    out = bytearray()
    encode_publish_into(out, packet, version, packet.packet_id, packet.dup)
    return bytes(out)


def _write_body(  # noqa: C901, PLR0911 - one case for each packet
    body: bytearray, packet: Packet, version: ProtocolVersion
) -> int:
    """Append what follows the remaining length and return the first byte of the packet."""
    match packet:
        case Connect():
            return _connect(body, packet, version)
        case ConnAck():
            return _connack(body, packet, version)
        case PubAck() | PubRec() | PubRel() | PubComp():
            return _acknowledgement(body, packet, version)
        case Subscribe():
            return _subscribe(body, packet, version)
        case SubAck():
            return _suback(body, packet, version)
        case Unsubscribe():
            return _unsubscribe(body, packet, version)
        case UnsubAck():
            return _unsuback(body, packet, version)
        case Disconnect():
            return _disconnect(body, packet, version)
        case Auth():
            return _auth(body, packet, version)
        case PingReq():
            return 0xC0
        case PingResp():
            return 0xD0
        case _:
            raise LocalProtocolError(f"{type(packet).__name__} is not a packet")


def _connect(body: bytearray, packet: Connect, version: ProtocolVersion) -> int:
    _check_connect(packet, version)
    write_string(body, "MQTT")
    body += bytes((version, _connect_flags(packet)))
    write_uint(body, packet.keep_alive, 2)
    if version is V5:
        write_properties(body, packet.properties, PacketType.CONNECT)
    write_string(body, packet.client_id)
    if packet.will is not None:
        _will(body, packet.will, version)
    if packet.username is not None:
        write_string(body, packet.username)
    if packet.password is not None:
        write_binary(body, packet.password)
    return 0x10


def _check_connect(packet: Connect, version: ProtocolVersion) -> None:
    if packet.version is not version:
        raise LocalProtocolError(f"a CONNECT of {packet.version.name} encoded as {version.name}")
    if version is V5:
        return
    _refuse_properties(packet.properties, "CONNECT")
    if packet.password is not None and packet.username is None:  # [MQTT-3.1.2-22] of 3.1.1
        raise LocalProtocolError("MQTT 3.1.1 has no password without a user name")
    if not packet.client_id and not packet.clean_start:  # [MQTT-3.1.3-7] of 3.1.1
        raise LocalProtocolError("a session to keep needs a client identifier", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)


def _connect_flags(packet: Connect) -> int:
    flags = 0x02 if packet.clean_start else 0
    if packet.username is not None:
        flags |= 0x80
    if packet.password is not None:
        flags |= 0x40
    if packet.will is not None:
        _check_qos(packet.will.qos)
        flags |= 0x04 | packet.will.qos << 3 | (0x20 if packet.will.retain else 0)
    return flags


def _will(body: bytearray, will: Will, version: ProtocolVersion) -> None:
    if version is V5:
        write_properties(body, will.properties, PacketType.WILL)
    body += topic_field(will.topic)
    write_binary(body, will.payload)


def _connack(body: bytearray, packet: ConnAck, version: ProtocolVersion) -> int:
    if packet.session_present and packet.reason:  # [MQTT-3.2.2-6]
        raise LocalProtocolError("CONNACK refuses and speaks of a session")
    body.append(packet.session_present)
    if version is V5:
        _write_reason(body, packet.reason, PacketType.CONNACK)
        write_properties(body, packet.properties, PacketType.CONNACK)
    elif packet.reason in CONNACK_311:
        body.append(CONNACK_311[packet.reason])
    else:
        raise LocalProtocolError(f"MQTT 3.1.1 has no return code for {packet.reason.name}")
    return 0x20


def _acknowledgement(body: bytearray, packet: PubAck | PubRec | PubRel | PubComp, version: ProtocolVersion) -> int:
    first = _ACKS[type(packet)]
    _write_packet_id(body, packet.packet_id)
    if version is V5:
        _write_ending(body, packet.reason, packet.properties, PacketType(first >> 4))
    return first


def _write_ending(body: bytearray, reason: ReasonCode, properties: Properties, packet: PacketType) -> None:
    """Append reason and properties, both left out when they say nothing, or the properties alone."""
    bare = properties is NO_PROPERTIES or properties == NO_PROPERTIES
    if bare and not reason:
        return
    _write_reason(body, reason, packet)
    if not bare:
        write_properties(body, properties, packet)


def _subscribe(body: bytearray, packet: Subscribe, version: ProtocolVersion) -> int:
    if not packet.subscriptions:  # [MQTT-3.8.3-2]
        raise LocalProtocolError("SUBSCRIBE without a topic filter")
    _write_packet_id(body, packet.packet_id)
    if version is V5:
        write_properties(body, packet.properties, PacketType.SUBSCRIBE)
    else:
        _refuse_properties(packet.properties, "SUBSCRIBE")
    for wanted in packet.subscriptions:
        _check_qos(wanted.qos)
        options = (
            wanted.qos
            | (0x04 if wanted.no_local else 0)
            | (0x08 if wanted.retain_as_published else 0)
            | wanted.retain_handling << 4
        )
        if version is V311 and options > 2:
            raise LocalProtocolError("MQTT 3.1.1 has no subscription option beside the QoS")
        if wanted.no_local and wanted.topic_filter.startswith(SHARE):  # [MQTT-3.8.3-4]
            raise LocalProtocolError("no local on a shared subscription")
        write_string(body, wanted.topic_filter)
        body.append(options)
    return 0x82


def _suback(body: bytearray, packet: SubAck, version: ProtocolVersion) -> int:
    _write_packet_id(body, packet.packet_id)
    if version is V5:
        write_properties(body, packet.properties, PacketType.SUBACK)
    _write_reasons(body, packet.reasons, PacketType.SUBACK, version)
    return 0x90


def _write_reasons(
    body: bytearray, reasons: tuple[ReasonCode, ...], packet: PacketType, version: ProtocolVersion
) -> None:
    if not reasons:
        raise LocalProtocolError(f"{packet.name} without a reason")
    for reason in reasons:
        # MQTT 3.1.1 knows one failure. [MQTT-3.9.3-2]
        _write_reason(body, ReasonCode.UNSPECIFIED_ERROR if version is V311 and reason >= 0x80 else reason, packet)


def _unsubscribe(body: bytearray, packet: Unsubscribe, version: ProtocolVersion) -> int:
    if not packet.topic_filters:  # [MQTT-3.10.3-2]
        raise LocalProtocolError("UNSUBSCRIBE without a topic filter")
    _write_packet_id(body, packet.packet_id)
    if version is V5:
        write_properties(body, packet.properties, PacketType.UNSUBSCRIBE)
    else:
        _refuse_properties(packet.properties, "UNSUBSCRIBE")
    for topic_filter in packet.topic_filters:
        write_string(body, topic_filter)
    return 0xA2


def _unsuback(body: bytearray, packet: UnsubAck, version: ProtocolVersion) -> int:
    _write_packet_id(body, packet.packet_id)
    if version is V5:
        write_properties(body, packet.properties, PacketType.UNSUBACK)
        _write_reasons(body, packet.reasons, PacketType.UNSUBACK, version)
    return 0xB0


def _disconnect(body: bytearray, packet: Disconnect, version: ProtocolVersion) -> int:
    if version is V5:
        _write_ending(body, packet.reason, packet.properties, PacketType.DISCONNECT)
    elif packet.reason:  # said without it, it would be an orderly end, and the server would forget the will
        raise LocalProtocolError(f"a DISCONNECT of MQTT 3.1.1 cannot say {packet.reason.name}")
    return 0xE0


def _auth(body: bytearray, packet: Auth, version: ProtocolVersion) -> int:
    if version is V311:
        raise LocalProtocolError("AUTH is not a packet of MQTT 3.1.1")
    if packet.properties.authentication_method is None and packet != Auth():  # 3.15.2.2.2
        raise LocalProtocolError("AUTH without an authentication method")
    _write_ending(body, packet.reason, packet.properties, PacketType.AUTH)
    return 0xF0


def _check_qos(qos: int) -> None:
    if not 0 <= qos <= 2:
        raise LocalProtocolError(f"QoS {qos}")


def _check_packet_id(packet_id: int) -> None:
    if not 1 <= packet_id <= 65_535:
        raise LocalProtocolError(f"packet identifier {packet_id}")


def _write_packet_id(body: bytearray, packet_id: int) -> None:
    _check_packet_id(packet_id)
    body += packet_id.to_bytes(2, "big")


def _write_reason(body: bytearray, reason: ReasonCode, packet: PacketType) -> None:
    if reason not in REASONS[packet]:
        raise LocalProtocolError(f"{packet.name} cannot say {reason.name}")
    body.append(reason)


def _refuse_properties(properties: Properties, packet: str) -> None:
    if properties != NO_PROPERTIES:
        raise LocalProtocolError(f"{packet} of MQTT 3.1.1 has no properties")
