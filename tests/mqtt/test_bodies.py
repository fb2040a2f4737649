"""mqttproxy/mqtt/bodies.py: the rows A, B and C of BAD-INPUT byte by byte, read by a whole decoder."""

import pytest

from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Packet,
    PingReq,
    ProtocolVersion,
    PubAck,
    Publish,
    Subscribe,
    Subscription,
)
from mqttproxy.mqtt.reasons import ReasonCode
from tests.mqtt.decoding import decode, decoder, hexed

V311 = ProtocolVersion.V311
V5 = ProtocolVersion.V5
BOTH = (V311, V5)
MALFORMED = ReasonCode.MALFORMED_PACKET
PROTOCOL = ReasonCode.PROTOCOL_ERROR
CLIENT_ID = ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
TOPIC = ReasonCode.TOPIC_NAME_INVALID
ALIAS = ReasonCode.TOPIC_ALIAS_INVALID
VERSION = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
TOO_LARGE = ReasonCode.PACKET_TOO_LARGE
SLASHES = "2f" * 65_535
DEEP = "2f" * 128
ONLY_311 = (V311,)
ONLY_5 = (V5,)


# Each entry: row of BAD-INPUT or a name, versions, bytes, reason. Spaces are for the reader.
CATALOGUE: list[tuple[str, tuple[ProtocolVersion, ...], str, ReasonCode]] = [
    ("A1", BOTH, "30 ffffffff 01", MALFORMED),
    ("A1", BOTH, "c0 80808080 00", MALFORMED),
    ("A1", BOTH, "30 80808080", MALFORMED),
    ("A2", BOTH, "c0 8000", MALFORMED),
    ("A2", BOTH, "30 858000 0001 61 00 78", MALFORMED),
    ("A2", BOTH, "30 85808000", MALFORMED),
    ("A3", BOTH, "30 ffffff7f", TOO_LARGE),
    ("A3", BOTH, "10 ffffff7f", TOO_LARGE),
    ("A4", ONLY_5, "3004 0001 61 05", MALFORMED),
    ("A4", ONLY_5, "3005 0001 61 80 00", MALFORMED),
    ("A4", ONLY_5, "3008 0001 61 ffffffff 7f", MALFORMED),
    ("A4", ONLY_5, "100d 0004 4d515454 05 02 003c 05 0000", MALFORMED),
    ("A5", BOTH, "3003 0002 61", MALFORMED),
    ("A5", BOTH, "3002 0001", MALFORMED),
    ("A5", BOTH, "3001 00", MALFORMED),
    ("A5", BOTH, "3000", MALFORMED),
    ("A5", BOTH, "3204 0001 61 00", MALFORMED),
    ("A5", ONLY_5, "3205 0001 61 0001", MALFORMED),
    ("A5", ONLY_5, "3003 0001 61", MALFORMED),
    ("A5", BOTH, "8204 0001 0001", MALFORMED),
    ("A5", ONLY_311, "8205 0001 0001 61", MALFORMED),
    ("A5", ONLY_5, "8206 0001 00 0001 61", MALFORMED),
    ("A5", ONLY_311, "a205 0001 0002 61", MALFORMED),
    ("A5", BOTH, "4001 00", MALFORMED),
    ("A5", BOTH, "4000", MALFORMED),
    ("A5", ONLY_311, "4003 0001 00", MALFORMED),
    ("A5", ONLY_5, "4005 0001 00 00 00", MALFORMED),
    ("A5", BOTH, "c001 00", MALFORMED),
    ("A5", BOTH, "d001 00", MALFORMED),
    ("A5", ONLY_311, "e001 00", MALFORMED),
    ("A5", ONLY_5, "e003 00 00 00", MALFORMED),
    ("A5", ONLY_311, "b003 0001 00", MALFORMED),
    ("A5", ONLY_311, "2003 00 00 00", MALFORMED),
    ("A5", BOTH, "2001 00", MALFORMED),
    ("A5", BOTH, "1000", MALFORMED),
    ("A5", BOTH, "1006 0004 4d515454", MALFORMED),
    ("A5", BOTH, "100c 0004 4d515454 05 02 003c 00 00", MALFORMED),
    ("A5", BOTH, "100d 0004 4d515454 05 02 003c 00 0005", MALFORMED),
    ("A5", BOTH, "100e 0004 4d515454 05 02 003c 00 0000 00", MALFORMED),
    ("A5", BOTH, "100d 0004 4d515454 04 02 003c 0000 00", MALFORMED),
    ("A5", BOTH, "100d 0004 4d515454 05 82 003c 00 0000", MALFORMED),
    ("A6", BOTH, "0000", MALFORMED),
    ("A6", BOTH, "0f00", MALFORMED),
    ("A6", BOTH, "11 0d", MALFORMED),
    ("A6", BOTH, "8006 0001 0001 61 00", MALFORMED),
    ("A6", BOTH, "8306 0001 0001 61 00", MALFORMED),
    ("A6", BOTH, "a005 0001 0001 61", MALFORMED),
    ("A6", BOTH, "6002 0001", MALFORMED),
    ("A6", BOTH, "6302 0001", MALFORMED),
    ("A6", BOTH, "4102 0001", MALFORMED),
    ("A6", BOTH, "5202 0001", MALFORMED),
    ("A6", BOTH, "7802 0001", MALFORMED),
    ("A6", BOTH, "9103 0001 00", MALFORMED),
    ("A6", BOTH, "b202 0001", MALFORMED),
    ("A6", BOTH, "c100", MALFORMED),
    ("A6", BOTH, "d800", MALFORMED),
    ("A6", BOTH, "e100", MALFORMED),
    ("A6", BOTH, "f100", MALFORMED),
    ("A6", BOTH, "2102 0000", MALFORMED),
    ("A6", ONLY_311, "f000", MALFORMED),
    ("A11", ONLY_5, "30 ce03 0001 61 c903" + "26 0001 61 0001 61" * 65 + "0000", ReasonCode.QUOTA_EXCEEDED),
    ("A12", ONLY_5, "3008 0001 61 04 01000100", PROTOCOL),
    ("A12", ONLY_5, "3006 0001 61 02 0102", PROTOCOL),
    ("A12", ONLY_5, "3009 0001 61 05 1100000001", MALFORMED),
    ("A12", ONLY_5, "3006 0001 61 02 0b00", PROTOCOL),
    ("A12", ONLY_5, "8209 0001 02 0b00 0001 61 00", PROTOCOL),
    ("A12", BOTH, "1010 0004 4d515454 05 02 003c 03 210000 0000", PROTOCOL),
    ("A12", BOTH, "1012 0004 4d515454 05 02 003c 05 2700000000 0000", PROTOCOL),
    ("A12", BOTH, "1010 0004 4d515454 05 02 003c 03 230001 0000", MALFORMED),
    ("B1", BOTH, "3004 0002 c080", MALFORMED),
    ("B1", BOTH, "3005 0003 eda080", MALFORMED),
    ("B1", BOTH, "3005 0003 610062", MALFORMED),
    ("B1", BOTH, "3003 0001 ff", MALFORMED),
    ("B1", BOTH, "3006 0004 f4908080", MALFORMED),
    ("B1", ONLY_311, "8206 0001 0001 ff 00", MALFORMED),
    ("B1", ONLY_5, "8207 0001 00 0001 00 00", MALFORMED),
    ("B1", ONLY_5, "a206 0001 00 0001 ff", MALFORMED),
    ("B1", BOTH, "100e 0004 4d515454 05 02 003c 00 0001 00", CLIENT_ID),
    ("B1", BOTH, "100e 0004 4d515454 05 02 003c 00 0001 ff", CLIENT_ID),
    ("B1", BOTH, "100f 0004 4d515454 04 02 003c 0003 eda080", CLIENT_ID),
    ("B1", BOTH, "1010 0004 4d515454 05 82 003c 00 0000 0001 ff", MALFORMED),
    ("B2", BOTH, "3003 0001 1f", MALFORMED),
    ("B2", BOTH, "3003 0001 7f", MALFORMED),
    ("B2", BOTH, "3004 0002 c29f", MALFORMED),
    ("B2", BOTH, "3005 0003 efbfbf", MALFORMED),
    ("B2", BOTH, "3005 0003 efb790", MALFORMED),
    ("B2", BOTH, "3006 0004 f09fbfbe", MALFORMED),
    ("B2", BOTH, "100e 0004 4d515454 05 02 003c 00 0001 0a", CLIENT_ID),
    ("B3", BOTH, "3003 0000 00", PROTOCOL),
    ("B3", ONLY_311, "3002 0000", PROTOCOL),
    ("B3", BOTH, "1012 0004 4d515454 05 06 003c 00 0000 00 0000 0000", TOPIC),
    ("B4", BOTH, "3004 0001 2b 00", TOPIC),
    ("B4", BOTH, "3006 0003 612f23 00", TOPIC),
    ("B4", ONLY_5, "3009 0001 61 05 080002612b", TOPIC),
    ("B4", BOTH, "1013 0004 4d515454 05 06 003c 00 0000 00 0001 23 0000", TOPIC),
    ("B4", BOTH, "1011 0004 4d515454 04 06 003c 0000 0001 2b 0000", TOPIC),
    ("B5", BOTH, "30 828004 ffff" + SLASHES + "00", TOPIC),
    ("B5", BOTH, "30 8301 0080" + DEEP + "00", TOPIC),
    ("B5", BOTH, "30 8408 0401" + "61" * 1025 + "00", TOPIC),
    ("B6", ONLY_5, "8210 0001 00 000a 2473686172652f672f61 04", PROTOCOL),
    ("C1", BOTH, "100c 0004 4d515454 04 00 003c 0000", CLIENT_ID),
    ("C2", BOTH, "100d 0004 4d515454 06 02 003c 00 0000", VERSION),
    ("C2", BOTH, "100c 0004 4d515454 03 02 003c 0000", VERSION),
    ("C2", BOTH, "100e 0006 4d5149736470 04 02 003c 0000", VERSION),
    ("C2", BOTH, "100c 0004 6d717474 04 02 003c 0000", VERSION),
    ("C2", BOTH, "1008 0000 05 02 003c 00 00", VERSION),
    ("C2", BOTH, "100c 0004 4d51ff00 05 02 003c 0000", VERSION),
    ("C2", BOTH, "100d 0004 4d515454 05 03 003c 00 0000", MALFORMED),
    ("C2", BOTH, "100c 0004 4d515454 04 03 003c 0000", MALFORMED),
    ("C2", BOTH, "100d 0004 4d515454 05 0a 003c 00 0000", MALFORMED),
    ("C2", BOTH, "100d 0004 4d515454 05 12 003c 00 0000", MALFORMED),
    ("C2", BOTH, "100c 0004 4d515454 04 22 003c 0000", MALFORMED),
    ("C2", BOTH, "100f 0004 4d515454 04 42 003c 0000 0001 70", MALFORMED),
    ("C3", BOTH, "1013 0004 4d515454 05 1e 003c 00 0000 00 0001 61 0000", MALFORMED),
    ("C3", BOTH, "3606 0001 61 0001 00", MALFORMED),
    ("C3", BOTH, "3804 0001 61 00", MALFORMED),
    ("C3", BOTH, "3904 0001 61 00", MALFORMED),
    ("C3", BOTH, "3206 0001 61 0000 00", PROTOCOL),
    ("C3", BOTH, "3406 0001 61 0000 00", PROTOCOL),
    ("C3", BOTH, "4002 0000", PROTOCOL),
    ("C3", BOTH, "5002 0000", PROTOCOL),
    ("C3", BOTH, "6202 0000", PROTOCOL),
    ("C3", BOTH, "7002 0000", PROTOCOL),
    ("C3", ONLY_311, "8206 0000 0001 61 00", PROTOCOL),
    ("C3", ONLY_5, "a206 0000 00 0001 61", PROTOCOL),
    ("C4", ONLY_5, "3007 0001 61 03 230000", ALIAS),
    ("C4", ONLY_5, "3007 0001 61 03 230004", ALIAS),
    ("C4", ONLY_5, "3006 0000 03 230001", PROTOCOL),
    ("SUBSCRIBE without a filter", ONLY_311, "8202 0001", PROTOCOL),
    ("SUBSCRIBE without a filter", ONLY_5, "8203 0001 00", PROTOCOL),
    ("UNSUBSCRIBE without a filter", ONLY_5, "a203 0001 00", PROTOCOL),
    ("subscription of QoS 3", ONLY_311, "8206 0001 0001 61 03", PROTOCOL),
    ("subscription of QoS 3", ONLY_5, "8207 0001 00 0001 61 03", PROTOCOL),
    ("retain handling 3", ONLY_5, "8207 0001 00 0001 61 30", PROTOCOL),
    ("reserved subscription option", ONLY_5, "8207 0001 00 0001 61 40", MALFORMED),
    ("reserved subscription option", ONLY_311, "8206 0001 0001 61 04", MALFORMED),
    ("H1 SUBACK without codes", ONLY_311, "9002 0001", PROTOCOL),
    ("H1 SUBACK without codes", ONLY_5, "9003 0001 00", PROTOCOL),
    ("H1 SUBACK with a wrong code", ONLY_311, "9003 0001 87", PROTOCOL),
    ("H1 SUBACK with a wrong code", ONLY_5, "9004 0001 00 03", PROTOCOL),
    ("H1 UNSUBACK without codes", ONLY_5, "b003 0001 00", PROTOCOL),
    ("H1 CONNACK flags", BOTH, "2003 02 00 00", MALFORMED),
    ("H1 CONNACK code", ONLY_311, "2002 00 06", PROTOCOL),
    ("H1 CONNACK code", ONLY_5, "2003 00 01 00", PROTOCOL),
    ("H1 CONNACK refuses a session", ONLY_311, "2002 01 05", PROTOCOL),
    ("H1 CONNACK refuses a session", ONLY_5, "2003 01 87 00", PROTOCOL),
    ("reason of another packet", ONLY_5, "4003 0001 01", PROTOCOL),
    ("reason of another packet", ONLY_5, "6203 0001 87", PROTOCOL),
    ("reason of another packet", ONLY_5, "e001 01", PROTOCOL),
    ("AUTH without a method", ONLY_5, "f001 18", PROTOCOL),
    ("AUTH without a method", ONLY_5, "f002 18 00", PROTOCOL),
]


