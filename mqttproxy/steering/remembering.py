"""The list of refused clients over restarts: a file in the data folder, written now and then.

Nothing depends on it, so the disk is not waited for: what was refused in the last minute before a `kill -9` is in the
audit trail only.
"""

from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import trio

from mqttproxy.limiting.refused import Refused, RefusedClients, as_lines
from mqttproxy.steering.causes import Steered
from mqttproxy.wholefile import write_whole

FILE: Final = "refused.jsonl"
EVERY: Final = 60.0  # seconds between two writes, if there is something new
LAST_WRITE: Final = 2.0  # seconds that the end of the process waits for the disk at most


class Remembering:
    """The task that keeps the list."""

    def __init__(self, running: Steered) -> None:
        self._running: Final = running
        self._thread: Final = trio.CapacityLimiter(1)  # a disk that hangs holds one thread, and no more
        self._written = 0  # changes that are in the file

    @property
    def _refused(self) -> RefusedClients:
        return self._running.door.premises.refused

    @property
    def _path(self) -> Path:
        return self._running.started_with.proxy.data_dir / FILE

    async def load(self) -> None:
        """Take up what was kept. What cannot be read is told, and the list begins anew: nobody comes in by that."""
        log = self._running.log
        try:
            data: bytes = await self._in_thread(self._path.read_bytes)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("refused_clients_unreadable", file=str(self._path), error=_words(error))
            return
        if damaged := self._refused.restore(data.splitlines(), self._running.outside.wall()):
            log.warning("refused_clients_damaged", file=str(self._path), lines=damaged)

    async def run(self) -> NoReturn:
        """Write what is new once a minute, and at the end."""
        try:
            while True:
                await trio.sleep(EVERY)
                await self._write()
        finally:
            with trio.move_on_after(LAST_WRITE, shield=True):
                await self._write()

    async def _write(self) -> None:
        changes = self._refused.changes
        if changes == self._written:
            return
        rows = self._refused.newest(self._running.outside.wall())
        try:
            await self._in_thread(partial(_write_rows, self._path, rows))  # put in words there: they may be many
        except OSError as error:
            self._running.door.premises.alerts.warning(
                "refused_clients_not_written", "refused_clients_not_written", file=str(self._path), error=_words(error)
            )
        else:
            self._written = changes

    async def _in_thread(self, call: Any) -> Any:
        return await self._running.outside.to_thread(call, abandon_on_cancel=True, limiter=self._thread)


def _write_rows(path: Path, rows: list[Refused]) -> None:
    write_whole(path, as_lines(reversed(rows)))


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
