"""TLS as it is seen from outside: what a scanner says of it, and certificates that change under devices that stay.

The scanner is sslyze. It takes what it has found for right or wrong by what Mozilla recommends for servers, and says so
itself; nothing here judges for it.
"""

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Final

import pytest
from attrs import evolve

from mqttproxy.cli.commands import app
from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy, write_certificates, write_settings
from tests.scenarios.devices import PahoDevice, Place
from tests.waiting import wait_until

SCANNER: Final = Path(sys.prefix, "scan", "bin", "sslyze")
CURVES: Final = Path(__file__).parents[2] / "examples" / "openssl.cnf"
NAMES: Final = {"tls": "tls", "wss": "wss", "new": "tls"}  # and transports
LISTENER: Final = """
[[listeners]]
name = "{name}"
transport = "{transport}"
bind = "127.0.0.1:0"
certificate = "pki/servers/localhost/certificate.pem"
private_key = "pki/servers/localhost/private_key.pem"
tls_minimum = "{minimum}"
"""


def write_listeners(folder: Path) -> Path:
    """Write settings with certificates of our own making; the listener `new` speaks TLS 1.3 only."""
    for arguments in (["init-ca"], ["issue", "localhost", "--kind", "server"]):
        with pytest.raises(SystemExit) as end:
            app(["cert", *arguments, "--directory", str(folder / "pki")])
        assert end.value.code == 0
    minimum = {"new": "1.3"}
    listeners = [
        LISTENER.format(name=name, transport=transport, minimum=minimum.get(name, "1.2"))
        for name, transport in NAMES.items()
    ]
    return write_settings(folder, "".join(listeners), transports=())


def faults(proxy: RunningProxy, listener: str, profile: str) -> dict[str, str]:
    """Scan a listener; return what the scanner holds against it by a profile of Mozilla's, in its words, by subject."""
    assert SCANNER.exists(), "sslyze is not installed: run `make .venv/scan/.made`"
    ca, target = proxy.file.parent / "pki" / "ca.pem", f"localhost:{proxy.port(listener)}{{127.0.0.1}}"
    command: list[str | Path] = [SCANNER, "--mozilla_config", profile, "--certinfo_ca_file", ca, target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    verdict = done.stdout.partition(f'Checking results against Mozilla\'s "{profile}" configuration')[2]
    assert ("OK - Compliant." if done.returncode == 0 else "FAILED - Not compliant.") in verdict, done
    return dict(re.findall(r"^ +\* (\w+): (.*)$", verdict, re.MULTILINE))


@pytest.fixture(scope="module")
def with_curves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """Run one with the curves that Mozilla recommends, and those alone."""
    file = write_listeners(tmp_path_factory.mktemp("tls"))
    with running_proxy(file, environment=os.environ | {"OPENSSL_CONF": str(CURVES)}) as proxy:
        yield proxy


@pytest.mark.parametrize(("listener", "profile"), [("tls", "intermediate"), ("wss", "intermediate"), ("new", "modern")])
def test_E3_with_the_curves_of_mozilla_a_scanner_finds_nothing(
    with_curves: RunningProxy, listener: str, profile: str
) -> None:
    assert faults(with_curves, listener, profile) == {}


def test_that_scanner_would_find_something(with_curves: RunningProxy) -> None:
    assert faults(with_curves, "tls", "modern").keys() == {"tls_versions", "ciphers"}


def test_E3_as_it_is_installed_the_scanner_finds_two_strong_curves_too_many_and_nothing_else(tmp_path: Path) -> None:
    with running_proxy(write_listeners(tmp_path)) as proxy:
        found = faults(proxy, "tls", "intermediate")
    assert found.keys() == {"tls_curves"}
    assert set(re.findall(r"'(\w+)'", found["tls_curves"])) == {"X448", "secp521r1"}


class Sender:
    """A device on a thread of its own that publishes without a pause, each message once the last was acknowledged."""

    def __init__(self, device: PahoDevice) -> None:
        self.device = device
        self.acknowledged = 0
        self._over = Event()
        self._thread = Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        for number in count():
            if self._over.is_set():
                return
            assert self.device.publish(Message("t", str(number).encode(), 1)).reason == 0
            self.acknowledged += 1

    def wait_for_more(self) -> None:
        before = self.acknowledged
        wait_until(lambda: self.acknowledged > before + 10, f"messages of {self.device.client_id}")

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def replace_certificate(proxy: RunningProxy, source: Path) -> None:
    """Put certificate and key from another folder in the place of those in force."""
    for name in ("server.pem", "server.key"):
        shutil.copy(source / name, proxy.file.parent / "tls" / f"{name}.new")
        (proxy.file.parent / "tls" / f"{name}.new").replace(proxy.file.parent / "tls" / name)


def test_certificates_change_under_devices_that_publish_and_none_is_disconnected(tmp_path: Path) -> None:
    file = write_settings(tmp_path, transports=("tls", "wss"))
    old, new = tmp_path / "tls" / "ca.pem", write_certificates(tmp_path / "new")
    with running_proxy(file) as proxy, ExitStack() as stack:
        places = [Place(proxy.port("tls"), "tls", old), Place(proxy.port("wss"), "wss", old)]
        devices = [
            stack.enter_context(closing(PahoDevice(f"{place.transport}-{number}", place)))
            for place in places
            for number in range(2)
        ]
        senders = [stack.enter_context(closing(Sender(device))) for device in devices]
        for sender in senders:
            sender.wait_for_more()
        replace_certificate(proxy, tmp_path / "new")
        assert proxy.reload()["event"] == "reloaded"
        for sender in senders:
            sender.wait_for_more()
        for place in places:  # who comes from now on meets the new certificate
            PahoDevice(f"new-{place.transport}", evolve(place, ca=new.ca)).close()
            assert ssl.get_server_certificate(("127.0.0.1", place.port)) in new.certificate.read_text()
        (tmp_path / "tls" / "server.key").write_text("no key")
        told = proxy.reload()
        assert told["event"] == "reload refused, the configuration in force stays"
        for place in places:
            PahoDevice(f"last-{place.transport}", evolve(place, ca=new.ca)).close()
        for sender in senders:
            sender.wait_for_more()
        assert [(device.connections, device.dismissed) for device in devices] == [(1, None)] * len(devices)
