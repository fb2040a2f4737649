"""Target `websocket`: any bytes are a handshake and frames, or a TransportError in words, however they are cut.

What comes out is what a simple reader of RFC 6455 finds in the frames, up to the first that is no good. We say an HTTP
answer and then only whole control frames, unmasked, and nothing behind a close frame; and not much more than we hear.

Input: one byte of choices: how the stream is cut, (4) as a client, where `%a` stands for the right key in the server's
answer; then the stream.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1
from typing import Final
from unittest.mock import patch

from attrs import define, field, frozen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from websockets import client
from websockets.uri import WebSocketURI

from fuzz.awaiting import finished
from mqttproxy.transport.stream import Peer, Spawn, Take, TransportError
from mqttproxy.transport.websocket import HANDSHAKE_BYTES, WebSocketStream

LONGEST_CPU = 0.25  # seconds: it is read twice, and by a slow reader
LONGEST: Final = 256  # bytes of a frame, small so that short inputs reach it
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
WORDS = (
    b"\r\n", b"\r\n\r\n", b"GET /mqtt HTTP/1.1", b"Upgrade: websocket", b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Protocol: mqtt",
    b"Sec-WebSocket-Extensions: permessage-deflate",
    b"Host: h", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"HTTP/1.1 101 x", b"%a", b": ", b",",
    b"\x82\x80\0\0\0\0", b"\x89\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8", b"\x02\x81\0\0\0\0a", b"\x80\x81\0\0\0\0b",
    b"\x82\xfe\x01\x00",
    b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
)  # fmt: skip
REQUEST: Final = (
    b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %a\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
_DATE: Final = re.compile(rb"\r\nDate: [^\r]*")  # tells the second
_URI: Final = WebSocketURI(secure=False, host="h", port=80, path="/mqtt", query="")


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    """Return a frame; the mask is zeros, which hide nothing."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)
    return bytes([fin << 7 | opcode, length[0] | masked << 7]) + length[1:] + bytes(4) * masked + payload


_frames = st.lists(
    st.builds(
        lambda opcode, payload, fin, masked: frame(opcode, payload, fin=fin, masked=masked),
        st.sampled_from([BINARY, BINARY, CONT, PING, PONG, CLOSE, TEXT, 3]),
        st.binary(max_size=140),
        st.sampled_from([True, True, False]),
        st.just(True),
    ),
    max_size=6,
).map(b"".join)
strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda flags, frames: bytes((flags & 3,)) + REQUEST + frames, st.integers(0, 3), _frames),
    st.builds(lambda flags, frames: bytes((4 | flags,)) + ANSWER + frames, st.integers(0, 3), _frames),
)


@define(eq=False)
class Wire:
    """A connection on which everything has arrived already, to be read in pieces."""

    data: bytes
    piece: int
    sent: bytearray = field(factory=bytearray)
    on_send: Callable[[], None] | None = None
    peer: Peer = field(factory=lambda: Peer("192.0.2.1", 5))
    unsent: int = 0
    at: int = 0

    async def receive(self) -> bytes:
        """Return the next piece, or nothing: the end."""
        data = self.data[self.at : self.at + self.piece]
        self.at += len(data)
        return data

    def send_nowait(self, data: bytes | bytearray) -> None:
        """Note what is sent."""
        self.sent += data
        if self.on_send is not None:
            self.on_send()

    async def wait_drained(self, below: int = 0) -> None:
        """Everything is."""

    async def run(self) -> None:
        """Do nothing."""

    async def receive_each(self, take: Take) -> bool:
        """Not asked for here."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Do nothing."""

    def interrupt(self) -> None:
        """Do nothing."""

    def tell_hangup(self, call: Callable[[bool], None] | None) -> None:
        """Do nothing."""

    def flush_with(self, spawn: Spawn) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


