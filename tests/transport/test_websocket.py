"""mqttproxy/transport/websocket.py: the bytes on the wire, and against another implementation."""

import struct
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
import trio_websocket
from trio.testing import MockClock

from mqttproxy.config.model import Address, ListenerSettings
from mqttproxy.transport.dial import dial
from mqttproxy.transport.listen import Listener, listen
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.transport.tcp import TcpStream
from mqttproxy.transport.websocket import WebSocketStream
from tests.fakes import MemoryByteStream, memory_pair
from tests.transport.meeting import meet, read_exactly

pytestmark = pytest.mark.wire("ws")

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
KEY = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Return a client's frame as RFC 6455 5.2 draws it."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    if not masked:
        return bytes([fin << 7 | reserved | opcode]) + length + payload
    hidden = bytes(byte ^ KEY[i % 4] for i, byte in enumerate(payload))
    return bytes([fin << 7 | reserved | opcode, length[0] | 0x80]) + length[1:] + KEY + hidden


def close_frame(code: int) -> bytes:
    """Return how a server's close frame with `code` begins."""
    return struct.pack("!H", code)


async def shake_hands(request: bytes, *, max_frame_bytes: int = 1024) -> tuple[MemoryByteStream, WebSocketStream]:
    device, inner = memory_pair()
    device.send_nowait(request)
    return device, await WebSocketStream.accept(inner, path="/mqtt", max_frame_bytes=max_frame_bytes)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[MemoryByteStream, WebSocketStream]]:
    device, ours = await shake_hands(REQUEST)
    assert bytes(await device.receive()).startswith(b"HTTP/1.1 101 ")
    yield device, ours
    ours.abort()


Ends = tuple[MemoryByteStream, WebSocketStream]


async def test_E5_the_handshake_is_answered_with_the_sub_protocol_and_no_extension() -> None:
    device, ours = await shake_hands(REQUEST)
    answer = bytes(await device.receive())
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"\r\nSec-WebSocket-Protocol: mqtt\r\n" in answer
    assert b"Extensions" not in answer
    assert ours.peer.transport == "ws"


async def test_E5_a_packet_may_lie_in_many_frames_and_many_packets_in_one(ends: Ends) -> None:
    device, ours = ends
    device.send_nowait(frame(BINARY, b"abc", fin=False) + frame(PING, b"?") + frame(CONT, b"def"))
    device.send_nowait(frame(BINARY, b"ghi" * 100) + frame(BINARY))
    assert await ours.receive() == b"abcdef" + b"ghi" * 100
    assert bytes(await device.receive()) == frame(PONG, b"?", masked=False)


async def test_E5_every_cut_of_the_stream_gives_the_same_bytes(ends: Ends) -> None:
    device, ours = ends
    ours._inner.receive_bytes = 1  # type: ignore[attr-defined] # the memory stream's knob
    device.send_nowait(frame(BINARY, b"a" * 200) + frame(PING) + frame(BINARY, b"b", fin=False) + frame(CONT, b"c"))
    assert await read_exactly(ours, 202) == b"a" * 200 + b"bc"


async def test_frames_that_come_with_the_handshake_are_not_lost() -> None:
    _, ours = await shake_hands(REQUEST + frame(BINARY, b"CONNECT"))
    assert await ours.receive() == b"CONNECT"


