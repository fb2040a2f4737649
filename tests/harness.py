"""The real proxy as a process: started from a folder of its own, asked over HTTP and by its log, stopped by SIGTERM.

    with running_proxy(write_settings(tmp_path, transports=("tcp", "ws"))) as proxy:
        stream = await proxy.dial("tcp")
        assert proxy.metric("mqtt_messages_received_total", qos="1") == 3

One process for a module or for the whole session keeps the suite quick: starting one takes a fifth of a second, because
it is forked (see `forking`) and finds the tables made. What is to start as on a user's machine is given an environment.
"""

import atexit
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import trustme
from attrs import define, field, frozen

from mqttproxy.tables import make_tables
from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream
from tests.forking import Forked, fork
from tests.waiting import PATIENCE, wait_until

SCHEMES: Final = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}
PATH: Final = "/mqtt"
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@frozen
class Certificates:
    """PEM files of a server at 127.0.0.1 and localhost, and of the CA that it comes from."""

    ca: Path
    certificate: Path
    private_key: Path


def write_certificates(folder: Path) -> Certificates:
    """Make a CA and a server certificate in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(made.ca))
    server.private_key_pem.write_to_path(str(made.private_key))
    for blob in server.cert_chain_pems:
        blob.write_to_path(str(made.certificate), append=True)
    return made


def write_settings(
    folder: Path,
    more: str = "",
    *,
    transports: Sequence[str] = ("tcp",),
    proxy: str = "",
    telemetry: str = "",
) -> Path:
    """Write `proxy.toml` into the folder and return its path.

    Args:
        folder: for the file, its data and its certificates.
        more: further tables, as they stand in the file.
        transports: one listener for each, of the same name, at a free port.
        proxy: further lines for `[proxy]`.
        telemetry: further lines for `[telemetry]`.

    """
    lines = ["[proxy]", 'data_dir = "data"', 'drain_grace = "2s"', proxy, "[access]", "allow_anonymous = true"]
    for transport in transports:
        lines += ["[[listeners]]", f'name = "{transport}"', f'transport = "{transport}"', 'bind = "127.0.0.1:0"']
        if transport in {"tls", "wss"}:
            if not (folder / "tls").exists():
                write_certificates(folder / "tls")
            lines += ['certificate = "tls/server.pem"', 'private_key = "tls/server.key"']
    lines += ["[telemetry]", 'metrics_bind = "127.0.0.1:0"', 'log_format = "json"', telemetry, more, ""]
    (folder / "schemas").mkdir(exist_ok=True)
    file = folder / "proxy.toml"
    file.write_text("\n".join(lines))
    return file


@define(eq=False)
class RunningProxy:
    """A proxy process that has said `ready`, or was started with `is_awaited=False`."""

    file: Path
    process: "subprocess.Popen[bytes] | Forked"
    log_file: Path
    _ready: dict[str, Any] = field(factory=dict)

    # Where it is.

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ready(self) -> dict[str, Any]:
        """The log line that says what is listening where."""
        if not self._ready:
            self._ready = wait_until(self._find_ready, "ready")
        return self._ready

    def port(self, listener: str = "tcp") -> int:
        """Port of the listener of this name."""
        return int(self.ready["listeners"][listener].rpartition(":")[2])

    def url(self, listener: str = "tcp") -> str:
        """Where the listener is, as `dial` and upstreams take it."""
        transport, _, address = self.ready["listeners"][listener].partition("://")
        return f"{SCHEMES[transport]}://{address}" + (PATH if transport in {"ws", "wss"} else "")

    async def dial(self, listener: str = "tcp") -> ByteStream:
        """Connect to a listener; the handshakes of its transport are done, CONNECT is not sent."""
        ca = self.file.parent / "tls" / "ca.pem"
        return await dial(self.url(listener), ca=ca if ca.exists() else None)

    def client_context(self) -> ssl.SSLContext:
        """TLS for other clients than `dial`."""
        return ssl.create_default_context(cafile=self.file.parent / "tls" / "ca.pem")

    # What it tells.

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Every log line so far, or those of one event."""
        lines = [json.loads(line) for line in self.log_file.read_bytes().split(b"\n")[:-1] if line.startswith(b"{")]
        return lines if event is None else [line for line in lines if line["event"] == event]

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask the page for machines; returns status and body."""
        connection = HTTPConnection(self.ready["metrics"], timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return every sample of /metrics by name and labels."""
        samples = {}
        for line in self.get("/metrics")[1].decode().splitlines():
            if found := _SAMPLE.match(line):
                samples[found[1], frozenset(_LABEL.findall(found[2] or ""))] = float(found[3])
        return samples

    def metric(self, name: str, **labels: str) -> float:
        """Return one sample of /metrics; 0 if there is none yet."""
        return self.metrics().get((name, frozenset(labels.items())), 0.0)

    def wait_linked(self, *upstreams: str) -> None:
        """Wait until the proxy is connected to these upstreams."""
        wait_until(
            lambda: all(self.metric("mqtt_broker_connection_status", broker=name) for name in upstreams),
            f"links to {upstreams}",
        )

    def rss(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    # What is done to it.

    def reload(self) -> dict[str, Any]:
        """Send SIGHUP and return the log line that says what came of it."""
        words = ("reloaded", "reload refused, the configuration in force stays")
        before = len([line for line in self.log() if line["event"] in words])
        self.process.send_signal(signal.SIGHUP)
        lines = wait_until(
            lambda: [line for line in self.log() if line["event"] in words][before:], "the answer to SIGHUP"
        )
        return lines[0]

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(PATIENCE)

    def check_unharmed(self) -> None:
        """Fail if anything got as far as it must not: an error of ours, a traceback, a faulty account."""
        assert self.process.poll() is None, f"the proxy has ended with {self.process.returncode}:\n{self.tail()}"
        assert not self.log("internal_error"), self.tail()
        assert b"Traceback" not in self.log_file.read_bytes(), self.tail()
        wrong = {
            sample: value
            for sample, value in self.metrics().items()
            if sample[0].endswith("books_difference") and value
        }
        assert not wrong, wrong

    def tail(self) -> str:
        """Return the end of the log, for a failed assertion."""
        return self.log_file.read_bytes()[-5000:].decode(errors="backslashreplace")

    def _find_ready(self) -> dict[str, Any]:
        assert self.process.poll() is None, f"the proxy did not start:\n{self.tail()}"
        return next(iter(self.log("ready")), {})


def start_proxy(file: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> RunningProxy:
    """Start `mqttproxy run FILE`; whoever calls this stops it. `ready` waits for it."""
    log_file = file.with_suffix(".log")
    command = [sys.executable, "-m", "mqttproxy", "run", str(file), *arguments]
    process: subprocess.Popen[bytes] | Forked
    with log_file.open("ab") as log:
        log_file.write_bytes(b"")  # a proxy started again says `ready` again
        if environment is None:
            _give_tables(file)
            process = fork(command[3:], log)
        else:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    return RunningProxy(file, process, log_file)


def _give_tables(file: Path) -> None:
    """Spare a first start the making of its tables: a process of its own does that, in a third of a second."""
    data = file.parent / "data"
    if not data.exists() and 'data_dir = "data"' in file.read_text():
        shutil.copytree(_tables(), data)


@cache
def _tables() -> Path:
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    make_tables(Path(folder.name))
    return Path(folder.name)


@contextmanager
def running_proxy(file: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[RunningProxy]:
    """Run a proxy; at the end it must still be unharmed and stop in order, unless the test has stopped it."""
    proxy = start_proxy(file, *arguments, environment=environment)
    try:
        assert proxy.ready
        yield proxy
        if proxy.process.poll() is None:
            proxy.check_unharmed()
            assert proxy.stop() == 0, proxy.tail()
    finally:
        if proxy.process.poll() is None:
            proxy.kill()
