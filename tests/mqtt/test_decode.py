"""mqttproxy/mqtt/decode.py and bodies.py: laws by hypothesis, and the rows A, B and C of BAD-INPUT byte by byte."""

import tracemalloc
from itertools import pairwise

import mqtt5
import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    Connect,
    Packet,
    PingReq,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    Subscribe,
    Subscription,
)
from mqttproxy.mqtt.reasons import ReasonCode
from tests.mqtt.strategies import conversations, packets, versions

V311 = ProtocolVersion.V311
V5 = ProtocolVersion.V5
BOTH = (V311, V5)
LIMITS = DecodeLimits()
MEGABYTE = 1024 * 1024

Outcome = tuple[list[Packet], ReasonCode | None]


def decoder(version: ProtocolVersion = V5, limits: DecodeLimits = LIMITS) -> Decoder:
    return Decoder(version=version, max_packet_size=MEGABYTE, limits=limits, topic_alias_maximum=3)


def drain(ours: Decoder) -> Outcome:
    """Return everything that comes out, and the reason if it ends in an error."""
    found: list[Packet] = []
    try:
        while batch := ours.packets():
            found += batch
    except RemoteProtocolError as error:
        assert ours.buffered == 0
        return found, error.reason
    return found, None


def decode(version: ProtocolVersion, *pieces: bytes, limits: DecodeLimits = LIMITS) -> Outcome:
    """Feed the pieces one after the other and drain after each."""
    ours = decoder(version, limits)
    found: list[Packet] = []
    for piece in pieces:
        ours.feed(piece)
        batch, reason = drain(ours)
        found += batch
        if reason is not None:
            return found, reason
    return found, None


@st.composite
def mutated_streams(draw: st.DrawFn) -> tuple[ProtocolVersion, bytes]:
    """Draw good packets with some bytes changed, dropped or put in."""
    version, said = draw(conversations())
    data = bytearray(b"".join(encode(packet, version) for packet in said))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 2)):
            case 0:
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[place : place + draw(st.integers(1, 4))]
            case _:
                data[place:place] = draw(st.binary(max_size=4))
    return version, bytes(data)


@given(conversations())
def test_what_is_encoded_is_decoded(conversation: tuple[ProtocolVersion, list[Packet]]) -> None:
    version, said = conversation
    assert decode(version, b"".join(encode(packet, version) for packet in said)) == (said, None)


@given(versions.flatmap(lambda version: st.tuples(st.just(version), packets(version))))
def test_a_packet_is_not_there_before_its_last_byte(case: tuple[ProtocolVersion, Packet]) -> None:
    version, packet = case
    data = encode(packet, version)
    ours = decoder(version)
    ours.feed(data[:-1])
    assert ours.packets() == []
    assert ours.buffered == len(data) - 1
    ours.feed(data[-1:])
    assert ours.packets() == [packet]
    assert ours.buffered == 0


@given(mutated_streams(), st.lists(st.integers(0, 400)))
def test_a_cut_in_the_stream_changes_nothing(stream: tuple[ProtocolVersion, bytes], cuts: list[int]) -> None:
    version, data = stream
    places = [0, *sorted(cuts), len(data)]
    pieces = [data[start:stop] for start, stop in pairwise(places)]
    whole = decode(version, data)
    assert decode(version, *pieces) == whole
    assert decode(version, *(bytes((byte,)) for byte in data)) == whole


@given(versions, st.binary(max_size=200))
def test_any_bytes_are_packets_or_a_protocol_error(version: ProtocolVersion, data: bytes) -> None:
    decode(version, data)


@given(st.integers(0, 255), versions, st.binary(max_size=60))
def test_any_body_is_a_packet_or_a_protocol_error(first: int, version: ProtocolVersion, body: bytes) -> None:
    found, reason = decode(version, bytes((first, len(body))) + body)
    assert len(found) == (reason is None)


@given(mutated_streams())
def test_what_we_read_can_be_said_again_and_mqtt5_reads_it_too(stream: tuple[ProtocolVersion, bytes]) -> None:
    version, data = stream
    found, _ = decode(version, data)
    for packet in found:
        if isinstance(packet, Connect):
            version = packet.version
        said = encode(packet, version)
        assert decode(version, said) == ([packet], None)
        if version is V5 and packet != Auth():
            assert mqtt5.read(memoryview(said))[1] == len(said)


