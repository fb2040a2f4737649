"""What the process measures of itself once a second: how late its loop is, memory, descriptors, disk, commits.

That the loop is late counts only as far as the process itself was computing meanwhile. On a machine that others keep
busy, or within a quota of processor time, each timer is late, however little there is to do, and shedding would help
nobody. So a delay is multiplied by the share of the time in which the process had the processor, which leaves about
what it would have been without the others.
"""

import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import trio

from mqttproxy.limiting.overload import Level, Measures, State, next_state, pressures
from mqttproxy.process import give_back_memory
from mqttproxy.steering.causes import Steered
from mqttproxy.telemetry.health import Gates

EVERY: Final = 1.0  # seconds between two looks

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_NO_LIMIT: Final = 2**60  # version 1 of control groups says so by a huge number

Read = Callable[[Path], Measures]
T = TypeVar("T")


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return how many bytes the process may have: by its control group, or all of the machine. None: not known."""
    found: list[int] = []
    own = ""
    with suppress(OSError, IndexError):
        own = (root / "proc/self/cgroup").read_text().strip().splitlines()[-1].rpartition(":")[2].strip("/")
    groups = root / "sys/fs/cgroup"
    above = [folder for folder in (groups / own).parents if folder.is_relative_to(groups)]  # their limits hold too
    files = [folder / "memory.max" for folder in (groups / own, *above)]
    for path in (*files, groups / "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # it says "max" where there is none
            found.append(int(path.read_text()))
    with suppress(OSError, ValueError, IndexError):
        line = next(line for line in (root / "proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
        found.append(int(line.split()[1]) * 1024)
    return min((one for one in found if 0 < one < _NO_LIMIT), default=None)


def read_process(data_dir: Path, limit: int | None = None) -> Measures:
    """Return memory, descriptors and disk. Blocks, for a thread: a disk may hang."""
    memory = descriptors = disk_free = disk_size = None
    with suppress(OSError, ValueError, IndexError):
        if limit:
            memory = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE / limit
    with suppress(OSError):
        folder = Path("/proc/self/fd")
        open_now = folder.stat().st_size or len(os.listdir(folder))  # noqa: PTH208 # older kernels do not count them
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most > 0:  # else there is no limit
            descriptors = open_now / most
    with suppress(OSError):
        found = os.statvfs(data_dir)
        disk_free, disk_size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return Measures(memory=memory, descriptors=descriptors, disk_free=disk_free, disk_size=disk_size)


def own_delay(delay: float, computed: float, interval: float) -> float:
    """Return by how many seconds the loop would have been late without others, about.

    Args:
        delay: by how many seconds it was.
        computed: seconds of processor time that the process, all of its threads, had in the interval.
        interval: seconds of real time that it took: until what was due, and the delay.

    """
    return max(delay, 0.0) * min(computed / interval, 1.0) if interval > 0 else 0.0


class Measuring:
    """The task that looks, and has shed what must be."""

    def __init__(
        self, running: Steered, read: Read | None = None, computed: Callable[[], float] = time.process_time
    ) -> None:
        """Make it. `read`: instead of `read_process`. `computed`: seconds of processor time that the process had."""
        self._computed: Final = computed
        self._running: Final = running
        self._read: Final[Read] = read or partial(read_process, limit=memory_limit())
        self._thread: Final = trio.CapacityLimiter(1)  # one that hangs is not joined by others

    async def run(self) -> NoReturn:
        """Look, for ever."""
        while True:
            began, before = trio.current_time(), self._computed()
            due = began + EVERY
            await trio.sleep_until(due)
            now = trio.current_time()
            await self.look(own_delay(now - due, self._computed() - before, now - began))

    async def look(self, delay: float) -> None:
        """Measure, and shed by it. `delay`: seconds by which this comes late through the process's own work."""
        running, bounds = self._running, self._running.config.overload
        measures = Measures()
        with trio.move_on_after(EVERY) as patience:
            try:
                if running.door.premises.shedding.level:  # else room that has been made would not show
                    await self._in_thread(give_back_memory)
                measures = await self._in_thread(partial(self._read, running.started_with.proxy.data_dir))
            except MemoryError as error:  # who measures must not end the process
                running.door.premises.alerts.warning("measuring", "measuring_failed", error=str(error))
        if patience.cancelled_caught:
            words = f"took longer than {EVERY:g} s, or there was no thread for it"
            running.door.premises.alerts.warning("measuring", "measuring_failed", error=words)
        journal, limited = running.keeping.journal, running.door.premises.limited
        # While the disk fails altogether, devices' acknowledgements wait for it: shedding could not mend that.
        commit = None if journal.trouble is not None else journal.commit_seconds
        found = pressures(
            Measures(
                loop_delay=delay,
                memory=measures.memory,
                descriptors=measures.descriptors,
                disk_free=measures.disk_free,
                disk_size=measures.disk_size,
                commit=commit,
            ),
            bounds,
        )
        limited.overload_pressure = {name: round(one.value, 3) for name, one in found.items()}
        shedding = running.door.premises.shedding
        before, state = shedding.state, State()
        if bounds.enabled:
            state = next_state(before, found, trio.current_time(), bounds.sustained)
        self._tell(before.level, state.level, state.reason)
        await shedding.use(state)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        answer: T = await self._running.outside.to_thread(call, abandon_on_cancel=True, limiter=self._thread)
        return answer

    def _tell(self, before: Level, level: Level, reason: str) -> None:
        running = self._running
        words = f"{level.words} and all before it are shed: {reason}" if level else ""
        gates: Gates = "ready" if level >= Level.CONNECTIONS else "nothing"
        running.health.report("overload", not level, words, gates=gates)
        if level > before:
            running.log.warning("overload", level=level.name.lower(), shed=level.words, reason=reason)
            running.door.premises.limited.overload_rises += 1
        elif level < before:
            running.log.info("overload_falls", level=level.name.lower(), shed=level.words)
