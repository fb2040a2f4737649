"""What journal and quarantine have in common. Each with its own disk: tests/journal, tests/quarantine/test_store.py."""

from collections import deque

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttproxy.committing import Committer, DiskFailedError
from tests.fake_rooms import in_place


class Room(Committer):
    """Commits what it is given, unless its disk says no."""

    def __init__(self, *, starts_failing: bool = False, drain: float = 5.0) -> None:
        self.troubles: list[str | None] = []
        super().__init__(
            "room", "no", trouble_changed=self.troubles.append, drain=drain, to_thread=in_place,
            hopeless=(FileNotFoundError,), starts_failing=starts_failing,
        )  # fmt: skip
        self.todo: deque[int] = deque()
        self.done: list[int] = []
        self.errors: deque[OSError | None] = deque()
        self.opened = self.closed = False
        self.ended = trio.Event()  # something was done

    def give(self, number: int) -> None:
        self.todo.append(number)
        self._awake()

    @property
    def _is_idle(self) -> bool:
        return not self.todo

    @property
    def _waiting(self) -> int:
        return len(self.todo)

    async def _turn(self) -> None:
        if not self.opened:
            await self._in_thread(self._open)
        elif self.todo:
            await self._in_thread(self._write)
            self.done.append(self.todo.popleft())
            self.ended.set()
        elif not self._closing.is_set():
            await self._wait_for_work()

    def _open(self) -> None:
        self._write()
        self.opened = True

    def _write(self) -> None:
        error = self.errors.popleft() if self.errors else None
        if error is not None:
            raise error

    def _take_news(self) -> None: ...

    def _close(self) -> None:
        self.closed = True


async def test_what_is_given_is_done_and_the_end_closes(autojump_clock: MockClock) -> None:
    room = Room()
    async with trio.open_nursery() as nursery:
        await nursery.start(run, room)
        room.give(1)
        await wait_all_tasks_blocked()
        assert room.done == [1]
        room.give(2)
        nursery.cancel_scope.cancel()
    assert room.done == [1, 2]
    assert room.closed


async def test_failures_are_told_once_and_tried_again_with_growing_pauses(autojump_clock: MockClock) -> None:
    room = Room()
    async with trio.open_nursery() as nursery:
        await nursery.start(run, room)
        room.errors.extend(OSError("full") for _ in range(8))
        began = trio.current_time()
        room.give(1)
        await room.ended.wait()
        assert trio.current_time() - began == pytest.approx(0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 5 + 5, abs=0.1)
        assert room.troubles == ["no: full", None]
        assert room.failures_total == 8
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("starts_failing", "seconds"), [(False, 0.1), (True, 0.0)])
async def test_a_room_may_start_before_its_disk_is_well(
    starts_failing: bool, seconds: float, autojump_clock: MockClock
) -> None:
    room = Room(starts_failing=starts_failing)
    room.errors.append(OSError("full"))
    async with trio.open_nursery() as nursery:
        await nursery.start(run, room)
        assert trio.current_time() == seconds
        nursery.cancel_scope.cancel()


async def test_the_end_does_not_wait_for_a_disk_longer_than_the_drain(autojump_clock: MockClock) -> None:
    room = Room(drain=3.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(run, room)
        room.errors.extend(OSError("full") for _ in range(100))
        room.give(1)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 3.0
    assert room.closed
    assert room.done == []


async def test_what_no_time_heals_ends_it(autojump_clock: MockClock) -> None:
    room = Room()
    room.errors.append(FileNotFoundError("gone"))
    with pytest.RaisesGroup(pytest.RaisesExc(FileNotFoundError), flatten_subgroups=True):
        await room.run()


async def test_others_hear_of_a_failure_as_it_is_told(autojump_clock: MockClock) -> None:
    room = Room()
    room.errors.append(OSError("full"))
    with pytest.raises(DiskFailedError, match="no: full"):
        await room._in_thread(room._write)


async def run(room: Room, task_status: trio.TaskStatus[None]) -> None:
    await room.run(task_status=task_status)
