"""Proxies that are forked from a process that has imported everything, one for each worker.

To start Python and to import the proxy costs a second of processor time, and the tests start hundreds. What runs
then is what `python -m mqttproxy` runs, in a process of its own. Proxies that need another environment are started as
anybody starts them, and so is what is measured.

    python -m tests.forking FD    serve requests on this socket until it is closed
"""

import atexit
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final, cast

_EXAMPLE: Final = Path(__file__).parents[1] / "examples/rollout/4-everyone.toml"
_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER, of <linux/prctl.h>
_PAUSE: Final = 0.01  # seconds between two looks


class Forked:
    """A process, used as one of `subprocess`: ours although the template forked it, because we adopt its orphans."""

    def __init__(self, pid: int) -> None:
        """Take over a process that nobody else waits for."""
        self.pid: Final = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or minus the signal that ended it; None: it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end, and return as `poll` does."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"forked process {self.pid}", timeout)
            time.sleep(_PAUSE)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As `kill -9`."""
        self.send_signal(signal.SIGKILL)


def fork(arguments: Sequence[str], output: IO[bytes], folder: Path | None = None) -> Forked:
    """Start `python -m mqttproxy ARGUMENTS` with nothing to read, in a folder; what it writes goes to `output`."""
    template = _template()
    request = json.dumps([str(folder or Path.cwd()), *arguments]).encode()
    socket.send_fds(template, [request], [output.fileno()])
    return Forked(int(template.recv(64)))


@cache
def _template() -> socket.socket:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen([sys.executable, "-m", "tests.forking", str(its.fileno())], pass_fds=[its.fileno()])

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> list[str] | None:
    """Fork for each request. Returns in each process that was asked for, with its arguments, and at the end None."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 65536, 1)
        if not data:
            return None
        folder, *arguments = json.loads(data)
        reading, writing = os.pipe()
        between = os.fork()
        if between:
            os.waitpid(between, 0)
            requests.send(os.read(reading, 64))  # only now that the process is an orphan, so whoever asked has it
            for descriptor in (reading, writing, *descriptors):
                os.close(descriptor)
            continue
        if pid := os.fork():
            os.write(writing, str(pid).encode())
            os._exit(0)
        for descriptor in (reading, writing):
            os.close(descriptor)
        os.chdir(folder)
        with open(os.devnull) as nothing:  # noqa: PTH123 # what is opened is to be inherited
            os.dup2(nothing.fileno(), 0)
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[0], 2)
        os.close(descriptors[0])
        requests.close()
        return [str(argument) for argument in arguments]


def _warm_up() -> None:
    """Import what a proxy does, and have read a configuration, for which code is generated."""
    import_module("mqttproxy.cli.run")
    build_generation(0, load_config(_EXAMPLE))
    gc.collect()
    gc.freeze()  # else each proxy that looks for garbage copies all pages


if __name__ == "__main__":
    from mqttproxy.cli import main
    from mqttproxy.config.load import load_config
    from mqttproxy.validation import build_generation

    _warm_up()
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        wanted = _serve(listening)
    if wanted is not None:
        sys.argv = ["mqttproxy", *wanted]
        cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)  # what else is said comes in between
        main()
