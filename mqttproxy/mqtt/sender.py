"""What we send over a connection: messages of QoS 0, 1 and 2 within the peer's limits, and answers.

`Sender` is the half of `Flow` (see `flow.py`) that knows the peer's limits and the exchanges of our own messages.
"""

from collections.abc import Callable, Iterable, Sequence, Set as AbstractSet
from enum import Enum
from itertools import islice
from typing import Final

from msgspec.structs import replace

from mqttproxy.mqtt.aliases import TopicAliases
from mqttproxy.mqtt.answers import Answer, sayable, shorter_and_shorter, without_problems
from mqttproxy.mqtt.encode import PUBREL, encode, encode_ack_into
from mqttproxy.mqtt.encode_publish import NO_STAMP, Stamp, encode_publish_into
from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.events import Sent, Settled
from mqttproxy.mqtt.expiry import resent
from mqttproxy.mqtt.packets import (
    ConnAck,
    Disconnect,
    Message,
    Packet,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState

V5: Final = ProtocolVersion.V5
NO_LIMIT: Final = 1 << 62


class State(Enum):
    """Where a connection stands."""

    AWAITING_CONNECT = "awaiting CONNECT"  # server
    DECIDING = "deciding"  # server: CONNECT came and is neither accepted nor refused; nothing more is decoded
    AUTHENTICATING = "authenticating"  # server: deciding, and an AUTH of the device is awaited for it
    AWAITING_CONNACK = "awaiting CONNACK"  # client
    OPEN = "open"
    CLOSED = "closed"  # nothing is decoded or written any more; what was written before may still be taken


# Asked for with each read and each write: Python takes as long to find a member of an enum as to make a packet.
OPEN: Final = State.OPEN
CLOSED: Final = State.CLOSED


class Sender:
    """The sending half of a connection."""

    def __init__(self, state: State, version: ProtocolVersion, session: SessionState) -> None:
        self.state = state
        self.version = version
        self.session = session
        self.strays = 0
        self.unsendable = 0
        self.releases = 0  # messages at QoS 2 that the peer took over this connection: progress, though none is over
        self.last_packet = 0.0
        self._out = bytearray()
        self._peer_receive_maximum = PACKET_ID_MAX
        self._peer_packet_size = NO_LIMIT
        self._peer_maximum_qos = 2
        self._peer_retains = True
        self._peer_wants_problems = True
        self._encode_publish = encode_publish_into
        self.stamp = NO_STAMP
        self.identify: Callable[[object], bytes] | None = None  # from a token, one user property more for its message
        # Of session.outgoing, what has not gone over this connection yet; the session was there before the connection.
        self._unsent = dict.fromkeys(session.outgoing)
        # Of that, what must be in flight by itself, and the one that is or was last.
        self.alone: AbstractSet[int] = frozenset()
        self._loner = 0
        self._is_resumed = False
        self._dup = False  # whether the peer may have seen it
        # Doubtful packet identifiers that were released over this connection, and whose PUBCOMP has not come.
        self._clearing: set[int] = set()
        # SUBSCRIBE and UNSUBSCRIBE without an answer: its type, and how many reasons it must have.
        self._requests: dict[int, tuple[type[Packet], int]] = {}

    @property
    def send_quota(self) -> int:
        """How many messages at QoS 1 and 2 `publish` takes now; 0 while older ones wait to be sent again."""
        if self.state is not OPEN or self._unsent or self._loner in self.session.outgoing:
            return 0
        return max(0, self._in_flight_maximum() - len(self.session.outgoing))

    @property
    def is_careful(self) -> bool:
        """True while a message of `alone` is in flight or waits for its turn: nothing new should go meanwhile."""
        return self._loner in self.session.outgoing or not self.alone.isdisjoint(self._unsent)

    @property
    def in_flight(self) -> list[int]:
        """Packet identifiers of what went over this connection and was not answered, not even with PUBREC."""
        unsent, released = self._unsent, self.session.released
        return [each for each in self.session.outgoing if each not in unsent and each not in released]

    def _in_flight_maximum(self) -> int:
        return min(self._peer_receive_maximum, PACKET_ID_MAX - len(self._requests))

    def _use_aliases(self, taken: int | None, maximum: int) -> None:
        """Say topics by alias from now on, if the peer takes aliases and we want to give it any."""
        if taken and maximum:
            self._encode_publish = TopicAliases(min(taken, maximum), self._peer_packet_size).encode_into

    def data_to_send(self) -> bytes | bytearray:
        """Take what is to be written; empty when there is nothing. It is the caller's from then on."""
        if not self._out:
            return b""
        out, self._out = self._out, bytearray()
        return out

    # New messages.

    def publish(self, items: Sequence[tuple[Message, object]]) -> Sent:
        """Send messages, all of them.

        Args:
            items: message and token of each, of which at most `send_quota` are above QoS 0. What the peer does not take
                is made less: its QoS lowered, its retain flag cleared. After the end of the connection only QoS 0 is
                accepted, and gets lost.

        Returns:
            What is settled already; the others' tokens come back with `Settled`, over this connection or a later one.

        """
        if self._peer_maximum_qos < 2 or not self._peer_retains:
            items = [self._permitted(item) for item in items]
        self._check_quota(items)
        out = self._out if self.state is OPEN else bytearray()
        version, limit = self.version, self._peer_packet_size
        session, requests = self.session, self._requests
        outgoing, allocate = session.outgoing, session.allocate
        encode_publish, stamp, identify = self._encode_publish, self.stamp, self.identify
        begin, in_flight = len(out), len(outgoing)
        done: list[object] = []
        too_large: list[object] = []
        for item in items:
            message, token = item
            start = len(out)
            packet_id = 0
            if message.qos:
                packet_id = session.last_packet_id + 1
                if packet_id > session.packet_ids or packet_id in outgoing or packet_id in requests:
                    packet_id = allocate(requests)
                else:
                    session.last_packet_id = packet_id
            stamped = stamp if identify is None else stamp.with_property(identify(token))  # as in `_stamp_for`
            encode_publish(out, message, version, packet_id, False, stamped)
            if len(out) - start > limit and not self._fits_bare(out, start, message, packet_id, False):
                too_large.append(token)
            elif packet_id:
                outgoing[packet_id] = item
            elif token is not None:
                done.append(token)
        if session.doubtful is not None:
            self._clear(session.doubtful, out, begin, [*islice(reversed(outgoing), len(outgoing) - in_flight)][::-1])
        return Sent(done, too_large)

    def _clear(self, doubtful: bytearray, out: bytearray, place: int, packet_ids: Iterable[int]) -> None:
        """Write PUBREL, ahead of the PUBLISHes, for those that are used at QoS 2 and may stand for an older message."""
        outgoing, releases = self.session.outgoing, bytearray()
        for packet_id in packet_ids:
            if doubtful[packet_id] and outgoing[packet_id][0].qos == 2:
                encode_ack_into(releases, PUBREL, packet_id)
                self._clearing.add(packet_id)
        out[place:place] = releases

    def _cleared(self, packet_id: int) -> None:
        """Hear that the peer has taken our PUBREL for an older message, or for none."""
        self._clearing.remove(packet_id)
        if self.session.doubtful is not None:
            self.session.doubtful[packet_id] = 0

    def _fits_bare(self, out: bytearray, start: int, message: Message, packet_id: int, dup: bool) -> bool:
        """Write a message that became too large once more, without the stamp. False: it still is, and is not there.

        [MQTT-3.1.2-24], [MQTT-3.2.2-15].
        """
        del out[start:]
        if self.stamp is not NO_STAMP or self.identify is not None:
            encode_publish_into(out, message, self.version, packet_id, dup)
            if len(out) - start <= self._peer_packet_size:
                return True
            del out[start:]
        return False

    def _check_quota(self, items: Sequence[tuple[Message, object]]) -> None:
        if self.state is not OPEN and self.state is not CLOSED:
            raise LocalProtocolError(f"PUBLISH while {self.state.value}")
        quota = self.send_quota
        if len(items) > quota and sum(1 for message, _ in items if message.qos) > quota:
            raise LocalProtocolError(f"more than {quota} messages above QoS 0", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)

    def _permitted(self, item: tuple[Message, object]) -> tuple[Message, object]:
        message, token = item
        qos, retain = min(message.qos, self._peer_maximum_qos), message.retain and self._peer_retains
        if qos == message.qos and retain == message.retain:
            return item
        return replace(message, qos=qos, retain=retain), token

    # Their exchanges; PUBACK is dealt with in `Flow`.

    def _take_pubrec(self, packet: PubRec) -> Settled | None:
        packet_id = packet.packet_id
        item = self.session.outgoing.get(packet_id)
        if item is None and self.version is V5:
            self.strays += 1
            self._write(PubRel(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))
            return None
        if item is None or item[0].qos != 2 or packet_id in self._unsent:
            self._stray(packet)
            return None
        if packet_id in self._clearing:  # what was sent behind PUBREL is taken, and so is that
            self._cleared(packet_id)
        if packet.reason.is_failure:
            self.session.released.discard(packet_id)
            return self._settle(packet_id, packet.reason, packet.properties)
        if packet_id not in self.session.released:  # PUBREC may come twice
            self.session.release(packet_id)
            self.releases += 1
        encode_ack_into(self._out, PUBREL, packet_id)
        return None

    def _take_pubcomp(self, packet: PubComp) -> Settled | None:
        if packet.packet_id in self._clearing:
            self._cleared(packet.packet_id)
            return None
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

    # Messages of an earlier connection.

    def _resume(self) -> Sent:
        """Send what the session holds: all PUBRELs, and PUBLISHes in order as far as the receive maximum lets them."""
        self._is_resumed = True
        outgoing, released = self.session.outgoing, self.session.released
        sent = Sent([], [])
        for packet_id in list(self._unsent):
            if packet_id in released:
                encode_ack_into(self._out, PUBREL, packet_id)
                del self._unsent[packet_id]
                continue
            message, token = outgoing[packet_id] = self._permitted(outgoing[packet_id])
            if self._is_too_large(message, packet_id):
                sent.too_large.append(token)
            elif message.qos:
                continue
            else:
                self._encode_again((message, token), 0, False)
                if token is not None:
                    sent.done.append(token)
            del outgoing[packet_id], self._unsent[packet_id]
        self._send_unsent()
        return sent

    def _is_too_large(self, message: Message, packet_id: int) -> bool:
        if self._peer_packet_size == NO_LIMIT:
            return False
        scratch = bytearray()
        encode_publish_into(scratch, message, self.version, packet_id, False)
        return len(scratch) > self._peer_packet_size

    def _send_unsent(self) -> None:
        """Send the next of what waits from an earlier connection, as far as the receive maximum lets it."""
        if not self._is_resumed:
            return
        outgoing, unsent = self.session.outgoing, self._unsent
        room = self._in_flight_maximum() - (len(outgoing) - len(unsent))
        packet_ids = list(islice(unsent, max(0, room)))
        if self.alone:
            packet_ids = self._carefully(packet_ids)
        if self.session.doubtful is not None:
            # Whether the peer had an earlier PUBREL, and the message behind it, nobody knows: rather twice than never.
            self._clear(self.session.doubtful, self._out, len(self._out), packet_ids)
        for packet_id in packet_ids:
            del unsent[packet_id]
            self._encode_again(outgoing[packet_id], packet_id, self._dup)

    def _carefully(self, packet_ids: list[int]) -> list[int]:
        """Return what of the next may go: what must go alone waits until nothing is in flight, and all else for it."""
        outgoing = self.session.outgoing
        if self._loner in outgoing:
            return []
        place = next((place for place, packet_id in enumerate(packet_ids) if packet_id in self.alone), None)
        if place is None or place > 0:
            return packet_ids[:place]
        if len(outgoing) > len(self._unsent):
            return []
        self._loner = packet_ids[0]
        return packet_ids[:1]

    def _stamp_for(self, token: object) -> Stamp:
        return self.stamp if self.identify is None else self.stamp.with_property(self.identify(token))

    def _encode_again(self, item: tuple[Message, object], packet_id: int, dup: bool) -> None:
        """Write a message of an earlier connection, which the peer takes without the stamp at least.

        With the whole topic: how often one is sent again is not worth an alias.
        """
        out, start = self._out, len(self._out)
        message = resent(item[0], self.last_packet)
        encode_publish_into(out, message, self.version, packet_id, dup, self._stamp_for(item[1]))
        if len(out) - start > self._peer_packet_size:
            self._fits_bare(out, start, message, packet_id, dup)

    # Answers.

    def _write(self, packet: Answer) -> None:
        """Write a packet, without its explanations where the peer does not want them or takes none that large."""
        if self.state is CLOSED:
            return
        properties = sayable(packet.properties)
        if not self._peer_wants_problems and not isinstance(packet, ConnAck | Disconnect):  # [MQTT-3.1.2-29]
            properties = without_problems(properties)
        for shorter in shorter_and_shorter(replace(packet, properties=properties)):
            data = encode(shorter, self.version)
            if len(data) <= self._peer_packet_size:
                self._out += data
                return
        self.unsendable += 1
