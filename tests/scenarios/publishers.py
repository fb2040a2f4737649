"""Who said what to whom: publishers that know what was acknowledged, brokers that know what they have.

Payloads are "<publisher>:<number>"; the number is the packet identifier too, because a publisher does nothing else.
What they add up to is for `tests/faults/ledger.py` to say.
"""

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import BoundedSemaphore, Event, Thread
from typing import Final, Protocol

from attrs import define, field

from mqttproxy.mqtt.events import Event as MqttEvent
from mqttproxy.mqtt.packets import Connect, Disconnect, Message, Publish
from mqttproxy.mqtt.server import ServerConnection, ServerLimits, State
from mqttproxy.mqtt.session_state import SessionState
from tests.ports import free_port
from tests.scenarios.devices import PahoDevice, Place
from tests.scenarios.mosquitto import Mosquitto
from tests.waiting import PATIENCE, wait_until

Stored = list[tuple[str, int]]  # publisher and number, in the order in which a broker took them
LIMITS: Final = ServerLimits(receive_maximum=65_535, qos2_awaiting_release=65_535)
HIGHEST: Final = 60_000  # numbers are packet identifiers


@define(eq=False)
class Publisher:
    """A device that publishes as fast as it is acknowledged, on a thread of its own, until it is stopped.

    Attributes:
        pace: seconds to wait before each message, where it does not matter that as much as possible is under way.

    """

    name: str
    topic: str
    place: Place
    window: int = 20
    qos: int = 1
    payload: str = "{name}:{number}"
    pace: float = 0.0
    sent: int = 0
    acknowledged: list[int] = field(factory=list)
    device: PahoDevice = field(init=False)
    _room: BoundedSemaphore = field(init=False)
    _stopping: Event = field(factory=Event)
    _thread: Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._room = BoundedSemaphore(self.window)
        self.device = PahoDevice(self.name, self.place, window=self.window, heard=self._hear)
        self._thread = Thread(target=self._run, name=self.name)
        self._thread.start()

    def stop(self) -> None:
        """Publish no more."""
        self._stopping.set()
        self._thread.join(PATIENCE)

    def close(self) -> None:
        self.stop()
        self.device.close()

    def wait_more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        enough = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= enough, f"{enough} acknowledged to {self.name}")

    def wait_all(self) -> None:
        """Wait until everything that was sent is acknowledged."""
        wait_until(lambda: len(self.acknowledged) == self.sent, f"{self.sent} acknowledged to {self.name}")

    def _run(self) -> None:
        while not self._stopping.is_set() and self.sent < HIGHEST:
            if self._room.acquire(timeout=0.05) and not self._stopping.wait(self.pace):
                self.sent += 1
                payload = self.payload.format(name=self.name, number=self.sent).encode()
                assert self.device.send(Message(self.topic, payload, self.qos)) == self.sent

    def _hear(self, number: int) -> None:
        self.acknowledged.append(number)
        self._room.release()


class Killable(Protocol):
    """A broker that can be killed and started again at the same place."""

    @property
    def url(self) -> str:
        """Where it is."""

    def start(self) -> None:
        """Start, also again."""

    def stall(self) -> None:
        """Acknowledge nothing more."""

    def kill(self) -> None:
        """End without a word."""

    def stored(self) -> Stored:
        """Return what it has, as far as it is answerable for it."""

    def close(self) -> None:
        """End for good."""


def parse(messages: Sequence[Message]) -> Stored:
    """Return who published what."""
    pairs = [message.payload.decode().split(":") for message in messages]
    return [(name, int(number)) for name, number in pairs]


