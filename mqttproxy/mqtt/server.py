"""The server's end of a connection: one device, from its first byte to its last.

conn.receive_data(data, now)
for event in conn.next_batch(now): ...      # Connect comes alone, and nothing after it until accept() or refuse()
conn.acknowledge_all(...)
stream.send_nowait(conn.data_to_send())
"""

from typing import ClassVar, Final

from msgspec import Struct

from mqttproxy.mqtt.answers import merged, with_reason_string
from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.events import Event, Sent
from mqttproxy.mqtt.flow import Flow, Steps
from mqttproxy.mqtt.grammar import REASONS, PacketType
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from mqttproxy.mqtt.reasons import CONNACK_311, ReasonCode
from mqttproxy.mqtt.sender import V5, State
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState

__all__ = ["ServerConnection", "ServerLimits", "State"]

KEEP_ALIVE_MAX: Final = 65_535
# A device that takes only smaller packets could not be sent a CONNACK with all that the standard wants in it.
SMALLEST_MAXIMUM_PACKET_SIZE: Final = 128
# Stored while deciding; what a device may send before it knows whether it is let in. More than one read of a socket.
_EARLY_BYTES: Final = 128 * 1024
_PINGRESP: Final = b"\xd0\x00"


class ServerLimits(Struct, frozen=True, kw_only=True):
    """What one device may do: the same names and units as in `[limits]`, from where the door takes them all.

    `topic_aliases_to_device` is how many aliases we use of those the device takes.
    """

    packet_size_before_connect: int = 64 * 1024
    packet_size: int = 1024 * 1024
    payload_size: int = 256 * 1024
    topic_bytes: int = 1024
    topic_levels: int = 128
    client_id_bytes: int = 128
    user_properties: int = 64
    receive_maximum: int = 256
    bears_more_than_receive_maximum: bool = False  # the caller stops reading instead, as for MQTT 3.1.1
    qos2_awaiting_release: int = 100
    topic_alias_maximum: int = 32
    topic_aliases_to_device: int = 32
    keep_alive: float = 3600.0


