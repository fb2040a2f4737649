"""WebSocket: MQTT in binary frames, over a TCP or TLS stream.

`websockets` speaks the protocol without doing any input or output; the stream below waits. Frames mean nothing to
MQTT: a packet may lie in many of them and many in one [MQTT-6.0.0-2], so their payloads are simply joined. Imported
when a listener or an upstream needs it, because `websockets` takes more than 1 MB.
Why not trio-websocket: docs/decisions/0003-websockets-sans-io.md.
"""

import http
import logging
from collections.abc import Callable, Sequence
from typing import Final

from attrs import evolve
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI

from mqttproxy.transport.stream import MAX_FRAME_BYTES, ByteStream, Peer, Spawn, Take, TransportError, receive_each

MQTT: Final = Subprotocol("mqtt")  # [MQTT-6.0.0-3]
HANDSHAKE_BYTES: Final = 16 * 1024  # request line and headers together
SENT_FRAME_BYTES: Final = 64 * 1024  # larger batches go out in several frames, as many clients bound theirs
ANSWER_BYTES: Final = (
    64 * 1024
)  # more unsent than this, and a peer that only pings is not read until it takes its pongs

_SILENT: Final = logging.getLogger("mqttproxy.websockets")  # this room never logs: the TransportError tells
_SILENT.setLevel(logging.CRITICAL + 1)


