"""A disk in memory: what the journal, the spool's reader, the quarantine and the audit trail see of one.

Commits are atomic, as SQLite promises; what was not committed when the power went is gone. `Disk` outlives processes;
each process mounts it, and what is mounted does nothing more once its process is dead.
"""

import errno
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

from mqttproxy.config.model import QuarantineSettings
from mqttproxy.database import LAYOUT
from mqttproxy.journal import Changes, Key, Loaded, Row
from mqttproxy.quarantine.database import VERSION
from mqttproxy.quarantine.model import Held, weigh
from mqttproxy.quarantine.schema import migrate
from mqttproxy.quarantine.writer import BOUNDS, Tidied
from mqttproxy.spool.reader import Run, Sum
from mqttproxy.spool.rows import ConsumedRow, DestinationRow, RunRow

FIRST_EPOCH: Final = 1_700_000_000
USUAL: Final = 0.001  # seconds that a call takes


class Trouble:
    """What a part of the disk does instead of working.

    Attributes:
        before, after: with which error, and how likely, a write fails; nothing, or all of it, is on disk then.
        reads: how likely a read fails.

    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.heal()

    def heal(self) -> None:
        """Work again."""
        self.before: tuple[int, float] | None = None
        self.after: tuple[int, float] | None = None
        self.reads = 0.0

    def look_before(self) -> None:
        self._look(self.before)

    def look_after(self) -> None:
        self._look(self.after)

    def look_at_read(self) -> None:
        self._look((errno.EIO, self.reads))

    def _look(self, what: tuple[int, float] | None) -> None:
        if what is not None and self._chance.random() < what[1]:
            raise OSError(what[0], os.strerror(what[0]))


class Disk:
    """What is on it.

    Attributes:
        runs: of the spool, by the number of their first message, in that order.
        ever: payloads of every message that was ever committed to the spool.
        held: what the quarantine has, by identifier.
        latency: seconds that every call takes, on average.

    """

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.journal, self.quarantine = Trouble(chance), Trouble(chance)
        self.latency = USUAL
        self.rows: dict[type[Row], dict[Key, Sequence[object]]] = {kind: {} for kind in LAYOUT.tables}
        self.runs: dict[int, Run] = {}
        self.ever: set[bytes] = set()
        self.held: dict[str, Held] = {}
        self.epoch = FIRST_EPOCH
        self.commits = 0

    def heal(self) -> None:
        """Work without fault from now on."""
        self.latency = USUAL
        self.journal.heal()
        self.quarantine.heal()

    def commit(self, changes: Changes) -> None:
        """Write rows, all or nothing."""
        self.journal.look_before()
        for kind, table in LAYOUT.tables.items():
            there = self.rows[kind]
            for key, row in changes.rows.get(kind, {}).items():
                if row is None:
                    there.pop(key, None)
                elif isinstance(row, ConsumedRow):
                    self._remove_runs(row)
                elif isinstance(row, RunRow):
                    values: Any = table.write(row)
                    self.runs[row.first] = Run(*values)._replace(data=bytes(values[-1]))
                    self.ever.update(message.payload for message, _ in row.batch.items)
                else:
                    there[key] = tuple(table.write(row))
        self.commits += 1
        self.journal.look_after()

    def _remove_runs(self, row: ConsumedRow) -> None:
        gone = [first for first, run in self.runs.items() if run.mask == row.mask and run.last <= row.upto]
        for first in gone:
            del self.runs[first]

    def load(self) -> Loaded:
        """Return what is read at the start."""
        self.journal.look_at_read()
        self.epoch += 1
        return {
            kind: [table.read(self.rows[kind][key]) for key in sorted(self.rows[kind])]
            for kind, table in LAYOUT.tables.items()
            if table.is_loaded
        }

    def damage(self) -> list[bytes]:
        """Flip a byte of a run that some destination still needs; returns the payloads that are no longer readable."""
        cursors = {row[0]: row[2] for row in self.rows[DestinationRow].values()}
        wanted = [
            run
            for run in self.runs.values()
            if any(run.mask >> number & 1 and run.last > cursor for number, cursor in cursors.items())  # type: ignore[operator]
        ]
        if not wanted:
            return []
        run = self.chance.choice(wanted)
        place = self.chance.randrange(len(run.data))
        data = bytearray(run.data)
        data[place] ^= 1 << self.chance.randrange(8)
        self.runs[run.first] = run._replace(data=bytes(data))
        before, after = run.decode(), self.runs[run.first].decode()
        return [
            old[0].payload
            for old, new in zip(before, after, strict=True)
            if old is not None and (new is None or new[0] != old[0])
        ]


class Mount:
    """The disk as one process sees it. `is_dead`: the process is no more, and no call comes back."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.is_dead = False

    async def to_thread(
        self, sync_fn: Callable[[], Any], /, *, abandon_on_cancel: bool = True, limiter: trio.CapacityLimiter
    ) -> Any:
        """Stand in for `trio.to_thread.run_sync`: the disk takes its time before the call and after it."""
        async with limiter:
            with trio.CancelScope(shield=not abandon_on_cancel) as scope:
                await self._wait(scope, always=True)
                try:
                    return sync_fn()
                finally:
                    await self._wait(scope, always=self.disk.latency > USUAL)

    async def _wait(self, scope: trio.CancelScope, *, always: bool) -> None:
        if always or self.disk.chance.random() < 0.3:
            await trio.sleep(self.disk.latency * 2 * self.disk.chance.random())
        if self.is_dead:
            scope.shield = False
            await trio.sleep_forever()

    def make_store(self, directory: Path, *, survives_power_loss: bool) -> "SimulatedStore":
        return SimulatedStore(self.disk)

    def make_reader(self, _directory: Path) -> "SimulatedReader":
        return SimulatedReader(self.disk)

    def make_writer(self, _directory: Path, settings: QuarantineSettings, **_: object) -> Any:
        return SimulatedWriter(self.disk, settings)

    def make_audit_files(self, _directory: Path, waiting: deque[bytes], *_: object) -> Any:
        return SimulatedAuditFiles(waiting)


