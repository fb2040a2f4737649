"""Certificates from end to end: issued by `mqttproxy cert`, shown by mosquitto_pub, revoked, refused."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqttproxy.cli.commands import app
from tests.harness import RunningProxy, running_proxy
from tests.scenarios.devices import PahoDevice, Place
from tests.waiting import wait_until

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
    # In TLS 1.3 the client believes it is in before it is refused, and cannot say why it is not.
    refused = publish(proxy, seven, *showing(seven), "--tls-version", "tlsv1.2")
    assert refused.returncode != 0
    assert "revoked" in refused.stderr, refused
    assert publish(proxy, eight, *showing(eight)).returncode == 0

    cert(folder, "renew", "device-8")
    assert publish(proxy, eight, *showing(eight)).returncode == 0


def test_M21_who_is_connected_is_sent_away_when_revoked_and_the_others_stay(proxy: RunningProxy, folder: Path) -> None:
    ca, issued = folder / "pki" / "ca.pem", folder / "pki" / "devices"
    places = {name: Place(proxy.port("devices"), "tls", ca, holder=issued / name) for name in ("device-7", "device-8")}
    devices = {name: PahoDevice(name, place) for name, place in places.items()}
    cert(folder, "revoke", "device-7")
    assert proxy.reload()["event"] == "reloaded"
    wait_until(lambda: devices["device-7"].dismissed is not None, "device-7 is sent away")
    assert devices["device-7"].dismissed == 0x87
    assert devices["device-8"].is_connected
    for device in devices.values():
        device.close()