@frozen
class Outcome:
    """What became of a stream."""

    payload: bytes = b""
    error: str = ""
    shook: bool = False
    sent: bytes = b""


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the words, and what came through."""
    flags, stream = data[0] if data else 0, data[1:]
    is_client = bool(flags & 4)
    whole = _talk(stream, 1 << 17, is_client=is_client)
    if len(stream) < HANDSHAKE_BYTES:
        cut = _talk(stream, max((1, 7, 64, 1000)[flags & 3], len(stream) // 40), is_client=is_client)
        assert (cut.payload, cut.shook) == (whole.payload, whole.shook)
        assert _kind(cut.error) == _kind(whole.error)
        assert is_client or whole.error or cut.sent == whole.sent  # which of two faults is told first depends
    if whole.shook:
        head = stream.find(b"\r\n\r\n") + 4
        assert whole.payload == payload_of(stream[head:], masked=not is_client)
    return whole.shook, _kind(whole.error)[:40], min(len(whole.payload), 2), len(whole.sent) > 200


def _talk(stream: bytes, piece: int, *, is_client: bool) -> Outcome:
    wire = Wire(stream, piece)
    if is_client:
        wire.on_send = lambda: _answer(wire)
    payload, error, shook = b"", "", False
    talk: WebSocketStream | None = None
    said = 0
    try:
        if is_client:
            with patch.object(client, "generate_key", lambda: KEY):  # else it would be another one each time
                talk = finished(WebSocketStream.connect(wire, _URI, max_frame_bytes=LONGEST))
        else:
            talk = finished(WebSocketStream.accept(wire, path="/mqtt", max_frame_bytes=LONGEST))
        shook = True
        said = len(wire.sent)
        while part := finished(talk.receive()):
            payload += part
    except TransportError as failure:
        error = str(failure)
        assert error.isprintable()
        assert len(error) < 300
    if talk is None:
        assert is_client or not wire.sent or wire.sent.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))
        assert len(wire.sent) <= 2000 + len(stream)  # the header that is no good is shown
    else:
        _hold_frames(bytes(wire.sent[said:]), masked=is_client)
        assert len(wire.sent) - said <= 200 + 2 * len(stream)
        finished(talk.aclose())
        talk.send_nowait(b"late")
        _hold_frames(bytes(wire.sent[said:]), masked=is_client)
    return Outcome(payload, error, shook, _DATE.sub(b"", bytes(wire.sent)))


def _answer(wire: Wire) -> None:
    """Put the right key into what the server says: it follows from the client's, which is random."""
    wire.on_send = None
    key = wire.sent.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    wire.data = wire.data.replace(b"%a", b64encode(sha1(key + GUID, usedforsecurity=False).digest()), 1)


def _hold_frames(words: bytes, *, masked: bool) -> None:
    """Hold that these are whole control frames, a close frame the last."""
    at, closed = 0, False
    while at < len(words):
        assert not closed
        assert words[at] in (0x80 | PONG, 0x80 | CLOSE)
        assert words[at + 1] & 0x80 == masked << 7
        closed = words[at] & 15 == CLOSE
        assert words[at + 1] & 127 < 126
        at += 2 + 4 * masked + (words[at + 1] & 127)
    assert at == len(words)


def payload_of(stream: bytes, *, masked: bool) -> bytes:
    """Return what binary frames carry, up to the first frame that is no good, or is not whole."""
    found, at, is_within = b"", 0, False
    while len(stream) >= at + 2:
        first, second = stream[at], stream[at + 1]
        fin, opcode, size = first >> 7, first & 15, second & 127
        at += 2
        is_control = opcode >= CLOSE
        is_bad = first & 0x70 or opcode not in (CONT, BINARY, CLOSE, PING, PONG) or second >> 7 != masked
        if is_bad or (is_control and (size > 125 or not fin)):
            break
        wide = {126: 2, 127: 8}.get(size, 0)
        if len(stream) < at + wide:
            break
        if wide:
            size = int.from_bytes(stream[at : at + wide])
        at += wide
        key = stream[at : at + 4 * masked].ljust(4, b"\0") if masked else bytes(4)
        at += 4 * masked
        if size > LONGEST or len(stream) < at + size or (not is_control and is_within != (opcode == CONT)):
            break
        data = stream[at : at + size]
        at += size
        if opcode == CLOSE:
            break
        if not is_control:
            is_within = not fin
            found += bytes(byte ^ key[index & 3] for index, byte in enumerate(data))
    return found


def _kind(error: str) -> str:
    words = error.partition("WebSocket")[2] or error
    return "".join(letter for letter in words.partition("not HTTP")[0] if not letter.isdigit())
