"""Takes messages that are to be recorded, and has a thread write them: nobody ever waits for it."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar

import trio

from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.committing import Committer, DiskFailedError
from mqttproxy.config.model import RecorderSettings
from mqttproxy.recorder.model import Row
from mqttproxy.recorder.tape import Tape, recorder_dir
from mqttproxy.sqlite import Connect, connect
from mqttproxy.telemetry.counting import BoundedCounter

N = TypeVar("N")

TIDY_EVERY: Final = 5.0  # seconds between two looks at what is too old
DRAIN: Final = 2.0  # seconds that the end of the process may be held up for what still waits


class Recorder(Committer, Generic[N]):
    """Writes notes of messages. One for the process; it opens nothing while it is not enabled.

    Plain attributes for metrics: `recorded` messages since the start, `left_out` by reason, `removed` by bound,
    `messages` and `size_bytes` on disk, `pending` and `pending_bytes` on their way there; `trouble` in words.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: RecorderSettings,
        prepare: Callable[[Sequence[N]], Sequence[Row]],
        *,
        now: Callable[[], float] = time.time,
        to_thread: ToThread = IN_THREAD,
        connect: Connect = connect,
        free: Callable[[Path], int] | None = None,
    ) -> None:
        """Make one; `run` writes.

        Args:
            data_dir: of the proxy.
            settings: what bounds it.
            prepare: makes of notes what is written; called in the thread. What it leaves out could not be made.
            now: seconds since 1970.
            to_thread: as `trio.to_thread.run_sync`; simulations have no threads.
            connect: opens the database file; tests have failing ones.
            free: returns the free bytes of the disk that a folder is on.

        """
        directory = recorder_dir(data_dir)
        super().__init__(
            "recorder",
            f"messages cannot be recorded in {directory}",
            trouble_changed=lambda _: None,
            drain=DRAIN,
            to_thread=to_thread,
            starts_failing=True,
        )
        self.recorded = 0
        self.left_out: Final = BoundedCounter()
        self.removed: dict[str, int] = {}
        self.messages = 0
        self.size_bytes = 0
        self.pending = 0
        self.pending_bytes = 0
        self._settings = settings
        self._prepare: Final = prepare
        how = {} if free is None else {"free": free}
        self._tape: Final = Tape(directory, settings, now=now, connect=connect, **how)
        self._notes: list[N] = []
        self._begun = False
        self._noted: Counter[str] = Counter()  # of `left_out`, what stands in the file
        self._is_open = False  # the tape, perhaps
        self._tidy_at = 0.0

    def offer(self, notes: Sequence[N], size: int) -> None:
        """Take notes of messages, or count that there is no room for them. Never waits.

        Args:
            notes: for `prepare`.
            size: payload bytes of all of them.

        """
        settings = self._settings
        if self.pending + len(notes) > settings.queue_messages or self.pending_bytes + size > settings.queue_bytes:
            self.left_out.add("queue_full", len(notes))
            return
        self._notes += notes
        self.pending += len(notes)
        self.pending_bytes += size
        self._awake()

    def apply(self, settings: RecorderSettings) -> None:
        """Go on with other bounds, begin, or end."""
        self._settings = self._tape.settings = settings
        self._tidy_at = 0.0
        self._awake()

    @property
    def is_enabled(self) -> bool:
        """Whether messages are recorded."""
        return self._settings.enabled

    @property
    def _is_idle(self) -> bool:
        return not self._notes

    @property
    def _waiting(self) -> int:
        return self.pending

    async def _turn(self) -> None:
        if not self._begun:
            self._begun = True
        elif self._notes:
            await self._write()
        elif self._is_open and not self._settings.enabled:
            self._is_open = False
            await self._in_thread(self._tape.close)
        elif self._settings.enabled and trio.current_time() >= self._tidy_at:
            self._is_open = True
            more = await self._in_thread(self._tape.tidy)
            self._tidy_at = trio.current_time() + (0.0 if more else TIDY_EVERY)
        else:
            await self._wait_for_work(self._tidy_at if self._settings.enabled else math.inf)

    async def _write(self) -> None:
        """Write what waits; what the disk does not take is given up."""
        notes, self._notes = self._notes, []
        size = self.pending_bytes
        left_out = Counter(self.left_out)
        self._is_open = True
        try:
            kept, reasons = await self._in_thread(partial(self._keep, notes, left_out - self._noted))
        except DiskFailedError:
            self.left_out.add("disk", len(notes))
            raise
        finally:
            self.pending -= len(notes)
            self.pending_bytes -= size
        if kept:
            self._noted = left_out
        self.recorded += kept
        for reason, count in reasons.items():
            if count:
                self.left_out.add(reason, count)

    def _keep(self, notes: Sequence[N], left_out: Mapping[str, int]) -> tuple[int, dict[str, int]]:
        rows = self._prepare(notes)
        kept = len(rows) if self._tape.write(rows, left_out) else 0
        return kept, {"error": len(notes) - len(rows), "disk_low": len(rows) - kept}

    def _close(self) -> None:
        self._tape.close()

    def _take_news(self) -> None:
        tape = self._tape
        self.messages, self.size_bytes = tape.messages, tape.size_bytes
        self.removed = dict(tape.removed)
        while tape.set_aside:
            folder, reason = tape.set_aside.pop(0)
            self._log.error("recorder_set_aside", folder=str(folder), reason=reason)
