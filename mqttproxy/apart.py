"""Work that is not done in the serving thread: in another thread, or by a module of ours in a process of its own.

A process of its own is for work that is done once and needs much: checking schemas, making tables. The process that
serves devices stays small, and nothing of a hostile schema can hold it. Plug-in checks have such a process each for as
long as they are in force.
"""

import math
import sys
from collections.abc import Callable, Sequence
from subprocess import PIPE, CompletedProcess
from typing import Any, Final, Protocol, cast

import trio

# `python -m` would put the folder that it is started in first on the path, and run whatever lies there under our name.
# The alarm ends a process whose parent has gone; 0: there is none, it must notice by itself.
_CODE: Final = """\
import runpy, signal, sys
signal.alarm({alarm})
sys.path[:] = {path!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


class ToThread(Protocol):
    """`trio.to_thread.run_sync`, or what simulates it."""

    async def __call__(
        self, sync_fn: Callable[[], Any], /, *, abandon_on_cancel: bool, limiter: trio.CapacityLimiter
    ) -> Any:
        """Run it where it may block."""


IN_THREAD: Final = cast("ToThread", trio.to_thread.run_sync)


async def run_apart(module: str, *arguments: str, seconds: float) -> CompletedProcess[bytes]:
    """Run a module as `python -m` does, and return its exit code and all that it wrote.

    Raises:
        trio.TooSlowError: it took longer than `seconds`, and was ended.
        OSError: there are no processes or no memory left, or no Python.

    """
    with trio.fail_after(seconds):
        return await trio.run_process(
            _command(module, arguments, math.ceil(seconds) + 1), capture_stdout=True, capture_stderr=True, check=False
        )


async def open_apart(module: str, *arguments: str) -> trio.Process:
    """Start a module as `python -m` does, with pipes for what it reads and writes; who asks for it ends it.

    Raises:
        OSError: as `run_apart`.

    """
    return await trio.lowlevel.open_process(_command(module, arguments, 0), stdin=PIPE, stdout=PIPE)


def _command(module: str, arguments: Sequence[str], alarm: int) -> list[str]:
    return [sys.executable, "-P", "-c", _CODE.format(alarm=alarm, path=sys.path, module=module), *arguments]