@pytest.mark.parametrize("step", [1, 7])
async def test_a_handshake_in_pieces_is_put_together(step: int) -> None:
    device, inner = memory_pair()
    inner.receive_bytes = step
    device.send_nowait(REQUEST + frame(BINARY, b"x"))
    ours = await WebSocketStream.accept(inner, path="/mqtt")
    assert await ours.receive() == b"x"


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (frame(TEXT, b"hello"), 1003, "text frame"),
        (frame(BINARY, b"hello", masked=False), 1002, "incorrect masking"),
        (frame(BINARY, b"hello", reserved=0x40), 1002, "reserved bits must be 0"),
        (frame(3, b"hello"), 1002, "invalid opcode"),
        (frame(CONT, b"hello"), 1002, "unexpected continuation frame"),
        (frame(BINARY, b"a", fin=False) + frame(BINARY, b"b"), 1002, "expected a continuation frame"),
        (frame(PING, bytes(126)), 1002, "control frame too long"),
        (frame(PING, b"", fin=False), 1002, "fragmented control frame"),
        (frame(CLOSE, b"\x03"), 1002, "close frame too short"),
        (frame(CLOSE, b"\x03\xee"), 1002, "invalid status code"),
        (b"\x82\xff" + b"\x7f" + b"\xff" * 7, 1009, "exceeds limit of 1024 bytes"),
        (b"\x82\xff" + b"\x80" + bytes(7), 1009, "exceeds limit of 1024 bytes"),
        (b"\x82\xfe\x04\x01", 1009, "frame with 1025 bytes exceeds limit of 1024 bytes"),
    ],
)
async def test_E5_a_bad_frame_closes_after_the_good_ones_before_it(
    ends: Ends, bad: bytes, code: int, words: str
) -> None:
    device, ours = ends
    device.send_nowait(frame(BINARY, b"good") + bad)
    received = await ours.receive()
    assert received[:4] == b"good"
    with pytest.raises(TransportError, match=words):
        await ours.receive()
    goodbye = bytes(await device.receive())
    assert goodbye[0] == 0x80 | CLOSE
    assert goodbye[2:4] == close_frame(code)
    ours.send_nowait(b"nothing may follow a close frame")
    assert ours._inner.sent.endswith(goodbye)  # type: ignore[attr-defined] # the memory stream's record


async def test_E5_a_message_without_end_is_no_matter_as_its_fragments_are_passed_on(ends: Ends) -> None:
    device, ours = ends
    for _ in range(100):
        device.send_nowait(frame(BINARY if _ == 0 else CONT, bytes(1000), fin=False))
        assert len(await ours.receive()) == 1000


async def test_E5_the_close_handshake_reads_as_the_end_and_is_answered(ends: Ends) -> None:
    device, ours = ends
    device.send_nowait(frame(BINARY, b"DISCONNECT") + frame(CLOSE, b"\x03\xe8bye"))
    assert await ours.receive() == b"DISCONNECT"
    assert await ours.receive() == b""
    assert bytes(await device.receive()) == frame(CLOSE, b"\x03\xe8bye", masked=False)


async def test_an_end_without_close_frame_is_a_peer_that_is_gone(ends: Ends) -> None:
    device, ours = ends
    device.send_nowait(frame(BINARY, b"half of a packet")[:-3])
    await device.aclose()
    assert await ours.receive() == b""
    await ours.aclose()


async def test_aclose_says_1000(ends: Ends) -> None:
    device, ours = ends
    await ours.aclose()
    assert bytes(await device.receive())[:4] == b"\x88\x02" + close_frame(1000)
    assert await device.receive() == b""


async def test_a_cut_reads_as_transport_error(ends: Ends) -> None:
    device, ours = ends
    device.abort()
    with pytest.raises(TransportError, match="connection reset"):
        await ours.receive()


