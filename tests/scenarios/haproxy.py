"""HAProxy as a load balancer before the proxy: Debian's program, started on loopback, configured by us."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import field, frozen

from tests.ports import free_port
from tests.scenarios.mosquitto import PLACES
from tests.waiting import PATIENCE, wait_until

PROBE: Final = "127.0.0.6"  # who tries whether it takes connections
_SETTINGS: Final = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
"""
_WAY: Final = """
listen {name}
    bind 127.0.0.1:{port} {bind}
    server mqttproxy 127.0.0.1:{to} {server}
"""


@frozen
class Way:
    """One way through it: from a port of its own to one of the proxy's listeners.

    Attributes:
        to: port of the listener.
        server: how it says who is there, such as "send-proxy-v2".
        bind: how devices come in, such as "ssl crt server.pem".

    """

    name: str
    to: int
    server: str
    bind: str = ""
    port: int = field(factory=free_port)


@contextmanager
def running_haproxy(folder: Path, *ways: Way) -> Iterator[None]:
    """Run it until it takes connections; without it the test fails: one that is skipped shows nothing."""
    program = shutil.which("haproxy", path=PLACES)
    assert program, "haproxy is not installed: run `sh tests/servers.sh`, or apt-get install haproxy"
    settings, log = folder / "haproxy.cfg", folder / "haproxy.log"
    lines = (_WAY.format(name=way.name, port=way.port, bind=way.bind, to=way.to, server=way.server) for way in ways)
    settings.write_text(_SETTINGS + "".join(lines))
    with log.open("wb") as shown:
        process = subprocess.Popen(
            [program, "-db", "-f", str(settings)], cwd=folder, stdin=subprocess.DEVNULL, stdout=shown, stderr=shown
        )

    def takes_connections(way: Way) -> bool:
        assert process.poll() is None, log.read_text(errors="backslashreplace")
        with socket.socket() as probe:
            probe.bind((PROBE, 0))
            return probe.connect_ex(("127.0.0.1", way.port)) == 0

    try:
        for way in ways:
            wait_until(lambda: takes_connections(way), f"haproxy on port {way.port}")  # noqa: B023 # called at once
        yield
        assert process.poll() is None, log.read_text(errors="backslashreplace")
    finally:
        process.kill()
        process.wait(PATIENCE)
