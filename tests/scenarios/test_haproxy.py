"""Behind a real HAProxy, by each way that it has to say who is there: the device's own address, and its own name.

Devices come from an address of their own of this machine, 127.0.0.5, and HAProxy from 127.0.0.1.
"""

import json
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import frozen

from mqttproxy.cli.commands import app
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from tests.harness import RunningProxy, running_proxy, write_certificates, write_settings
from tests.scenarios.command_line import CommandLineDevice
from tests.scenarios.devices import NotLetInError, PahoDevice, Place, Shown
from tests.scenarios.haproxy import Way, running_haproxy
from tests.waiting import wait_until

DEVICE: Final = "127.0.0.5"
LISTENER: Final = """
[[listeners]]
name = "{name}"
transport = "{transport}"
bind = "127.0.0.1:0"
proxy_protocol = {{ from = ["127.0.0.1"] }}
"""
SETTINGS: Final = """
certificate = "tls/server.pem"
private_key = "tls/server.key"
client_ca = "pki/ca.pem"
client_certificate = "required"

[[access.chains]]
listeners = ["plain"]
allow_anonymous = true

[[access.certificates]]
name = "certificates"

[[access.rules]]
topics = ["of/${username}/#"]
action = "allow"
when = { listener = ["named", "passed"] }

[[access.rules]]
topics = ["of/anybody/#"]
action = "allow"
when = { listener = ["plain"] }

[[policies]]
name = "json"
topics = ["#"]
format = "json"
"""
GOOD, BAD = b"{}", b"no json"
# How HAProxy says who is there, to a listener that lets everybody in.
WAYS: Final = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "options": "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,crc32c,authority",
    "checked": "send-proxy-v2 check check-send-proxy inter 50ms",
}


@frozen
class Scene:
    """What all cases share."""

    proxy: RunningProxy
    ways: dict[str, Way]

    def place(self, way: str, shown: Shown | None = None) -> Place:
        """Return where a device comes in by a way; by its certificate, over TLS."""
        port = self.ways[way].port
        if shown is None:
            return Place(port, source=DEVICE)
        return Place(port, "tls", self.proxy.file.parent / "tls" / "ca.pem", shown=shown, source=DEVICE)

    def holder(self, name: str, pki: str = "pki") -> Shown:
        folder = self.proxy.file.parent / pki / "devices" / name
        return Shown(certificate=folder / "certificate.pem", private_key=folder / "private_key.pem")

    def audited(self, client_id: str, event: str) -> list[dict[str, Any]]:
        file = self.proxy.file.parent / "data" / "audit" / "audit.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [line for line in lines if line.get("client_id") == client_id and line["event"] == event]


def run(*arguments: str) -> str:
    """Run a command of ours here, where it need not start first; returns what it shows."""
    shown = StringIO()
    with redirect_stdout(shown), pytest.raises(SystemExit):
        app(arguments)
    return shown.getvalue()


def issue(directory: Path, name: str) -> None:
    if not directory.exists():
        run("cert", "init-ca", "--directory", str(directory))
    run("cert", "issue", name, "--directory", str(directory))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("haproxy")
    tls = write_certificates(folder / "tls")
    (folder / "tls" / "both.pem").write_bytes(tls.certificate.read_bytes() + tls.private_key.read_bytes())
    for pki, name in (("pki", "ada"), ("pki", "bob"), ("strangers", "ada")):
        issue(folder / pki, name)
    names = {"plain": "tcp", "named": "tcp", "passed": "tls"}
    listeners = [LISTENER.format(name=name, transport=transport) for name, transport in names.items()]
    file = write_settings(folder, "".join(listeners) + SETTINGS, transports=())
    text = file.read_text().replace("allow_anonymous = true", 'chain = ["certificates"]\nfailures = 1000', 1)
    file.write_text(text)
    with running_proxy(file) as proxy:
        ends_tls = f"ssl crt tls/both.pem verify optional ca-file {folder}/pki/ca.pem"
        ways = [Way(name, proxy.port("plain"), server) for name, server in WAYS.items()]
        ways += [
            Way("ssl-cn", proxy.port("named"), "send-proxy-v2-ssl-cn", ends_tls),
            Way("documented", proxy.port("named"), "send-proxy-v2 proxy-v2-options ssl,cert-cn,crc32c", ends_tls),
            Way("ssl", proxy.port("named"), "send-proxy-v2-ssl", ends_tls),
            Way("passed", proxy.port("passed"), "send-proxy-v2"),
        ]
        with running_haproxy(folder, *ways):
            yield Scene(proxy, {way.name: way for way in ways})


def check_audited(scene: Scene, client_id: str, username: str) -> None:
    decision = wait_until(lambda: scene.audited(client_id, "decision"), "a decision in the audit trail")[-1]
    assert (decision["address"], decision["username"]) == (DEVICE, username)


@pytest.mark.parametrize("way", WAYS)
def test_D12_the_devices_own_address_is_in_audit_quarantine_and_explanation(scene: Scene, way: str) -> None:
    with closing(PahoDevice(f"d-{way}", scene.place(way))) as device:
        assert device.publish(Message("of/anybody/1", GOOD, 1)).reason == 0
        assert device.publish(Message("of/anybody/1", BAD, 1)).reason == ReasonCode.PAYLOAD_FORMAT_INVALID
    line = wait_until(lambda: scene.audited(f"d-{way}", "decision"), "a line of the audit trail")[0]
    assert line["address"] == DEVICE
    config = ("--config", str(scene.proxy.file))
    held = json.loads(run("quarantine", "list", "--json", "--client", f"d-{way}", *config))
    assert held["address"] == DEVICE
    assert f"sender   client d-{way}, listener plain, address {DEVICE}\n" in run("explain", held["id"], *config)


@pytest.mark.parametrize("way", ["ssl-cn", "documented", "passed"])
def test_D12_a_device_is_known_by_the_certificate_that_it_shows(scene: Scene, way: str) -> None:
    for name in ("ada", "bob"):
        with closing(PahoDevice(f"{name}-{way}", scene.place(way, scene.holder(name)))) as device:
            assert device.publish(Message(f"of/{name}/1", GOOD, 1)).reason == 0
            assert device.publish(Message("of/another/1", GOOD, 1)).reason == ReasonCode.NOT_AUTHORIZED
            assert device.publish(Message(f"of/{name}/1", BAD, 1)).reason == ReasonCode.PAYLOAD_FORMAT_INVALID
        check_audited(scene, f"{name}-{way}", name)
    ada = CommandLineDevice(f"m-{way}", scene.place(way, scene.holder("ada")))
    assert ada.publish(Message("of/ada/1", GOOD, 1)).reason == 0


@pytest.mark.parametrize("way", ["ssl-cn", "documented", "passed"])
def test_D12_a_certificate_of_another_ca_gets_no_further_than_tls(scene: Scene, way: str) -> None:
    with pytest.raises(NotLetInError) as refused:
        PahoDevice(f"stranger-{way}", scene.place(way, scene.holder("ada", "strangers")))
    assert refused.value.reason is None


@pytest.mark.parametrize(("way", "name"), [("ssl-cn", None), ("documented", None), ("ssl", None), ("ssl", "ada")])
def test_D12_without_a_name_that_was_verified_nobody_comes_in(scene: Scene, way: str, name: str | None) -> None:
    client_id = f"nobody-{way}-{name}"
    with pytest.raises(NotLetInError) as refused:
        PahoDevice(client_id, scene.place(way, Shown() if name is None else scene.holder(name)))
    assert refused.value.reason == ReasonCode.NOT_AUTHORIZED
    line = wait_until(lambda: scene.audited(client_id, "connect"), "a line of the audit trail")[0]
    assert (line["action"], line["address"], line["words"]) == ("refused", DEVICE, "no credentials")


def test_D12_looks_whether_we_live_are_no_faults(scene: Scene) -> None:

    def looks() -> float:
        return scene.proxy.metric("mqtt_proxy_connections_opened_total", listener="plain")

    before = looks()
    wait_until(lambda: looks() > before + 2, "HAProxy's looks")
    assert scene.proxy.metric("mqtt_proxy_connections_refused_total", reason="closed_before_connect") > 0
    assert scene.proxy.metric("mqtt_proxy_connections_refused_total", reason="bad_introduction") == 0
    for event in ("bad_introduction", "handshake_failed"):
        told = [line["peer"] for line in scene.proxy.log(event)]
        assert not [peer for peer in told if peer.startswith("127.0.0.1:")]
