"""The client's end of a connection: a link to an upstream broker, a test's device, the probe.

CONNECT waits in `data_to_send` from the start. The first event is `ConnAck`; when it accepts, the caller calls
`resume`, and from then on `publish`. As with the server's end, `data_to_send` is asked after each step.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from mqttproxy.mqtt.answers import merged, with_reason_string
from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import encode
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
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.sender import V5, State
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState

__all__ = ["ClientConnection", "ClientLimits", "ServerTerms", "State"]

PING_AFTER: Final = 0.75  # of the keep alive
_PINGREQ: Final = b"\xc0\x00"


class ClientLimits(Struct, frozen=True, kw_only=True):
    """What the server may send us. Sizes in bytes.

    An MQTT 5 server is told of `packet_size`, `receive_maximum` and `topic_alias_maximum` in CONNECT, unless the
    CONNECT given by the caller has values of its own: then those hold. `topic_aliases_to_server` is how many aliases we
    use of those the server takes; none by default, because writing one takes 0.15 µs more than the topic it saves.
    """

    packet_size: int = 1024 * 1024
    payload_size: int = 1024 * 1024
    topic_bytes: int = 65_535
    topic_levels: int = 65_535
    user_properties: int = 1000
    receive_maximum: int = 1000
    qos2_awaiting_release: int = 1000
    topic_alias_maximum: int = 0
    topic_aliases_to_server: int = 0


class ServerTerms(Struct, frozen=True, kw_only=True):
    """What CONNACK said of the server; sizes in bytes, times in seconds. Without it the standard's defaults."""

    receive_maximum: int = PACKET_ID_MAX
    maximum_qos: int = 2
    retain_available: bool = True
    maximum_packet_size: int | None = None
    topic_alias_maximum: int = 0
    keep_alive: int = 0
    session_expiry_interval: int = 0
    assigned_client_id: str | None = None
    wildcard_subscriptions: bool = True
    subscription_identifiers: bool = True
    shared_subscriptions: bool = True