class ServerConnection(Flow):
    """One device's connection, where we are the server.

    Attributes:
        connect: what the device said in CONNECT; None before.
        keep_alive: seconds in force; known from CONNECT on.
        wants_problem_information: whether the device wants reason strings and user properties in answers; they are
            left out without the caller having to look here.

    Events: Connect, Publish (QoS 2 only the first time), Subscribe, Unsubscribe, Disconnect, Auth, Settled.

    """

    STEPS: ClassVar[Steps] = {
        State.AWAITING_CONNECT: {Connect: State.DECIDING},
        State.AUTHENTICATING: {Auth: State.DECIDING, Disconnect: State.CLOSED},
        State.OPEN: {
            Publish: State.OPEN,
            PubAck: State.OPEN,
            PubRec: State.OPEN,
            PubRel: State.OPEN,
            PubComp: State.OPEN,
            Subscribe: State.OPEN,
            Unsubscribe: State.OPEN,
            PingReq: State.OPEN,
            Auth: State.OPEN,
            Disconnect: State.CLOSED,
        },
    }

    def __init__(self, limits: ServerLimits, now: float) -> None:
        decoder = Decoder(
            max_packet_size=limits.packet_size_before_connect,
            limits=DecodeLimits(
                topic_bytes=limits.topic_bytes,
                topic_levels=limits.topic_levels,
                user_properties=limits.user_properties,
                payload_size=limits.payload_size,
                client_id_bytes=limits.client_id_bytes,
            ),
        )
        super().__init__(
            State.AWAITING_CONNECT,
            decoder,
            SessionState(),
            awaiting_release=limits.qos2_awaiting_release,
            now=now,
        )
        self.connect: Connect | None = None
        self.keep_alive = float(limits.keep_alive)
        self._limits = limits
        self._began_with_connect = True

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which a device that sends no packet has been silent for too long. [MQTT-3.1.2-22].

        Before CONNECT it is not ours to say.
        """
        return float("inf") if self.connect is None else self.last_packet + 1.5 * self.keep_alive

    @property
    def client_receive_maximum(self) -> int:
        """How many messages at QoS 1 and 2 the device takes unacknowledged."""
        return self._peer_receive_maximum

    @property
    def client_maximum_packet_size(self) -> int:
        """Largest packet that the device takes, in bytes."""
        return self._peer_packet_size

    @property
    def wants_problem_information(self) -> bool:
        """Whether the device wants to be told more than a reason code."""
        return self._peer_wants_problems

    # From the device.

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Store what the device sent; while deciding no more than a bounded number of bytes."""
        super().receive_data(data, now)
        if self.state is State.DECIDING and self._decoder.buffered > _EARLY_BYTES:
            self._error = RemoteProtocolError("too much was sent before CONNACK", ReasonCode.QUOTA_EXCEEDED)

    def _complete_packets(self) -> list[Packet]:
        if self.state is State.DECIDING:
            return []
        packets = super()._complete_packets()
        if self.state is State.AWAITING_CONNECT and packets:
            self._began_with_connect = type(packets[0]) is Connect
        return packets

    def _take(self, packet: Packet) -> Event | None:
        match packet:
            case Connect():
                self._take_connect(packet)
            case PingReq():
                self._out += _PINGRESP
                return None
            case Auth():
                self._check_auth(packet)
            case Disconnect():
                self._check_disconnect(packet)
        return super()._take(packet)

    def _take_connect(self, connect: Connect) -> None:
        self.connect = connect
        self.version = connect.version
        asked = connect.properties
        limit = self._limits.keep_alive
        self.keep_alive = float(connect.keep_alive) if 0 < connect.keep_alive <= limit else float(limit)
        if asked.receive_maximum is not None:
            self._peer_receive_maximum = asked.receive_maximum
        if asked.maximum_packet_size is not None:
            self._peer_packet_size = asked.maximum_packet_size
        self._peer_wants_problems = asked.request_problem_information != 0
        if self.version is V5:
            if not self._limits.bears_more_than_receive_maximum:
                self._receive_maximum = self._limits.receive_maximum
            # Within its receive maximum a device may leave all it wants unreleased.
            self._awaiting_release_maximum = max(self._awaiting_release_maximum, self._limits.receive_maximum)
            self._share_receive_maximum()
            self._use_aliases(asked.topic_alias_maximum, self._limits.topic_aliases_to_device)
        if self._peer_packet_size < SMALLEST_MAXIMUM_PACKET_SIZE:
            raise RemoteProtocolError(
                f"packets of at most {self._peer_packet_size} bytes are too small for our answers",
                ReasonCode.PACKET_TOO_LARGE,
            )

    def _check_publish(self, packet: Publish) -> None:
        if packet.properties.subscription_identifiers:  # [MQTT-3.3.4-6]
            raise RemoteProtocolError("PUBLISH from a client with a subscription identifier")

    def _check_auth(self, packet: Auth) -> None:
        method = None if self.connect is None else self.connect.properties.authentication_method
        if method is None:  # [MQTT-4.12.0-6]
            raise RemoteProtocolError("AUTH without an authentication method in CONNECT")
        if packet.properties.authentication_method != method:  # [MQTT-4.12.0-5], [MQTT-4.12.1-1]
            raise RemoteProtocolError("AUTH with another authentication method than CONNECT")
        if packet.reason is ReasonCode.SUCCESS:  # 3.15.2.1
            raise RemoteProtocolError("AUTH with a reason that is the server's")
        if self.state is State.AUTHENTICATING and packet.reason is not ReasonCode.CONTINUE_AUTHENTICATION:  # 4.12.1
            raise RemoteProtocolError("authentication is to begin anew before it has ended")

    def _check_disconnect(self, packet: Disconnect) -> None:
        if (
            packet.properties.session_expiry_interval
            and self.connect is not None
            and not self.connect.properties.session_expiry_interval
        ):  # 3.14.2.2.2
            raise RemoteProtocolError("DISCONNECT prolongs a session that CONNECT wanted to end")

    # The answer to CONNECT.

    def accept(
        self, session: SessionState, *, session_present: bool, client_id: str, extra: Properties = NO_PROPERTIES
    ) -> Sent:
        """Send CONNACK, then again what the session has unsettled. Call `next_batch` next: packets may be waiting.

        Args:
            session: the device's, kept from its last connection or new. An older connection of it must have ended.
            session_present: it was kept.
            client_id: the effective one; told to the device if it sent none.
            extra: properties of CONNACK that go before those computed here; a session expiry interval when the session
                will be kept for another time than the device asked for, which only the caller knows.

        Returns:
            As `publish`, for what the session held.

        """
        connect = self._deciding()
        if session_present and connect.clean_start:
            raise LocalProtocolError("a session is present after a clean start")
        if not session_present and (session.outgoing or session.incoming_qos2):
            raise LocalProtocolError("a new session with unfinished exchanges")
        self.session = session
        self._number = session.attach()
        properties = merged(self._terms(connect, client_id), extra) if self.version is V5 else NO_PROPERTIES
        self._decoder.max_packet_size = self._limits.packet_size
        if self.version is V5:
            self._decoder.topic_alias_maximum = self._limits.topic_alias_maximum
        self._enter(State.OPEN)
        self._write(ConnAck(ReasonCode.SUCCESS, session_present, properties))
        self._unsent = dict.fromkeys(session.outgoing)
        self._dup = True
        return self._resume()

    def _terms(self, connect: Connect, client_id: str) -> Properties:
        """Return what the device must know. What is left out is available: QoS 2, retain, all kinds of subscriptions.

        Response information is left out even if the device asks for it, as 3.1.2.11.6 lets us: which topics a device
        may use for responses is a matter of the access rules, and no part of topics is set aside for it.
        """
        limits = self._limits
        keep_alive = min(max(1, int(self.keep_alive)), KEEP_ALIVE_MAX)
        return Properties(
            assigned_client_identifier=None if connect.client_id else client_id,  # [MQTT-3.2.2-16]
            server_keep_alive=None if keep_alive == connect.keep_alive else keep_alive,
            receive_maximum=None if limits.receive_maximum >= PACKET_ID_MAX else limits.receive_maximum,
            maximum_packet_size=limits.packet_size,
            topic_alias_maximum=limits.topic_alias_maximum or None,
        )

    def challenge(self, auth: Auth) -> None:
        """Ask the device for more before deciding; the next event is its AUTH. [MQTT-4.12.0-2]."""
        self._deciding()
        self._write(auth)
        self._enter(State.AUTHENTICATING)

    def refuse(
        self, reason: ReasonCode, reason_string: str | None = None, properties: Properties = NO_PROPERTIES
    ) -> None:
        """Send CONNACK with a failure and end. MQTT 3.1.1 has few codes; for other reasons nothing is sent."""
        self._deciding()
        self._refuse(reason, reason_string, properties)

    def _refuse(self, reason: ReasonCode, reason_string: str | None, properties: Properties = NO_PROPERTIES) -> None:
        if self.version is V5:
            if reason not in REASONS[PacketType.CONNACK]:
                reason = ReasonCode.PROTOCOL_ERROR
            self._write(ConnAck(reason, properties=with_reason_string(properties, reason_string)))
        elif reason in CONNACK_311:
            self._write(ConnAck(reason))
        self._enter(State.CLOSED)

    def _deciding(self) -> Connect:
        if self.state is not State.DECIDING or self.connect is None:
            raise LocalProtocolError(f"CONNACK while {self.state.value}")
        return self.connect

    # Other words to the device.

    def send(self, packet: SubAck | UnsubAck | Auth) -> None:
        """Send an answer to SUBSCRIBE, UNSUBSCRIBE or AUTH; counted and dropped if the device takes none that large."""
        if self.state is State.CLOSED:
            return
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"{type(packet).__name__} while {self.state.value}")
        self._write(packet)

    def disconnect(
        self, reason: ReasonCode, reason_string: str | None = None, properties: Properties = NO_PROPERTIES
    ) -> None:
        """End the connection; an MQTT 5 device that was let in is told why, others nothing."""
        if self.state is State.OPEN and self.version is V5:
            if reason not in REASONS[PacketType.DISCONNECT]:
                reason = ReasonCode.PROTOCOL_ERROR
            self._write(Disconnect(reason, with_reason_string(properties, reason_string)))
        self._enter(State.CLOSED)

    def fail(self, error: RemoteProtocolError) -> None:
        """End the connection with the last words that fit an error of the device and the present state.

        After CONNACK that is DISCONNECT, before it a refusing CONNACK, and nothing to who did not begin with CONNECT.
        """
        if self.state is State.OPEN:
            self.disconnect(error.reason, str(error))
        elif self.state is not State.CLOSED and self._began_with_connect and self._decoder.is_version_known:
            self.version = self._decoder.version
            self._refuse(error.reason, str(error))
        self._enter(State.CLOSED)
