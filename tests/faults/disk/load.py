"""Devices that remember: what was acknowledged to them, and when; and where it must be found afterwards.

A `Place` is where acknowledged messages must be: settings, what must be there before the load, and a look at the end.
"""

import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Final, Protocol

from attrs import define, field

from mqttproxy.mqtt.packets import Publish
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.upstream.guard import MESSAGE_ID
from tests.conformance.device import Server
from tests.conformance.packets import V5, Kind, Packet, Prop, ack, connect, prop, publish, read
from tests.harness import RunningProxy
from tests.ports import free_port
from tests.scenarios.publishers import LedgerBroker, parse as stored_by
from tests.waiting import PATIENCE, wait_for_none

TOPIC: Final = "load/{name}"
FILTER: Final = "load/#"
FOR_LONG: Final = prop(Prop.SESSION_EXPIRY_INTERVAL, 300)
Arrivals = Counter[tuple[str, int]]  # sender and number, and how often it was there


@define(eq=False)
class Sender:
    """A device that publishes at QoS 1 and 2 in turn, so many unacknowledged, and comes back if it is cut off.

    Attributes:
        name: its client identifier.
        padding: bytes added to each payload.
        expected: reason code that counts as success too: what is held is told so.
        moment: returns what is noted with each acknowledgement, such as how far a log has got.
        sent: numbers so far, from 1; they are packet identifiers too.
        acknowledged: number, and the moment of its PUBACK or PUBREC.
        repeated: numbers at QoS 1 that were sent again, so that they may be there twice.

    """

    name: str
    padding: int = 0
    window: int = 8
    expected: int = 0
    moment: Callable[[], int] = int
    sent: int = 0
    acknowledged: dict[int, int] = field(factory=dict)
    repeated: set[int] = field(factory=set)
    connections: int = 0
    _open: dict[int, bool] = field(factory=dict)  # sent; True: PUBREC was received
    _socket: socket.socket | None = None
    _data: bytes = b""

    def connect(self, port: int, *, patience: float = PATIENCE) -> None:
        """Connect, and send again what is open."""
        self.cut()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clean = not self.connections
        self._send(connect(V5, self.name, clean=clean, fields=[FOR_LONG]))
        while (packet := self._next(patience)) is None:
            pass
        assert packet.kind is Kind.CONNACK, packet
        assert packet.reason == 0, packet
        self.connections += 1
        for number, is_received in self._open.items():
            if not is_received and number % 2:
                self.repeated.add(number)
            self._send(ack(Kind.PUBREL, number) if is_received else self._publish(number, dup=True))

    def publish(self, count: int, *, patience: float = PATIENCE) -> None:
        """Publish so many, and wait until all are acknowledged to the end."""
        last = self.sent + count
        end = time.monotonic() + patience
        while self.sent < last or self._open:
            assert time.monotonic() < end, f"{self.name}: {sorted(self._open)} not acknowledged in {patience:g} s"
            self.step(last, end - time.monotonic())

    def step(self, last: int, patience: float) -> None:
        """Publish up to a number as far as the window allows, and take what comes.

        Raises:
            OSError: cut off.

        """
        while self.sent < last and len(self._open) < self.window:
            self.sent += 1
            self._open[self.sent] = False
            self._send(self._publish(self.sent))
        packet = self._next(patience)
        while packet is not None:
            self._take(packet)
            packet, self._data = self._read()

    def cut(self) -> None:
        """Break the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._data = None, b""

    def check(self, arrivals: Arrivals, until: float = float("inf")) -> None:
        """Fail if something that was acknowledged up to a moment is missing, or something is there twice."""
        lost = [n for n, moment in self.acknowledged.items() if moment <= until and not arrivals[self.name, n]]
        assert not lost, f"{self.name}: acknowledged and lost: {lost[:20]} ({len(lost)} of {len(self.acknowledged)})"
        mine = {number: count for (name, number), count in arrivals.items() if name == self.name}
        twice = [number for number, count in mine.items() if count > 1 and number not in self.repeated]
        assert not twice, f"{self.name}: twice: {twice[:20]}"
        ghosts = [number for number in mine if number > self.sent]
        assert not ghosts, f"{self.name}: never sent: {ghosts[:20]}"

    def _publish(self, number: int, *, dup: bool = False) -> bytes:
        payload = f"{self.name}:{number}".encode().ljust(self.padding)
        topic = TOPIC.format(name=self.name)
        return publish(V5, topic, payload, qos=1 if number % 2 else 2, packet_id=number, dup=dup)

    def _take(self, packet: Packet) -> None:
        number = packet.packet_id
        if packet.kind is Kind.DISCONNECT:
            raise ConnectionResetError(f"{self.name}: dismissed with {packet.reason:#x}")
        if packet.reason in (0, 0x10, self.expected):
            self.acknowledged.setdefault(number, self.moment())
        else:
            assert packet.reason == 0x92, packet  # a PUBREL of which it knows no more
        if packet.kind is Kind.PUBREC and packet.reason < 0x80:
            self._open[number] = True
            self._send(ack(Kind.PUBREL, number))
        else:
            self._open.pop(number, None)

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(data)

    def _next(self, patience: float) -> Packet | None:
        """Return a packet, or None: there was none in this time."""
        packet, self._data = self._read()
        if packet is not None:
            return packet
        assert self._socket is not None
        self._socket.settimeout(max(patience, 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return None
        finally:
            if self._socket is not None:
                self._socket.settimeout(PATIENCE)
        if not data:
            raise ConnectionResetError(f"{self.name}: cut off")
        self._data += data
        packet, self._data = self._read()
        return packet

    def _read(self) -> tuple[Packet | None, bytes]:
        packet, size = read(self._data, V5)
        return packet, self._data[size:]


class Place(Protocol):
    """Where acknowledged messages must be found."""

    settings: str  # tables of the configuration
    reason: int  # in the acknowledgements
    part: str  # of a path: files that they are on

    def prepare(self, proxy: RunningProxy) -> None:
        """Do what must be done before the load."""

    def collect(self, proxy: RunningProxy) -> Arrivals:
        """Return what is there, all since `prepare`; nothing is published meanwhile."""

    def again(self) -> "Place":
        """Return one that has found nothing yet, for the same settings."""

    def close(self) -> None:
        """End whatever runs for it."""


@define(eq=False)
class Absent:
    """The session of a subscriber that is away: PUBACK means that its queue is on disk."""

    settings: str = '[limits]\nqueue_messages = 100000\nqueue_bytes = "1GiB"\nflapping_connects = 0\n'
    part: str = "journal/"
    reason: int = 0
    _there: Arrivals = field(factory=Counter)

    def prepare(self, proxy: RunningProxy) -> None:
        server = Server({"tcp": proxy.port()})
        server.stay(V5, "absent").subscribe(FILTER)
        server.close()

    def collect(self, proxy: RunningProxy) -> Arrivals:
        server = Server({"tcp": proxy.port()})
        device = server.stay(V5, "absent")
        try:
            assert device.connack.session_present, "the session is lost"
            server.join(V5).publish(TOPIC.format(name="last"), b"last:0")
            while (message := device.message()).payload != b"last:0":
                self._there[parse(message.payload)] += 1
                device.acknowledge(message)
            device.acknowledge(message)
            device.fence()
            device.leave()
        finally:
            server.close()
        return self._there

    def again(self) -> "Absent":
        return Absent()

    def close(self) -> None:
        """Nothing runs."""


@define(eq=False)
class Held:
    """The quarantine: PUBACK means that the refused message is held."""

    settings: str = (
        f'[[policies]]\nname = "none"\ntopics = ["{FILTER}"]\nschema = "never@1"\n'
        '[quarantine]\ninline_bytes = "1KiB"\nkeep_free = "0B"\n[limits]\nflapping_connects = 0\n'
    )
    part: str = "quarantine/"
    reason: int = 0x99

    def prepare(self, proxy: RunningProxy) -> None:
        """The schema is written by `write_place`."""

    def collect(self, proxy: RunningProxy) -> Arrivals:
        folder = proxy.file.parent / "data" / "quarantine"
        with closing(sqlite3.connect(folder / "held.sqlite3")) as database:
            rows = database.execute("SELECT payload, file FROM held").fetchall()
        payloads = [payload if file is None else (folder / "payloads" / file).read_bytes() for payload, file in rows]
        return Counter(map(parse, payloads))

    def again(self) -> "Held":
        return Held()

    def close(self) -> None:
        """Nothing runs."""


@define(eq=False)
class OnceBroker(LedgerBroker):
    """A broker that stores each message once, by its id, as a destination with a unique key does it."""

    _ids: set[str] = field(factory=set)

    def _acknowledge(self, conn: ServerConnection, waiting: list[Publish]) -> None:
        new = []
        for message in waiting:
            (identity,) = [value for name, value in message.properties.user_properties if name == MESSAGE_ID]
            if identity not in self._ids:
                new.append(message)
                self._ids.add(identity)
        self._stored += stored_by(new)
        conn.acknowledge_all([(message.packet_id, message.qos) for message in waiting])
        waiting.clear()


def _once_broker(port: int | None = None) -> OnceBroker:
    return OnceBroker(keeps_sessions=True, forgets=False, port=port or free_port())


@define(eq=False)
class Away:
    """A broker that is away while messages are acknowledged: they must be in the spool, and reach it in the end."""

    ack: str = "spool"
    part: str = "journal/"
    reason: int = 0
    broker: OnceBroker = field(factory=_once_broker)
    settings: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.settings = (
            f'[[upstreams]]\nname = "a"\nurl = "{self.broker.url}"\nbackoff_first = "100ms"\n'
            'backoff_ceiling = "300ms"\nbreaker_open = "300ms"\nmessage_ids = true\n'
            f'[[routes]]\ntopics = ["#"]\nto = ["a"]\nack = "{self.ack}"\n[limits]\nflapping_connects = 0\n'
        )

    def prepare(self, proxy: RunningProxy) -> None:
        """It is away from the beginning."""

    def collect(self, proxy: RunningProxy) -> Arrivals:
        self.broker.start()
        wait_for_none(lambda: proxy.metric("mqtt_proxy_spool_messages"), "messages of the spool")
        self.broker.kill()
        return Counter(self.broker.stored())

    def again(self) -> "Away":
        self.broker.close()
        return Away(self.ack, broker=_once_broker(self.broker.port))

    def close(self) -> None:
        self.broker.close()


def parse(payload: bytes) -> tuple[str, int]:
    """Return who has sent it, and its number."""
    name, number = payload.split(b":")
    return name.decode(), int(number)
