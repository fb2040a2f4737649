"""A peer that sends bytes and waits for bytes, over plain sockets that block: thousands of rows are played by it.

Nothing of the proxy's own transports is in it, and it costs a fraction of them.
"""

import ssl
import struct
from functools import lru_cache
from socket import IPPROTO_TCP, TCP_NODELAY, create_connection, socket
from typing import Final, Self

from attrs import define, field

from tests.harness import PATH, RunningProxy
from tests.waiting import PATIENCE

_READ: Final = 64 * 1024
_REQUEST: Final = (
    f"GET {PATH} HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
).encode()
_BINARY: Final = 0x82
_CLOSE: Final = 0x88


@lru_cache(maxsize=1)
def _context(proxy: RunningProxy) -> ssl.SSLContext:
    return proxy.client_context()


@define(eq=False)
class Caller:
    """One connection. `receive` gives b"" once the proxy has closed it, in order or not."""

    socket: socket
    _is_websocket: bool = False
    _frames: bytearray = field(factory=bytearray)

    @classmethod
    def dial(cls, proxy: RunningProxy, transport: str) -> Self:
        """Connect to a listener and do the handshakes of its transport."""
        plain = create_connection(("127.0.0.1", proxy.port(transport)), timeout=PATIENCE)
        plain.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        if transport == "tls":
            return cls(_context(proxy).wrap_socket(plain, server_hostname="localhost"))
        if transport == "tcp":
            return cls(plain)
        plain.sendall(_REQUEST)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            more = plain.recv(_READ)
            assert more, answer
            answer += more
        assert answer.startswith(b"HTTP/1.1 101 ")
        return cls(plain, is_websocket=True, frames=bytearray(answer[end + 4 :]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it, as one frame where there are frames; that the proxy does not want it any more is no fault."""
        try:
            self.socket.sendall(_framed(data) if self._is_websocket else data)
        except (ConnectionError, ssl.SSLError):
            return

    def receive(self) -> bytes:
        """Wait for what comes next."""
        if not self._is_websocket:
            return self._read()
        while (payload := self._take()) is None:
            more = self._read()
            if not more:
                return b""
            self._frames += more
        return payload

    def _read(self) -> bytes:
        try:
            return self.socket.recv(_READ)
        except (ConnectionError, ssl.SSLError):
            return b""

    def _take(self) -> bytes | None:
        """Return the payload of the next frame, b"" for the last one, None: it is not there yet."""
        data = self._frames
        if len(data) < 2:
            return None
        start, size = 2, data[1]
        if size == 126:
            start, size = 4, int.from_bytes(data[2:4], "big")
        elif size == 127:
            start, size = 10, int.from_bytes(data[2:10], "big")
        if len(data) < start + size:
            return None
        assert data[0] in (_BINARY, _CLOSE)
        payload = bytes(data[start : start + size]) if data[0] == _BINARY else b""
        del data[: start + size]
        return payload


def _framed(data: bytes) -> bytes:
    """Return a client's frame; its mask is nothing, which is one too."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([_BINARY]) + length + bytes(4) + data
