import sqlite3
from pathlib import Path

import pytest

from mqttproxy import sqlite
from mqttproxy.config.model import Bytes, RecorderSettings, Seconds
from mqttproxy.recorder.reading import Playback
from mqttproxy.recorder.tape import DATABASE, SLICE, Tape, recorder_dir
from tests.recorder.examples import NOW, make, rows

LARGE = 10**15


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def tape_in(folder: Path, clock: Clock | None = None, free: int = LARGE, **bounds: float) -> Tape:
    settings = RecorderSettings(enabled=True, **bounds)  # type: ignore[arg-type] # plain numbers are what they are
    return Tape(recorder_dir(folder), settings, now=clock or Clock(), free=lambda _: free)


def kept(folder: Path) -> list[str]:
    with Playback(folder) as playback:
        return [recorded.name for recorded in playback.since(0)]


def test_what_is_written_is_there_with_what_it_weighs(tmp_path: Path) -> None:
    tape = tape_in(tmp_path)
    batch = rows(make(1), make(2, payload=b"x" * 1000))
    assert tape.write(batch, {})
    assert (tape.messages, tape.size_bytes) == (2, sum(row[2] for row in batch))
    assert kept(tmp_path) == ["gw.1.1", "gw.1.2"]
    tape.close()


def test_another_process_goes_on_with_what_is_there(tmp_path: Path) -> None:
    first = tape_in(tmp_path)
    first.write(rows(make(1)), {})
    first.close()
    second = tape_in(tmp_path)
    second.write(rows(make(2)), {})
    assert (second.messages, second.size_bytes) == (2, first.size_bytes * 2)
    second.close()
    assert kept(tmp_path) == ["gw.1.1", "gw.1.2"]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    tape = tape_in(tmp_path)
    tape.write(rows(make()), {})
    directory = recorder_dir(tmp_path)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    tape.close()


def test_the_oldest_make_room(tmp_path: Path) -> None:
    weight = rows(make(1))[0][2]
    tape = tape_in(tmp_path, max_bytes=3 * weight)
    tape.write(rows(*[make(number) for number in range(1, 6)]), {})
    assert not tape.tidy()
    assert (tape.messages, tape.size_bytes, tape.removed) == (3, 3 * weight, {"age": 0, "bytes": 2})
    assert kept(tmp_path) == ["gw.1.3", "gw.1.4", "gw.1.5"]
    tape.close()


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    clock = Clock()
    tape = tape_in(tmp_path, clock, max_age=60.0)
    tape.write(rows(make(1, at=NOW), make(2, at=NOW + 30)), {})
    clock.now = NOW + 61
    tape.tidy()
    assert (kept(tmp_path), tape.removed) == (["gw.1.2"], {"age": 1, "bytes": 0})
    tape.close()


def test_more_than_a_slice_is_removed_in_several_turns(tmp_path: Path) -> None:
    clock = Clock()
    tape = tape_in(tmp_path, clock, max_age=60.0)
    tape.write(rows(*[make(number) for number in range(SLICE + 1)]), {})
    clock.now = NOW + 61
    assert tape.tidy()
    assert tape.messages == 1
    assert not tape.tidy()
    assert tape.messages == 0
    tape.close()


def test_nothing_is_written_to_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    tape = tape_in(tmp_path, free=99, keep_free=100)
    assert not tape.write(rows(make()), {})
    assert (kept(tmp_path), tape.messages) == ([], 0)
    tape.close()


@pytest.mark.parametrize("damage", [b"no database at all " * 100, None], ids=["overwritten", "a page"])
def test_a_damaged_file_is_set_aside_and_told(tmp_path: Path, damage: bytes | None) -> None:
    first = tape_in(tmp_path)
    first.write(rows(*[make(number, payload=b"x" * 4000) for number in range(20)]), {})
    first.close()
    path = recorder_dir(tmp_path) / DATABASE
    data = path.read_bytes()
    path.write_bytes(damage if damage is not None else data[:4096] + b"\xff" * 8192 + data[12288:])
    tape = tape_in(tmp_path)
    assert tape.write(rows(make(21)), {})
    ((folder, _),) = tape.set_aside
    assert (folder / DATABASE).exists()
    assert kept(tmp_path) == ["gw.1.21"]
    tape.close()


def test_damage_that_is_met_later_sets_it_aside_at_the_next_call(tmp_path: Path) -> None:
    errors: list[Exception] = []

    class Connection(sqlite3.Connection):
        def executemany(self, *arguments: object) -> sqlite3.Cursor:
            if errors:
                raise errors.pop()
            return super().executemany(*arguments)  # type: ignore[arg-type] # whatever it was called with

    def connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Connection)

    settings = RecorderSettings(enabled=True, max_age=Seconds(60), max_bytes=Bytes(LARGE))
    tape = Tape(recorder_dir(tmp_path), settings, now=Clock(), connect=connect, free=lambda _: LARGE)
    tape.write(rows(make(1)), {})
    errors.append(sqlite.BrokenDatabaseError("damaged"))
    with pytest.raises(sqlite3.DatabaseError):
        tape.write(rows(make(2)), {})
    assert tape.set_aside == []
    assert tape.write(rows(make(3)), {})
    assert [reason for _, reason in tape.set_aside] == ["damaged"]
    assert kept(tmp_path) == ["gw.1.3"]
    tape.close()


def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    first = tape_in(tmp_path)
    first.write(rows(make(1)), {})
    first.close()
    path = recorder_dir(tmp_path) / DATABASE
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    tape = tape_in(tmp_path)
    with pytest.raises(sqlite.NewerDatabaseError):
        tape.write(rows(make(2)), {})
    assert (path.read_bytes(), tape.set_aside) == (before, [])