# --- exact packets


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


CONNECT_5 = "100d 0004 4d515454 05 02 003c 00 0000"
CONNECT_311 = "100c 0004 4d515454 04 02 003c 0000"


def test_mqtt_3_1_is_read_as_3_1_1() -> None:
    ours = decoder(V5)
    ours.feed(hexed("100f 0006 4d5149736470 03 02 003c 0001 63"))
    assert ours.packets() == [Connect(client_id="c", version=V311, keep_alive=60)]
    assert ours.version is V311
    assert ours.is_version_known


def test_a_batch_ends_at_a_connect_so_that_it_can_be_answered_first() -> None:
    ours = decoder(V5)
    ours.feed(hexed(CONNECT_311 + "c000" + "8206 0001 0001 61 01"))
    assert ours.packets() == [Connect(client_id="", version=V311, keep_alive=60)]
    assert ours.buffered == 10
    assert ours.packets() == [PingReq(), Subscribe(1, (Subscription("a", 1),))]
    assert ours.packets() == []


def test_good_packets_before_a_bad_one_come_first_and_then_every_call_raises() -> None:
    ours = decoder()
    ours.feed(hexed("c000 4002 0001 0000 c000"))
    assert ours.packets() == [PingReq(), PubAck(1)]
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="no packet starts with 0x00") as caught:
            ours.packets()
        assert caught.value.reason is ReasonCode.MALFORMED_PACKET
    ours.feed(b"more")
    assert ours.buffered == 0


def test_the_version_is_known_even_of_a_connect_that_is_refused() -> None:
    for text, version in (
        ("100d 0004 4d515454 05 03 003c 00 0000", V5),
        ("100c 0004 4d515454 04 03 003c 0000", V311),
        ("100c 0004 4d515454 06 02 003c 0000", V5),
        ("100c 0004 4d515454 02 02 003c 0000", V311),
        ("100c 0004 4d515454 84 02 003c 0000", V311),  # a bridge of Mosquitto
    ):
        ours = decoder(V311 if version is V5 else V5)
        assert not ours.is_version_known
        ours.feed(hexed(text))
        with pytest.raises(RemoteProtocolError):
            ours.packets()
        assert ours.is_version_known
        assert ours.version is version


def test_feeding_takes_a_copy() -> None:
    for data in (bytearray(hexed("c000")), memoryview(bytearray(hexed("c000")))):
        ours = decoder()
        ours.feed(data)
        data[0] = 0
        assert ours.packets() == [PingReq()]


def test_a_topic_alias_is_resolved_and_belongs_to_this_connection_alone() -> None:
    ours = decoder()
    ours.feed(hexed("3008 0001 61 03 230002 78" + "3007 0000 03 230002 79" + "300b 0000 07 230002 03000174 7a"))
    assert ours.packets() == [
        Publish("a", b"x"),
        Publish("a", b"y"),
        Publish("a", b"z", properties=Properties(content_type="t")),
    ]
    ours.feed(hexed("3008 0001 62 03 230002 78" + "3007 0000 03 230002 79"))
    assert [packet.topic for packet in ours.packets() if isinstance(packet, Publish)] == ["b", "b"]
    assert decode(V5, hexed("3007 0000 03 230002 79")) == ([], ReasonCode.PROTOCOL_ERROR)


def test_a_topic_is_one_string_however_often_it_comes() -> None:
    first, second = decoder(), decoder()
    topics = set()
    for ours in (first, second):
        for _ in range(2):
            ours.feed(hexed("3008 0005 612f622f63 00"))
            (packet,) = ours.packets()
            assert isinstance(packet, Publish)
            topics.add(id(packet.topic))
    assert len(topics) == 1


def test_the_topics_remembered_are_bounded() -> None:
    ours = decoder()
    for number in range(1000):
        ours.feed(encode(Publish(f"t/{number}", b""), V5) + encode(Publish("x" * 900 + str(number), b""), V5))
        assert len(ours.packets()) == 2
    assert len(ours._topics) <= 256
    assert max(map(len, ours._topics)) <= 256


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_remembered_topic_is_read_as_carefully_as_a_new_one(version: ProtocolVersion, qos: int) -> None:
    """Each cut of the body, and a packet behind it, with and without the topic in the cache."""
    good = encode(Publish("a/b", b"0123", qos, packet_id=258 if qos else 0), version)
    for size in range(len(good) - 1):
        cut = bytes((good[0], size)) + good[2 : 2 + size]
        fresh = decode(version, cut + hexed("c000"))
        found, reason = decode(version, good + cut + hexed("c000"))
        assert (found[1:], reason) == fresh


