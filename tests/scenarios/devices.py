"""Devices for the scenarios: paho-mqtt, MQTT.js and Mosquitto's clients, behind one small interface.

They speak of messages in the proxy's own words (`Message`, `Properties`), so that what one device sent can be compared
with what another received.
"""

import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from attrs import define, field, frozen
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode as PahoReason
from paho.mqtt.subscribeoptions import SubscribeOptions

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.upstream.guard import without_stamps
from tests.harness import PATH
from tests.waiting import wait_until

# paho has no types for it.
_no_properties: Final[Callable[[int], PahoProperties]] = PahoProperties

Version = Literal["3.1.1", "5"]
Transport = Literal["tcp", "tls", "ws", "wss"]
PROPERTY_NAMES: Final = {  # ours, and paho's
    "payload_format_indicator": "PayloadFormatIndicator",
    "message_expiry_interval": "MessageExpiryInterval",
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "user_properties": "UserProperty",
}


@frozen
class Shown:
    """What a device shows of itself.

    Attributes:
        certificate: a PEM file, as its key, for tls and wss.
        method: SCRAM-SHA-256 or SCRAM-SHA-512 proves the password instead of showing it, with MQTT 5. MQTT.js can; the
            others begin it, and do not know the AUTH that is the answer.

    """

    username: str | None = None
    password: str | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    method: str | None = None

    @property
    def first(self) -> str:
        """The client's first message of SCRAM."""
        return f"n,,n={self.username},r=fyko+d2lbbFgONRv9qkxdawL"


@frozen
class Place:
    """Where a device connects to, and how.

    Attributes:
        source: address of this machine that it comes from; not MQTT.js.

    """

    port: int
    transport: Transport = "tcp"
    ca: Path | None = None
    version: Version = "5"
    shown: Shown = Shown()
    source: str = ""


class NotLetInError(Exception):
    """The server did not let a device in. `reason`: of CONNACK, as the client shows it; None: there was no CONNACK."""

    def __init__(self, reason: int | None, words: str = "") -> None:
        super().__init__(f"{reason}: {words}")
        self.reason = reason


@frozen
class Answer:
    """What the acknowledgement of a message said: PUBACK, or the first negative one of PUBREC and PUBCOMP."""

    reason: int = 0
    reason_string: str | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


class Device(Protocol):
    """A device that stays connected."""

    client_id: str

    @property
    def received(self) -> Sequence[Message]:
        """Every message so far, in order."""

    def publish(self, message: Message) -> Answer:
        """Publish, and wait for the end of its handshake."""

    def subscribe(self, topic_filter: str, qos: int) -> int:
        """Subscribe, and return what SUBACK granted."""

    def close(self) -> None:
        """Disconnect."""


def on(device: Device, topic: str, count: int = 1) -> list[Message]:
    """Wait until a device has received so many messages on a topic, and return them all, without what proxies add."""

    def there() -> list[Message]:
        return [without_stamps(message) for message in device.received if message.topic == topic]

    wait_until(lambda: len(there()) >= count, f"{count} on {topic} at {device.client_id}")
    return there()


def to_paho(properties: Properties) -> PahoProperties:
    """Return properties as paho takes them."""
    made = _no_properties(PacketTypes.PUBLISH)
    for ours, theirs in PROPERTY_NAMES.items():
        if (value := getattr(properties, ours)) not in (None, ()):
            setattr(made, theirs, list(value) if ours == "user_properties" else value)
    return made


def from_paho(properties: PahoProperties | None) -> Properties:
    """Return properties as we write them."""
    fields = {ours: getattr(properties, theirs, None) for ours, theirs in PROPERTY_NAMES.items()}
    fields["user_properties"] = tuple(tuple(pair) for pair in fields["user_properties"] or ())
    found = {name: value for name, value in fields.items() if value not in (None, ())}
    return Properties(**found) if found else NO_PROPERTIES


