"""PROXY headers on real loopback sockets: `Listener.introduce` and `TcpStream.receive_head`."""

import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trustme
from attrs import evolve

from mqttproxy.config.model import Address, ListenerSettings, Network, ProxyProtocolSettings, Seconds
from mqttproxy.transport.dial import dial
from mqttproxy.transport.listen import BadIntroductionError, Listener, listen, load_terms
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.transport.tcp import TcpStream
from mqttproxy.transport.tls import TlsStream, client_context
from mqttproxy.transport.websocket import WebSocketStream
from tests.transport.proxy_headers import TLS_CERTIFICATE, TLS_CN, tls_tlv, tlv, v1, v2, v2_from

pytestmark = pytest.mark.wire("tcp")

SETTINGS = ListenerSettings(
    name="balanced",
    bind=Address("127.0.0.1:0"),
    proxy_protocol=ProxyProtocolSettings(from_=(Network("10.0.0.0/8"), Network("127.0.0.1"))),
)
CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"


async def introduced(
    settings: ListenerSettings, balance: Callable[[ByteStream], Awaitable[object]]
) -> tuple[ByteStream, ByteStream]:
    """Let a load balancer do what it does on a new connection; return its end, and ours after the handshake."""
    listener = await listen(settings)
    balancer = await dial(f"mqtt://127.0.0.1:{listener.port}")
    ends: list[ByteStream] = []

    async def accept() -> None:
        raw = await listener.accept()
        assert await listener.introduce(raw)
        ends.append(await listener.handshake(raw))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await balance(balancer)
    listener.close()
    return balancer, ends[0]


async def refused(balance: Callable[[ByteStream], Awaitable[object]], settings: ListenerSettings = SETTINGS) -> str:
    """Return why a listener does not take what a load balancer does."""
    listener = await listen(settings)
    balancer = await dial(f"mqtt://127.0.0.1:{listener.port}")
    raw = await listener.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(balance, balancer)
        with pytest.raises(BadIntroductionError) as raised:
            await listener.introduce(raw)
    listener.close()
    balancer.abort()
    raw.abort()
    return str(raised.value)


def saying(data: bytes) -> Callable[[ByteStream], Awaitable[object]]:
    async def balance(stream: ByteStream) -> None:
        await trio.lowlevel.checkpoint()
        stream.send_nowait(data)

    return balance


@pytest.mark.parametrize("head", [v1("192.0.2.7", 49152), v2_from("192.0.2.7", 49152, checksum=True)])
async def test_the_client_is_the_peer_and_what_follows_is_left(head: bytes) -> None:
    balancer, ours = await introduced(SETTINGS, saying(head + CONNECT))
    assert (ours.peer.host, ours.peer.port, ours.peer.certificate, ours.peer.der) == ("192.0.2.7", 49152, None, None)
    assert ours.peer.introduction is not None
    assert ours.peer.introduction.by.startswith("127.0.0.1:")
    assert bytes(await ours.receive()) == CONNECT
    balancer.abort()
    ours.abort()


async def test_a_header_may_come_byte_by_byte() -> None:
    head = v2_from("2001:db8::7", 1, tlv(0x02, b"iot.example"))

    async def drip(stream: ByteStream) -> None:
        for byte in head + CONNECT:
            stream.send_nowait(bytes([byte]))
            await trio.sleep(0.0005)  # or the kernel brings them together

    balancer, ours = await introduced(SETTINGS, drip)
    assert str(ours.peer) == "[2001:db8::7]:1"
    data = b""
    while len(data) < len(CONNECT):
        data += await ours.receive()
    assert data == CONNECT
    balancer.abort()
    ours.abort()


async def test_a_certificate_that_the_balancer_has_verified_is_the_peers() -> None:
    head = v2_from("192.0.2.7", 1, tls_tlv(tlv(TLS_CN, b"device,7"), tlv(TLS_CERTIFICATE, b"DER")))
    balancer, ours = await introduced(SETTINGS, saying(head))
    assert (ours.peer.certificate, ours.peer.der, ours.peer.transport) == (r"CN=device\,7", b"DER", "tcp")
    assert ours.peer.told_name is None
    balancer.abort()
    ours.abort()