class WebSocketStream:
    """A WebSocket over another stream, after a handshake."""

    __slots__ = ("_ended", "_failure", "_fresh", "_inner", "_protocol", "peer")

    def __init__(self, inner: ByteStream, protocol: ServerProtocol | ClientProtocol) -> None:
        self.peer: Peer = evolve(inner.peer, transport="wss" if inner.peer.transport == "tls" else "ws")
        self._inner = inner
        self._protocol = protocol
        self._ended = False
        self._fresh = True  # frames may have come in one read with the end of the handshake
        self._failure: str | None = None  # in words: an error that is kept would keep the frames it went through

    @property
    def unsent(self) -> int:
        """Bytes, framed, that wait for the kernel."""
        return self._inner.unsent

    @classmethod
    async def accept(
        cls,
        inner: ByteStream,
        *,
        path: str,
        origins: Sequence[str] | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> "WebSocketStream":
        """Shake hands as a server. The caller gives the deadline, and closes `inner` if this raises.

        Args:
            inner: where the bytes come from.
            path: the only one that is served.
            origins: of web pages that may connect, None: all; who says no origin may always.
            max_frame_bytes: largest frame taken.

        Raises:
            TransportError: no WebSocket handshake for this path and the sub-protocol `mqtt`; the client was told
                by an HTTP status.

        """
        # No limit for a whole WebSocket message: fragments are passed on as they come, and MQTT bounds its packets.
        welcome = None if origins is None else [*map(Origin, origins), None]
        protocol = ServerProtocol(
            origins=welcome, subprotocols=[MQTT], max_size=(None, max_frame_bytes), logger=_SILENT
        )
        head, early = await _receive_head(inner, protocol)
        protocol.receive_data(head)
        await _answer(inner, protocol, path)
        stream = cls(inner, protocol)
        protocol.receive_data(early)
        return stream

    @classmethod
    async def connect(
        cls, inner: ByteStream, uri: WebSocketURI, *, max_frame_bytes: int = MAX_FRAME_BYTES
    ) -> "WebSocketStream":
        """Shake hands as a client. The caller gives the deadline, and closes `inner` if this raises.

        Raises:
            TransportError: the server refuses, or does not speak WebSocket with the sub-protocol `mqtt`.

        """
        protocol = ClientProtocol(uri, subprotocols=[MQTT], max_size=(None, max_frame_bytes), logger=_SILENT)
        protocol.send_request(protocol.connect())
        _pass_on(protocol, inner)
        received = 0
        while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
            data = await inner.receive()
            received += len(data)
            if received > HANDSHAKE_BYTES + max_frame_bytes:
                raise TransportError(f"{inner.peer}: WebSocket handshake: answer too large")
            if data:
                protocol.receive_data(bytes(data))
            else:
                protocol.receive_eof()
        if protocol.handshake_exc is not None:
            raise _handshake_error(inner, protocol.handshake_exc)
        if protocol.subprotocol != MQTT:
            raise TransportError(f"{inner.peer}: WebSocket handshake: server does not speak the sub-protocol mqtt")
        return cls(inner, protocol)

    async def receive(self) -> bytes | memoryview:
        """Wait for bytes and return the payloads of all binary frames that are there; b"": the peer is gone."""
        while not self._ended:
            if self._fresh:
                self._fresh = False
            else:
                data = await self._inner.receive()
                if not data:
                    self._ended = True
                    break
                self._protocol.receive_data(bytes(data))
            if payload := self._take():
                return payload
            if self._inner.unsent > ANSWER_BYTES:
                await self._inner.wait_drained(ANSWER_BYTES)
        if self._failure is not None:
            raise TransportError(self._failure)
        return b""

    async def receive_each(self, take: Take) -> bool:
        """Hand all that arrives to `take`, until it returns False or the peer is gone."""
        return await receive_each(self, take)

    def interrupt(self) -> None:
        """Do nothing: this stream waits for itself."""

    def tell_hangup(self, call: Callable[[bool], None] | None) -> None:
        """Tell when the peer hangs up while nobody receives."""
        self._inner.tell_hangup(call)

    def send_nowait(self, data: bytes | bytearray) -> None:
        """Send all of data, as one binary frame unless it is large."""
        if self._protocol.state is not State.OPEN:
            return  # the close frame was sent: nothing may follow it
        if len(data) <= SENT_FRAME_BYTES:
            self._protocol.send_binary(data)
        else:
            for start in range(0, len(data), SENT_FRAME_BYTES):
                self._protocol.send_binary(data[start : start + SENT_FRAME_BYTES])
        _pass_on(self._protocol, self._inner)

    async def run(self) -> None:
        """Write what could not be sent at once."""
        await self._inner.run()

    def flush_with(self, spawn: Spawn) -> None:
        """Start a writer by `spawn` when needed."""
        self._inner.flush_with(spawn)

    async def wait_drained(self, below: int = 0) -> None:
        """Wait until `unsent <= below`."""
        await self._inner.wait_drained(below)

    async def aclose(self) -> None:
        """Send a close frame and close in order; the peer's close frame is read and not looked at."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            _pass_on(self._protocol, self._inner)
        await self._inner.aclose()

    def abort(self) -> None:
        """Close at once."""
        self._inner.abort()

    def _take(self) -> bytes:
        """Return the payloads of all frames received; the protocol's answers (pong, close) are sent."""
        protocol = self._protocol
        payloads = []
        for frame in protocol.events_received():
            if not isinstance(frame, Frame):
                continue  # the server's answer to our handshake
            opcode = frame.opcode
            if opcode is Opcode.BINARY or opcode is Opcode.CONT:
                payloads.append(frame.data)
            elif opcode is Opcode.TEXT:  # [MQTT-6.0.0-1]
                protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT travels in binary frames")
                self._failure = f"{self.peer}: WebSocket: text frame"
                break
        if protocol.writes:
            _pass_on(protocol, self._inner)
        if protocol.state is not State.OPEN:
            self._ended = True
            if protocol.parser_exc is not None and self._failure is None:
                self._failure = f"{self.peer}: WebSocket: {_cut(protocol.parser_exc)}"
        return b"".join(payloads)


def _pass_on(protocol: ServerProtocol | ClientProtocol, inner: ByteStream) -> None:
    # The empty bytes among them ask for FIN, which aclose() sends.
    writes = protocol.data_to_send()
    inner.send_nowait(writes[0] if len(writes) == 1 else b"".join(writes))


async def _receive_head(inner: ByteStream, protocol: ServerProtocol) -> tuple[bytes, bytes]:
    """Return the request up to its empty line, and what came after it."""
    head = bytearray()
    while (end := head.find(b"\r\n\r\n")) < 0:
        data = await inner.receive()
        if not data:
            raise TransportError(f"{inner.peer}: hung up during the WebSocket handshake")
        head += data
        if not head[:1].isalpha():  # MQTT or TLS on this port: no need to wait for the deadline
            raise TransportError(f"{inner.peer}: WebSocket handshake: not HTTP: {bytes(head[:16])!r}")
        if len(head) > HANDSHAKE_BYTES and head.find(b"\r\n\r\n", 0, HANDSHAKE_BYTES) < 0:
            raise await _rejected(inner, protocol, http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers too large")
    return bytes(head[: end + 4]), bytes(head[end + 4 :])


async def _answer(inner: ByteStream, protocol: ServerProtocol, path: str) -> None:
    """Answer the request that the protocol was given."""
    request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
    if request is None:  # the protocol has answered, or found nothing to answer to
        _pass_on(protocol, inner)
        raise _handshake_error(inner, protocol.handshake_exc)
    if request.path.partition("?")[0] != path:
        raise await _rejected(inner, protocol, http.HTTPStatus.NOT_FOUND, f"no such path: {_cut(request.path)}")
    response = protocol.accept(request)
    protocol.send_response(response)
    _pass_on(protocol, inner)
    await inner.wait_drained()
    if protocol.handshake_exc is not None:
        raise _handshake_error(inner, protocol.handshake_exc)


async def _rejected(inner: ByteStream, protocol: ServerProtocol, status: http.HTTPStatus, what: str) -> TransportError:
    protocol.send_response(protocol.reject(status, f"{what}\n"))
    _pass_on(protocol, inner)
    await inner.wait_drained()
    return TransportError(f"{inner.peer}: WebSocket handshake: {what}")


def _handshake_error(inner: ByteStream, error: Exception | None) -> TransportError:
    return TransportError(f"{inner.peer}: WebSocket handshake: {_cut(error)}")


def _cut(what: object) -> str:
    text = repr(str(what))[1:-1]
    return text if len(text) <= 120 else f"{text[:120]}…"
