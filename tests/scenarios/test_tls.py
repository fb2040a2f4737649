"""TLS as it is seen from outside: certificates that change under devices that stay."""

import shutil
import ssl
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from threading import Event, Thread

from attrs import evolve

from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy, write_certificates, write_settings
from tests.scenarios.devices import PahoDevice, Place
from tests.waiting import wait_until


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
