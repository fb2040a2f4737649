"""Mosquitto as a broker and as devices: Debian's programs, started on loopback with a configuration of our own."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field

from tests.ports import free_port
from tests.waiting import PATIENCE, wait_until

# Where programs of servers are: Debian keeps them where not everybody looks.
PLACES: Final = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
_SETTINGS: Final = """
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
queue_qos0_messages true
log_dest stderr
user root
persistence true
persistence_location {folder}/
listener {port} 127.0.0.1
"""


def program(name: str) -> str:
    """Return where a program of Mosquitto is. Without it the test fails: a scenario that is skipped shows nothing."""
    path = shutil.which(name, path=PLACES)
    assert path, f"{name} is not installed: run `sh tests/servers.sh`, or apt-get install mosquitto mosquitto-clients"
    return path


@define(eq=False)
class Mosquitto:
    """One broker, which keeps its port and its folder over a kill and a restart.

    Attributes:
        folder: for its configuration, its log and what it saves.
        more: further lines of `mosquitto.conf`; those after the first `listener` belong to that one.

    """

    folder: Path
    more: str = ""
    port: int = field(factory=free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> "Mosquitto":
        """Start it, and return once it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "mosquitto.conf"
        settings.write_text(_SETTINGS.format(folder=self.folder, port=self.port) + self.more)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("mosquitto"), "-c", str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._takes_connections, f"mosquitto on port {self.port}")
        return self

    def kill(self) -> None:
        """As `kill -9`; also ends one that is stalled."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

    def stall(self) -> None:
        """Let it do nothing, while the kernel keeps its connections and takes bytes for it."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def save(self) -> None:
        """Let it write its sessions and subscriptions to disk, for a start after a kill."""
        saved = self.folder / "mosquitto.db"
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        self._signal(signal.SIGUSR1)
        wait_until(lambda: saved.exists() and saved.stat().st_mtime_ns > before, "mosquitto.db")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _takes_connections(self) -> bool:
        assert self.is_running, (self.folder / "log").read_text(errors="backslashreplace")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running_brokers(folder: Path, *names: str, more: str = "") -> Iterator[list[Mosquitto]]:
    """Run a broker for each name; those that still run at the end are killed."""
    brokers = [Mosquitto(folder / name, more) for name in names]
    try:
        yield [broker.start() for broker in brokers]
    finally:
        for broker in brokers:
            broker.kill()


def run(name: str, arguments: Sequence[str], payload: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run one of Mosquitto's clients to its end."""
    return subprocess.run(
        [program(name), *arguments], input=payload, capture_output=True, timeout=PATIENCE, check=False
    )
