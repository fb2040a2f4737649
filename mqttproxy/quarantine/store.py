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
from mqttproxy.config.model import QuarantineSettings
from mqttproxy.quarantine.database import Connect, connect
from mqttproxy.quarantine.ids import IdFactory
from mqttproxy.quarantine.model import Held, weigh
from mqttproxy.quarantine.payloads import PayloadFolder
from mqttproxy.quarantine.writer import BOUNDS, Writer
from mqttproxy.sqlite import DISK_TROUBLE, words
from mqttproxy.telemetry.logs import get_log

T = TypeVar("T")

_FIRST_RETRY: Final = 0.1  # seconds, doubled at each failure
_LAST_RETRY: Final = 5.0
_LOG: Final = get_log(component="quarantine")


class Quarantine:
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
        self.messages = 0
        self.size_bytes = 0
        self.issues: dict[str, int] = {}
        self.issues_forgotten = 0
        self.pending = 0
        self.pending_bytes = 0
        self.committed_total = 0
        self.commits_total = 0
        self.failures_total = 0
        self.full_total = 0
        self.expired_total: Final = dict.fromkeys(BOUNDS, 0)
        self.trouble: str | None = None
        self.set_aside: Path | None = None
        self.new_id: Final = IdFactory(now, draw)
        self._directory: Final = directory
        self._settings = settings
        self._committed: Final = committed
        self._trouble_changed: Final = trouble_changed
        self._tidy_every: Final = tidy_every
        self._drain: Final = drain
        self._writer: Final = make_writer(
            directory, settings, now=now, new_name=IdFactory(now, draw), connect=connect, fsync=fsync
        )
        self._to_thread: Final = to_thread
        self._thread: Final = trio.CapacityLimiter(1)
        self._held: list[Held] = []  # what waits, the oldest first; stays here until it is committed
        self._tokens: list[object] = []
        self._wake = trio.Event()
        self._room: Final = trio.lowlevel.ParkingLot()
        self._closing: Final = trio.Event()
        self._ended = False
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
        if not self._wake.is_set():
            self._wake.set()

    async def wait_room(self) -> None:
        """Wait until `hold_nowait` would take a message. Another task may be quicker: try again then."""
        await trio.lowlevel.checkpoint()
        while not self._has_room():
            await self._room.park()

    async def use(self, work: Callable[[sqlite3.Connection, PayloadFolder], T]) -> T:
        """Do some work with the database, between two commits; see `Writer.use`.

        Raises:
            QuarantineTroubleError: the disk failed; what was done of it is not known.

        """
        return await self._in_thread(partial(self._writer.use, work))

    def apply(self, settings: QuarantineSettings) -> None:
        """Use other bounds from now on. Retention follows within seconds."""
        self._settings = settings
        self._writer.settings = settings
        self._room.unpark_all()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit what is held, until cancelled; what waits then is still committed if `drain` is long enough.

        Started once the database was opened, or could not be: traffic that needs no quarantine goes on then.

        """
        try:
            async with trio.open_nursery() as nursery:
                # Cancelling must not tear a commit from its report, so the work is shielded, and told to end.
                with trio.CancelScope(shield=True) as work:
                    nursery.start_soon(self._end_in_time, work)
                    await self._work(task_status)
                if self._held:
                    _LOG.error("quarantine_not_drained", messages=self.pending, reason=self.trouble)
                nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            if not self._thread.borrowed_tokens:  # otherwise the thread that was given up closes, if it ever comes back
                self._writer.close()

    async def _end_in_time(self, work: trio.CancelScope) -> None:
        try:
            await trio.sleep_forever()
        finally:
            work.deadline = trio.current_time() + self._drain
            self._closing.set()
            self._wake.set()

    async def _work(self, task_status: trio.TaskStatus[None]) -> None:
        delay = _FIRST_RETRY
        begun = False
        while self._held or not self._closing.is_set():
            try:
                await (self._turn() if begun else self._open())
                self._set_trouble(None)
                delay = _FIRST_RETRY
            except QuarantineTroubleError as error:
                self.failures_total += 1
                self._set_trouble(str(error))
            if not begun:
                begun = True
                task_status.started()
            if self.trouble is not None:
                await self._pause(delay)
                delay = min(delay * 2, _LAST_RETRY)
        await self._in_thread(self._writer.close)

    async def _open(self) -> None:
        await self._in_thread(self._writer.open)

    async def _turn(self) -> None:
        """Commit what waits and do a slice of housekeeping if it is due, or wait until there is something to do."""
        if self._held:
            await self._commit()
        if self._closing.is_set():
            return
        if trio.current_time() >= self._tidy_at or self._writer.overdue():
            await self._tidy()
        elif not self._held:
            self._wake = trio.Event()
            with trio.move_on_at(self._tidy_at):
                await self._wake.wait()

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
        self._tidy_at = trio.current_time() + (0.0 if tidied.more else self._tidy_every)

    async def _pause(self, delay: float) -> None:
        if self._closing.is_set():
            await trio.sleep(delay)
        else:
            with trio.move_on_after(delay):
                await self._closing.wait()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        def call_and_look() -> T:
            try:
                return call()
            finally:
                if self._ended:
                    self._writer.close()

        try:
            # Abandoned only at the end of the drain: a disk that hangs must not keep the process from ending.
            result: T = await self._to_thread(call_and_look, abandon_on_cancel=True, limiter=self._thread)
        except DISK_TROUBLE as error:
            raise QuarantineTroubleError(
                f"held messages cannot be stored in {self._directory}: {words(error)}"
            ) from error
        else:
            return result
        finally:
            if not self._thread.borrowed_tokens:
                self._take_news()

    def _take_news(self) -> None:
        writer = self._writer
        self.messages, self.size_bytes = writer.messages, writer.size_bytes
        self.issues, self.issues_forgotten = writer.issues, writer.issues_forgotten
        while writer.set_aside:
            self.set_aside, reason = writer.set_aside.pop(0)
            _LOG.error("quarantine_set_aside", folder=str(self.set_aside), reason=reason)

    def _has_room(self) -> bool:
        return self.pending < self._settings.queue_messages and self.pending_bytes < self._settings.queue_bytes

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is None:
            _LOG.info("quarantine_healed")
        else:
            _LOG.error("quarantine_trouble", reason=trouble, waiting=self.pending)
        self._trouble_changed(trouble)


class QuarantineTroubleError(Exception):
    """The disk failed; the text says how, for people."""
