"""From bytes to packets: framing, and decoding of one direction of one connection.

`Decoder.packets` is the hottest loop of the proxy. PUBLISH without properties and plain acknowledgements are read in
place, by index; everything else, and whatever looks odd, goes to the careful functions of `bodies.py`.
"""

import sys
from typing import Final

from mqttproxy.mqtt import bodies
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.grammar import PacketType
from mqttproxy.mqtt.limits import DecodeLimits
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Connect,
    Packet,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
)
from mqttproxy.mqtt.properties import read_properties, without_topic_alias
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import check_topic_name
from mqttproxy.mqtt.wire import Reader, decode_string, malformed

__all__ = ["DecodeLimits", "Decoder"]

V5: Final = ProtocolVersion.V5
CONNECT: Final = 0x10
# The largest topic and the number of topics that a decoder remembers: at most some 100 KB for a connection.
_CACHED_BYTES: Final = 256
_CACHED_TOPICS: Final = 256

# (QoS, retain, DUP) by the first byte; None: not a PUBLISH, or one with QoS 3 or with DUP at QoS 0.
# [MQTT-3.3.1-4], [MQTT-3.3.1-2]
_PUBLISH: Final = tuple(
    (first >> 1 & 3, bool(first & 1), bool(first & 8))
    if first >> 4 == PacketType.PUBLISH and first & 6 != 6 and first & 14 != 8
    else None
    for first in range(256)
)
_PLAIN_ACKS: Final[dict[int, type[PubAck | PubRec | PubRel | PubComp]]] = {
    0x40: PubAck,
    0x50: PubRec,
    0x62: PubRel,
    0x70: PubComp,
}


def _is_known(first: int) -> bool:
    """Tell whether a packet may start with this byte: its type, and the flags that go with it. [MQTT-2.1.3-1]."""
    return _PUBLISH[first] is not None or first == CONNECT or first in bodies.BODIES