@pytest.mark.parametrize(("flags", "name"), [(0x07, "device,7"), (0x01, None)])
async def test_of_a_certificate_that_is_not_passed_on_the_common_name_is_known(flags: int, name: str | None) -> None:
    balancer, ours = await introduced(
        SETTINGS, saying(v2_from("192.0.2.7", 1, tls_tlv(tlv(TLS_CN, b"device,7"), flags=flags)))
    )
    assert (ours.peer.told_name, ours.peer.der) == (name, None)
    balancer.abort()
    ours.abort()


@pytest.mark.parametrize(
    ("flags", "inside", "shows"),
    [
        (0x07, (tlv(TLS_CN, b"d"), tlv(TLS_CERTIFICATE, b"DER")), True),
        (0x07, (tlv(TLS_CN, b"d"),), True),
        (0x07, (), True),
        (0x01, (), False),
        (0x01, (tlv(TLS_CERTIFICATE, b"DER"),), False),
    ],
)
async def test_D11_a_certificate_that_was_shown_is_known_of_though_it_is_not_passed_on(
    flags: int, inside: tuple[bytes, ...], shows: bool
) -> None:
    balancer, ours = await introduced(SETTINGS, saying(v2_from("192.0.2.7", 1, tls_tlv(*inside, flags=flags))))
    assert ours.peer.shows_certificate is shows
    balancer.abort()
    ours.abort()


async def test_D12_a_look_whether_we_live_is_the_balancers_own() -> None:
    balancer, ours = await introduced(SETTINGS, saying(v2(b"", command=0x20, family=0)))
    assert ours.peer.host == "127.0.0.1"
    balancer.abort()
    ours.abort()


async def test_D12_a_connection_that_ends_without_a_word_is_no_fault() -> None:
    listener = await listen(SETTINGS)
    balancer = await dial(f"mqtt://127.0.0.1:{listener.port}")
    raw = await listener.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(balancer.aclose)
        assert await listener.introduce(raw) is False
        raw.abort()
    listener.close()


async def test_D12_one_that_is_reset_without_a_word_is_no_fault_either() -> None:
    listener = await listen(SETTINGS)
    with socket.create_connection(("127.0.0.1", listener.port)) as balancer:
        raw = await listener.accept()
        balancer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert await listener.introduce(raw) is False
    raw.abort()
    listener.close()


async def test_D12_who_hangs_up_within_the_header_is_told_as_such() -> None:
    listener = await listen(SETTINGS)
    balancer = await dial(f"mqtt://127.0.0.1:{listener.port}")
    raw = await listener.accept()
    balancer.send_nowait(b"PROXY TCP4 192.0.2.7 ")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(balancer.aclose)
        with pytest.raises(TransportError, match=r"hung up within b'PROXY TCP4 192\.0'"):
            await listener.introduce(raw)
        raw.abort()
    listener.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (CONNECT, "PROXY header: no header: b'\\x10"),
        (b"\x16\x03\x01\x02\x00", "PROXY header: no header"),
        (v2_from("192.0.2.7", 1, tlv(0x01, b"mqtt"))[:-1] + b"", "no PROXY header within 0.05 s"),
        (b"PROXY UNKNOWN " + b"x" * 200, "does not end after 107 bytes"),
        (b"PROXY TCP4 a b c d\r\n", "a line of version 1 that says nothing"),
        (v2(bytes(12) + b"\x01\xff\xff"), "TLV 0x01 of 65535 bytes, where 0 are left"),
        (v2(bytes(9000)), "a header of 9016 bytes, where 8192 may be"),
        (b"", "no PROXY header within 0.05 s"),
    ],
)
async def test_D12_what_is_no_header_or_too_slow_is_refused(data: bytes, words: str) -> None:
    quick = evolve(SETTINGS, proxy_protocol=evolve(SETTINGS.proxy_protocol, header_timeout=Seconds(0.05)))
    assert words in await refused(saying(data), quick)


async def test_D12_only_addresses_that_are_listed_are_believed() -> None:
    listener = await listen(SETTINGS)
    assert listener.is_behind_balancers
    assert all(map(listener.believes, ("10.1.2.3", "127.0.0.1")))
    assert not any(map(listener.believes, ("127.0.0.2", "2001:db8::1", "fe80::1%lo")))
    others = evolve(SETTINGS, proxy_protocol=ProxyProtocolSettings(from_=(Network("192.0.2.0/24"),)))
    listener.use(others, load_terms(others))
    balancer = await dial(f"mqtt://127.0.0.1:{listener.port}")
    raw = await listener.accept()
    balancer.send_nowait(v1("192.0.2.7", 1))
    with pytest.raises(BadIntroductionError, match="not from a load balancer"):
        await listener.introduce(raw)
    for stream in (balancer, raw):
        stream.abort()
    listener.close()


