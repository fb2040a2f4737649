"""Lines that carry the hash of the line before: what was done to them is found, what a kill did is told apart."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mqttproxy.telemetry.audit import AuditTrail
from mqttproxy.telemetry.auditchain import START, Report, digest, link, verify
from mqttproxy.telemetry.auditfiles import trail_files

CURRENT = "audit.jsonl"


async def write(folder: Path, count: int, *, rotate_bytes: int = 10_000, first: int = 0, keep_files: int = 10) -> None:
    """Write as one process does, from its start to its end."""
    trail = AuditTrail(folder, rotate_bytes=rotate_bytes, keep_files=keep_files)
    for number in range(first, first + count):
        trail.write({"event": f"{number:04d}"})
        if number % 3 == 0:
            await trail.flush()
    await trail.flush()
    trail._files.close()


def report(folder: Path, *heads: str) -> Report:
    return verify(trail_files(folder), heads)


def faults(folder: Path, *heads: str) -> list[str]:
    return [str(fault) for fault in report(folder, *heads).faults]


def change(folder: Path, how: Callable[[list[bytes]], object], name: str = CURRENT) -> None:
    found = (folder / name).read_bytes().splitlines(keepends=True)
    how(found)
    (folder / name).write_bytes(b"".join(found))


def test_a_link_is_the_last_key_of_its_line() -> None:
    line = link(b'{"event":"a"}\n', START)
    assert line == b'{"event":"a","previous":"' + b"0" * 64 + b'"}\n'
    assert digest(line) == digest(line[:-1])


async def test_a_trail_follows_from_its_start_over_files_and_restarts(tmp_path: Path) -> None:
    for start in range(0, 60, 20):
        await write(tmp_path, 20, rotate_bytes=1000, first=start, keep_files=100)
    found = report(tmp_path)
    assert found.ok
    assert (found.lines, found.unlinked, found.notes) == (60, 0, [])
    assert found.files > 5
    last = (tmp_path / CURRENT).read_bytes().splitlines()[-1]
    assert found.head == digest(last)


async def test_when_old_files_are_gone_that_is_a_note(tmp_path: Path) -> None:
    await write(tmp_path, 60, rotate_bytes=1000, keep_files=3)
    found = report(tmp_path)
    assert found.ok
    assert ["follows lines that are not here any more" in str(note) for note in found.notes] == [True]


@pytest.mark.parametrize(
    ("how", "at"),
    [
        (lambda lines: lines.__setitem__(4, lines[4].replace(b"0004", b"0009")), 6),
        (lambda lines: lines.__delitem__(4), 5),
        (lambda lines: lines.__delitem__(slice(2, 6)), 3),
        (lambda lines: lines.insert(4, lines[4]), 6),
        (lambda lines: lines.insert(4, lines[7]), 5),
        (lambda lines: lines.insert(4, b'{"event":"forged"}\n'), 5),
        (lambda lines: lines.insert(4, b"garbage\n"), 6),
        (lambda lines: lines.__setitem__(4, b"garbage\n"), 6),
        (lambda lines: lines.__setitem__(4, lines[4][:20] + b"\n"), 6),
        (lambda lines: lines.__setitem__(slice(3, 5), lines[4:2:-1]), 4),
        (lambda lines: lines.__delitem__(0), 1),
    ],
    ids=["changed", "removed", "many removed", "twice", "copied", "put in", "garbage", "replaced", "cut", "swapped",
         "first removed"],
)  # fmt: skip
async def test_what_was_done_to_a_line_is_found_where_it_was_done(
    how: Callable[[list[bytes]], object], at: int, tmp_path: Path
) -> None:
    await write(tmp_path, 10)
    change(tmp_path, how)
    found = report(tmp_path)
    told = [str(one) for one in (*found.faults, *found.notes)]
    assert told[0].startswith(f"{CURRENT}:{at}: ")
    assert found.ok is (at == 1)  # what is not there at the beginning may have been removed for its age


async def test_every_byte_that_is_changed_is_found(tmp_path: Path) -> None:
    await write(tmp_path, 6)
    whole = (tmp_path / CURRENT).read_bytes()
    head = report(tmp_path).head
    for at in range(0, len(whole), 7):
        (tmp_path / CURRENT).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert faults(tmp_path, head), at


async def test_a_file_in_the_middle_that_was_removed_is_found(tmp_path: Path) -> None:
    await write(tmp_path, 60, rotate_bytes=1000)
    files = trail_files(tmp_path)
    files[2].unlink()
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"{files[3].name}:1: does not follow the line before it")


async def test_an_end_that_was_cut_off_is_found_by_a_hash_that_was_kept_elsewhere(tmp_path: Path) -> None:
    await write(tmp_path, 10)
    head = report(tmp_path).head
    assert faults(tmp_path, head) == []
    change(tmp_path, lambda lines: lines.__delitem__(slice(8, 10)))
    assert faults(tmp_path) == []
    (fault,) = faults(tmp_path, head)
    assert head in fault
    await write(tmp_path, 10)  # the next process knows nothing of it
    assert len(faults(tmp_path, head)) == 1


async def test_an_end_that_is_cut_off_while_the_process_runs_is_found(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    for number in range(5):
        trail.write({"event": f"{number}"})
    await trail.flush()
    change(tmp_path, lambda lines: lines.__delitem__(4))
    trail.write({"event": "after"})
    await trail.flush()
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"{CURRENT}:5: does not follow")
    trail._files.close()


@pytest.mark.parametrize("left", [1, 30, 100, 125])
async def test_a_line_torn_by_a_kill_is_a_note_before_and_after_the_restart(left: int, tmp_path: Path) -> None:
    await write(tmp_path, 5)
    whole = (tmp_path / CURRENT).read_bytes()
    torn = whole.splitlines(keepends=True)[4][:left]
    (tmp_path / CURRENT).write_bytes(whole[: -len(whole.splitlines(keepends=True)[4])] + torn)
    found = report(tmp_path)
    assert found.ok
    assert [(note.file, note.line) for note in found.notes] == [(CURRENT, 5)]
    await write(tmp_path, 3, first=5)
    found = report(tmp_path)
    assert found.ok
    assert found.lines == 8
    (note,) = found.notes
    assert str(note).startswith(f"{CURRENT}:5: is torn: the process was killed")


async def test_zeros_that_a_power_failure_left_are_a_torn_line(tmp_path: Path) -> None:
    await write(tmp_path, 5)
    with (tmp_path / CURRENT).open("ab") as file:
        file.write(bytes(4096))
    await write(tmp_path, 3, first=5)
    found = report(tmp_path)
    assert found.ok
    assert [note.line for note in found.notes] == [6]


async def test_a_torn_line_that_was_changed_later_is_found(tmp_path: Path) -> None:
    await write(tmp_path, 5)
    with (tmp_path / CURRENT).open("ab") as file:
        file.write(b'{"event":"to')
    await write(tmp_path, 3, first=5)
    change(tmp_path, lambda lines: lines.__setitem__(5, b'{"event":"tu\n'))
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"{CURRENT}:7: does not follow")


async def test_a_restart_between_two_files_goes_on_from_the_one_that_was_closed(tmp_path: Path) -> None:
    await write(tmp_path, 5)
    (tmp_path / CURRENT).rename(tmp_path / "audit-20010909T014640.000Z.jsonl")
    await write(tmp_path, 5, first=5)
    assert report(tmp_path).ok
    assert report(tmp_path).files == 2


async def test_lines_of_older_versions_may_stand_before_the_first_link_but_not_after(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_bytes(b'{"event":"old"}\n{"event":"older"}\n')
    await write(tmp_path, 3)
    found = report(tmp_path)
    assert (found.ok, found.unlinked, found.lines) == (True, 2, 5)
    change(tmp_path, lambda lines: lines.append(b'{"event":"new"}\n'))
    (fault,) = faults(tmp_path)
    assert "put in" in fault


async def test_a_write_that_failed_leaves_the_chain_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = AuditTrail(tmp_path)
    trail.write({"event": "before"})
    await trail.flush()
    real_write = os.write
    for truncates in (True, False):
        with monkeypatch.context() as patched:
            given = iter([40])

            def write_part(file: int, data: memoryview, given: Iterator[int] = given) -> int:
                for room in given:
                    return real_write(file, data[:room])
                raise OSError(28, "No space left on device")

            patched.setattr(os, "write", write_part)
            if not truncates:
                patched.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
            trail.write({"event": "after"})
            await trail.flush()
            assert trail.trouble is not None
        await trail.flush()
        found = report(tmp_path)
        assert found.ok, found.faults
    assert len(found.notes) == 1  # what could not be taken back
    trail._files.close()
