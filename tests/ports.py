"""Ports of loopback for servers that are ended and started again: nobody else gets them meanwhile.

They lie below those that the kernel gives to connections, from 32768 on, and each worker of a test run has its own.
"""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from typing import Final

_FIRST: Final = 10_000
_EACH: Final = 1_000
_WORKERS: Final = 20


def _mine() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    ports = range(_FIRST + worker * _EACH, _FIRST + (worker + 1) * _EACH)
    begin = secrets.randbelow(_EACH)  # another run may be under way on this machine
    return cycle([*ports[begin:], *ports[:begin]])


_ports: Final = _mine()


def free_port() -> int:
    """Return a port that nobody listens on, and that was not returned for long."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(("127.0.0.1", port))
            return port
