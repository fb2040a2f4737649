"""mqttproxy/transport/dial.py: URLs, and what is told when nothing is there."""

import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.transport.dial import dial, parse_url
from mqttproxy.transport.stream import TransportError


@pytest.mark.parametrize(
    ("url", "told", "resource"),
    [
        ("mqtt://broker", "mqtt://broker:1883", "/"),
        ("tcp://broker:1901", "tcp://broker:1901", "/"),
        ("mqtts://broker.example", "mqtts://broker.example:8883", "/"),
        ("tls://[2001:db8::1]", "tls://[2001:db8::1]:8883", "/"),
        ("ws://broker/mqtt?token=1", "ws://broker:80", "/mqtt?token=1"),
        ("wss://broker:8085/mqtt", "wss://broker:8085", "/mqtt"),
    ],
)
def test_a_url_has_the_default_port_of_its_scheme(url: str, told: str, resource: str) -> None:
    target = parse_url(url)
    assert str(target) == told
    assert target.resource == resource


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://broker", "scheme must be one of mqtt, tcp"),
        ("broker:1883", "scheme must be one of"),
        ("mqtt://", "no host"),
        ("mqtt://broker:99999", "Port out of range"),
        ("mqtt://[::1", "Invalid IPv6 URL"),
    ],
)
async def test_a_url_that_is_none_is_told(url: str, words: str) -> None:
    with pytest.raises(TransportError, match=words):
        await dial(url)


async def test_a_closed_port_is_told_with_host_port_and_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(TransportError, match=rf"^mqtt://127\.0\.0\.1:{port}: connection refused$"):
        await dial(f"mqtt://127.0.0.1:{port}")


async def test_X11_a_name_that_is_unknown_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    with pytest.raises(TransportError, match=r"^mqtt://nowhere\.invalid:1883: name or service not known$"):
        await dial("mqtt://nowhere.invalid")


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
async def test_a_server_that_says_nothing_is_cut_by_the_callers_deadline(
    scheme: str, autojump_clock: MockClock
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with trio.move_on_after(10) as scope:
            await dial(f"{scheme}://127.0.0.1:{sock.getsockname()[1]}/mqtt", insecure_skip_verify=True)
        assert scope.cancelled_caught
        assert trio.current_time() == 10.0


async def test_a_ca_file_that_is_missing_is_told_before_anything_is_dialled(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"^CA .*/ca\.pem: no such file"):
        await dial("mqtts://127.0.0.1:1", ca=tmp_path / "ca.pem")


async def test_X24_a_name_that_cannot_be_resolved_for_want_of_a_thread_is_an_error_of_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("trio.open_tcp_stream", resolve)
    with pytest.raises(TransportError, match=r"^mqtt://broker\.example:1883: can't start new thread$"):
        await dial("mqtt://broker.example")
