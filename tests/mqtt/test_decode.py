"""mqttproxy/mqtt/decode.py: its laws by hypothesis, exact packets, bounds. What is refused and why: test_bodies.py."""

import tracemalloc
from itertools import pairwise

import mqtt5
import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import (
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
from tests.mqtt.decoding import LIMITS, MEGABYTE, decode, decoder, hexed
from tests.mqtt.strategies import conversations, packets, versions

V311 = ProtocolVersion.V311
V5 = ProtocolVersion.V5
BOTH = (V311, V5)


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


def test_A3_a_declared_length_allocates_nothing() -> None:
    ours = Decoder(max_packet_size=300_000_000, limits=LIMITS)
    tracemalloc.start()
    try:
        ours.feed(hexed("30 ffffff7f 0001 61"))
        assert ours.packets() == []
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_A3_a_packet_that_is_too_large_is_refused_on_its_fixed_header() -> None:
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
