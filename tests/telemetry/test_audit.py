import errno
import json
import os
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from time import thread_time
from timeit import repeat
from typing import Any

import attrs
import pytest
import trio

from mqttproxy.telemetry import audit
from mqttproxy.telemetry.audit import AuditTrail, FailureLike
from mqttproxy.telemetry.health import Health
from tests.waiting import PATIENCE

AT = 1_000_000_000.0609  # 2001-09-09T01:46:40.060Z


@attrs.frozen
class Failure:
    pointer: str
    keyword: str
    message: str


def lines(directory: Path, name: str = "audit.jsonl") -> list[dict[str, Any]]:
    """Read a file, without the hashes that link its lines: they have tests of their own."""
    found = [json.loads(line) for line in (directory / name).read_bytes().splitlines()]
    assert all(len(line.pop("previous")) == 64 for line in found)
    return found


def closed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "audit.jsonl")


async def wait_written(trail: AuditTrail) -> None:
    with trio.fail_after(PATIENCE):
        while trail.waiting_bytes or trail.trouble:  # noqa: ASYNC110  # a real thread writes a real file
            await trio.sleep(0.01)


async def test_a_line_has_its_time_first_and_the_fields_given(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, now=lambda: AT)
    trail.write({"event": "connected", "client_id": "a\ud800\n\x1b", "certificate": b"\xff"})
    await trail.flush()
    assert lines(tmp_path) == [
        {
            "at": "2001-09-09T01:46:40.060Z",
            "event": "connected",
            "client_id": "a\\ud800\n\x1b",
            "certificate": "\\xff",
        }
    ]
    assert (trail.lines, trail.dropped, trail.waiting_bytes, trail.trouble) == (1, 0, 0, None)


def decide(trail: AuditTrail, payload: bytes = b"{}", failures: int = 1) -> None:
    trail.decision(
        action="held",
        reason=0x99,
        client_id="c1",
        username=None,
        address="192.0.2.7:5000",
        listener="plain",
        topic="sensor/1/temperature",
        qos=1,
        retain=False,
        payload=payload,
        policy="temperature",
        schema="temperature@1",
        failures=[Failure("/value", "type", '"x" is not of type "number"')] * failures,
        destinations=("a", "b"),
        generation=3,
        dry_run=False,
    )


async def test_a_decision_has_all_its_fields_and_no_payload(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, now=lambda: AT)
    decide(trail, b"secret")
    await trail.flush()
    assert lines(tmp_path) == [
        {
            "at": "2001-09-09T01:46:40.060Z",
            "event": "decision",
            "action": "held",
            "reason": 0x99,
            "client_id": "c1",
            "username": None,
            "address": "192.0.2.7:5000",
            "listener": "plain",
            "topic": "sensor/1/temperature",
            "qos": 1,
            "retain": False,
            "size": 6,
            "policy": "temperature",
            "schema": "temperature@1",
            "failures": [{"pointer": "/value", "keyword": "type", "message": '"x" is not of type "number"'}],
            "destinations": ["a", "b"],
            "generation": 3,
            "dry_run": False,
            "quarantine_id": None,
        }
    ]


async def test_what_must_not_be_written_down_is_hidden_by_the_veil(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, with_payload=True)

    def veil(topic: str, payload: bytes, failures: Sequence[FailureLike]) -> tuple[bytes, Sequence[FailureLike]]:
        assert (topic, payload) == ("sensor/1/temperature", b"secret")
        return b"***", [Failure(one.pointer, one.keyword, f"hidden on {topic}") for one in failures]

    trail.veil = veil
    decide(trail, b"secret")
    await trail.flush()
    (line,) = lines(tmp_path)
    assert (b64decode(line["payload"]), line["size"], line["failures"][0]["message"]) == (
        b"***",
        6,
        "hidden on sensor/1/temperature",
    )


