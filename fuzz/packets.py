"""Target `packets`: any bytes give packets or a RemoteProtocolError, and never another exception.

Besides: a cut in the stream changes nothing; a topic seen before, which takes the fast path, is read as one never seen;
nothing is stored after an error; every packet that comes out can be encoded, and what was encoded decodes to the same
packet.

Input: one byte that chooses the version (odd: MQTT 5), then the stream.
"""

from collections.abc import Iterable

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import Connect, Packet, ProtocolVersion, Publish
from tests.mqtt.strategies import conversations

# Small, so that short inputs reach every bound.
LIMITS = DecodeLimits(topic_bytes=64, topic_levels=8, user_properties=4, payload_size=256, client_id_bytes=23)
LARGEST = 8 * 1024  # bytes of an input: 4,000 packets at most
LONGEST_CPU = 0.25  # seconds: they are read four times, and each packet once more by itself
RECURRING = ("a", "a/b")  # stand in many inputs of the corpus, also where PUBLISH is malformed
Outcome = tuple[tuple[Packet, ...], str]


def _bytes_of(conversation: tuple[ProtocolVersion, list[Packet]]) -> bytes:
    version, packets = conversation
    return bytes((version,)) + b"".join(encode(packet, version) for packet in packets)


strategy: SearchStrategy[bytes] = st.one_of(st.binary(max_size=100), conversations().map(_bytes_of))


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the kinds of packets, and the error."""
    version = ProtocolVersion.V5 if data[:1] and data[0] & 1 else ProtocolVersion.V311
    stream = data[1:]
    packets, error = whole = _decode(version, [stream])
    for most in (64, 9):  # pieces, down to single bytes
        size = len(stream) // most + 1
        assert _decode(version, (stream[i : i + size] for i in range(0, len(stream), size))) == whole
    seen = [Publish(topic, b"") for topic in (*RECURRING, *_topics(packets))]
    prefix = [encode(packet, version) for packet in seen]
    assert _decode(version, [*prefix, stream]) == ((*seen, *packets), error)
    for packet in packets:
        if isinstance(packet, Connect):
            version = packet.version
        assert _decode(version, [encode(packet, version)]) == ((packet,), "")
    return tuple(type(packet).__name__ for packet in packets[-2:]), error[:24]


def _topics(packets: Iterable[Packet]) -> list[str]:
    return [packet.topic for packet in packets if isinstance(packet, Publish)]


def _decode(version: ProtocolVersion, pieces: Iterable[bytes]) -> Outcome:
    decoder = Decoder(version=version, max_packet_size=1024, limits=LIMITS, topic_alias_maximum=2)
    found: list[Packet] = []
    for piece in pieces:
        decoder.feed(piece)
        try:
            while batch := decoder.packets():
                found += batch
        except RemoteProtocolError as error:
            assert decoder.buffered == 0
            return tuple(found), f"{error.reason.name}: {error}"
        assert decoder.buffered < 1024
    return tuple(found), ""