class Decoder:
    """Stores bytes, returns packets.

    Attributes:
        version: what the bytes are read as. The first CONNECT sets it itself, even one that is refused
            further on.
        is_version_known: a protocol level has been read; before that there is no version to answer in.
        max_packet_size: in bytes, checked on the fixed header, before the body is waited for.
        topic_alias_maximum: how many topic aliases the peer may use.
        has_unread: False: everything that was fed has been returned; `packets` would return nothing and raise nothing.
            Looked at for each read, so it is kept rather than worked out.

    """

    __slots__ = (
        "_aliases",
        "_fault",
        "_limits",
        "_needed",
        "_stored",
        "_topics",
        "has_unread",
        "is_version_known",
        "max_packet_size",
        "topic_alias_maximum",
        "version",
    )

    def __init__(
        self,
        *,
        version: ProtocolVersion = V5,
        max_packet_size: int,
        limits: DecodeLimits,
        topic_alias_maximum: int = 0,
    ) -> None:
        self.version = version
        self.is_version_known = False
        self.max_packet_size = max_packet_size
        self.topic_alias_maximum = topic_alias_maximum
        self.has_unread = False
        self._limits = limits
        self._stored = bytearray()
        self._needed = 2  # stored bytes below which there is no complete packet
        self._fault: tuple[str, ReasonCode] | None = None
        self._topics: dict[bytes, str] = {}
        self._aliases: dict[int, str] = {}

    @property
    def buffered(self) -> int:
        """Bytes stored and not yet decoded."""
        return len(self._stored)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Store a copy of what the peer sent; after an error it is dropped."""
        if self._fault is None:
            self._stored += data
            self.has_unread = bool(self._stored)

    def packets(self) -> list[Packet]:
        """Return every complete packet up to and with a CONNECT, after which version and limits may change.

        An empty list: more bytes are needed.

        Raises:
            RemoteProtocolError: the first thing left is bad. Good packets before it were returned first; from then on
                every call raises.

        """
        if self._fault is not None:
            raise RemoteProtocolError(*self._fault)
        if len(self._stored) < self._needed:
            return []
        data = bytes(self._stored)  # slices of bytes are bytes; at least one packet is complete, so this stays linear
        self._stored.clear()
        self.has_unread = False
        return self.decode(data)

    def decode(self, data: bytes | bytearray | memoryview) -> list[Packet]:
        """Do what `feed` and then `packets` do, without storing what is complete. Only when nothing is unread."""
        data = bytes(data)
        found: list[Packet] = []
        try:
            position = self._decode(data, found)
        except RemoteProtocolError as error:
            self._fault = str(error), error.reason
            self.has_unread = True
            if not found:
                raise
        else:
            if position < len(data):
                self._stored += data[position:]
                self.has_unread = True
        return found

    def _decode(self, data: bytes, found: list[Packet]) -> int:  # noqa: C901, PLR0912, PLR0915 - one loop without calls is what makes it fast
        """Append the packets in `data` to `found` and return where the first incomplete one starts."""
        add = found.append
        topics = self._topics
        v5 = self.version is V5
        maximum = self.max_packet_size
        payload_size = self._limits.payload_size
        position, end = 0, len(data)
        while True:
            if end - position < 2:
                self._needed = 2
                return position
            first = data[position]
            size = data[position + 1]
            start = position + 2
            if size > 127:
                if start < end and 0 < data[start] < 128:
                    size += (data[start] << 7) - 128
                    start += 1
                else:
                    size, start = _remaining_length(data, start, end)
                    if not start:
                        self._needed = end - position + 1
                        return position
            stop = start + size
            if stop > end or stop - position > maximum:
                self._needed = stop - position
                self._check_header(first, stop - position)
                return position
            flags = _PUBLISH[first]
            if flags is not None and size > 2:
                middle = start + 2 + (data[start] << 8 | data[start + 1])
                topic = topics.get(data[start + 2 : middle])
                # A topic that runs over the end of the packet leaves a negative rest, which passes no test below.
                rest = stop - middle
                if topic is not None and size <= payload_size:
                    qos, retain, dup = flags
                    if qos:
                        if v5:
                            if rest > 2 and not data[middle + 2]:
                                packet_id = data[middle] << 8 | data[middle + 1]
                                if packet_id:
                                    payload = data[middle + 3 : stop]
                                    add(Publish(topic, payload, qos, retain, NO_PROPERTIES, packet_id, dup))
                                    position = stop
                                    continue
                        elif rest > 1:
                            packet_id = data[middle] << 8 | data[middle + 1]
                            if packet_id:
                                payload = data[middle + 2 : stop]
                                add(Publish(topic, payload, qos, retain, NO_PROPERTIES, packet_id, dup))
                                position = stop
                                continue
                    elif v5:
                        if rest > 0 and not data[middle]:
                            add(Publish(topic, data[middle + 1 : stop], 0, retain))
                            position = stop
                            continue
                    elif rest >= 0:
                        add(Publish(topic, data[middle:stop], 0, retain))
                        position = stop
                        continue
            elif size == 2 and first in _PLAIN_ACKS:
                packet_id = data[start] << 8 | data[start + 1]
                if packet_id:
                    add(_PLAIN_ACKS[first](packet_id))
                    position = stop
                    continue
            add(self._decode_carefully(first, stop - position, Reader(data, start, stop)))
            position = stop
            if first == CONNECT:
                self._needed = 2
                return position

    def _decode_carefully(self, first: int, size: int, body: Reader) -> Packet:
        self._check_header(first, size)
        if first == CONNECT:
            return self._connect(body)
        flags = _PUBLISH[first]
        if flags is not None:
            return self._publish(flags, body)
        return bodies.BODIES[first](body, self.version, self._limits)

    def _check_header(self, first: int, size: int) -> None:
        if size > self.max_packet_size:
            raise RemoteProtocolError(
                f"a packet of {size} bytes, more than {self.max_packet_size}", ReasonCode.PACKET_TOO_LARGE
            )
        if not _is_known(first):
            raise malformed(f"no packet starts with {first:#04x}")

    def _connect(self, body: Reader) -> Connect:
        version, is_spoken = bodies.read_level(body)
        if not self.is_version_known:
            self.version = version
            self.is_version_known = True
        if not is_spoken:
            raise RemoteProtocolError("not MQTT 3.1, 3.1.1 or 5.0", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)
        return bodies.connect(body, version, self._limits)

    def _publish(self, flags: tuple[int, bool, bool], body: Reader) -> Publish:
        qos, retain, dup = flags
        raw = body.binary()
        packet_id = body.uint16() if qos else 0
        if qos and not packet_id:  # [MQTT-2.2.1-3]
            raise RemoteProtocolError("packet identifier 0")
        properties = NO_PROPERTIES
        if self.version is V5:
            properties = read_properties(body, PacketType.PUBLISH, self._limits)
        if properties.topic_alias is None:
            topic = self._topic(raw)
        else:
            topic = self._alias(raw, properties.topic_alias)
            properties = without_topic_alias(properties)
        payload = body.rest()
        if len(payload) > self._limits.payload_size:
            raise RemoteProtocolError(
                f"a payload of {len(payload)} bytes, more than {self._limits.payload_size}",
                ReasonCode.PACKET_TOO_LARGE,
            )
        return Publish(topic, payload, qos, retain, properties, packet_id, dup)

    def _topic(self, raw: bytes) -> str:
        """Return the checked topic name; a topic seen before comes from the cache."""
        topic = self._topics.get(raw)
        if topic is not None:
            return topic
        if not raw:
            raise RemoteProtocolError("neither topic name nor topic alias")
        topic = decode_string(raw)
        check_topic_name(topic, max_bytes=self._limits.topic_bytes, max_levels=self._limits.topic_levels)
        if len(raw) <= _CACHED_BYTES:
            if len(self._topics) >= _CACHED_TOPICS:
                self._topics.clear()
            topic = self._topics[raw] = sys.intern(topic)  # interned: every table looks it up by identity
        return topic

    def _alias(self, raw: bytes, alias: int) -> str:
        if not 1 <= alias <= self.topic_alias_maximum:  # [MQTT-3.3.2-8, -9]
            raise RemoteProtocolError(
                f"topic alias {alias}, not 1 to {self.topic_alias_maximum}", ReasonCode.TOPIC_ALIAS_INVALID
            )
        if raw:
            topic = self._aliases[alias] = self._topic(raw)
            return topic
        if alias not in self._aliases:
            raise RemoteProtocolError(f"topic alias {alias} was never set")
        return self._aliases[alias]


def _remaining_length(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Read a remaining length of more than one byte.

    Args:
        data: what is stored.
        start: where its second byte would be.
        end: where `data` ends.

    Returns:
        (remaining length, where the body starts), or (0, 0) when its last byte is not there yet.

    """
    value = data[start - 1] & 0x7F
    for shift in (7, 14, 21):
        if start >= end:
            return 0, 0
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte:  # [MQTT-1.5.5-1]
                raise malformed("the remaining length is not minimal")
            return value, start
    raise malformed("the remaining length is longer than 4 bytes")
