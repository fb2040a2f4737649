"""Devices that publish into a ledger, and ears at the brokers that note what arrives there: MQTT 5 clients in one loop.

Both keep their sessions over every lost connection, and go on as the standard says: PUBLISH again with DUP and the same
packet identifier, PUBREL for what has its PUBREC. They outlive whatever is killed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Final

import trio
from attrs import define, field

from mqttproxy.mqtt.client import ClientConnection, ClientLimits, State
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import ConnAck, Connect, Message, Properties, Publish, Subscription
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream, TransportError
from tests.faults.ledger import Ledger, Stream

LIMITS: Final = ClientLimits(receive_maximum=65_535, qos2_awaiting_release=65_535)
PAUSE: Final = 0.05, 0.25  # seconds before dialling again, drawn anew each time
ANSWER: Final = 20.0  # seconds for TCP and CONNACK, on a slow machine in trouble


@define(eq=False)
class Client(ABC):
    """An MQTT 5 client that is connected whenever it can be.

    Attributes:
        connections: CONNACKs that accepted.
        forgotten: of these, how many found no session although there had been one.
        keep_alive: seconds; it sends no pings: whoever sets one publishes often enough.
        errors: what the server did against the protocol, in words. There must be none.

    """

    url: str
    client_id: str
    chance: Random
    session: SessionState = field(factory=SessionState)
    keep_alive: int = field(default=0, kw_only=True)
    connections: int = 0
    forgotten: int = 0
    errors: list[str] = field(factory=list)
    _line: tuple[ByteStream, ClientConnection] | None = None

    @property
    def is_connected(self) -> bool:
        return self._line is not None and self._line[1].state is State.OPEN

    async def run(self) -> None:
        """Connect, talk, and connect again, until cancelled."""
        while True:
            try:
                with trio.fail_after(ANSWER):
                    stream = await dial(self.url)
                async with trio.open_nursery() as nursery:
                    stream.flush_with(nursery.start_soon)
                    try:
                        await self._talk(stream)
                    finally:
                        self._line = None
                        stream.abort()
            except* (TransportError, trio.TooSlowError):
                pass
            except* RemoteProtocolError as group:
                self.errors += [f"{self.client_id}: {error}" for error in group.exceptions]
            await trio.sleep(self.chance.uniform(*PAUSE))

    async def _talk(self, stream: ByteStream) -> None:
        properties = Properties(session_expiry_interval=3600)
        connect = Connect(
            client_id=self.client_id, clean_start=False, keep_alive=self.keep_alive, properties=properties
        )
        conn = ClientConnection(connect, self.session, LIMITS, trio.current_time())
        self._line = stream, conn
        self.flush()
        deadline = trio.current_time() + ANSWER
        while conn.state is not State.CLOSED:
            with trio.fail_at(deadline if conn.state is State.AWAITING_CONNACK else float("inf")):
                data = await stream.receive()
            if not data:
                return
            now = trio.current_time()
            conn.receive_data(data, now)
            while events := conn.next_batch(now):
                if isinstance(events[0], ConnAck):
                    self._greeted(conn, events[0])
                self.take(conn, events)
            self.flush()

    def flush(self) -> None:
        if self._line is not None and (data := self._line[1].data_to_send()):
            self._line[0].send_nowait(data)

    def _greeted(self, conn: ClientConnection, connack: ConnAck) -> None:
        if connack.reason.is_failure:
            return
        self.forgotten += bool(self.connections) and not connack.session_present
        self.connections += 1
        self.greeted(conn, connack)

    @abstractmethod
    def greeted(self, conn: ClientConnection, connack: ConnAck) -> None:
        """Begin, after an accepting CONNACK."""

    @abstractmethod
    def take(self, conn: ClientConnection, events: list[Event]) -> None:
        """Deal with what came in one turn."""


class _Noting(SessionState):
    """The session of a device: it tells of PUBREC, from which on the message is the server's to keep."""

    __slots__ = ("released_before", "tell")

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        super().__init__()
        self.tell = tell
        self.released_before: set[int] = set()

    def release(self, packet_id: int) -> None:
        self.tell(self.outgoing[packet_id][0].payload)
        super().release(packet_id)

    def forget_progress(self) -> None:
        self.released_before = set(self.released)
        super().forget_progress()


@define(eq=False)
class Device(Client):
    """Publishes at QoS 1 and 2 in turn, on a topic for each.

    Attributes:
        window: most exchanges at once, also while it is away: then it publishes nothing.
        ledger: is told of everything.
        topic: its topics begin with this.

    """

    ledger: Ledger = field(kw_only=True)
    window: int = 64
    topic: str = "load"
    heard: Callable[[], None] = lambda: None
    _streams: tuple[Stream, Stream] = field(init=False)
    _turn: int = 0

    def __attrs_post_init__(self) -> None:
        self.session = _Noting(self._acknowledged)
        self._streams = (
            Stream(self.client_id, f"{self.topic}/{self.client_id}/one", 1),
            Stream(self.client_id, f"{self.topic}/{self.client_id}/two", 2),
        )

    def publish(self, count: int) -> int:
        """Publish as many of `count` messages as there is room for; returns how many."""
        if self._line is None:
            return 0
        conn = self._line[1]
        count = min(count, self.window - len(self.session.outgoing), conn.send_quota)
        if count <= 0:
            return 0
        items = []
        for _ in range(count):
            stream = self._streams[self._turn]
            self._turn ^= 1
            items.append((Message(stream.topic, self.ledger.send(stream), stream.qos), None))
        conn.publish(items)
        self.flush()
        return count

    def greeted(self, conn: ClientConnection, connack: ConnAck) -> None:
        """Send again what is not acknowledged. Without a session there, what has its PUBREC is over: [MQTT-3.2.2-5]."""
        session = self.session
        assert isinstance(session, _Noting)
        for packet_id in session.released_before:
            del session.outgoing[packet_id], conn._unsent[packet_id]
        session.released_before.clear()
        conn.resume()

    def take(self, conn: ClientConnection, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Settled):
                if event.reason.is_failure:
                    self.ledger.refuse(event.message.payload)
                elif event.message.qos == 1:
                    self._acknowledged(event.message.payload)

    def _acknowledged(self, payload: bytes) -> None:
        self.ledger.acknowledge(payload)
        self.heard()


@define(eq=False)
class Ear(Client):
    """A subscriber at a broker, whose session the broker keeps.

    Attributes:
        qos: 2: each message once. 0: for a broker that will be killed, see `systems.Upstream`.
        is_listening: it is subscribed.
        filter: of its subscription.

    """

    destination: str = field(kw_only=True)
    ledger: Ledger = field(kw_only=True)
    qos: int = 2
    filter: str = "#"
    is_listening: bool = False
    last: float = 0.0  # when something came

    def greeted(self, conn: ClientConnection, connack: ConnAck) -> None:
        conn.resume()
        if connack.session_present:
            self.is_listening = True
        else:
            conn.subscribe([Subscription(self.filter, self.qos)])

    def take(self, conn: ClientConnection, events: list[Event]) -> None:
        receive, name, owed = self.ledger.receive, self.destination, []
        for event in events:
            if type(event) is Publish:
                receive(name, event.topic, event.payload)
                if event.qos:
                    owed.append((event.packet_id, event.qos))
            elif not isinstance(event, ConnAck):
                self.is_listening = True  # SUBACK
        self.last = trio.current_time()
        conn.acknowledge_all(owed)