@define(eq=False)
class PahoDevice:
    """paho-mqtt on a thread of its own. Also the ear at a broker: MQTT 5, and retain as it was published.

    Attributes:
        received: every message, in order.
        times: when each came, monotonic.
        answers: by packet identifier, of everything published.
        dismissed: reason of the server's DISCONNECT, None: none came.

    """

    client_id: str
    place: Place
    clean: bool = True  # False: the server keeps its session
    window: int = 100
    received: list[Message] = field(factory=list)
    times: list[float] = field(factory=list)
    answers: dict[int, Answer] = field(factory=dict)
    dismissed: int | None = None
    refused: NotLetInError | None = None
    connections: int = 0
    sessions_found: int = 0
    heard: Callable[[int], None] | None = None  # told of each acknowledgement, on paho's thread
    suback: dict[int, int] = field(factory=dict)
    _client: "_Client" = field(init=False)

    def __attrs_post_init__(self) -> None:
        place = self.place
        self._client = client = _Client(self.client_id, place, clean=self.clean)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        client.on_message = self._arrived
        client.on_subscribe = self._subscribed
        client.max_inflight_messages_set(self.window)
        client.reconnect_delay_set(1, 1)
        options: dict[str, Any] = {}
        if place.version == "5":
            properties = _no_properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if self.clean else 3600
            if place.shown.method is not None:
                properties.AuthenticationMethod = place.shown.method
                properties.AuthenticationData = place.shown.first.encode()
            options = {"clean_start": self.clean, "properties": properties}
        try:
            client.connect("127.0.0.1", place.port, bind_address=place.source, **options)
        except ssl.SSLError as error:
            self.close()
            raise NotLetInError(None, str(error)) from error
        client.loop_start()
        try:
            self.wait_connected()
        except NotLetInError:
            self.close()
            raise

    def wait_connected(self, times: int = 1) -> None:
        """Wait for a CONNACK. Raises NotLetInError."""
        wait_until(lambda: self.refused or self.connections >= times, f"CONNACK number {times} for {self.client_id}")
        if self.refused:
            raise self.refused

    def send(self, message: Message) -> int:
        """Publish without waiting; returns the packet identifier."""
        return self._client.publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            to_paho(message.properties) if self.place.version == "5" else None,
        ).mid

    def publish(self, message: Message) -> Answer:
        mid = self.send(message)
        wait_until(lambda: mid in self.answers, f"acknowledgement of {message.topic} to {self.client_id}")
        return self._client.negative.get(mid, self.answers[mid])

    def subscribe(self, topic_filter: str, qos: int) -> int:
        if self.place.version == "5":
            _, mid = self._client.subscribe(topic_filter, options=SubscribeOptions(qos, retainAsPublished=True))
        else:
            _, mid = self._client.subscribe(topic_filter, qos)
        assert mid is not None
        return wait_until(lambda: self.suback.get(mid, -1) + 1, f"SUBACK for {topic_filter}") - 1

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # of paho's own: or it is left to the garbage collector, in any order

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected()

    def _connected(
        self, client: Client, _data: object, flags: ConnectFlags, reason: PahoReason, _more: PahoProperties | None
    ) -> None:
        if reason.is_failure:
            assert not self.connections, f"{self.client_id}: {reason}"
            self.refused = NotLetInError(reason.value, str(reason))
            client.disconnect()  # or it tries again
            return
        self.sessions_found += flags.session_present
        self.connections += 1

    def _disconnected(
        self, client: Client, _data: object, flags: DisconnectFlags, reason: PahoReason, _more: PahoProperties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.dismissed = reason.value
        if not self.connections and not self.refused:
            self.refused = NotLetInError(None, str(reason))
            client.disconnect()

    def _published(
        self, _client: Client, _data: object, mid: int, reason: PahoReason, properties: PahoProperties
    ) -> None:
        self.answers[mid] = _answer(reason.value, properties)
        if self.heard is not None:
            self.heard(mid)

    def _arrived(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.times.append(time.monotonic())
        properties = from_paho(message.properties)
        self.received.append(Message(message.topic, bytes(message.payload), message.qos, message.retain, properties))

    def _subscribed(
        self, _client: Client, _data: object, mid: int, reasons: Sequence[PahoReason], _more: PahoProperties | None
    ) -> None:
        self.suback[mid] = reasons[0].value


def _answer(reason: int, properties: PahoProperties | None) -> Answer:
    return Answer(reason, getattr(properties, "ReasonString", None), from_paho(properties).user_properties)


class _Client(Client):
    # paho reads a negative PUBREC as a positive one, so what it said is noted here.
    def __init__(self, client_id: str, place: Place, *, clean: bool) -> None:
        is_v5 = place.version == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if is_v5 else clean,
            protocol=MQTTv5 if is_v5 else MQTTv311,
            transport="websockets" if place.transport in {"ws", "wss"} else "tcp",
        )
        self.negative: dict[int, Answer] = {}
        if place.transport in {"tls", "wss"}:
            shown = place.shown
            own = None if shown.certificate is None else str(shown.certificate)
            key = None if shown.private_key is None else str(shown.private_key)
            self.tls_set(str(place.ca), own, key, ssl.CERT_REQUIRED)
        if place.shown.username is not None and place.shown.method is None:
            self.username_pw_set(place.shown.username, place.shown.password)
        self.ws_set_options(PATH)

    def _handle_pubrec(self) -> Any:
        body = bytes(self._in_packet["packet"])
        if len(body) > 2 and body[2] >= 0x80:
            properties = _no_properties(PacketTypes.PUBREC)
            unpack: Callable[[bytes], object] = properties.unpack
            if len(body) > 3:
                unpack(body[3:])
            self.negative[int.from_bytes(body[:2], "big")] = _answer(body[2], properties)
        return super()._handle_pubrec()
