"""What must not be lost, on its way to disk: one commit for all that waits, and who waits is told."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast

import trio

from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.committing import Committer, DiskFailedError
from mqttproxy.journal.rows import Changes, Key, Loaded, Row
from mqttproxy.mqtt.packets import Message, Timed
from mqttproxy.sqlite import DISK_TROUBLE, NewerDatabaseError

T = TypeVar("T")


class Store(Protocol):
    """Where the rows live. Every call is made in a thread, one at a time; all but `close` may raise `DISK_TROUBLE`."""

    set_aside: list[tuple[Path, str]]  # broken ones that were moved away, and why; the journal empties it
    news: list[tuple[str, dict[str, object]]]  # what else people must hear of: event and fields; emptied likewise
    epoch: int  # how many times it was loaded, or more: no two processes have the same; known once it is loaded

    def load(self) -> Loaded:
        """Read everything."""

    def prepare(self, changes: Changes) -> bool:
        """Do what is quick of the `apply` that follows, in the Trio thread; may do nothing."""

    def apply(self, changes: Changes) -> None:
        """Make changes durable, all or nothing; after an error the same ones come again. A repetition does no harm."""

    def close(self) -> None:
        """Close it. It opens again by itself."""


class Journal(Committer):
    """Writes down what is noted. One for a data folder.

    Plain attributes for metrics: `noted` (changes), `commits_total`, `written_total` (rows) and `failures_total` (of
    the disk) count since the start; `pending` is how many rows wait. `trouble` says in words why nothing can be
    committed at present, None: all is well. `set_aside` is the folder that a broken database was moved to last.
    `lost_commits` counts those that had been reported and are not in the database any more.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = trio.current_time,
        trouble_changed: Callable[[str | None], None] = lambda _: None,
        drain: float = 5.0,
        to_thread: ToThread = IN_THREAD,
    ) -> None:
        """Make one; `run` opens the store and loads it.

        Args:
            store: where to; None: nothing is kept, and everything counts as durable at once.
            wall: seconds since 1970.
            now: monotonic seconds.
            trouble_changed: told each new value of `trouble`, in the Trio thread.
            drain: seconds that a cancelled `run` may still take to commit what waits.
            to_thread: as `trio.to_thread.run_sync`; simulations have no threads.

        """
        super().__init__(
            "journal",
            "the journal cannot be written",
            trouble_changed=trouble_changed,
            drain=drain,
            to_thread=to_thread,
            hopeless=(NewerDatabaseError,),
            starts_failing=False,  # a proxy that does not know what it has kept must not begin anew
        )
        self.noted = 0
        self.batches = 0  # how many were given to the store; what is noted between two goes into one commit
        self.commits_total = 0
        self.written_total = 0
        self.set_aside: Path | None = None
        self.lost_commits = 0
        self._began: float | None = None  # the commit that is under way
        self._took = 0.0  # the last one
        self._store: Final = store
        self.wall: Final = wall
        self._now: Final = now
        self._loaded: Loaded = {}
        self._changes = Changes()
        self._calls: deque[Callable[[], None]] = deque()  # wait for the commit of `_changes`
        self._writing: Changes | None = None  # is with the store, again and again until it is committed
        self._writing_calls: deque[Callable[[], None]] = deque()  # wait for the commit of `_writing`
        self._is_loaded = False
        self._is_retry = False  # the disk failed last

    @property
    def commit_seconds(self) -> float:
        """How long the last commit took, or the one under way already takes; 0 while there is nothing to commit."""
        if self._began is not None:
            return max(self._took, self._now() - self._began)
        return 0.0 if self.is_clear else self._took

    # What the rooms say.

    @property
    def pending(self) -> int:
        """How many rows wait for their commit."""
        return len(self._changes) + (0 if self._writing is None else len(self._writing))

    def add(self, row: Row) -> None:
        """Note a row that is new: by what was noted so far there is none with its key."""
        self._note()
        if self._store is not None:
            self._changes.put(row, is_new=True)

    def put(self, row: Row) -> None:
        """Note what a row is from now on, whether it is new or not."""
        self._note()
        if self._store is not None:
            self._changes.put(row, is_new=False)

    def remove(self, kind: type[Row], key: Key) -> None:
        """Note that a row is gone."""
        self._note()
        if self._store is not None:
            self._changes.remove(kind, key)

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call it once everything noted so far is on disk, in the Trio thread and in order; at once if it is.

        It must not raise.
        """
        if self._changes or self._calls:
            self._calls.append(call)
        elif self._writing is not None:
            self._writing_calls.append(call)
        else:
            call()

    @property
    def epoch(self) -> int:
        """Which process this is: no two have the same on one folder. Known once everything is loaded."""
        return 0 if self._store is None else self._store.epoch

    @property
    def is_clear(self) -> bool:
        """Whether everything noted so far is on disk, so that `when_durable` would call at once."""
        return not self._changes and not self._calls and self._writing is None

    def _note(self) -> None:
        self.noted += 1
        self._awake()

    # Clocks: wall on disk, because the monotonic one begins anew; monotonic in memory, because the wall one is set.

    def to_wall(self, message: Message) -> float | None:
        """Return when a message is over by the wall clock, None: never."""
        if not isinstance(message, Timed) or message.expires_at == inf:
            return None
        return self.wall_of(message.expires_at)

    def wall_of(self, moment: float) -> float:
        """Return a moment of the monotonic clock by the wall clock."""
        return moment - self._now() + self.wall()

    def to_monotonic(self, moment: float | None) -> float:
        """Return a moment by the monotonic clock, None: infinity."""
        return inf if moment is None else moment - self.wall() + self._now()

    # What was there at the start.

    def take_loaded(self, kind: type[T]) -> list[T]:
        """Return the rows of a kind as they were at the start, once: they are let go of."""
        rows: list[T] = self._loaded.pop(kind, [])  # type: ignore[arg-type, assignment] # a kind has its rows
        return rows

    # The work.

    @property
    def _is_idle(self) -> bool:
        return self.is_clear

    @property
    def _waiting(self) -> int:
        return self.pending

    async def _work(self, task_status: trio.TaskStatus[None]) -> None:
        if self._store is None:
            task_status.started()
            await self._closing.wait()
        else:
            await super()._work(task_status)

    async def _turn(self) -> None:
        """Load what is there, however often the disk must be asked; then commit what waits, or wait for something."""
        store = self._store
        if store is None:
            return
        if not self._is_loaded:
            self._loaded = await self._in_thread(store.load)
            self._is_loaded = True
        elif not self.is_clear:
            await self._commit_all(store)
        elif not self._closing.is_set():
            await self._wait_for_work()

    async def _commit_all(self, store: Store) -> None:
        changes = self._begin()
        if changes:  # otherwise all that was noted has cancelled itself
            try:
                self._began = self._now()
                await self._commit(store, changes)
                self._took = self._now() - self._began
            except DiskFailedError:
                self._is_retry = True
                raise
            finally:
                self._began = None
            self._is_retry = False
            self.commits_total += 1
            self.written_total += len(changes)
        self._set_trouble(None)
        self._finish()

    async def _commit(self, store: Store, changes: Changes) -> None:
        if not self._is_retry:
            try:
                store.prepare(changes)
            except DISK_TROUBLE as error:
                raise self._failed(error) from error
        await self._in_thread(partial(store.apply, changes))

    def _begin(self) -> Changes:
        """Return what is to be committed: the same again until `_finish` was called."""
        if self._writing is None:
            self._writing, self._changes = self._changes, Changes()
            self._writing_calls, self._calls = self._calls, deque()
            self.batches += 1
        return self._writing

    def _finish(self) -> None:
        calls, self._writing_calls = self._writing_calls, deque()
        self._writing = None
        for call in calls:
            call()

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _take_news(self) -> None:
        store = self._store
        while store is not None and store.set_aside:
            self.set_aside, reason = store.set_aside.pop(0)
            self._log.error("journal_set_aside", folder=str(self.set_aside), reason=reason)
        while store is not None and store.news:
            event, fields = store.news.pop(0)
            self.lost_commits += int(cast("int", fields.get("commits", 0)))
            self._log.error(event, **fields)
