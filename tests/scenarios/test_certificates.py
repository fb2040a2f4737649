"""Certificates from end to end: issued by `mqttproxy cert`, shown by mosquitto_pub, revoked, refused."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from attrs import frozen

from mqttproxy.cli.commands import app
from mqttproxy.cli.running import ask_running
from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import ConnAck, Connect, Disconnect
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream
from tests.harness import RunningProxy, running_proxy

LISTENER = """
[[listeners]]
name = "devices"
transport = "tls"
bind = "127.0.0.1:0"
certificate = "pki/servers/proxy/certificate.pem"
private_key = "pki/servers/proxy/private_key.pem"
client_ca = "pki/ca.pem"
client_certificate = "required"
crl = "pki/crl.pem"
"""
SETTINGS = """
[proxy]
data_dir = "data"
drain_grace = "2s"
{proxy}
[access]
allow_anonymous = true
[telemetry]
metrics_bind = "127.0.0.1:0"
log_format = "json"
"""


def cert(folder: Path, *arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        app(["cert", *arguments, "--directory", str(folder / "pki")])
    assert end.value.code == 0


def publish(proxy: RunningProxy, holder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(proxy.port("devices")), "-q", "1", "-t", "t", "-m", "1"]
    command += ["--cafile", str(holder / "ca.pem"), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def showing(holder: Path) -> tuple[str, ...]:
    return "--cert", str(holder / "certificate.pem"), "--key", str(holder / "private_key.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cert(tmp_path, "init-ca")
    cert(tmp_path, "issue", "proxy", "--kind", "server", "--host", "127.0.0.1")
    for name in ("device-7", "device-8"):
        cert(tmp_path, "issue", name, "--serial", f"SN-{name}")
    (tmp_path / "schemas").mkdir()
    return tmp_path


@pytest.fixture
def proxy(folder: Path) -> Iterator[RunningProxy]:
    (folder / "proxy.toml").write_text(SETTINGS.format(proxy="") + LISTENER)
    with running_proxy(folder / "proxy.toml") as running:
        yield running


def test_M21_issued_connects_revoked_does_not(proxy: RunningProxy, folder: Path) -> None:
    seven, eight = (folder / "pki" / "devices" / name for name in ("device-7", "device-8"))
    assert publish(proxy, seven, *showing(seven)).returncode == 0
    assert publish(proxy, eight, *showing(eight)).returncode == 0
    assert publish(proxy, seven).returncode != 0  # without a certificate
    server = folder / "pki" / "servers" / "proxy"
    assert publish(proxy, server, *showing(server)).returncode != 0  # a server's is not for clients

    cert(folder, "revoke", "device-7")
    assert publish(proxy, seven, *showing(seven)).returncode == 0  # nobody has told the proxy yet
    assert proxy.reload()["event"] == "reloaded"
    assert publish(proxy, seven, *showing(seven)).returncode != 0
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.certificate.revoked"):
        shake(proxy, seven)
    assert publish(proxy, eight, *showing(eight)).returncode == 0

    cert(folder, "renew", "device-8")
    assert publish(proxy, eight, *showing(eight)).returncode == 0


async def test_M21_who_is_connected_is_sent_away_when_revoked_and_the_others_stay(
    proxy: RunningProxy, folder: Path
) -> None:
    seven = await connect(proxy, folder / "pki" / "devices" / "device-7")
    eight = await connect(proxy, folder / "pki" / "devices" / "device-8")
    cert(folder, "revoke", "device-7")
    assert proxy.reload()["event"] == "reloaded"
    with trio.fail_after(20):
        assert [event.reason for event in await seven.hear() if isinstance(event, Disconnect)] == [0x87]
        assert await seven.stream.receive() == b""
        eight.conn.ping(trio.current_time())
        eight.flush()
        assert bytes(await eight.stream.receive()) == b"\xd0\x00"
    answer = await trio.to_thread.run_sync(lambda: ask_running(folder / "proxy.toml", "ban", do="refused"))
    told = [(one["rule"], one["words"]) for one in answer["refused"]]
    assert told == [("listener devices", "the certificate was revoked")]
    for device in (seven, eight):
        device.stream.abort()


@frozen
class Connected:
    """A device that is in."""

    stream: ByteStream
    conn: ClientConnection

    def flush(self) -> None:
        self.stream.send_nowait(self.conn.data_to_send())

    async def hear(self) -> list[Event]:
        """Wait for what the proxy says next."""
        while True:
            data = await self.stream.receive()
            assert data
            self.conn.receive_data(data, trio.current_time())
            if events := self.conn.next_batch(trio.current_time()):
                return events


async def connect(proxy: RunningProxy, holder: Path) -> Connected:
    url = f"mqtts://127.0.0.1:{proxy.port('devices')}"
    stream = await dial(
        url, ca=holder / "ca.pem", certificate=holder / "certificate.pem", private_key=holder / "private_key.pem"
    )
    conn = ClientConnection(Connect(client_id=holder.name), SessionState(), ClientLimits(), trio.current_time())
    device = Connected(stream, conn)
    device.flush()
    with trio.fail_after(20):
        assert any(isinstance(event, ConnAck) and not event.reason for event in await device.hear())
    return device


def shake(proxy: RunningProxy, holder: Path) -> None:
    """Shake hands in TLS 1.2: in 1.3 a client believes it is in before it is refused; mosquitto_pub never says why."""
    context = ssl.create_default_context(cafile=holder / "ca.pem")
    context.load_cert_chain(holder / "certificate.pem", holder / "private_key.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", proxy.port("devices")), timeout=20) as raw:
        context.wrap_socket(raw, server_hostname="127.0.0.1").close()
