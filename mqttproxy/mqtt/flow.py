"""What both ends of an MQTT connection have in common: the step table, and the exchanges of QoS 1 and 2 both ways.

Bytes go in by `receive_data`, which only stores. `next_batch` gives what they mean, and answers by itself what needs no
decision (PUBREL on PUBREC, PUBCOMP on PUBREL). What is to be sent gathers until `data_to_send` takes it. PUBLISH and
PUBACK, of which there are thousands a second, are dealt with in the loop of `_take_all`; all else has its own functions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from struct import Struct as Layout
from typing import ClassVar, Final

from msgspec.structs import asdict, replace

from mqttproxy.mqtt.decode import Decoder
from mqttproxy.mqtt.encode import PUBCOMP, PUBREC, PUBREL, encode, encode_ack_into, encode_publish_into
from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.events import Event, Sent, Settled
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Disconnect,
    Message,
    Packet,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    UnsubAck,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState

V5: Final = ProtocolVersion.V5
NO_LIMIT: Final = 1 << 62
Answer = ConnAck | PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck | Disconnect | Auth
_plain_puback: Final = Layout("!HH").pack
_PUBACK_AND_LENGTH: Final = 0x4002


class State(Enum):
    """Where a connection stands."""

    AWAITING_CONNECT = "awaiting CONNECT"  # server
    DECIDING = "deciding"  # server: CONNECT came and is neither accepted nor refused; nothing more is decoded
    AWAITING_CONNACK = "awaiting CONNACK"  # client
    OPEN = "open"
    CLOSED = "closed"  # nothing is decoded or written any more; what was written before may still be taken


Steps = Mapping[State, Mapping[type[Packet], State]]


class Flow:
    """One connection, seen from one of its ends.

    Attributes:
        state: where the connection stands.
        version: what is spoken; before CONNECT a guess.
        session: what outlives the connection; an empty one until `ServerConnection.accept`.
        last_received: when bytes came last, monotonic seconds.
        last_packet: when a complete packet came last.
        strays: acknowledgements for packet identifiers that do not wait for them; they are ignored.
        unsendable: packets that were dropped because the peer takes none that large.

    """

    # Every legal step. A packet that is missing is a protocol error; there is no second check elsewhere.
    STEPS: ClassVar[Steps] = {}

    def __init__(
        self, state: State, decoder: Decoder, session: SessionState, *, awaiting_release: int, now: float
    ) -> None:
        self.version = decoder.version
        self.session = session
        self.last_received = now
        self.last_packet = now
        self.strays = 0
        self.unsendable = 0
        self._decoder = decoder
        self._out = bytearray()
        self._error: RemoteProtocolError | None = None
        self._number = session.attach()
        self._enter(state)
        # What the peer wants of us.
        self._peer_receive_maximum = PACKET_ID_MAX
        self._peer_packet_size = NO_LIMIT
        self._peer_maximum_qos = 2
        self._peer_retains = True
        self._peer_wants_problems = True
        # What we sent.
        self._unsent: dict[int, None] = {}  # of session.outgoing, what has not gone over this connection yet
        self._is_resumed = False
        self._dup = False  # what of it the peer may have seen
        # SUBSCRIBE and UNSUBSCRIBE without an answer: its type and how many reasons it must have.
        self._requests: dict[int, tuple[type[Packet], int]] = {}
        # What the peer sent.
        self._receive_maximum = NO_LIMIT  # MQTT 3.1.1 has none: the caller stops reading instead
        self._awaiting_release_maximum = awaiting_release
        self._qos1 = 0  # handed out and not acknowledged
        self._qos1_maximum = NO_LIMIT  # what QoS 2 leaves of the receive maximum
        self._qos2: set[int] = set()  # handed out and not acknowledged
        self._unreleased: set[int] = set()  # acknowledged over this connection, PUBREL has not come

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value}, {self.version.name}, {self.session!r}>"

    def _enter(self, state: State) -> None:
        self.state = state
        self._steps = self.STEPS.get(state, {})

    @property
    def unacknowledged(self) -> int:
        """How many messages at QoS 1 and 2 came out and wait for `acknowledge`."""
        return self._qos1 + len(self._qos2)

    @property
    def send_quota(self) -> int:
        """How many messages at QoS 1 and 2 `publish` takes now; 0 while older ones wait to be sent again."""
        if self.state is not State.OPEN or self._unsent:
            return 0
        return max(0, self._in_flight_maximum() - len(self.session.outgoing))

    def _in_flight_maximum(self) -> int:
        return min(self._peer_receive_maximum, PACKET_ID_MAX - len(self._requests))

    def data_to_send(self) -> bytes | bytearray:
        """Take what is to be written; empty when there is nothing. It is the caller's from then on."""
        if not self._out:
            return b""
        out, self._out = self._out, bytearray()
        return out

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Store what the peer sent.

        Args:
            data: copied, so it may be a view of a buffer that is used again.
            now: monotonic seconds, from the same clock in every call.

        """
        self.last_received = now
        if self.state is not State.CLOSED and self._error is None:
            self._decoder.feed(data)

    def next_batch(self, now: float) -> list[Event]:
        """Return what all complete packets mean; an empty list: more bytes are needed.

        Raises:
            RemoteProtocolError: the first thing left is bad. What came before it was returned first; from then on every
                call raises. `fail` says the last words.

        """
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        try:
            while not events and (packets := self._complete_packets()):
                self.last_packet = now
                self._take_all(packets, events)
        except RemoteProtocolError as error:
            self._error = error
            if not events:
                raise
        return events

    def _complete_packets(self) -> list[Packet]:
        return [] if self.state is State.CLOSED else self._decoder.packets()

    def _take_all(self, packets: list[Packet], events: list[Event]) -> None:
        outgoing = self.session.outgoing
        add = events.append
        for packet in packets:
            following = self._steps.get(type(packet))
            if following is None:
                raise RemoteProtocolError(f"{type(packet).__name__} while {self.state.value}")
            if type(packet) is Publish:
                if packet.properties is not NO_PROPERTIES:
                    self._check_publish(packet)
                if packet.qos == 1:
                    self._qos1 += 1
                    if self._qos1 > self._qos1_maximum:
                        raise _receive_maximum_exceeded()
                elif packet.qos and not self._is_new(packet.packet_id):
                    continue
                add(packet)
            elif type(packet) is PubAck:
                packet_id = packet.packet_id
                item = outgoing.get(packet_id)
                if item is not None and item[0].qos == 1 and packet_id not in self._unsent:
                    del outgoing[packet_id]
                    add(Settled(item[1], packet.reason, packet_id, packet.properties, item[0]))
                else:
                    self._stray(packet)
            else:
                event = self._take(packet)
                if event is not None:
                    add(event)
                if following is not self.state and self.state is not State.CLOSED:
                    self._enter(following)
                if self.state is State.CLOSED:
                    return
        if self._unsent:
            self._send_unsent()

    def _check_publish(self, packet: Publish) -> None:
        """Look at the properties of a PUBLISH, for what only one end may send."""

    def _take(self, packet: Packet) -> Event | None:
        """Do what a packet that is neither PUBLISH nor PUBACK asks for; return what the caller must know of it."""
        match packet:
            case PubRec():
                return self._take_pubrec(packet)
            case PubRel():
                self._take_pubrel(packet.packet_id)
                return None
            case PubComp():
                return self._take_pubcomp(packet)
        return packet

    # Messages from the peer.

    def _is_new(self, packet_id: int) -> bool:
        """Tell whether a PUBLISH at QoS 2 is not one that we had before. [MQTT-4.3.3-10]."""
        awaiting_release = self.session.incoming_qos2
        if packet_id in awaiting_release:
            encode_ack_into(self._out, PUBREC, packet_id)
            return False
        if packet_id in self._qos2:  # the acknowledgement that is to come answers both
            return False
        if len(awaiting_release) >= self._awaiting_release_maximum:
            raise _receive_maximum_exceeded()
        self._qos2.add(packet_id)
        self._share_receive_maximum()
        if self._qos1 > self._qos1_maximum:
            raise _receive_maximum_exceeded()
        return True

    def _share_receive_maximum(self) -> None:
        self._qos1_maximum = self._receive_maximum - len(self._qos2) - len(self._unreleased)

    def _take_pubrel(self, packet_id: int) -> None:
        if packet_id in self._qos2:
            raise RemoteProtocolError("PUBREL before PUBREC")
        if packet_id in self.session.incoming_qos2:
            self.session.incoming_qos2.remove(packet_id)
            self._unreleased.discard(packet_id)
            self._share_receive_maximum()
        else:
            self.strays += 1
            if self.version is V5:
                self._write(PubComp(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))
                return
        encode_ack_into(self._out, PUBCOMP, packet_id)

    def acknowledge_all(self, packet_ids: Iterable[tuple[int, int]]) -> None:
        """Tell the peer that messages are taken. To be called in the order in which they came.

        Once the connection is closed nothing is written, but the session still learns of QoS 2, so that the message is
        known as a duplicate when the peer sends it again over its next connection.

        Args:
            packet_ids: (packet identifier, QoS) of each.

        """
        out = self._out if self.state is not State.CLOSED else bytearray()
        for packet_id, qos in packet_ids:
            if qos == 1:
                self._qos1 -= 1
                out += _plain_puback(_PUBACK_AND_LENGTH, packet_id)
            else:
                self._keep_until_release(packet_id)
                encode_ack_into(out, PUBREC, packet_id)
        if self._qos1 < 0:
            raise LocalProtocolError("more acknowledgements than messages")

    def acknowledge(
        self,
        packet_id: int,
        qos: int,
        reason: ReasonCode = ReasonCode.SUCCESS,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Answer one message, as `acknowledge_all`. From 0x80 up `reason` refuses it for good.

        MQTT 3.1.1 has no refusal: the peer gets a plain acknowledgement.
        """
        if self.version is not V5 or (reason is ReasonCode.SUCCESS and properties is NO_PROPERTIES):
            self.acknowledge_all(((packet_id, qos),))
            return
        if qos == 1:
            if not self._qos1:
                raise LocalProtocolError("more acknowledgements than messages")
            self._qos1 -= 1
            self._write(PubAck(packet_id, reason, properties))
            return
        if reason.is_failure:
            self._forget_unacknowledged(packet_id)
        else:
            self._keep_until_release(packet_id)
        self._write(PubRec(packet_id, reason, properties))

    def _forget_unacknowledged(self, packet_id: int) -> None:
        if packet_id not in self._qos2:
            raise LocalProtocolError(f"no message with packet identifier {packet_id} to acknowledge")
        self._qos2.remove(packet_id)
        self._share_receive_maximum()

    def _keep_until_release(self, packet_id: int) -> None:
        self._forget_unacknowledged(packet_id)
        # A later connection may have used the identifier for another message already.
        if self._number == self.session.connections:
            self.session.incoming_qos2.add(packet_id)
            self._unreleased.add(packet_id)
            self._share_receive_maximum()

    # Messages to the peer.

    def publish(self, items: Sequence[tuple[Message, object]]) -> Sent:
        """Send messages, all of them.

        Args:
            items: message and token of each; at most `send_quota` of them above QoS 0. What the peer does not take is
                made less: its QoS lowered, its retain flag cleared.

        Returns:
            What is settled already; the others' tokens come back with `Settled`, over this connection or a later one.

        """
        if self._is_restricted:
            items = [self._permitted(item) for item in items]
        self._check_quota(items)
        out, version, limit = self._out, self.version, self._peer_packet_size
        session, requests = self.session, self._requests
        outgoing, allocate = session.outgoing, session.allocate
        done: list[object] = []
        too_large: list[object] = []
        for item in items:
            message, token = item
            start = len(out)
            packet_id = allocate(requests) if message.qos else 0
            encode_publish_into(out, message, version, packet_id, False)
            if len(out) - start > limit:  # [MQTT-3.1.2-25], [MQTT-3.2.2-15]
                del out[start:]
                too_large.append(token)
            elif packet_id:
                outgoing[packet_id] = item
            elif token is not None:
                done.append(token)
        return Sent(done, too_large)

    @property
    def _is_restricted(self) -> bool:
        return self._peer_maximum_qos < 2 or not self._peer_retains

    def _permitted(self, item: tuple[Message, object]) -> tuple[Message, object]:
        message, token = item
        qos, retain = min(message.qos, self._peer_maximum_qos), message.retain and self._peer_retains
        if qos == message.qos and retain == message.retain:
            return item
        return replace(message, qos=qos, retain=retain), token

    def _check_quota(self, items: Sequence[tuple[Message, object]]) -> None:
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"PUBLISH while {self.state.value}")
        quota = self.send_quota
        if len(items) > quota and sum(1 for message, _ in items if message.qos) > quota:
            raise LocalProtocolError(f"more than {quota} messages above QoS 0", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)

    def _take_pubrec(self, packet: PubRec) -> Event | None:
        packet_id = packet.packet_id
        item = self.session.outgoing.get(packet_id)
        if item is None and self.version is V5:
            self.strays += 1
            self._write(PubRel(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))
            return None
        if item is None or item[0].qos != 2 or packet_id in self._unsent:
            self._stray(packet)
            return None
        if packet.reason.is_failure:
            self.session.released.discard(packet_id)
            return self._settle(packet_id, packet.reason, packet.properties)
        self.session.released.add(packet_id)
        encode_ack_into(self._out, PUBREL, packet_id)
        return None

    def _take_pubcomp(self, packet: PubComp) -> Event | None:
        if packet.packet_id not in self.session.released or packet.packet_id in self._unsent:
            self._stray(packet)
            return None
        self.session.released.remove(packet.packet_id)
        # The message was accepted with PUBREC; a peer that no longer knows it has finished with it (0x92).
        return self._settle(packet.packet_id, ReasonCode.SUCCESS, packet.properties)

    def _settle(self, packet_id: int, reason: ReasonCode, properties: Properties) -> Settled:
        message, token = self.session.outgoing.pop(packet_id)
        return Settled(token, reason, packet_id, properties, message)

    def _stray(self, packet: PubAck | PubRec | PubComp) -> None:
        """Ignore an acknowledgement that nothing waits for; one of the wrong type is an error in MQTT 5."""
        packet_id = packet.packet_id
        if self.version is V5 and packet_id in self.session.outgoing and packet_id not in self._unsent:
            raise RemoteProtocolError(f"{type(packet).__name__} at the wrong step of its exchange")
        self.strays += 1

    def _resume(self, *, dup: bool) -> Sent:
        """Send what the session holds: all PUBRELs, and PUBLISHes in order as far as the receive maximum lets them."""
        outgoing, released, out = self.session.outgoing, self.session.released, self._out
        self._dup = dup
        self._is_resumed = True
        sent = Sent([], [])
        for packet_id, item in list(outgoing.items()):
            if packet_id in released:
                encode_ack_into(out, PUBREL, packet_id)
                self._unsent.pop(packet_id, None)
                continue
            message, token = outgoing[packet_id] = self._permitted(item)
            if self._size(message, packet_id) > self._peer_packet_size:
                sent.too_large.append(token)
            elif message.qos:
                continue
            else:
                encode_publish_into(out, message, self.version, 0, False)
                sent.done.append(token)
            del outgoing[packet_id]
            self._unsent.pop(packet_id, None)
        self._send_unsent()
        return sent

    def _size(self, message: Message, packet_id: int) -> int:
        scratch = bytearray()
        encode_publish_into(scratch, message, self.version, packet_id, self._dup and message.qos > 0)
        return len(scratch)

    def _send_unsent(self) -> None:
        """Send the next of what waits from an earlier connection, as far as the receive maximum lets it."""
        if not self._is_resumed:
            return
        outgoing, unsent = self.session.outgoing, self._unsent
        room = self._in_flight_maximum() - (len(outgoing) - len(unsent))
        for packet_id in list(islice(unsent, max(0, room))):
            del unsent[packet_id]
            encode_publish_into(self._out, outgoing[packet_id][0], self.version, packet_id, self._dup)

    # Other packets to the peer.

    def _write(self, packet: Answer) -> bool:
        """Write a packet, without its explanations where the peer does not want them or takes none that large."""
        if self.state is State.CLOSED:
            return False
        if not self._peer_wants_problems and not isinstance(packet, ConnAck | Disconnect):  # [MQTT-3.1.2-29]
            packet = replace(packet, properties=_without_problems(packet.properties))
        for shorter in _shorter_and_shorter(packet):
            data = encode(shorter, self.version)
            if len(data) <= self._peer_packet_size:
                self._out += data
                return True
        self.unsendable += 1
        return False


def _receive_maximum_exceeded() -> RemoteProtocolError:
    return RemoteProtocolError("more messages than the receive maximum", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)


def _without_problems(properties: Properties) -> Properties:
    if properties is NO_PROPERTIES:
        return properties
    return replace(properties, user_properties=(), reason_string=None)


def _shorter_and_shorter(packet: Answer) -> Iterator[Answer]:
    """Give the packet, then without user properties, then without reason string too. [MQTT-3.4.2-2] and its like."""
    yield packet
    if packet.properties.user_properties:
        packet = replace(packet, properties=replace(packet.properties, user_properties=()))
        yield packet
    if packet.properties.reason_string is not None:
        yield replace(packet, properties=replace(packet.properties, reason_string=None))


def merged(first: Properties, second: Properties) -> Properties:
    """Return the properties of both; where both have one, that of `second`."""
    if second is NO_PROPERTIES:
        return first
    return replace(first, **{name: value for name, value in asdict(second).items() if value not in (None, ())})


def with_reason_string(properties: Properties, reason_string: str | None) -> Properties:
    """Return the properties with a reason string, if there is one."""
    return properties if reason_string is None else replace(properties, reason_string=reason_string)
