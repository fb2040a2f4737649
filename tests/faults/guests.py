"""Good clients, a new one again and again: how long each waits for CONNACK, and for the answer to what it publishes.

They come at times of their own, whether those before have been served or not: a proxy that serves nobody for five
seconds makes all of them wait that came in these five seconds.
"""

import socket
import ssl
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Final

import trio
from attrs import define, field
from websockets.uri import WebSocketURI

from mqttproxy.transport.dial import Target, parse_url
from mqttproxy.transport.stream import ByteStream, Peer, TransportError
from mqttproxy.transport.tcp import TcpStream
from mqttproxy.transport.tls import TlsStream, client_context
from mqttproxy.transport.websocket import WebSocketStream
from tests.bad_input.wire import V5, connect, frame, publish

PATIENCE: Final = 15.0  # seconds that a guest waits for all of it
DISCONNECT: Final = frame(0xE0)
CONNACK, PUBACK = 0x20, 0x40


@define(eq=False)
class Guests:
    """See the module.

    Attributes:
        url: where they come in.
        ca: for TLS.
        name: what their client identifiers begin with.
        sources: the addresses they come from, one after the other; None: 127.0.0.1.
        connected: seconds from the first SYN to CONNACK, of each that was served.
        acknowledged: seconds from PUBLISH to PUBACK.
        failures: what happened to the others, in words.

    """

    url: str
    ca: Path | None = None
    name: str = "guest"
    sources: Iterable[str] | None = None
    connected: list[float] = field(factory=list)
    acknowledged: list[float] = field(factory=list)
    failures: list[str] = field(factory=list)
    _number: int = 0
    _sources: Iterator[str] = field(init=False)
    _target: Target = field(init=False)
    _context: ssl.SSLContext | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with the first address."""
        self._sources = chain(self.sources or (), repeat("127.0.0.1"))
        self._target = parse_url(self.url)
        self._context = client_context(ca=self.ca) if self._target.scheme in {"mqtts", "tls", "wss"} else None

    async def run(self, rate: float, seconds: float) -> None:
        """Send so many a second for so long, and wait until the last one has been served or has given up."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            while trio.current_time() < began + seconds:
                self._number += 1
                nursery.start_soon(self._visit, f"{self.name}-{self._number}")
                await trio.sleep_until(began + self._number / rate)

    async def visit(self) -> None:
        """Send one, and wait until it has been served."""
        self._number += 1
        await self._visit(f"{self.name}-{self._number}")

    async def _visit(self, client_id: str) -> None:
        began = trio.current_time()
        try:
            with trio.fail_after(PATIENCE):
                stream = await self._dial()
                try:
                    await _answer(stream, connect(V5, client_id), CONNACK)
                    greeted = trio.current_time()
                    await _answer(stream, publish(V5, f"good/{client_id}", b"1", qos=1), PUBACK)
                    answered = trio.current_time()
                    stream.send_nowait(DISCONNECT)
                finally:
                    await stream.aclose()
        except trio.TooSlowError:
            self.failures.append(f"{client_id}: not served within {PATIENCE:g} s")
        except (OSError, TransportError, AssertionError) as error:
            self.failures.append(f"{client_id}: {error}")
        else:
            self.connected.append(greeted - began)
            self.acknowledged.append(answered - greeted)

    async def _dial(self) -> ByteStream:
        """Connect as `dial` does, from the next address."""
        target = self._target
        with trio.socket.socket() as connecting:
            await connecting.bind((next(self._sources), 0))
            await connecting.connect((target.host, target.port))
            sock = socket.socket(fileno=connecting.detach())
        raw = TcpStream(sock, Peer(target.host, target.port))
        try:
            stream: ByteStream = raw
            if self._context is not None:
                stream = await TlsStream.connect(stream, self._context, target.host)
            if target.scheme in {"ws", "wss"}:
                uri = WebSocketURI(target.scheme == "wss", target.host, target.port, target.resource, "")
                stream = await WebSocketStream.connect(stream, uri)
        except BaseException:
            raw.abort()
            raise
        return stream


async def _answer(stream: ByteStream, packet: bytes, first: int) -> None:
    stream.send_nowait(packet)
    data = bytes(await stream.receive())
    assert data[:1] == bytes([first]), f"{data[:20].hex(' ')} instead of an answer of type {first:#x}"
    if first == CONNACK:
        assert data[3] == 0, f"refused with {data[3]:#x}"
