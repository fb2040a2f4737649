"""The quarantine of a running proxy: takes held messages, commits them in groups, says when they are durable."""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.committing import Committer
from mqttproxy.config.model import QuarantineSettings
from mqttproxy.quarantine.database import Connect, connect
from mqttproxy.quarantine.ids import IdFactory
from mqttproxy.quarantine.model import Held, weigh
from mqttproxy.quarantine.payloads import PayloadFolder
from mqttproxy.quarantine.writer import BOUNDS, SLICE, Writer
from mqttproxy.telemetry.logs import RateLimited

T = TypeVar("T")

_TOLD_EVERY: Final = 60.0  # seconds between two lines in the log about the quota of one user or address


class Quarantine(Committer):
    """Holds messages durably. One at a time in a data folder: see `lock_data_dir`.

    Plain attributes for metrics: `messages` and `size_bytes` are on disk, `issues` are by state, `issues_forgotten` is
    how many were let go of; `pending` and `pending_bytes` wait for their commit; `committed_total`, `commits_total`,
    `failures_total` (of the disk), `full_total` (how often there was no room) and `expired_total` (by bound) count
    since the start. `trouble` says in words why nothing can be committed at present, None: all is well. `set_aside` is
    the folder that a broken database was moved to last.
    """

    def __init__(
        self,
        directory: Path,
        settings: QuarantineSettings,
        committed: Callable[[Sequence[object]], None],
        *,
        now: Callable[[], float] = time.time,
        trouble_changed: Callable[[str | None], None] = lambda _: None,
        tidy_every: float = 5.0,
        drain: float = 5.0,
        connect: Connect = connect,
        fsync: Callable[[int], None] = os.fsync,
        to_thread: ToThread = IN_THREAD,
        make_writer: Callable[..., Writer] = Writer,
        draw: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Make one; `run` opens it.

        Args:
            directory: of the quarantine, `quarantine_dir(data_dir)`.
            settings: its bounds.
            committed: told the tokens of each commit, in order; called in the Trio thread. It must not raise.
            now: seconds since 1970.
            trouble_changed: told each new value of `trouble`, in the Trio thread.
            tidy_every: seconds between two looks at retention, and at what others have removed.
            drain: seconds that a cancelled `run` may still take to commit what waits.
            connect: opens the database file; tests have failing ones.
            fsync: makes a payload file durable; the same.
            to_thread: as `trio.to_thread.run_sync`; simulations have no threads.
            make_writer: what writes; the same.
            draw: returns that many random bytes.

        """
        super().__init__(
            "quarantine",
            f"held messages cannot be stored in {directory}",
            trouble_changed=trouble_changed,
            drain=drain,
            to_thread=to_thread,
            starts_failing=True,  # traffic that needs no quarantine goes on
        )
        self.messages = 0
        self.size_bytes = 0
        self.issues: dict[str, int] = {}
        self.issues_forgotten = 0
        self.pending = 0
        self.pending_bytes = 0
        self.committed_total = 0
        self.commits_total = 0
        self.full_total = 0
        self.expired_total: Final = dict.fromkeys(BOUNDS, 0)
        self.set_aside: Path | None = None
        self.new_id: Final = IdFactory(now, draw)
        self._settings = settings
        self._committed: Final = committed
        self._tidy_every: Final = tidy_every
        self._writer: Final = make_writer(
            directory, settings, now=now, new_name=IdFactory(now, draw), connect=connect, fsync=fsync
        )
        self._held: list[Held] = []  # what waits, the oldest first; stays here until it is committed
        self._tokens: list[object] = []
        self._room: Final = trio.lowlevel.ParkingLot()
        self._limited_log: Final = RateLimited(log=self._log, now=trio.current_time, period=_TOLD_EVERY)
        self._begun = False
        self._tidy_at = 0.0  # in Trio's time; at once

    def hold_nowait(self, held: Held, token: object) -> None:
        """Take a message; its token goes to `committed` when it is durable.

        The bound in bytes may be passed by this one message, so that none is too large for ever.

        Raises:
            trio.WouldBlock: as many messages or bytes wait as may; see `wait_room`.

        """
        if not self._has_room():
            self.full_total += 1
            raise trio.WouldBlock
        self._held.append(held)
        self._tokens.append(token)
        self.pending += 1
        self.pending_bytes += weigh(held)
        self._awake()

    async def wait_room(self) -> None:
        """Wait until `hold_nowait` would take a message. Another task may be quicker: try again then."""
        await trio.lowlevel.checkpoint()
        while not self._has_room():
            await self._room.park()

    async def use(self, work: Callable[[sqlite3.Connection, PayloadFolder], T]) -> T:
        """Do some work with the database, between two commits; see `Writer.use`.

        Raises:
            DiskFailedError: the disk failed; what was done of it is not known.

        """
        return await self._in_thread(partial(self._writer.use, work))

    def apply(self, settings: QuarantineSettings) -> None:
        """Use other bounds from now on. Retention follows within seconds."""
        self._settings = settings
        self._writer.settings = settings
        self._room.unpark_all()

    @property
    def _is_idle(self) -> bool:
        return not self._held

    @property
    def _waiting(self) -> int:
        return self.pending

    async def _turn(self) -> None:
        """Commit what waits and do a slice of housekeeping if it is due, or wait until there is something to do."""
        if not self._begun:
            self._begun = True
            await self._in_thread(self._writer.open)
            return
        is_due = trio.current_time() >= self._tidy_at
        if is_due and not self._closing.is_set():
            await self._tidy()  # before the commit: what retention removes may be the room that is missing
        count = len(self._held)
        if count:
            await self._commit()
        slices = 0
        # As much goes as has come, or a flood would outgrow every bound.
        while slices <= count // SLICE and self._writer.overdue() and not self._closing.is_set():
            slices += 1
            await self._tidy()
        if not (is_due or slices or self._held or self._closing.is_set()):
            await self._wait_for_work(self._tidy_at)

    async def _commit(self) -> None:
        batch = self._held.copy()
        await self._in_thread(partial(self._writer.commit, batch))
        tokens = self._tokens[: len(batch)]
        del self._held[: len(batch)], self._tokens[: len(batch)]
        self.pending = len(self._held)
        self.pending_bytes -= sum(map(weigh, batch))
        self.committed_total += len(batch)
        self.commits_total += 1
        self._set_trouble(None)
        self._room.unpark_all()
        self._committed(tokens)

    async def _tidy(self) -> None:
        tidied = await self._in_thread(self._writer.tidy)
        for bound, count in tidied.expired.items():
            self.expired_total[bound] += count
        if tidied.owner:
            self._limited_log.warning(
                tidied.owner, "quarantine_quota", owner=tidied.owner, removed=tidied.expired["quota"]
            )
        self._tidy_at = trio.current_time() + (0.0 if tidied.more else self._tidy_every)

    def _close(self) -> None:
        self._writer.close()

    def _take_news(self) -> None:
        writer = self._writer
        self.messages, self.size_bytes = writer.messages, writer.size_bytes
        self.issues, self.issues_forgotten = writer.issues, writer.issues_forgotten
        while writer.set_aside:
            self.set_aside, reason = writer.set_aside.pop(0)
            self._log.error("quarantine_set_aside", folder=str(self.set_aside), reason=reason)
        while writer.removed_aside:
            self._log.warning("quarantine_set_aside_removed", folder=str(writer.removed_aside.pop(0)))

    def _has_room(self) -> bool:
        return self.pending < self._settings.queue_messages and self.pending_bytes < self._settings.queue_bytes
