"""A device of the tests, over a stream in memory."""

from typing import Any, cast

import trio

from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    Properties,
    Publish,
    SubAck,
    Subscription,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.stream import TransportError
from tests.bad_input.wire import frames
from tests.fakes import MemoryByteStream


class Client:
    """A device of the tests: `ClientConnection` over a memory stream. What it hears gathers in `events`.

    Attributes:
        ended_at: when the connection was closed by the proxy, None while it is open.
        acknowledges: False: it leaves the messages that it gets unacknowledged.

    """

    def __init__(
        self,
        stream: MemoryByteStream,
        connect: Connect,
        nursery: trio.Nursery,
        *,
        session: SessionState | None = None,
        acknowledges: bool = True,
    ) -> None:
        self.stream = stream
        self.connection = ClientConnection(connect, session or SessionState(), ClientLimits(), trio.current_time())
        self.events: list[Event] = []
        self.heard = bytearray()
        self.ended_at: float | None = None
        self.is_cut = False
        self.acknowledges = acknowledges
        self._may_read = trio.Event()
        self._may_read.set()
        self._nursery = nursery
        self.flush()
        nursery.start_soon(self._read)

    # What it does.

    def publish(self, *messages: Message) -> None:
        """Send messages in one write. Their packet identifiers count from 1."""
        self.connection.publish([(message, message.topic) for message in messages])
        self.flush()

    def subscribe(self, *filters: str | Subscription, identifier: int | None = None) -> None:
        wanted = [Subscription(one, 2) if isinstance(one, str) else one for one in filters]
        self.connection.subscribe(wanted, identifier)
        self.flush()

    def send(self, data: bytes) -> None:
        """Send bytes of any kind."""
        self.stream.send_nowait(data)

    def disconnect(self, reason: ReasonCode = ReasonCode.SUCCESS, properties: Properties = NO_PROPERTIES) -> None:
        self.connection.disconnect(reason, properties=properties)
        self.flush()

    def hang(self) -> None:
        """Take no byte more, after what is being waited for."""
        self._may_read = trio.Event()

    def go_on(self) -> None:
        """Take bytes again."""
        self._may_read.set()

    def cut(self) -> None:
        """Let the connection be lost."""
        self.stream.abort()

    def flush(self) -> None:
        if data := self.connection.data_to_send():
            self.stream.send_nowait(data)

    # What it has heard.

    def of(self, kind: type[Packet] | type[Settled]) -> list[Any]:
        """Return what came of one kind."""
        return [event for event in self.events if type(event) is kind]

    @property
    def connack(self) -> ConnAck | None:
        return next(iter(self.of(ConnAck)), None)

    @property
    def settled(self) -> list[tuple[int, int]]:
        """(packet identifier, reason) of each acknowledgement, in order."""
        return [(event.packet_id, int(event.reason)) for event in self.of(Settled)]

    @property
    def acknowledged(self) -> list[tuple[int, int]]:
        """(packet identifier, reason) of each PUBACK and PUBREC as they came; `settled` has PUBCOMP for QoS 2."""
        return [
            (int.from_bytes(packet[2:4], "big"), packet[4] if len(packet) > 4 else 0)
            for packet in frames(bytes(self.heard))
            if packet[0] in (0x40, 0x50)
        ]

    @property
    def received(self) -> list[tuple[str, bytes]]:
        return [(publish.topic, publish.payload) for publish in self.of(Publish)]

    @property
    def goodbye(self) -> ReasonCode | None:
        """Reason of the proxy's DISCONNECT."""
        return next((event.reason for event in self.of(Disconnect)), None)

    @property
    def granted(self) -> tuple[ReasonCode, ...]:
        """Reasons of the last SUBACK."""
        return cast("tuple[ReasonCode, ...]", self.of(SubAck)[-1].reasons)

    async def _read(self) -> None:
        try:
            while True:
                await self._may_read.wait()
                data = await self.stream.receive()
                if not data:
                    break
                self._take(bytes(data))
        except TransportError:
            self.is_cut = True
        self.ended_at = trio.current_time()

    def _take(self, data: bytes) -> None:
        now = trio.current_time()
        self.heard += data
        self.connection.receive_data(data, now)
        while events := self.connection.next_batch(now):
            self.events += events
            if any(type(event) is ConnAck and not event.reason for event in events):
                self.connection.resume()
            if self.acknowledges:
                self.connection.acknowledge_all(
                    [(event.packet_id, event.qos) for event in events if type(event) is Publish and event.qos]
                )
        self.flush()
