"""`Flow.receive` and `Decoder.decode` are short cuts: whatever arrives, they mean the same as the long way round."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, strategies as st

from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import Packet, ProtocolVersion
from mqttproxy.mqtt.server import ServerConnection
from tests.mqtt.machines import open_server
from tests.mqtt.strategies import packets

VERSIONS = st.sampled_from(ProtocolVersion)
CUTS = st.lists(st.integers(0, 400), max_size=6)


def the_long_way(conn: ServerConnection, piece: bytes) -> tuple[list[Event], str]:
    events: list[Event] = []
    conn.receive_data(piece, 1.0)
    try:
        while batch := conn.next_batch(1.0):
            events += batch
    except RemoteProtocolError as error:
        return events, str(error)
    return events, ""


def the_short_way(conn: ServerConnection, piece: bytes) -> tuple[list[Event], str]:
    events: list[Event] = []
    try:
        events += conn.receive(memoryview(piece), 1.0)
        while conn.has_unread and (batch := conn.next_batch(1.0)):
            events += batch
    except RemoteProtocolError as error:
        return events, str(error)
    return events, ""


def assert_same(version: ProtocolVersion, data: bytes, cuts: Sequence[int]) -> None:
    one, other = open_server(version), open_server(version)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for begin, end in pairwise(places):
        if begin < end:
            assert the_short_way(one, data[begin:end]) == the_long_way(other, data[begin:end])
            assert one.data_to_send() == other.data_to_send()
            assert (one.state, one.last_packet, one.unacknowledged) == (
                other.state,
                other.last_packet,
                other.unacknowledged,
            )


@given(VERSIONS, st.data(), CUTS)
def test_packets_cut_anywhere(version: ProtocolVersion, data: st.DataObject, cuts: list[int]) -> None:
    sent: list[Packet] = data.draw(st.lists(packets(version), max_size=6))
    assert_same(version, b"".join(encode(packet, version) for packet in sent), cuts)


@given(VERSIONS, st.data(), st.binary(max_size=40), CUTS)
def test_packets_with_anything_in_between(
    version: ProtocolVersion, data: st.DataObject, noise: bytes, cuts: list[int]
) -> None:
    before: list[Packet] = data.draw(st.lists(packets(version), max_size=3))
    behind: list[Packet] = data.draw(st.lists(packets(version), max_size=2))
    stream = [*(encode(packet, version) for packet in before), noise, *(encode(packet, version) for packet in behind)]
    assert_same(version, b"".join(stream), cuts)
