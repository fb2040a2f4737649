"""The world outside as the process sees it: clocks, chance, the network, the disk, other processes.

The defaults are the real ones. Simulations give others, and so run the real rooms with time, trouble and crashes of
their own making.
"""

import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_bytes
from subprocess import CompletedProcess
from typing import Final, Protocol

from attrs import frozen

from mqttproxy.apart import IN_THREAD, ToThread, run_apart
from mqttproxy.config.model import ListenerSettings
from mqttproxy.database import make_store
from mqttproxy.journal import Store
from mqttproxy.quarantine.writer import Writer
from mqttproxy.spool.reader import Reader, SqliteReader
from mqttproxy.tables import DATABASE
from mqttproxy.telemetry.auditfiles import AuditFiles
from mqttproxy.telemetry.logs import LogFormat, LogLevel, configure_logging
from mqttproxy.transport.dial import dial
from mqttproxy.transport.listen import Listener, listen
from mqttproxy.upstream.connect import Dial


class Listen(Protocol):
    """`transport.listen`, or what simulates it."""

    def __call__(
        self,
        settings: ListenerSettings,
        *,
        write_timeout: float,
        max_frame_bytes: int,
        trouble: Callable[[OSError], None] | None,
        hung_up: Callable[[], None] | None,
    ) -> Awaitable[Listener]:
        """Bind and listen as the settings say."""


def open_store(directory: Path, *, survives_power_loss: bool) -> Store:
    """Return the journal's database in a folder."""
    return make_store(directory, survives_power_loss=survives_power_loss)


def open_reader(directory: Path) -> Reader:
    """Return what reads spooled messages from the same database."""
    return SqliteReader(directory / DATABASE)


class MakeStore(Protocol):
    """`open_store`, or what simulates it."""

    def __call__(self, directory: Path, *, survives_power_loss: bool) -> Store:
        """Return the journal's database in a folder."""


@frozen(kw_only=True)
class Outside:
    """See the module.

    Attributes:
        wall: seconds since 1970.
        now: monotonic seconds, where Trio's clock is not asked.
        chance: a number from 0 up to 1.
        draw: that many random bytes.
        dial, listen: streams to brokers and from devices.
        to_thread: where what blocks is called.
        run_apart: a module of ours in a process of its own.
        make_store, make_reader: the journal's database; the way to read the spool there.
        make_writer: what writes held messages.
        make_audit_files: what writes the audit trail.
        configure_logging: puts the settings of logging in force.

    """

    wall: Callable[[], float] = time.time
    now: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    draw: Callable[[int], bytes] = token_bytes
    dial: Dial = dial
    listen: Listen = listen
    to_thread: ToThread = IN_THREAD
    run_apart: Callable[..., Awaitable[CompletedProcess[bytes]]] = run_apart
    make_store: MakeStore = open_store
    make_reader: Callable[[Path], Reader] = open_reader
    make_writer: Callable[..., Writer] = Writer
    make_audit_files: Callable[..., AuditFiles] = AuditFiles
    configure_logging: Callable[[LogLevel, LogFormat], None] = configure_logging


REAL: Final = Outside()