async def test_other_settings_hold_from_the_next_line_on(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    decide(trail)
    await trail.flush()
    trail.apply(rotate_bytes=100, keep_files=1, with_payload=True)
    for _ in range(3):
        decide(trail, b"x")
    await trail.flush()
    assert len(closed(tmp_path)) == 1
    assert all("payload" in line for line in lines(tmp_path))


async def test_the_payload_stands_there_when_asked_for_and_is_cut(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, with_payload=True)
    decide(trail, b"\x00\xff" * 5000)
    await trail.flush()
    (line,) = lines(tmp_path)
    assert b64decode(line["payload"]) == b"\x00\xff" * 2048
    assert line["size"] == 10_000


async def test_a_payload_with_a_thousand_failures_makes_a_bounded_line(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    decide(trail, failures=1000)
    await trail.flush()
    (line,) = lines(tmp_path)
    assert len(line["failures"]) == 32
    assert line["failures_left_out"] == 968


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit")
    trail.write({"event": "a"})
    await trail.flush()
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "audit" / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def test_a_running_trail_writes_by_itself_and_the_rest_when_cancelled(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(trail.run)
        trail.write({"event": "first"})
        await wait_written(trail)
        assert [line["event"] for line in lines(tmp_path)] == ["first"]
        trail.write({"event": "last"})
        nursery.cancel_scope.cancel()
    assert [line["event"] for line in lines(tmp_path)] == ["first", "last"]


async def test_much_that_gathers_is_written_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "GATHER_SECONDS", 3600.0)
    trail = AuditTrail(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(trail.run)
        for _ in range(300):
            trail.write({"event": "x" * 1000})
        await wait_written(trail)
        nursery.cancel_scope.cancel()


async def test_no_file_grows_over_its_size_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    clock = [AT]
    trail = AuditTrail(tmp_path, rotate_bytes=1000, keep_files=3, now=lambda: clock[0])
    for number in range(200):
        trail.write({"event": f"{number:03d}"})  # 126 bytes with the hash: 7 in a file
    clock[0] += 1
    await trail.flush()
    assert len(closed(tmp_path)) == 3
    assert all((tmp_path / name).stat().st_size <= 1000 for name in closed(tmp_path))
    told = [line["event"] for name in [*closed(tmp_path), "audit.jsonl"] for line in lines(tmp_path, name)]
    assert told == [f"{number:03d}" for number in range(200 - len(told), 200)]
    assert closed(tmp_path)[-1].startswith("audit-20010909T014641.")


async def test_a_line_larger_than_a_file_gets_a_file_of_its_own(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, rotate_bytes=100, keep_files=10)
    for event in ("a", "b" * 500, "c"):
        trail.write({"event": event})
    await trail.flush()
    assert [line["event"] for name in closed(tmp_path) for line in lines(tmp_path, name)] == ["a", "b" * 500]
    assert [line["event"] for line in lines(tmp_path)] == ["c"]


async def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "audit-notes.txt").write_text("mine")
    trail = AuditTrail(tmp_path, rotate_bytes=100, keep_files=0)
    for _ in range(10):
        trail.write({"event": "x" * 60})
    await trail.flush()
    assert closed(tmp_path) == ["audit-notes.txt"]


async def test_a_trail_goes_on_in_the_file_that_is_there_and_ends_a_torn_line(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_bytes(b'{"event":"before"}\n{"event":"to')
    trail = AuditTrail(tmp_path)
    trail.write({"event": "after"})
    await trail.flush()
    before, torn, after = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    assert json.loads(before)["event"] == "before"
    assert torn == b'{"event":"to'
    assert json.loads(after)["event"] == "after"


async def test_a_file_that_was_moved_away_or_removed_is_made_anew(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    trail.write({"event": "a"})
    await trail.flush()
    (tmp_path / "audit.jsonl").unlink()
    trail.write({"event": "b"})
    await trail.flush()
    assert [line["event"] for line in lines(tmp_path)] == ["b"]


async def test_while_the_disk_fails_lines_wait_and_health_says_why(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file stands where the folder should be")
    health = Health()
    trail = AuditTrail(tmp_path / "audit", health=health)
    trail.write({"event": "a"})
    await trail.flush()
    trail.write({"event": "b"})
    await trail.flush()
    assert trail.waiting_bytes > 0
    assert "File exists" in str(trail.trouble)
    ok, document = health.ready()
    assert (ok, document["status"]) == (True, "degraded")  # nothing is lost yet

    (tmp_path / "audit").unlink()
    await trail.flush()
    assert [line["event"] for line in lines(tmp_path / "audit")] == ["a", "b"]
    assert (trail.trouble, trail.waiting_bytes) == (None, 0)
    assert health.ready()[1]["status"] == "ok"


async def test_what_does_not_fit_is_dropped_counted_and_makes_not_ready(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("")
    health = Health()
    trail = AuditTrail(tmp_path / "audit", health=health, waiting_bytes=1000, now=lambda: AT)
    for number in range(100):
        trail.write({"event": f"{number:03d}"})  # 48 bytes each
    await trail.flush()
    assert (trail.lines, trail.dropped, trail.waiting_bytes) == (20, 80, 20 * 48)
    ok, document = health.ready()
    assert ok is False
    assert "80 lines dropped" in str(document)

    (tmp_path / "audit").unlink()
    await trail.flush()
    assert len(lines(tmp_path / "audit")) == 20
    assert health.ready()[0] is True


async def test_a_disk_that_fills_up_half_way_tears_no_line_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = AuditTrail(tmp_path)
    trail.write({"event": "before"})
    await trail.flush()
    real_write, room = os.write, [170]

    def nearly_full(file: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real_write(file, data[: room[0]])
        room[0] -= written
        return written

    for number in range(10):
        trail.write({"event": str(number)})
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", nearly_full)
        await trail.flush()
    assert str(trail.trouble).endswith("audit.jsonl: No space left on device")
    assert [line["event"] for line in lines(tmp_path)] == ["before"]
    await trail.flush()
    assert [line["event"] for line in lines(tmp_path)] == ["before", *map(str, range(10))]


async def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    trail = AuditTrail(tmp_path)
    trail.write({"event": "a"})
    await trail.flush()
    assert trail.trouble is not None
    assert (tmp_path / "elsewhere").read_text() == ""


async def test_a_running_trail_tries_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(audit, "GATHER_SECONDS", 0.01)
    (tmp_path / "audit").write_text("")
    trail = AuditTrail(tmp_path / "audit")
    async with trio.open_nursery() as nursery:
        await nursery.start(trail.run)
        trail.write({"event": "a"})
        (tmp_path / "audit").unlink()
        await wait_written(trail)
        nursery.cancel_scope.cancel()


async def test_a_disk_that_hangs_delays_neither_the_end_nor_doubles_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "WRITE_SECONDS", 0.05)
    reading, writing = os.pipe()
    real_write = os.write

    def hanging(file: int, data: memoryview) -> int:
        os.read(reading, 1)
        return real_write(file, data)

    trail = AuditTrail(tmp_path)
    trail.write({"event": "a"})
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", hanging)
        await trail.flush()
        assert "has not taken" in str(trail.trouble)
        await trail.flush()  # waits for the first, in vain
    os.close(writing)  # the disk is back
    monkeypatch.setattr(audit, "WRITE_SECONDS", 5.0)
    await trail.flush()
    os.close(reading)
    assert [line["event"] for line in lines(tmp_path)] == ["a"]
    assert trail.trouble is None


def test_taking_a_line_costs_a_few_microseconds(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    # About 10; on a busy machine some more, and ten times as many if anything were encoded or written here.
    assert min(repeat(lambda: decide(trail), number=1000, repeat=5, timer=thread_time)) / 1000 < 60e-6