@define(eq=False)
class MosquittoWithEar:
    """Mosquitto, and a subscriber whose session it finds again after a kill.

    Exact although Mosquitto keeps messages in memory: it writes each to the subscriber's socket before it acknowledges
    it to us, and what is in the socket survives it. The subscriber takes everything at QoS 0 and so never writes, since
    an error in writing would make it throw away what it has not read.
    """

    broker: Mosquitto
    ear: PahoDevice | None = None

    @property
    def url(self) -> str:
        return self.broker.url

    def start(self) -> None:
        self.broker.start()
        if self.ear is None:
            self.ear = PahoDevice("ear", Place(self.broker.port), clean=False)
            self.ear.subscribe("#", 0)
            self.broker.save()
        else:
            self.ear.wait_connected(2)
            assert self.ear.sessions_found == 1, "mosquitto has forgotten the subscriber"

    def stall(self) -> None:
        self.broker.stall()

    def kill(self) -> None:
        self.broker.kill()

    def stored(self) -> Stored:
        assert self.ear is not None
        return parse(self.ear.received)

    def close(self) -> None:
        if self.ear is not None:
            self.ear.close()
        self.broker.kill()


@define(eq=False)
class LedgerBroker:
    """A broker of our own. When it is killed, it has received messages that it did not acknowledge.

    Attributes:
        keeps_sessions: over a kill, as a broker on disk does it.
        forgets: half of what it has not acknowledged; the other half it will have twice. False: it has stored all, and
            at QoS 2, with its session, will have none of it twice.
        forgotten: how many messages.

    """

    keeps_sessions: bool
    forgets: bool = True
    port: int = field(factory=free_port)
    _stored: Stored = field(factory=list)
    forgotten: int = 0
    _is_stalled: bool = False
    _sessions: dict[str, SessionState] = field(factory=dict)
    _listener: socket.socket | None = None
    _connections: list[socket.socket] = field(factory=list)
    _threads: list[Thread] = field(factory=list)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._spawn(Thread(target=self._accept, args=(self._listener,), name="ledger"))

    def stall(self) -> None:
        self._is_stalled = True

    def kill(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for connection in self._connections:
            # As the kernel does it for a process that has not read everything: a reset.
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RD)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._connections.clear()
        self._threads.clear()
        self._is_stalled = False
        if not self.keeps_sessions:
            self._sessions.clear()

    def stored(self) -> Stored:
        return list(self._stored)

    def close(self) -> None:
        self.kill()

    def _spawn(self, thread: Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            self._spawn(Thread(target=self._serve, args=(connection,), name="ledger"))

    def _serve(self, stream: socket.socket) -> None:
        conn = ServerConnection(LIMITS, time.monotonic())
        waiting: list[Publish] = []
        with stream, suppress(OSError):
            while conn.state is not State.CLOSED:
                data = stream.recv(65_536)
                if not data:
                    break
                for event in self._read(conn, data):
                    waiting += [event] if isinstance(event, Publish) else []
                if not self._is_stalled:
                    self._acknowledge(conn, waiting)
                stream.sendall(conn.data_to_send())
        if self.forgets:
            self._stored += parse(waiting[: len(waiting) // 2])
            self.forgotten += len(waiting) - len(waiting) // 2
        else:
            self._acknowledge(conn, waiting)  # its session knows, and nobody else

    def _acknowledge(self, conn: ServerConnection, waiting: list[Publish]) -> None:
        self._stored += parse(waiting)
        conn.acknowledge_all([(publish.packet_id, publish.qos) for publish in waiting])
        waiting.clear()

    def _read(self, conn: ServerConnection, data: bytes) -> list[MqttEvent]:
        now = time.monotonic()
        conn.receive_data(data, now)
        events: list[MqttEvent] = []
        while batch := conn.next_batch(now):
            events += batch
            if isinstance(batch[0], Connect):
                self._greet(conn, batch[0])
            if isinstance(batch[-1], Disconnect):
                break
        return events

    def _greet(self, conn: ServerConnection, connect: Connect) -> None:
        if connect.clean_start:
            self._sessions.pop(connect.client_id, None)
        present = connect.client_id in self._sessions
        session = self._sessions.setdefault(connect.client_id, SessionState())
        conn.accept(session, session_present=present, client_id=connect.client_id)
