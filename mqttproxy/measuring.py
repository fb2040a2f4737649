"""What the process measures of itself once a second: how late its loop is, memory, descriptors, disk, commits."""

import os
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import trio

from mqttproxy.limiting.overload import Level, Measures, next_state, pressures
from mqttproxy.steering.causes import Steered
from mqttproxy.telemetry.health import Gates

EVERY: Final = 1.0  # seconds between two looks

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_NO_LIMIT: Final = 2**60  # version 1 of control groups says so by a huge number

Read = Callable[[Path], Measures]


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return how many bytes the process may have: by its control group, or all of the machine. None: not known."""
    found: list[int] = []
    own = ""
    with suppress(OSError, IndexError):
        own = (root / "proc/self/cgroup").read_text().strip().splitlines()[-1].rpartition(":")[2].strip("/")
    groups = root / "sys/fs/cgroup"
    for path in (groups / own / "memory.max", groups / "memory.max", groups / "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # it says "max" where there is none
            found.append(int(path.read_text()))
    with suppress(OSError, ValueError, IndexError):
        line = next(line for line in (root / "proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
        found.append(int(line.split()[1]) * 1024)
    return min((one for one in found if 0 < one < _NO_LIMIT), default=None)


def read_process(data_dir: Path, limit: int | None = None) -> Measures:
    """Return memory, descriptors and disk. Blocks, for a thread: a disk may hang."""
    memory = descriptors = disk_free = None
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
        disk_free = found.f_bavail * found.f_frsize
    return Measures(memory=memory, descriptors=descriptors, disk_free=disk_free)


class Measuring:
    """The task that looks, and has shed what must be."""

    def __init__(self, running: Steered, read: Read | None = None) -> None:
        """Make it. `read`: instead of `read_process`."""
        self._running: Final = running
        self._read: Final[Read] = read or partial(read_process, limit=memory_limit())
        self._thread: Final = trio.CapacityLimiter(1)  # one that hangs is not joined by others

    async def run(self) -> NoReturn:
        """Look, for ever."""
        while True:
            due = trio.current_time() + EVERY
            await trio.sleep_until(due)
            await self.look(trio.current_time() - due)

    async def look(self, delay: float) -> None:
        """Measure, and shed by it. `delay`: seconds by which this comes late."""
        running = self._running
        measures = Measures()
        with trio.move_on_after(EVERY):
            call: Callable[[], Measures] = partial(self._read, running.started_with.proxy.data_dir)
            reading: Awaitable[Measures] = running.outside.to_thread(call, abandon_on_cancel=True, limiter=self._thread)
            measures = await reading
        journal, limited = running.keeping.journal, running.door.premises.limited
        # While the disk fails altogether, devices' acknowledgements wait for it: shedding could not mend that.
        commit = None if journal.trouble is not None else journal.commit_seconds
        found = pressures(
            Measures(
                loop_delay=delay,
                memory=measures.memory,
                descriptors=measures.descriptors,
                disk_free=measures.disk_free,
                commit=commit,
            ),
            running.config.overload,
        )
        limited.overload_pressure = {name: round(one.value, 3) for name, one in found.items()}
        shedding = running.door.premises.shedding
        before, state = shedding.state, next_state(shedding.state, found)
        self._tell(before.level, state.level, state.reason)
        await shedding.use(state)

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
