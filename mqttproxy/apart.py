"""Work that is not done in the serving thread: in another thread, or by a module of ours in a process of its own.

A process of its own is for work that is done once and needs much: checking schemas, making tables. The process that
serves devices stays small, and nothing of a hostile schema can hold it. Plug-in checks have such a process each for as
long as they are in force.
"""

import errno
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE, CompletedProcess
from typing import Any, Final, Protocol

import trio

# `python -m` would put the folder that it is started in first on the path, and run whatever lies there under our name.
# The alarm ends a process whose parent has gone; 0: there is none, it must notice by itself.
_CODE: Final = """\
import runpy, signal, sys
signal.alarm({alarm})
sys.path[:] = {path!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""

NO_THREAD: Final = 0.05  # seconds before it is tried again to start one


class ToThread(Protocol):
    """`trio.to_thread.run_sync`, or what simulates it."""

    async def __call__(
        self, sync_fn: Callable[[], Any], /, *, abandon_on_cancel: bool, limiter: trio.CapacityLimiter
    ) -> Any:
        """Run it where it may block."""


class InThread:
    """Runs in a thread, and waits for one if none can be started: a machine that is short of them is so for a while.

    Without that, whichever room happens to need one then would end the process.

    Attributes:
        waits: times that none could be started.

    """

    def __init__(self) -> None:
        self.waits = 0

    async def __call__(
        self, sync_fn: Callable[[], Any], /, *, abandon_on_cancel: bool, limiter: trio.CapacityLimiter
    ) -> Any:
        """As `trio.to_thread.run_sync`."""
        has_begun = False

        def begin() -> Any:
            nonlocal has_begun
            has_begun = True
            return sync_fn()

        while True:
            try:
                return await trio.to_thread.run_sync(begin, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
            except (RuntimeError, MemoryError):
                if has_begun:
                    raise
            self.waits += 1
            await trio.sleep(NO_THREAD)  # those that are idle end after ten seconds, and those that work are idle soon


IN_THREAD: Final = InThread()


async def run_apart(module: str, *arguments: str, seconds: float) -> CompletedProcess[bytes]:
    """Run a module as `python -m` does, and return its exit code and all that it wrote.

    Raises:
        trio.TooSlowError: it took longer than `seconds`, and was ended.
        OSError: there are no processes, threads or memory left, or no Python.

    """
    with trio.fail_after(seconds), _told_as_oserror():
        return await trio.run_process(
            _command(module, arguments, math.ceil(seconds) + 1), capture_stdout=True, capture_stderr=True, check=False
        )


async def open_apart(module: str, *arguments: str) -> trio.Process:
    """Start a module as `python -m` does, with pipes for what it reads and writes; who asks for it ends it.

    Raises:
        OSError: as `run_apart`.

    """
    with _told_as_oserror():
        return await trio.lowlevel.open_process(_command(module, arguments, 0), stdin=PIPE, stdout=PIPE)


@contextmanager
def _told_as_oserror() -> Iterator[None]:
    """Tell as every other lack of resources that there was no thread for starting a process in: Trio does it there."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error


def _command(module: str, arguments: Sequence[str], alarm: int) -> list[str]:
    return [sys.executable, "-P", "-c", _CODE.format(alarm=alarm, path=sys.path, module=module), *arguments]