async def test_E5_a_peer_that_pings_and_takes_no_pongs_is_not_read_any_further(
    ends: Ends, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    device, ours = ends
    nursery.start_soon(device.run)
    device.send_nowait(frame(PING, bytes(125)) * 50_000)
    with trio.move_on_after(20):
        await ours.receive()
    assert trio.current_time() == 20.0
    assert ours.unsent <= 2 * 64 * 1024
    assert device.unsent > 5_000_000


async def test_a_large_batch_goes_out_in_frames_that_clients_accept(ends: Ends) -> None:
    device, ours = ends
    ours.send_nowait(bytes(150_000))
    ours.flush_with(lambda flush: None)
    sizes = []
    data = bytearray()
    while len(data) < 60_000:
        data += await device.receive()
    sizes.append(struct.unpack("!Q", data[2:10])[0])
    assert data[0] == 0x80 | BINARY
    assert sizes == [65_536]


@pytest.mark.parametrize(
    ("old", "new", "status", "words"),
    [
        (b"Sec-WebSocket-Protocol: mqtt\r\n", b"", 400, "missing subprotocol"),
        (b"Protocol: mqtt\r\n", b"Protocol: mqttv3.1\r\n", 400, "invalid subprotocol"),
        (b"Protocol: mqtt\r\n", b"Protocol: mq\xff\xfett\r\n", 400, "Sec-WebSocket-Protocol"),
        (b"Protocol: mqtt\r\n", b"Protocol: \xc3\xa9, mqtt\r\n", 400, "Sec-WebSocket-Protocol"),
        (b"GET /mqtt ", b"GET / ", 404, "no such path: /"),
        (b"GET /mqtt ", b"GET /mqtt/ ", 404, "no such path"),
        (b"GET /mqtt ", b"POST /mqtt ", 405, "POST"),
        (b"HTTP/1.1", b"HTTP/1.0", 505, "HTTP/1.0"),
        (b"Upgrade: websocket\r\n", b"", 426, "Upgrade"),
        (b"Version: 13", b"Version: 8", 400, "Version"),
        (b"Key: dGhlIHNhbXBsZSBub25jZQ==", b"Key: short", 400, "Key"),
        (b"Host: proxy", b"Host: " + b"x" * 9000, 431, "9.* bytes"),
        (b"Host: proxy", b"X: y\r\n" * 200 + b"Host: proxy", 431, "headers"),
        (b"Host: proxy", b"Host: " + b"x" * 20_000, 431, "headers too large"),
        (b"GET /mqtt ", b"GET /" + b"x" * 9000 + b" ", 414, "9.* bytes"),
    ],
)
async def test_E5_a_bad_handshake_is_told_by_status(old: bytes, new: bytes, status: int, words: str) -> None:
    device, inner = memory_pair()
    device.send_nowait(REQUEST.replace(old, new))
    with pytest.raises(TransportError, match=f"WebSocket handshake: .*{words}"):
        await WebSocketStream.accept(inner, path="/mqtt")
    assert inner.sent.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    "said", [b"https://evil.example", b"https://dash.example.evil", b"null", b"HTTPS://dash.example"]
)
async def test_E5_a_web_page_that_is_not_listed_is_turned_away(said: bytes) -> None:
    device, inner = memory_pair()
    device.send_nowait(REQUEST.replace(b"Host: proxy", b"Host: proxy\r\nOrigin: " + said))
    with pytest.raises(TransportError, match="Origin"):
        await WebSocketStream.accept(inner, path="/mqtt", origins=["https://dash.example"])
    assert inner.sent.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("said", [b"", b"\r\nOrigin: https://dash.example"], ids=["none", "listed"])
async def test_a_web_page_that_is_listed_may_connect_and_so_may_who_says_no_origin(said: bytes) -> None:
    device, inner = memory_pair()
    device.send_nowait(REQUEST.replace(b"Host: proxy", b"Host: proxy" + said))
    await WebSocketStream.accept(inner, path="/mqtt", origins=["https://dash.example"])
    assert inner.sent.startswith(b"HTTP/1.1 101 ")


async def test_where_no_web_pages_are_listed_all_may_connect() -> None:
    await shake_hands(REQUEST.replace(b"Host: proxy", b"Host: proxy\r\nOrigin: https://any.example"))


@pytest.mark.parametrize(
    "header", [b"X-Forwarded-For: 198.51.100.7", b"Forwarded: for=198.51.100.7", b"X-Real-IP: 198.51.100.7"]
)
async def test_D13_nobody_has_another_address_because_it_says_so(header: bytes) -> None:
    _, plain = await shake_hands(REQUEST)
    _, forged = await shake_hands(REQUEST.replace(b"Host: proxy", b"Host: proxy\r\n" + header))
    assert forged.peer == plain.peer


async def test_E5_a_header_without_end_is_refused_at_16_kib() -> None:
    device, inner = memory_pair()
    device.send_nowait(REQUEST[:-2] + b"X: " + bytes([120]) * 17_000)
    with pytest.raises(TransportError, match="headers too large"):
        await WebSocketStream.accept(inner, path="/mqtt")
    assert inner.sent.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("hello", [b"\x10\x0c\x00\x04MQTT\x05\x02", b"\x16\x03\x01\x02\x00\x01"])