class SimulatedStore:
    """A `journal.Store`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.set_aside: list[tuple[Path, str]] = []
        self.news: list[tuple[str, dict[str, object]]] = []
        self.epoch = 0

    def load(self) -> Loaded:
        loaded = self._disk.load()
        self.epoch = self._disk.epoch
        return loaded

    def prepare(self, changes: Changes) -> bool:
        return False

    def apply(self, changes: Changes) -> None:
        self._disk.commit(changes)

    def close(self) -> None:
        pass


class SimulatedReader:
    """A `spool.reader.Reader`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def _runs(self) -> list[Run]:
        self._disk.journal.look_at_read()
        return list(self._disk.runs.values())

    def masks(self) -> list[int]:
        return sorted({run.mask for run in self._runs()})

    def total(self, mask: int, after: int) -> Sum:
        runs = [run for run in self._runs() if run.mask == mask and run.last > after]
        last = max((run.last for run in runs), default=0)
        return Sum(sum(run.messages for run in runs), sum(run.size for run in runs), last)

    def runs(self, bit: int, after: int, size: int) -> list[Run]:
        found: list[Run] = []
        for run in self._runs():
            if run.last > after and run.mask & bit:
                found.append(run)
                size -= len(run.data)
                if size <= 0:
                    break
        return found

    def oldest(self, bit: int, after: int) -> float | None:
        return next((run.at for run in self._runs() if run.last > after and run.mask & bit), None)

    def highest(self) -> int:
        return max((run.last for run in self._runs()), default=0)

    def close(self) -> None:
        pass


@cache
def _no_orders() -> sqlite3.Connection:
    """Return a quarantine in which nobody has ordered a release."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(connection, VERSION)
    return connection


class SimulatedWriter:
    """A `quarantine.writer.Writer`."""

    def __init__(self, disk: Disk, settings: QuarantineSettings) -> None:
        self._disk = disk
        self.settings = settings
        self.set_aside: list[tuple[Path, str]] = []
        self.removed_aside: list[Path] = []
        self.messages = self.size_bytes = self.issues_forgotten = 0
        self.issues: dict[str, int] = {}

    def open(self) -> None:
        self._disk.quarantine.look_at_read()
        self._count()

    def commit(self, batch: Sequence[Held]) -> None:
        self._disk.quarantine.look_before()
        self._disk.held.update({held.id: held for held in batch})
        self._count()
        self._disk.quarantine.look_after()

    def use(self, work: Callable[[Any, Any], Any]) -> Any:
        self._disk.quarantine.look_before()
        return work(_no_orders(), None)

    def overdue(self) -> bool:
        return False

    def tidy(self) -> Tidied:
        self._disk.quarantine.look_before()
        return Tidied(dict.fromkeys(BOUNDS, 0), more=False)

    def close(self) -> None:
        pass

    def _count(self) -> None:
        self.messages, self.size_bytes = len(self._disk.held), sum(map(weigh, self._disk.held.values()))


class SimulatedAuditFiles:
    """Takes the lines of the audit trail and forgets them."""

    def __init__(self, waiting: deque[bytes]) -> None:
        self._waiting = waiting
        self.written_bytes = 0
        self.head = None

    def write_waiting(self) -> None:
        self.written_bytes += sum(map(len, self._waiting))
        self._waiting.clear()

    def apply(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass
