"""A device of these tests: a socket, packets by hand, and a deadline on every wait."""

import secrets
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

import pytest

from tests.bad_input.wire import V311, unsubscribe
from tests.conformance.packets import V5, Kind, Packet, Prop, Will, ack, connect, prop, publish, read, subscribe
from tests.waiting import PATIENCE

FOR_LONG: Final = prop(Prop.SESSION_EXPIRY_INTERVAL, 300)

# For what both versions ask of a server.
BOTH: Final = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])

_numbers = count(1)
# Nothing that an earlier run has left at another broker is in the way.
_RUN: Final = secrets.token_hex(3)


class Device:
    """One connection to the proxy."""

    def __init__(self, port: int, version: int, client_id: str = "") -> None:
        self.version = version
        self.client_id = client_id
        self.is_closed = False
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self._arrived: list[Packet] = []
        self._connack: Packet | None = None

    # What it does.

    def send(self, *data: bytes) -> None:
        """Send bytes of any kind, in one piece."""
        with suppress(BrokenPipeError, ConnectionResetError):  # the proxy may have hung up: the test will see
            self._socket.sendall(b"".join(data))

    def connect(self, client_id: str | bytes, **more: Any) -> Packet:
        """Send CONNECT and return CONNACK."""
        self.send(connect(self.version, client_id, **more))
        self._connack = self.expect(Kind.CONNACK)
        return self._connack

    @property
    def connack(self) -> Packet:
        """What the proxy said to CONNECT."""
        assert self._connack is not None
        return self._connack

    def subscribe(self, *filters: str, options: int = 2, identifier: int = 0) -> Packet:
        """Subscribe, by default at QoS 2, and return SUBACK. What is retained may come behind it."""
        fields = [prop(Prop.SUBSCRIPTION_IDENTIFIER, identifier)] if identifier else []
        self.send(subscribe(self.version, *((one, options) for one in filters), packet_id=99, fields=fields))
        return self.expect(Kind.SUBACK)

    def unsubscribe(self, *filters: str) -> Packet:
        """Unsubscribe and return UNSUBACK."""
        self.send(unsubscribe(self.version, *filters, packet_id=98))
        return self.expect(Kind.UNSUBACK)

    def publish(self, topic: str, payload: bytes = b"x", *, qos: int = 1, packet_id: int = 1, **more: Any) -> Packet:
        """Publish and wait until the proxy has handed the message on; returns the first acknowledgement.

        At QoS 0 that of another message behind it: PINGRESP may come before a message is dealt with.
        """
        self.send(publish(self.version, topic, payload, qos=qos, packet_id=packet_id, **more))
        if qos == 0:
            self.send(publish(self.version, "behind/it", qos=1, packet_id=65_000))
            return self.expect(Kind.PUBACK)
        answer = self.expect(Kind.PUBACK if qos == 1 else Kind.PUBREC)
        assert answer.packet_id == packet_id
        if qos == 2 and answer.reason < 0x80:
            self.send(ack(Kind.PUBREL, packet_id))
            assert self.expect(Kind.PUBCOMP).packet_id == packet_id
        return answer

    def acknowledge(self, message: Packet) -> None:
        """Take a message from the proxy to its end."""
        if message.qos == 1:
            self.send(ack(Kind.PUBACK, message.packet_id))
        elif message.qos == 2:
            self.send(ack(Kind.PUBREC, message.packet_id))
            assert self.expect(Kind.PUBREL).packet_id == message.packet_id
            self.send(ack(Kind.PUBCOMP, message.packet_id))

    def leave(self, data: bytes = b"\xe0\x00") -> None:
        """Send DISCONNECT and wait until the proxy has closed."""
        self.send(data)
        self.rest()

    def cut(self) -> None:
        """Break the connection as a failing network does."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    # What it hears.

    def next(self) -> Packet:
        """Return the next packet."""
        while not self._arrived:
            self._read()
        return self._arrived.pop(0)

    def expect(self, kind: Kind) -> Packet:
        """Return the next packet of this kind; others before it stay to be read."""
        looked = 0
        while True:
            for index, packet in enumerate(self._arrived[looked:], looked):
                if packet.kind is kind:
                    return self._arrived.pop(index)
            looked = len(self._arrived)
            self._read()

    def message(self) -> Packet:
        """Return the next message."""
        return self.expect(Kind.PUBLISH)

    def messages(self, number: int) -> list[Packet]:
        """Return the next messages."""
        return [self.message() for _ in range(number)]

    def fence(self) -> list[Packet]:
        """Return everything that the proxy had for us, up to the answer to a PINGREQ that it gets now."""
        heard: list[Packet] = []
        for _ in range(2):  # what was read in one turn of its loop is dealt with by the next
            self.send(b"\xc0\x00")
            while (packet := self.next()).kind is not Kind.PINGRESP:
                heard.append(packet)
        return heard

    def rest(self) -> list[Packet]:
        """Return all that comes until the proxy closes the connection."""
        while not self.is_closed:
            self._read(may_end=True)
        heard, self._arrived = self._arrived, []
        assert not self._data, "the last packet is cut short"
        return heard

    def _read(self, *, may_end: bool = False) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.is_closed = True
            assert may_end, f"closed by the proxy, after {self._arrived}"
            return
        self._data += data
        while True:
            packet, size = read(self._data, self.version)
            if packet is None:
                return
            self._data = self._data[size:]
            self._arrived.append(packet)


class Server:
    """The proxy, and the devices of one test."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self.ports = ports  # by transport
        self._devices: list[Device] = []

    def new_id(self) -> str:
        """Return a client identifier that nobody has."""
        return f"d{_RUN}x{next(_numbers)}"

    def new_topic(self) -> str:
        """Return a topic that nobody uses."""
        return f"topic/{_RUN}{next(_numbers)}"

    def dial(self, version: int = V5, client_id: str = "") -> Device:
        """Open a connection and say nothing."""
        device = Device(self.ports["tcp"], version, client_id)
        self._devices.append(device)
        return device

    def join(self, version: int = V5, client_id: str = "", *, will: Will | None = None, **more: Any) -> Device:
        """Connect a device; it is welcome."""
        client_id = client_id or self.new_id()
        device = self.dial(version, client_id)
        assert device.connect(client_id, will=will, **more).reason == 0
        return device

    def stay(self, version: int = V5, client_id: str = "", *, fields: Sequence[bytes] = (), **more: Any) -> Device:
        """Connect a device whose session is kept, and continue it if there is one."""
        kept = [FOR_LONG, *fields] if version == V5 else []
        return self.join(version, client_id, clean=False, fields=kept, **more)

    def subscriber(self, topic_filter: str, version: int = V5, *, options: int = 2, **more: Any) -> Device:
        """Connect a device and subscribe it."""
        device = self.join(version, **more)
        assert device.subscribe(topic_filter, options=options).reason == options & 3
        return device

    def refused(self, data: bytes, version: int = V5) -> list[Packet]:
        """Send bytes over a new connection, which the proxy closes; return what it said before."""
        device = self.dial(version)
        device.send(data)
        return device.rest()

    def close(self) -> None:
        """Let every device go."""
        for device in self._devices:
            device.cut()
