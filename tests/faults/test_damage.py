"""Bits that the disk has changed: nothing acknowledged is skipped in silence, or handed on as something else."""

from pathlib import Path
from typing import Final

import pytest

from tests.faults.disk.load import Absent
from tests.faults.disk.scene import Scene, opened

SILENT: Final = pytest.mark.xfail(
    reason="SQLite ends a log in silence at the first frame that is damaged, and does not check what is in its tables"
)
FRAME: Final = 24 + 4096  # of SQLite's log, behind a header of 32


def flip(file: Path, at: int) -> None:
    """Change one bit."""
    with file.open("r+b") as damaged:
        damaged.seek(at)
        (byte,) = damaged.read(1)
        damaged.seek(at)
        damaged.write(bytes([byte ^ 1]))


def is_told(scene: Scene) -> bool:
    """Return whether the log of the proxy tells of it, or /ready does."""
    return bool([line for line in scene.proxy.log() if line["level"] == "error"]) or not scene.readiness()[0]


@pytest.mark.parametrize(
    "where",
    [pytest.param("log", marks=SILENT), pytest.param("table", marks=SILENT)],
)
def test_X15_a_changed_bit_is_told(tmp_path: Path, where: str) -> None:
    with opened(tmp_path, Absent()) as scene:
        sender = scene.sender(padding=3000)
        sender.publish(40)
        file = scene.data / "sessions" / "sessions.sqlite3"
        log = file.with_name(file.name + "-wal")
        if where == "log":
            scene.proxy.kill()
            frames = (log.stat().st_size - 32) // FRAME
            flip(log, 32 + frames // 2 * FRAME + 2000)
        else:
            scene.proxy.stop()
            flip(file, file.read_bytes().index(b"s0:20 ") + 3)  # s0:30
        scene.start()
        if is_told(scene):
            return
        sender.check(scene.place.collect(scene.proxy))