async def test_without_balancers_nothing_is_read() -> None:
    listener = await listen(ListenerSettings(name="plain", bind=Address("127.0.0.1:0")))
    assert not listener.is_behind_balancers
    listener.close()


async def test_the_header_comes_before_websocket() -> None:
    from websockets.uri import parse_uri  # noqa: PLC0415 - only here

    async def balance(stream: ByteStream) -> None:
        stream.send_nowait(v1("192.0.2.7", 1))
        ends.append(await WebSocketStream.connect(stream, parse_uri("ws://127.0.0.1/mqtt")))

    ends: list[ByteStream] = []
    balancer, ours = await introduced(evolve(SETTINGS, transport="ws"), balance)
    assert (ours.peer.host, ours.peer.transport) == ("192.0.2.7", "ws")
    ends[0].send_nowait(CONNECT)
    assert bytes(await ours.receive()) == CONNECT
    balancer.abort()
    ours.abort()


@pytest.fixture
def tls(tmp_path: Path) -> ListenerSettings:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    shown = ca.issue_cert("shown", common_name="shown")
    shown.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    return evolve(
        SETTINGS,
        transport="tls",
        certificate=tmp_path / "server.pem",
        private_key=tmp_path / "server.pem",
        client_ca=tmp_path / "ca.pem",
        client_certificate="optional",
    )


def speaking_tls(settings: ListenerSettings, head: bytes) -> Callable[[ByteStream], Awaitable[object]]:
    assert settings.client_ca is not None
    client = settings.client_ca.parent / "client.pem"
    context = client_context(ca=settings.client_ca, certificate=client, private_key=client)

    async def balance(stream: ByteStream) -> None:
        stream.send_nowait(head)
        await TlsStream.connect(stream, context, "localhost")

    return balance


async def test_tls_that_is_passed_through_shows_the_clients_certificate(tls: ListenerSettings) -> None:
    balancer, ours = await introduced(tls, speaking_tls(tls, v1("192.0.2.7", 1)))
    assert (ours.peer.host, ours.peer.transport) == ("192.0.2.7", "tls")
    assert ours.peer.certificate is not None
    assert ours.peer.certificate.endswith("CN=shown")
    assert ours.peer.der is not None
    assert ours.peer.der.startswith(b"\x30\x82")
    balancer.abort()
    ours.abort()


async def test_tls_that_the_balancer_ended_and_began_anew_shows_the_balancers(tls: ListenerSettings) -> None:
    head = v2_from("192.0.2.7", 1, tls_tlv(tlv(TLS_CN, b"device-7"), tlv(TLS_CERTIFICATE, b"DER")))
    balancer, ours = await introduced(tls, speaking_tls(tls, head))
    assert (ours.peer.certificate, ours.peer.der) == ("CN=device-7", b"DER")
    without = v2_from("192.0.2.7", 1, tls_tlv(flags=0x01))
    second, nobody = await introduced(tls, speaking_tls(tls, without))
    assert (nobody.peer.certificate, nobody.peer.der) == (None, None)
    for stream in (balancer, ours, second, nobody):
        stream.abort()


async def test_the_poller_reads_on_behind_a_header() -> None:
    """The head is taken by the connection's own task; from then on it is a plain TCP stream like any other."""
    listener: Listener = await listen(SETTINGS)
    balancer = await dial(f"mqtt://127.0.0.1:{listener.port}")
    raw = await listener.accept()
    assert isinstance(raw, TcpStream)
    balancer.send_nowait(v1("192.0.2.7", 1) + CONNECT)
    await listener.introduce(raw)
    taken: list[bytes] = []

    def take(data: bytes | memoryview, _now: float) -> bool:
        taken.append(bytes(data))
        return False

    assert await raw.receive_each(take)
    assert taken == [CONNECT]
    balancer.abort()
    raw.abort()
    listener.close()
