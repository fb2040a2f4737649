"""A task that gives a thread what waits for the disk, and tries again for as long as the disk fails.

Journal and quarantine are rooms of this kind. What they have in common: one thread, one call at a time; a failure is
told once and tried again with growing pauses; cancelling does not tear a commit from its report, and what waits then is
still committed if there is time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from mqttproxy.apart import ToThread
from mqttproxy.sqlite import DISK_TROUBLE, words
from mqttproxy.telemetry.logs import get_log

T = TypeVar("T")

_FIRST_RETRY: Final = 0.1  # seconds, doubled at each failure
_LAST_RETRY: Final = 5.0


class DiskFailedError(Exception):
    """The disk failed; the text says how, for people."""


class Committer(ABC):
    """What commits. `failures_total` counts failures of the disk; `trouble` says in words why nothing can be committed.

    A room fills in `_is_idle`, `_turn`, `_close`, `_take_news` and `_waiting`. It ends `_wait_for_work` with `_wake`.
    """

    def __init__(
        self,
        name: str,
        complaint: str,
        *,
        trouble_changed: Callable[[str | None], None],
        drain: float,
        to_thread: ToThread,
        hopeless: tuple[type[Exception], ...] = (),
        starts_failing: bool,
    ) -> None:
        """Make it.

        Args:
            name: begins the events in the log.
            complaint: begins the words of `trouble`.
            trouble_changed: told each new value of `trouble`, in the Trio thread.
            drain: seconds that a cancelled `run` may still take to commit what waits.
            to_thread: as `trio.to_thread.run_sync`; simulations have no threads.
            hopeless: what no time heals, among what a disk can do.
            starts_failing: `run` counts as started although its first turn has failed.

        """
        self.failures_total = 0
        self.trouble: str | None = None
        self._name: Final = name
        self._complaint: Final = complaint
        self._log: Final = get_log(component=name)
        self._trouble_changed: Final = trouble_changed
        self._drain: Final = drain
        self._to_thread: Final = to_thread
        self._hopeless: Final = hopeless
        self._starts_failing: Final = starts_failing
        self._thread: Final = trio.CapacityLimiter(1)
        self._wake = trio.Event()
        self._closing: Final = trio.Event()
        self._ended = False

    # What a room fills in.

    @property
    @abstractmethod
    def _is_idle(self) -> bool:
        """Whether nothing waits for the disk."""

    @property
    @abstractmethod
    def _waiting(self) -> int:
        """How much waits, for people."""

    @abstractmethod
    async def _turn(self) -> None:
        """Do what is to be done, in the thread, or wait until there is something. The first call opens."""

    @abstractmethod
    def _close(self) -> None:
        """Close what is open; in the thread, or after it. May be called again."""

    @abstractmethod
    def _take_news(self) -> None:
        """Tell what the thread has to tell; it is not at work meanwhile."""

    # The work.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit what waits, until cancelled; what waits then is still committed if there is time."""
        try:
            async with trio.open_nursery() as nursery:
                # Cancelling must not tear a commit from its report, so the work is shielded, and told to end.
                with trio.CancelScope(shield=True) as work:
                    nursery.start_soon(self._end_in_time, work)
                    await self._work(task_status)
                if not self._is_idle:
                    self._log.error(f"{self._name}_not_drained", waiting=self._waiting, reason=self.trouble)
                nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            if not self._thread.borrowed_tokens:  # otherwise the thread that was given up closes, if it ever comes back
                self._close()

    def _awake(self) -> None:
        """There is something to do."""
        if not self._wake.is_set():
            self._wake.set()

    async def _wait_for_work(self, until: float = float("inf")) -> None:
        self._wake = trio.Event()
        with trio.move_on_at(until):
            await self._wake.wait()

    async def _end_in_time(self, work: trio.CancelScope) -> None:
        try:
            await trio.sleep_forever()
        finally:
            work.deadline = trio.current_time() + self._drain
            self._closing.set()
            self._wake.set()

    async def _work(self, task_status: trio.TaskStatus[None]) -> None:
        delay = _FIRST_RETRY
        is_started = False
        while not self._is_idle or not self._closing.is_set():
            try:
                await self._turn()
                self._set_trouble(None)
                delay = _FIRST_RETRY
            except DiskFailedError as error:
                self.failures_total += 1
                self._set_trouble(str(error))
            if not is_started and (self.trouble is None or self._starts_failing):
                is_started = True
                task_status.started()
            if self.trouble is not None:
                await self._pause(delay)
                delay = min(delay * 2, _LAST_RETRY)
                if self._closing.is_set() and not is_started:
                    return
        await self._in_thread(self._close)

    async def _pause(self, delay: float) -> None:
        if self._closing.is_set():
            await trio.sleep(delay)
        else:
            with trio.move_on_after(delay):
                await self._closing.wait()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Call it in the thread.

        Raises:
            DiskFailedError: what it did is not known.

        """

        def call_and_look() -> T:
            try:
                return call()
            finally:
                if self._ended:
                    self._close()

        try:
            # Abandoned only at the end of the drain: a disk that hangs must not keep the process from ending.
            result: T = await self._to_thread(call_and_look, abandon_on_cancel=True, limiter=self._thread)
        except self._hopeless:
            raise
        except DISK_TROUBLE as error:
            raise self._failed(error) from error
        else:
            return result
        finally:
            if not self._thread.borrowed_tokens:
                self._take_news()

    def _failed(self, error: BaseException) -> DiskFailedError:
        return DiskFailedError(f"{self._complaint}: {words(error)}")

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is None:
            self._log.info(f"{self._name}_healed")
        else:
            self._log.error(f"{self._name}_trouble", reason=trouble, waiting=self._waiting)
        self._trouble_changed(trouble)