class ClientConnection(Flow):
    """One connection to a server, where we are the client.

    Attributes:
        connect: CONNECT as it is sent.
        server: what CONNACK said.
        ping_due: monotonic seconds at which `ping` should be called next.

    Events: ConnAck (first; a refusal too), Publish (QoS 2 only the first time), SubAck, UnsubAck, Settled, Disconnect,
    Auth.

    """

    STEPS: ClassVar[Steps] = {
        State.AWAITING_CONNACK: {ConnAck: State.OPEN, Auth: State.AWAITING_CONNACK},
        State.OPEN: {
            Publish: State.OPEN,
            PubAck: State.OPEN,
            PubRec: State.OPEN,
            PubRel: State.OPEN,
            PubComp: State.OPEN,
            SubAck: State.OPEN,
            UnsubAck: State.OPEN,
            PingResp: State.OPEN,
            Auth: State.OPEN,
            Disconnect: State.CLOSED,
        },
    }

    def __init__(self, connect: Connect, session: SessionState, limits: ClientLimits, now: float) -> None:
        if connect.version is V5:
            connect = replace(connect, properties=_with_limits(connect.properties, limits))
        announced = connect.properties
        decoder = Decoder(
            version=connect.version,
            max_packet_size=announced.maximum_packet_size or limits.packet_size,
            topic_alias_maximum=announced.topic_alias_maximum or 0,
            limits=DecodeLimits(
                topic_bytes=limits.topic_bytes,
                topic_levels=limits.topic_levels,
                user_properties=limits.user_properties,
                payload_size=limits.payload_size,
            ),
        )
        super().__init__(
            State.AWAITING_CONNACK, decoder, session, awaiting_release=limits.qos2_awaiting_release, now=now
        )
        self.connect = connect
        self.server = ServerTerms(keep_alive=connect.keep_alive)
        self.ping_due = float("inf")
        self._topic_aliases = limits.topic_aliases_to_server
        if self.version is V5:
            self._receive_maximum = announced.receive_maximum or PACKET_ID_MAX
            self._awaiting_release_maximum = max(self._awaiting_release_maximum, self._receive_maximum)
            self._share_receive_maximum()
        self._out += encode(connect, self.version)

    def silent_since(self, now: float) -> float:
        """Return for how many seconds the server has sent nothing, not even an answer to a ping."""
        return now - self.last_received

    # From the server.

    def _take(self, packet: Packet) -> Event | None:
        match packet:
            case ConnAck():
                self._take_connack(packet)
            case SubAck():
                return packet if self._answers_request(packet) else None
            case UnsubAck():
                return packet if self._answers_request(packet) else None
            case PingResp():
                return None
            case Auth():
                if self.connect.properties.authentication_method is None:
                    raise RemoteProtocolError("AUTH without an authentication method in CONNECT")
            case Disconnect():
                if self.version is not V5:
                    raise RemoteProtocolError("DISCONNECT from an MQTT 3.1.1 server")
        return super()._take(packet)

    def _take_connack(self, packet: ConnAck) -> None:
        if packet.reason.is_failure:
            self._enter(State.CLOSED)
            return
        if packet.session_present and self.connect.clean_start:  # [MQTT-3.2.2-2]
            raise RemoteProtocolError("a session is present after a clean start")
        if not packet.session_present:
            self.session.forget_progress()
        self._dup = packet.session_present
        self._is_resumed = not self._unsent
        self.server = server = _terms(packet.properties, self.connect)
        self._peer_receive_maximum = server.receive_maximum
        self._peer_maximum_qos = server.maximum_qos
        self._peer_retains = server.retain_available
        if server.maximum_packet_size is not None:
            self._peer_packet_size = server.maximum_packet_size
        if self.version is V5:
            self._use_aliases(server.topic_alias_maximum, self._topic_aliases)
        self._plan_ping(self.last_packet)

    def _answers_request(self, packet: SubAck | UnsubAck) -> bool:
        expected = self._requests.get(packet.packet_id)
        if expected is None or expected[0] is not type(packet):
            self.strays += 1
            return False
        if len(packet.reasons) != expected[1] and (self.version is V5 or isinstance(packet, SubAck)):
            raise RemoteProtocolError(f"{len(packet.reasons)} reasons for {expected[1]} topic filters")
        del self._requests[packet.packet_id]
        return True

    # To the server.

    def resume(self) -> Sent:
        """Send again what the session holds, in order, before anything new. Once, after an accepting CONNACK.

        When the server kept the session: with the same packet identifiers, DUP set, and PUBREL for what it has. When it
        did not: as new messages. What goes over its receive maximum is kept, and sent as room is made.

        Returns:
            As `publish`, for what the session held.

        """
        return self._resume() if self._is_open("resume") else Sent([], [])

    def subscribe(
        self,
        subscriptions: Sequence[Subscription],
        subscription_identifier: int | None = None,
        user_properties: tuple[tuple[str, str], ...] = (),
    ) -> int:
        """Send SUBSCRIBE.

        Args:
            subscriptions: what is wanted; options that MQTT 3.1.1 does not have are left out there.
            subscription_identifier: left out when the server does not know them, see `ServerTerms`.
            user_properties: left out in MQTT 3.1.1.

        Returns:
            The packet identifier that SUBACK will have. 0: nothing was sent, because the server takes no packet that
            large, no identifier is free, or the connection has ended.

        """
        if self.version is V5:
            properties = Properties(user_properties=user_properties)
            if subscription_identifier is not None and self.server.subscription_identifiers:
                properties = replace(properties, subscription_identifiers=(subscription_identifier,))
        else:
            properties = NO_PROPERTIES
            subscriptions = [Subscription(wanted.topic_filter, wanted.qos) for wanted in subscriptions]
        return self._request(Subscribe(self._free_packet_id(), tuple(subscriptions), properties), SubAck)

    def unsubscribe(self, topic_filters: Sequence[str]) -> int:
        """Send UNSUBSCRIBE; the return value is as that of `subscribe`, with UNSUBACK."""
        return self._request(Unsubscribe(self._free_packet_id(), tuple(topic_filters)), UnsubAck)

    def _free_packet_id(self) -> int:
        if not self._is_open("a request") or len(self.session.outgoing) + len(self._requests) >= PACKET_ID_MAX:
            return 0
        return self.session.allocate(self._requests)

    def _request(self, packet: Subscribe | Unsubscribe, answer: type[SubAck | UnsubAck]) -> int:
        if not packet.packet_id:
            return 0
        data = encode(packet, self.version)
        if len(data) > self._peer_packet_size:
            self.unsendable += 1
            return 0
        filters = packet.subscriptions if isinstance(packet, Subscribe) else packet.topic_filters
        self._requests[packet.packet_id] = answer, len(filters)
        self._out += data
        return packet.packet_id

    def _is_open(self, what: str) -> bool:
        """Tell whether something can be sent: not so after a DISCONNECT that came in the same read."""
        if self.state is State.AWAITING_CONNACK:
            raise LocalProtocolError(f"{what} while {self.state.value}")
        return self.state is State.OPEN

    def send(self, packet: Auth) -> None:
        """Send the next step of an enhanced authentication."""
        self._write(packet)

    def ping(self, now: float) -> None:
        """Send PINGREQ. Due at `ping_due`, whatever else was sent: its answer shows that the server is alive."""
        if self.state is State.OPEN:
            self._out += _PINGREQ
        self._plan_ping(now)

    def _plan_ping(self, now: float) -> None:
        keep_alive = self.server.keep_alive
        self.ping_due = now + PING_AFTER * keep_alive if keep_alive else float("inf")

    def disconnect(
        self,
        reason: ReasonCode = ReasonCode.SUCCESS,
        reason_string: str | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """End the connection. MQTT 3.1.1 can only say that all is well; with any other reason nothing is sent."""
        if self.state is State.OPEN:
            if self.version is V5:
                self._write(Disconnect(reason, with_reason_string(properties, reason_string)))
            elif reason is ReasonCode.SUCCESS:
                self._write(Disconnect())
        self._enter(State.CLOSED)

    def fail(self, error: RemoteProtocolError) -> None:
        """End the connection because of an error of the server; after CONNACK an MQTT 5 server is told which."""
        reason = error.reason if error.reason in REASONS[PacketType.DISCONNECT] else ReasonCode.PROTOCOL_ERROR
        self.disconnect(reason, str(error))


def _with_limits(properties: Properties, limits: ClientLimits) -> Properties:
    computed = Properties(
        receive_maximum=limits.receive_maximum,
        maximum_packet_size=limits.packet_size,
        topic_alias_maximum=limits.topic_alias_maximum or None,
    )
    return merged(computed, properties)


def _terms(said: Properties, connect: Connect) -> ServerTerms:
    is_v5 = connect.version is V5
    keep_alive = connect.keep_alive if said.server_keep_alive is None else said.server_keep_alive
    asked_expiry = connect.properties.session_expiry_interval or 0
    expiry = asked_expiry if said.session_expiry_interval is None else said.session_expiry_interval
    return ServerTerms(
        receive_maximum=said.receive_maximum or PACKET_ID_MAX,
        maximum_qos=2 if said.maximum_qos is None else said.maximum_qos,
        retain_available=said.retain_available != 0,
        maximum_packet_size=said.maximum_packet_size,
        topic_alias_maximum=said.topic_alias_maximum or 0,
        keep_alive=keep_alive,
        session_expiry_interval=expiry,
        assigned_client_id=said.assigned_client_identifier,
        wildcard_subscriptions=said.wildcard_subscription_available != 0,
        subscription_identifiers=is_v5 and said.subscription_identifier_available != 0,
        shared_subscriptions=is_v5 and said.shared_subscription_available != 0,
    )
