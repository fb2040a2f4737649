"""Devices of the simulation: they publish what they are to, keep their session, come back, and are not always nice."""

from random import Random
from typing import Final

import trio

from mqttproxy.mqtt.client import ClientConnection, ClientLimits, State
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import ConnAck, Connect, Message, Properties, ProtocolVersion, Publish, Subscription
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.stream import TransportError
from tests.faults.simulation.disk import Disk
from tests.faults.simulation.ledger import Ledger, Sent
from tests.faults.simulation.network import Network, SimulatedStream
from tests.faults.simulation.routes import ROUTES, Route

PATIENCE: Final = 8.0  # seconds without progress, after which a device tries a new connection
IN_FLIGHT: Final = 10


class Device:
    """One device.

    Attributes:
        left: messages that it still wants to send.
        pace: seconds between two bursts, on average.

    """

    def __init__(
        self,
        name: str,
        version: ProtocolVersion,
        *,
        network: Network,
        disk: Disk,
        ledger: Ledger,
        chance: Random,
        messages: int = 0,
        listens: str = "",
    ) -> None:
        self.name = name
        self.version = version
        self.left = messages
        self.pace = 0.1 + chance.random() / 2
        self.session = SessionState()
        self.stream: SimulatedStream | None = None
        self.is_away = False
        self.starts_clean = False
        self.has_subscribed = not listens
        self._listens = listens
        self._network = network
        self._disk = disk
        self._ledger = ledger
        self._chance = chance
        self._progress = 0.0
        self._told: set[int] = set()  # packet identifiers of QoS 2 that were acknowledged with PUBREC

    @property
    def is_done(self) -> bool:
        return not self.left and not self.session.outgoing and self.has_subscribed

    def forget(self) -> None:
        """Lose the session, as a device whose memory was wiped."""
        for _, sent in self.session.outgoing.values():
            sent.abandoned = True  # type: ignore[attr-defined] # our own tokens
        self.session = SessionState()
        self._told.clear()
        self.starts_clean = True
        self.cut()

    def cut(self) -> None:
        """Drop the connection in the middle of whatever goes on."""
        if self.stream is not None:
            self.stream.abort()

    async def run(self) -> None:
        """Live until cancelled."""
        while True:
            if not self.is_away:
                try:
                    self.stream = await self._network.connect(self.name)
                    await self._connection(self.stream)
                except TransportError:
                    pass
            await trio.sleep(0.05 + self._chance.random())

    async def _connection(self, stream: SimulatedStream) -> None:
        clean = self.starts_clean
        expiry = Properties(session_expiry_interval=100_000) if self.version is ProtocolVersion.V5 else Properties()
        wanted = Connect(client_id=self.name, version=self.version, clean_start=clean, properties=expiry)
        conn = ClientConnection(wanted, self.session, ClientLimits(), trio.current_time())
        self._progress = trio.current_time()
        async with trio.open_nursery() as nursery:
            stream.flush_with(nursery.start_soon)
            try:
                stream.send_nowait(conn.data_to_send())
                nursery.start_soon(self._watch, conn, stream, nursery.cancel_scope)
                nursery.start_soon(self._publish, conn, stream)
                while conn.state is not State.CLOSED and (data := await stream.receive()):
                    self._take(conn, data, stream)
            except TransportError:
                pass
            except RemoteProtocolError as error:
                self._ledger.fault(f"the proxy broke MQTT towards {self.name}: {error}")
            finally:
                stream.abort()
                nursery.cancel_scope.cancel()

    async def _watch(self, conn: ClientConnection, stream: SimulatedStream, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep(PATIENCE / 4)
            if trio.current_time() > self._progress + PATIENCE:
                stream.abort()
                scope.cancel()
            conn.ping(trio.current_time())
            stream.send_nowait(conn.data_to_send())

    async def _publish(self, conn: ClientConnection, stream: SimulatedStream) -> None:
        while True:
            await trio.sleep(self.pace * 2 * self._chance.random())
            if conn.state is not State.OPEN or not self.left:
                continue
            burst = min(self.left, self._chance.randint(1, 5))
            items: list[tuple[Message, object]] = []
            quota = min(conn.send_quota, IN_FLIGHT - len(self.session.outgoing))
            for _ in range(burst):
                message, sent = self._message()
                if message.qos:
                    if quota <= 0:
                        sent.abandoned = True
                        continue
                    quota -= 1
                items.append((message, sent if message.qos else None))
            self.left -= burst
            conn.publish(items)
            self._ledger.tell(f"  {self.name} sent", *(message.payload for message, _ in items))
            stream.send_nowait(conn.data_to_send())

    def _message(self) -> tuple[Message, Sent]:
        route: Route = self._chance.choice(ROUTES)
        qos = self._chance.choice((0, 1, 1, 2, 2))
        topic = f"{route.name}/{self.name}"
        form = route.form if self._chance.random() < 0.7 else route.bad_form
        sent = self._ledger.send(self.name, topic, qos, owed=route.to, needed=route.needed, form=form)
        return Message(topic, sent.payload, qos), sent

    # What it hears.

    def _take(self, conn: ClientConnection, data: bytes | memoryview, stream: SimulatedStream) -> None:
        now = self._progress = trio.current_time()
        conn.receive_data(data, now)
        while events := conn.next_batch(now):
            for event in events:
                self._hear(conn, event)
            for packet_id in self.session.released:
                if packet_id not in self._told and packet_id in self.session.outgoing:
                    self._told.add(packet_id)
                    self._settle(self.session.outgoing[packet_id][1], success=True)
        if out := conn.data_to_send():
            stream.send_nowait(out)

    def _hear(self, conn: ClientConnection, event: Event) -> None:
        match event:
            case ConnAck() if not event.reason.is_failure:
                self._begin(conn, event)
            case Settled():
                self._told.discard(event.packet_id)
                self._settle(event.token, success=not event.reason.is_failure)
            case Publish():
                self._ledger.receive("local", event.topic, event.payload, event.qos)
                if event.qos:
                    conn.acknowledge_all([(event.packet_id, event.qos)])
            case _ if type(event).__name__ == "SubAck":
                self.has_subscribed = True

    def _begin(self, conn: ClientConnection, connack: ConnAck) -> None:
        self._ledger.tell(f"  {self.name} connected", "again" if connack.session_present else "anew")
        self.starts_clean = False
        if not connack.session_present:
            for _, sent in self.session.outgoing.values():
                sent.again = True  # type: ignore[attr-defined] # our own tokens
            self._told.clear()
        conn.resume()
        if self._listens and not (connack.session_present and self.has_subscribed):
            if self.has_subscribed:
                self._ledger.fault(f"the session of {self.name} is lost")
            conn.subscribe([Subscription(self._listens, 2)])

    def _settle(self, token: object, *, success: bool) -> None:
        assert isinstance(token, Sent)
        self._ledger.settle(token, success=success, durable=self._disk.ever, held=self._disk.held.values())