# --- bounds


def test_A3_a_declared_length_allocates_nothing() -> None:  # noqa: N802 - the row's id
    ours = Decoder(max_packet_size=300_000_000, limits=LIMITS)
    tracemalloc.start()
    try:
        ours.feed(hexed("30 ffffff7f 0001 61"))
        assert ours.packets() == []
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_A3_a_packet_that_is_too_large_is_refused_on_its_fixed_header() -> None:  # noqa: N802 - the row's id
    ours = Decoder(max_packet_size=200, limits=LIMITS)
    ours.feed(hexed("30 c501 0001 61 00") + bytes(193))  # 197 + 3 bytes
    assert len(ours.packets()) == 1
    ours.feed(hexed("30 c601"))
    with pytest.raises(RemoteProtocolError, match="a packet of 201 bytes, more than 200") as caught:
        ours.packets()
    assert caught.value.reason is ReasonCode.PACKET_TOO_LARGE


def test_the_largest_packet_may_change_between_batches() -> None:
    ours = Decoder(max_packet_size=20, limits=LIMITS)
    ours.feed(hexed(CONNECT_5) + encode(Publish("a", bytes(100)), V5))
    assert len(ours.packets()) == 1
    ours.max_packet_size = 1000
    assert ours.packets() == [Publish("a", bytes(100))]


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("qos", [0, 1])
def test_a_payload_is_bounded_to_the_byte(version: ProtocolVersion, qos: int) -> None:
    limits = DecodeLimits(payload_size=100)
    largest = Publish("a", bytes(100), qos, packet_id=qos)
    too_large = encode(Publish("a", bytes(101), qos, packet_id=qos), version)
    data = encode(largest, version)
    assert decode(version, data + data + too_large, limits=limits) == ([largest] * 2, ReasonCode.PACKET_TOO_LARGE)


def test_many_small_pieces_of_a_large_packet_are_not_copied_again_and_again() -> None:
    ours = decoder(limits=DecodeLimits(payload_size=MEGABYTE))
    data = encode(Publish("a", bytes(500_000)), V5)
    for start in range(0, len(data), 10):  # 50,000 pieces: seconds if each copied what is stored
        assert ours.packets() == []
        ours.feed(data[start : start + 10])
    assert len(ours.packets()) == 1


def test_topic_filters_and_client_identifiers_are_bounded() -> None:
    limits = DecodeLimits(topic_filters=2, client_id_bytes=2)
    three = encode(Subscribe(1, (Subscription("a"),) * 3), V5)
    assert decode(V5, three, limits=limits) == ([], ReasonCode.QUOTA_EXCEEDED)
    assert decode(V5, hexed("a20c 0001 00 000161 000162 000163"), limits=limits) == ([], ReasonCode.QUOTA_EXCEEDED)
    assert decode(V5, hexed("9006 0001 00 000000"), limits=limits) == ([], ReasonCode.QUOTA_EXCEEDED)
    too_long = encode(Connect(client_id="abc"), V5)
    assert decode(V5, too_long, limits=limits) == ([], ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)


# --- the catalogue

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
def test_B6_an_ill_formed_filter_is_left_to_suback(version: ProtocolVersion, topic_filter: str) -> None:  # noqa: N802 - the row's id
    packet = Subscribe(1, (Subscription(topic_filter),))
    assert decode(version, encode(packet, version)) == ([packet], None)


def test_an_empty_reason_and_empty_properties_are_as_good_as_none() -> None:
    assert decode(V5, hexed("4003 0001 00" + "4004 0001 00 00")) == ([PubAck(1), PubAck(1)], None)
    ours = decoder()
    ours.feed(hexed("4004 0001 00 00"))
    (packet,) = ours.packets()
    assert isinstance(packet, PubAck)
    assert packet.properties is NO_PROPERTIES