@pytest.mark.parametrize(
    ("versions_of_row", "text", "reason"),
    [pytest.param(versions_, text, reason, id=f"{row}-{text[:40]}") for row, versions_, text, reason in CATALOGUE],
)
def test_bad_input_is_refused_with_the_reason_of_its_row(
    versions_of_row: tuple[ProtocolVersion, ...], text: str, reason: ReasonCode
) -> None:
    data = hexed(text)
    for version in versions_of_row:
        assert decode(version, data) == ([], reason)
        # Behind good packets, which fill the cache of topics, and byte by byte.
        good: list[Packet] = [Publish("a", b"x"), PingReq()]
        prefix = b"".join(encode(packet, version) for packet in good)
        assert decode(version, prefix + data) == (good, reason)
        if len(data) < 2000:
            assert decode(version, *(bytes((byte,)) for byte in prefix + data)) == (good, reason)


@pytest.mark.parametrize(
    ("reasons", "make"),
    [
        ({row[3] for row in CATALOGUE if hexed(row[2])[0] == 0x10} - {TOO_LARGE}, "2003 00 {:02x} 00"),
        ({row[3] for row in CATALOGUE if hexed(row[2])[0] != 0x10}, "e001 {:02x}"),
    ],
    ids=["CONNACK", "DISCONNECT"],
)
def test_every_reason_can_be_said_in_the_answer_it_needs(reasons: set[ReasonCode], make: str) -> None:
    for reason in reasons:
        assert decode(V5, hexed(make.format(reason)))[1] is None


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a+", "$share/", "$share/ab", "$share/g+/t", "/" * 65_535])
@pytest.mark.parametrize("version", BOTH)
def test_B6_an_ill_formed_filter_is_left_to_suback(version: ProtocolVersion, topic_filter: str) -> None:
    packet = Subscribe(1, (Subscription(topic_filter),))
    assert decode(version, encode(packet, version)) == ([packet], None)


def test_an_empty_reason_and_empty_properties_are_as_good_as_none() -> None:
    assert decode(V5, hexed("4003 0001 00" + "4004 0001 00 00")) == ([PubAck(1), PubAck(1)], None)
    ours = decoder()
    ours.feed(hexed("4004 0001 00 00"))
    (packet,) = ours.packets()
    assert isinstance(packet, PubAck)
    assert packet.properties is NO_PROPERTIES
