"""What both ends of an MQTT connection have in common: the step table, and the exchanges of QoS 1 and 2 both ways.

Bytes go in by `receive_data`, which only stores. `next_batch` gives what they mean, and answers by itself what needs no
decision: PUBREL on PUBREC, PUBCOMP on PUBREL. What is to be sent gathers until `data_to_send` takes it.

PUBLISH and PUBACK, of which there are thousands a second, are dealt with in the loop of `_take_all`; all else by
functions of its own. Our own messages are in `sender.py`.
"""

from collections.abc import Iterable, Mapping
from struct import Struct as Layout
from typing import ClassVar, Final

from mqttproxy.mqtt.decode import Decoder
from mqttproxy.mqtt.encode import PUBACK, PUBCOMP, PUBREC, encode_ack_into
from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import NO_PROPERTIES, Packet, Properties, PubAck, PubComp, Publish, PubRec, PubRel
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.sender import CLOSED, NO_LIMIT, OPEN, V5, Sender, State
from mqttproxy.mqtt.session_state import SessionState

Steps = Mapping[State, Mapping[type[Packet], State]]

_plain_puback: Final = Layout("!HH").pack
_pubacks: Final = Layout("!HH").iter_unpack
_PUBACK_AND_LENGTH: Final = 0x4002
_SUCCESS: Final = ReasonCode.SUCCESS


class Flow(Sender):
    """One connection, seen from one of its ends.

    Attributes:
        state: where the connection stands.
        version: what is spoken; before CONNECT a guess.
        session: what outlives the connection; a server has an empty one until `accept`.
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
        super().__init__(state, decoder.version, session)
        self.last_received = now
        self.last_packet = now
        self._decoder = decoder
        self._error: RemoteProtocolError | None = None
        self._number = session.attach()
        self._enter(state)
        self._receive_maximum = NO_LIMIT  # MQTT 3.1.1 has none: the caller stops reading instead
        self._awaiting_release_maximum = awaiting_release
        self._qos1 = 0  # handed out and not acknowledged
        self._qos1_maximum = NO_LIMIT  # what QoS 2 leaves of the receive maximum
        self._qos2: set[int] = set()  # handed out and not acknowledged
        self._unreleased: set[int] = set()  # acknowledged over this connection, PUBREL has not come

    def __repr__(self) -> str:
        """Tell what somebody looks for who finds this in a log or debugger."""
        return f"<{type(self).__name__} {self.state.value}, {self.version.name}, {self.session!r}>"

    def _enter(self, state: State) -> None:
        self.state = state
        self._steps = self.STEPS.get(state, {})

    @property
    def unacknowledged(self) -> int:
        """How many messages at QoS 1 and 2 came out and wait for `acknowledge`."""
        return self._qos1 + len(self._qos2)

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Store what the peer sent.

        Args:
            data: copied, so it may be a view of a buffer that is used again.
            now: monotonic seconds, from the same clock in every call.

        """
        self.last_received = now
        if self.state is not CLOSED and self._error is None:
            self._decoder.feed(data)

    @property
    def has_unread(self) -> bool:
        """False: `next_batch` would return nothing and raise nothing. True: it may."""
        return self._error is not None or self._decoder.has_unread

    @property
    def is_idle(self) -> bool:
        """Nothing is unread, and nothing is to be sent."""
        return not (self._out or self._error or self._decoder.has_unread)

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Do what `receive_data` and then `next_batch` do, quicker; an empty list says nothing about what is unread.

        Raises:
            RemoteProtocolError: as for `next_batch`.

        """
        if self.state is not OPEN or self._error is not None or self._decoder.has_unread:
            self.receive_data(data, now)
            return self.next_batch(now)
        self.last_received = now
        events: list[Event] = []
        if data and data[0] == PUBACK and len(data) & 3 == 0 and not self._unsent:
            taken = self._take_pubacks(data, events)
            if taken:
                self.last_packet = now
            if taken == len(data):
                return events
            data = data[taken:]
        try:
            packets = self._decoder.decode(data)
            if packets:
                self.last_packet = now
                self._take_all(packets, events)
        except RemoteProtocolError as error:
            self._error = error
            if not events:
                raise
        return events

    def _take_pubacks(self, data: bytes | bytearray | memoryview, events: list[Event]) -> int:
        """Settle what plain PUBACKs at the head of a read settle; returns how many bytes that were."""
        add, outgoing = events.append, self.session.outgoing
        for head, packet_id in _pubacks(data):
            item = outgoing.get(packet_id)
            if head != _PUBACK_AND_LENGTH or item is None or item[0].qos != 1:
                break
            del outgoing[packet_id]
            add(Settled(item[1], _SUCCESS, packet_id, NO_PROPERTIES, item[0]))
        return 4 * len(events)

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
        return [] if self.state is CLOSED else self._decoder.packets()

    def _take_all(self, packets: list[Packet], events: list[Event]) -> None:  # noqa: C901, PLR0912 - one loop for speed
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
                if following is not self.state and self.state is not CLOSED:
                    self._enter(following)
                if self.state is CLOSED:
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
            self.session.forget(packet_id)
            self._unreleased.discard(packet_id)
            self._share_receive_maximum()
        else:
            self.strays += 1
            if self.version is V5:
                self._write(PubComp(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))
                return
        encode_ack_into(self._out, PUBCOMP, packet_id)

    def expect(self, packet_ids: Iterable[int]) -> None:
        """Go on with QoS 2 messages that the session's last connection handed out, and that are not acknowledged yet.

        The peer sends them again, which is ignored; `acknowledge_all` answers them over this connection.
        """
        self._qos2.update(packet_ids)
        self._share_receive_maximum()

    def acknowledge_one(self, packet_id: int) -> bytes | bytearray:
        """Do what `acknowledge_all` and `data_to_send` do, quicker, for one message at QoS 1."""
        if not self._out and self._qos1 and self.state is OPEN:
            self._qos1 -= 1
            return _plain_puback(_PUBACK_AND_LENGTH, packet_id)
        self.acknowledge_all(((packet_id, 1),))
        return self.data_to_send()

    def acknowledge_all(self, packet_ids: Iterable[tuple[int, int]]) -> None:
        """Tell the peer that messages are taken. To be called in the order in which they came.

        Once the connection is closed nothing is written, but the session still learns of QoS 2, so that the message is
        known as a duplicate when the peer sends it again over its next connection.

        Args:
            packet_ids: (packet identifier, QoS) of each.

        """
        out = self._out if self.state is not CLOSED else bytearray()
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
            if self._number == self.session.connections:
                self.session.refuse(packet_id)
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
            self.session.keep(packet_id)
            self._unreleased.add(packet_id)
            self._share_receive_maximum()


def _receive_maximum_exceeded() -> RemoteProtocolError:
    return RemoteProtocolError("more messages than the receive maximum", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)
