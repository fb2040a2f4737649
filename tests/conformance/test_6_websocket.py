"""Chapter 6: MQTT over WebSocket, with the frames written by hand."""

import base64
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise

import pytest

from tests.bad_input.wire import V5, V311
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, Packet, connect, publish, read
from tests.conformance.statements import holds_5, holds_311
from tests.harness import PATH
from tests.waiting import PATIENCE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket:
    """A client's end of one WebSocket."""

    def __init__(self, port: int, *, subprotocols: str | None = "mqtt") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._data = b""
        key = base64.b64encode(os.urandom(16))
        lines = [
            f"GET {PATH} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        if subprotocols is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocols}")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._data and self._fill():
            pass
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        if self.status == 101:
            due = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 # what the protocol asks for
            assert self.headers["sec-websocket-accept"] == due.decode()

    def send(self, data: bytes, opcode: int = BINARY, *, final: bool = True) -> None:
        """Send one frame of less than 64 KiB, masked with zeros."""
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        with suppress(OSError):
            self._socket.sendall(bytes([final << 7 | opcode]) + size + bytes(4) + data)

    def receive(self) -> tuple[int, bytes] | None:
        """Return opcode and payload of the next frame; None: the connection is closed."""
        while True:
            if len(self._data) >= 2:
                length, start = self._data[1], 2
                assert length < 128, "a server masks nothing"
                if length > 125:
                    start = 4 if length == 126 else 10
                    length = int.from_bytes(self._data[2:start], "big")
                if len(self._data) >= start + length:
                    first, payload = self._data[0], self._data[start : start + length]
                    self._data = self._data[start + length :]
                    return first & 15, payload
            if not self._fill():
                return None

    def packets(self, number: int, version: int) -> list[Packet]:
        """Return so many MQTT packets; they come in binary frames."""
        found: list[Packet] = []
        data = b""
        while len(found) < number:
            frame = self.receive()
            assert frame is not None
            assert frame[0] == BINARY
            data += frame[1]
            while (one := read(data, version))[0] is not None:
                found.append(one[0])
                data = data[one[1] :]
        return found

    def rest(self) -> list[int]:
        """Return the opcodes of all frames until the end."""
        found = []
        while (frame := self.receive()) is not None:
            found.append(frame[0])
        return found

    def close(self) -> None:
        self._socket.close()

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._data += data
        return bool(data)


@pytest.fixture
def dial(server: Server) -> Iterator[Callable[..., WebSocket]]:
    opened = []

    def open_one(**more: str | None) -> WebSocket:
        opened.append(WebSocket(server.ports["ws"], **more))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


Dial = Callable[..., WebSocket]


@BOTH
@holds_5("6.0.0-1", "6.0.0-4")
@holds_311("6.0.0-1", "6.0.0-4")
def test_packets_travel_in_binary_frames_under_the_subprotocol_mqtt(server: Server, dial: Dial, version: int) -> None:
    device = dial()
    assert (device.status, device.headers["sec-websocket-protocol"]) == (101, "mqtt")
    device.send(connect(version, server.new_id()))
    device.send(b"\xc0\x00")
    assert [one.kind for one in device.packets(2, version)] == [Kind.CONNACK, Kind.PINGRESP]


@BOTH
@pytest.mark.parametrize("opcode", [TEXT])
@holds_5("6.0.0-1")
@holds_311("6.0.0-1")
def test_a_text_frame_ends_the_connection(server: Server, dial: Dial, version: int, opcode: int) -> None:
    device = dial()
    device.send(connect(version, server.new_id()))
    assert device.packets(1, version)[0].reason == 0
    device.send(b"\x30\x03\x00\x01t", opcode)
    assert set(device.rest()) <= {BINARY, CLOSE}
    first = dial()
    first.send(b"hello", opcode)
    assert set(first.rest()) <= {CLOSE}


@BOTH
@holds_5("6.0.0-2")
@holds_311("6.0.0-2")
def test_packets_may_be_cut_anywhere_by_frames(server: Server, dial: Dial, version: int) -> None:
    data = connect(version, server.new_id()) + publish(version, "t", b"x" * 300, qos=1) + b"\xc0\x00"
    for cuts in (range(len(data) + 1), [0, len(data)], [0, 5, 31, 200, len(data)]):
        device = dial()
        for start, end in pairwise(cuts):
            device.send(data[start:end])
        assert device.packets(3, version)[0].kind is Kind.CONNACK


@BOTH
@holds_5("6.0.0-2")
@holds_311("6.0.0-2")
def test_a_message_of_several_frames_is_one_stream(server: Server, dial: Dial, version: int) -> None:
    device = dial()
    data = connect(version, server.new_id())
    device.send(data[:7], BINARY, final=False)
    device.send(b"are you there", PING)
    device.send(data[7:], CONTINUATION)
    assert device.receive() == (PONG, b"are you there")
    assert device.packets(1, version)[0].reason == 0


@holds_5("6.0.0-3", "6.0.0-4")
@holds_311("6.0.0-3", "6.0.0-4")
def test_mqtt_is_chosen_from_what_the_client_offers(dial: Dial) -> None:
    assert dial(subprotocols="chat, mqtt").headers["sec-websocket-protocol"] == "mqtt"
    for offered in (None, "chat"):
        device = dial(subprotocols=offered)
        assert device.status != 101 or "sec-websocket-protocol" not in device.headers


@pytest.mark.parametrize(("one", "other"), [(V5, V311), (V311, V5)])
@holds_5("4.2.0-1")
@holds_311("7.1.1-1")
def test_devices_meet_whatever_road_they_come_by(server: Server, dial: Dial, one: int, other: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, other)
    device = dial()
    device.send(connect(one, server.new_id()) + publish(one, topic, b"over the web", qos=1))
    assert reader.message().payload == b"over the web"