async def test_E2_mqtt_or_tls_on_the_websocket_port_is_refused_at_once(hello: bytes) -> None:
    device, inner = memory_pair()
    device.send_nowait(hello)
    with pytest.raises(TransportError, match="not HTTP"):
        await WebSocketStream.accept(inner, path="/mqtt")


async def test_a_peer_that_hangs_up_in_the_handshake_is_told_as_such() -> None:
    device, inner = memory_pair()
    device.send_nowait(REQUEST[:50])
    await device.aclose()
    with pytest.raises(TransportError, match="hung up during the WebSocket handshake"):
        await WebSocketStream.accept(inner, path="/mqtt")


async def test_a_query_does_not_matter_to_the_path() -> None:
    await shake_hands(REQUEST.replace(b"GET /mqtt ", b"GET /mqtt?token=1 "))


# -- against trio-websocket, and as a client


def ws_listener(path: str = "/mqtt") -> ListenerSettings:
    return ListenerSettings(name="ws", transport="ws", bind=Address("127.0.0.1:0"), path=path)


async def test_trio_websocket_as_client_talks_to_us(nursery: trio.Nursery) -> None:
    async def connect(port: int) -> trio_websocket.WebSocketConnection:
        return await trio_websocket.connect_websocket_url(nursery, f"ws://127.0.0.1:{port}/mqtt", subprotocols=["mqtt"])

    device, ours = await meet(ws_listener(), connect)
    await device.send_message(b"hello")
    assert await ours.receive() == b"hello"
    ours.send_nowait(b"welcome")
    assert await device.get_message() == b"welcome"
    async with trio.open_nursery() as closing:
        closing.start_soon(ping_and_close, device)
        assert await ours.receive() == b""
        await ours.aclose()


async def test_our_client_talks_to_our_server() -> None:
    device, ours = await meet(ws_listener(), lambda port: dial(f"ws://127.0.0.1:{port}/mqtt?x=1"))
    device.send_nowait(b"hello" * 1000)
    assert await read_exactly(ours, 5000) == b"hello" * 1000
    ours.send_nowait(b"welcome")
    assert await device.receive() == b"welcome"
    assert device.peer.transport == "ws"
    async with trio.open_nursery() as closing:
        closing.start_soon(device.aclose)
        assert await ours.receive() == b""
        await ours.aclose()


async def test_our_client_tells_a_refusal_in_words(nursery: trio.Nursery) -> None:
    listener = await listen(ws_listener("/other"))
    nursery.start_soon(refuse, listener)
    with pytest.raises(TransportError, match=r"^ws://127\.0\.0\.1:\d+: .*handshake: .*HTTP 404"):
        await dial(f"ws://127.0.0.1:{listener.port}/mqtt")
    listener.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not receive a valid HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200"),
        (b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"y" * 9000, "did not receive a valid HTTP response"),
        (b"", "did not receive a valid HTTP response"),
    ],
)
async def test_our_client_survives_servers_that_are_none(nursery: trio.Nursery, answer: bytes, words: str) -> None:
    listener = await listen(ListenerSettings(name="odd", bind=Address("127.0.0.1:0")))
    nursery.start_soon(answer_with, listener, answer)
    with pytest.raises(TransportError, match=words):
        await dial(f"ws://127.0.0.1:{listener.port}/mqtt")
    listener.close()


async def test_our_client_wants_the_sub_protocol(nursery: trio.Nursery) -> None:
    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        await request.accept()

    server = await nursery.start(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None)
    with pytest.raises(TransportError, match="does not speak the sub-protocol mqtt"):
        await dial(f"ws://127.0.0.1:{server.port}/mqtt")
    nursery.cancel_scope.cancel()


async def ping_and_close(device: trio_websocket.WebSocketConnection) -> None:
    await device.ping()
    await device.aclose()


async def refuse(listener: Listener) -> None:
    with pytest.raises(TransportError):
        await listener.handshake(await listener.accept())


async def answer_with(listener: Listener, answer: bytes) -> None:
    stream: ByteStream = await listener.accept()
    await stream.receive()
    stream.send_nowait(answer)
    await stream.aclose()


def test_streams_of_all_transports_are_byte_streams() -> None:
    kinds: list[type[ByteStream]] = [TcpStream, WebSocketStream, MemoryByteStream]
    assert len(kinds) == 3
