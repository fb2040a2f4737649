import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttproxy.config.model import Bytes, Count, RecorderSettings
from mqttproxy.recorder import Recorded, Recorder
from mqttproxy.recorder.model import Row, row_of
from mqttproxy.recorder.reading import Playback
from mqttproxy.recorder.recorder import TIDY_EVERY
from mqttproxy.recorder.tape import recorder_dir
from tests.fake_rooms import in_place
from tests.recorder.examples import NOW, make
from tests.recorder.test_tape import kept

ON = RecorderSettings(enabled=True)


def prepare(notes: Sequence[Recorded]) -> list[Row]:
    return [row_of(note) for note in notes if note.payload != b"unprintable"]


class Disk:
    """Opens files, unless it is broken."""

    def __init__(self) -> None:
        self.is_broken = False
        self.free = 10**15

    def connect(self, path: Path) -> sqlite3.Connection:
        if self.is_broken:
            raise sqlite3.OperationalError("disk I/O error")
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@asynccontextmanager
async def running(
    folder: Path, settings: RecorderSettings = ON, disk: Disk | None = None
) -> AsyncIterator["Recorder[Recorded]"]:
    disk = disk or Disk()
    recorder = Recorder(
        folder, settings, prepare, now=lambda: NOW, to_thread=in_place, connect=disk.connect, free=lambda _: disk.free
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(_run, recorder)
        yield recorder
        nursery.cancel_scope.cancel()


async def _run(recorder: "Recorder[Recorded]", task_status: trio.TaskStatus[None]) -> None:
    await recorder.run(task_status=task_status)


async def test_what_is_offered_is_written_without_anybody_waiting(tmp_path: Path, mock_clock: MockClock) -> None:
    async with running(tmp_path) as recorder:
        recorder.offer([make(1), make(2)], 2)
        assert (recorder.pending, recorder.pending_bytes) == (2, 2)
        await wait_all_tasks_blocked()
        assert (recorder.pending, recorder.pending_bytes, recorder.recorded, recorder.messages) == (0, 0, 2, 2)
        assert kept(tmp_path) == ["gw.1.1", "gw.1.2"]


async def test_what_waits_at_the_end_is_still_written(tmp_path: Path, mock_clock: MockClock) -> None:
    async with running(tmp_path) as recorder:
        recorder.offer([make(1)], 1)
    assert kept(tmp_path) == ["gw.1.1"]


async def test_while_it_is_off_there_is_not_even_a_folder(tmp_path: Path, mock_clock: MockClock) -> None:
    async with running(tmp_path, RecorderSettings()) as recorder:
        await wait_all_tasks_blocked()
        assert not recorder_dir(tmp_path).exists()
        recorder.apply(ON)
        recorder.offer([make(1)], 1)
        await wait_all_tasks_blocked()
        recorder.apply(RecorderSettings())
        await wait_all_tasks_blocked()
        assert kept(tmp_path) == ["gw.1.1"]


async def test_what_finds_the_queue_full_is_counted(tmp_path: Path, mock_clock: MockClock) -> None:
    async with running(tmp_path, evolve(ON, queue_messages=Count(2), queue_bytes=Bytes(10))) as recorder:
        recorder.offer([make(1)], 10)
        recorder.offer([make(2)], 1)
        await wait_all_tasks_blocked()
        recorder.offer([make(3), make(4)], 2)
        recorder.offer([make(5)], 1)
        await wait_all_tasks_blocked()
        assert recorder.left_out == {"queue_full": 2}
        assert kept(tmp_path) == ["gw.1.1", "gw.1.3", "gw.1.4"]


async def test_a_disk_that_fails_costs_recordings_and_is_told_until_it_heals(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    disk = Disk()
    async with running(tmp_path, disk=disk) as recorder:
        await wait_all_tasks_blocked()
        disk.is_broken = True
        recorder._tape.close()
        recorder.offer([make(1)], 1)
        await wait_all_tasks_blocked()
        assert (recorder.left_out, recorder.pending, recorder.pending_bytes) == ({"disk": 1}, 0, 0)
        assert "disk I/O error" in str(recorder.trouble)
        disk.is_broken = False
        recorder.offer([make(2)], 1)
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert recorder.trouble is None
        assert recorder.recorded == 1
        assert kept(tmp_path) == ["gw.1.2"]


async def test_a_disk_that_is_nearly_full_is_left_alone_and_counted(tmp_path: Path, mock_clock: MockClock) -> None:
    disk = Disk()
    disk.free = 1000
    async with running(tmp_path, disk=disk) as recorder:
        recorder.offer([make(1)], 1)
        await wait_all_tasks_blocked()
        assert (recorder.left_out, recorder.recorded, recorder.trouble) == ({"disk_low": 1}, 0, None)


async def test_what_cannot_be_prepared_is_left_out_and_the_rest_is_written(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with running(tmp_path) as recorder:
        recorder.offer([make(1, payload=b"unprintable"), make(2)], 12)
        await wait_all_tasks_blocked()
        assert (recorder.left_out, recorder.recorded) == ({"error": 1}, 1)


async def test_what_is_too_much_goes_within_seconds(tmp_path: Path, mock_clock: MockClock) -> None:
    weight = row_of(make(1))[2]
    async with running(tmp_path, evolve(ON, max_bytes=Bytes(weight))) as recorder:
        await wait_all_tasks_blocked()
        recorder.offer([make(1), make(2)], 2)
        await wait_all_tasks_blocked()
        assert recorder.messages == 2
        mock_clock.jump(TIDY_EVERY)
        await wait_all_tasks_blocked()
        assert (recorder.messages, recorder.size_bytes, recorder.removed) == (1, weight, {"age": 0, "bytes": 1})


async def test_what_is_left_out_stands_in_the_file_once(tmp_path: Path, mock_clock: MockClock) -> None:
    async with running(tmp_path) as recorder:
        for number, count in enumerate((3, 2, 0)):
            if count:
                recorder.left_out.add("rate", count)
            recorder.offer([make(number)], 1)
            await wait_all_tasks_blocked()
        with Playback(tmp_path) as playback:
            assert playback.left_out(0) == {"rate": 5}
