"""mqttproxy/transport/listen.py on real loopback sockets."""

import errno
import socket
import ssl
import struct
from typing import Literal

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mqttproxy.config.model import Address, ListenerSettings
from mqttproxy.transport.dial import dial
from mqttproxy.transport.listen import AT_ONCE, Listener, listen, split_address
from mqttproxy.transport.stream import TransportError
from tests.waiting import PATIENCE


def plain(bind: str = "127.0.0.1:0") -> ListenerSettings:
    return ListenerSettings(name="plain", bind=Address(bind))


async def test_port_0_takes_a_free_port_and_tells_it() -> None:
    listener = await listen(plain())
    assert listener.host == "127.0.0.1"
    assert listener.port > 0
    stream = await dial(f"mqtt://127.0.0.1:{listener.port}")
    accepted = await listener.handshake(await listener.accept())
    assert accepted.peer.host == "127.0.0.1"
    assert accepted.peer.transport == "tcp"
    stream.abort()
    accepted.abort()
    listener.close()
    listener.close()


async def test_an_ipv6_address_stands_in_brackets() -> None:
    listener = await listen(plain("[::1]:0"))
    stream = await dial(f"mqtt://[::1]:{listener.port}")
    accepted = await listener.accept()
    assert accepted.peer.host == "::1"
    assert str(accepted.peer) == f"[::1]:{accepted.peer.port}"
    stream.abort()
    accepted.abort()
    listener.close()


async def test_the_ipv6_wildcard_takes_ipv4_too_and_names_it_as_ipv4() -> None:
    listener = await listen(plain("[::]:0"))
    stream = await dial(f"mqtt://127.0.0.1:{listener.port}")
    accepted = await listener.accept()
    assert accepted.peer.host == "127.0.0.1"
    stream.abort()
    accepted.abort()
    listener.close()


async def test_a_port_in_use_is_told_with_the_listener_and_the_address() -> None:
    listener = await listen(plain())
    with pytest.raises(TransportError, match=rf"^listener 'plain': 127\.0\.0\.1:{listener.port}: address already in"):
        await listen(plain(f"127.0.0.1:{listener.port}"))
    listener.close()


async def test_a_port_is_free_again_as_soon_as_the_listener_is_closed() -> None:
    listener = await listen(plain())
    stream = await dial(f"mqtt://127.0.0.1:{listener.port}")
    accepted = await listener.accept()
    listener.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accepted.aclose)  # whoever closes first keeps the address in TIME_WAIT
        assert await stream.receive() == b""
        await stream.aclose()
    again = await listen(plain(f"127.0.0.1:{listener.port}"))
    again.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [("1883", "not host:port"), ("::1:1883", "in brackets"), ("host:", "not host:port"), ("h:65536", "not host:port")],
)
def test_an_address_of_another_form_is_told(address: str, words: str) -> None:
    with pytest.raises(TransportError, match=words):
        split_address(address)


async def test_a_tls_listener_needs_its_certificate() -> None:
    settings = ListenerSettings(name="tls", transport="tls", bind=Address("127.0.0.1:0"))
    with pytest.raises(TransportError, match="needs certificate and private_key"):
        await listen(settings)


async def test_close_ends_accept_and_accepted_connections_live_on() -> None:
    listener = await listen(plain())
    device = await dial(f"mqtt://127.0.0.1:{listener.port}")
    accepted = await listener.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_until_closed, listener)
        await trio.testing.wait_all_tasks_blocked()
        listener.close()
    device.send_nowait(b"still here")
    assert bytes(await accepted.receive()) == b"still here"
    device.abort()
    accepted.abort()


class OutOf:
    """A listening socket whose accept() fails as told before it works."""

    def __init__(self, real: socket.socket, failures: list[int]) -> None:
        self._real = real
        self._failures = failures

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self._failures:
            code = self._failures.pop(0)
            raise OSError(code, f"error {code}")
        return self._real.accept()

    def fileno(self) -> int:
        return self._real.fileno()

    def close(self) -> None:
        self._real.close()


@pytest.mark.parametrize(
    ("codes", "pause"),
    [
        ([errno.EMFILE] * 3, 0.3),
        ([errno.ENFILE, errno.ENOBUFS], 0.2),
        ([errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH], 0.0),
    ],
)
async def test_E6_accept_survives_and_counts_what_keeps_connections_out(
    codes: list[int], pause: float, autojump_clock: MockClock
) -> None:
    told: list[OSError] = []
    listener = await listen(plain(), trouble=told.append)
    listener._socket = OutOf(listener._socket, list(codes))  # type: ignore[assignment] # a socket as far as accept sees
    device = await dial(f"mqtt://127.0.0.1:{listener.port}")
    accepted = await listener.accept()
    assert [error.errno for error in told] == codes
    assert trio.current_time() == pytest.approx(pause)
    device.abort()
    accepted.abort()
    listener.close()


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_E6_who_is_gone_before_it_is_accepted_is_passed_over_and_counted(way: str) -> None:
    gone: list[None] = []
    listener = await listen(plain(), hung_up=lambda: gone.append(None))
    for _ in range(AT_ONCE + 6):
        with socket.create_connection(("127.0.0.1", listener.port)) as peer:
            if way == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with socket.create_connection(("127.0.0.1", listener.port)) as peer:
        peer.send(b"who says something and hangs up is served")
    with trio.fail_after(PATIENCE):
        accepted = await listener.accept()
    assert await accepted.wait_first()
    assert await accepted.receive() == b"who says something and hangs up is served"
    assert len(gone) == AT_ONCE + 6
    accepted.abort()
    listener.close()


@pytest.mark.parametrize("transport", ["tls", "ws"])
async def test_E1_a_silent_peer_is_cut_by_the_callers_deadline(
    transport: Literal["tls", "ws"], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ListenerSettings(name="slow", transport=transport, bind=Address("127.0.0.1:0"))
    if transport == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate: enough for a silent peer
        monkeypatch.setattr("mqttproxy.transport.listen._context", lambda _: context)
    listener = await listen(settings)
    device = await dial(f"mqtt://127.0.0.1:{listener.port}")
    raw = await listener.accept()
    with trio.move_on_after(10) as scope:
        await listener.handshake(raw)
    assert scope.cancelled_caught
    assert trio.current_time() == 10.0
    with pytest.raises(TransportError, match="connection reset"):
        await device.receive()
    device.abort()
    listener.close()


async def accept_until_closed(listener: Listener) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
