"""Bits that the disk has changed: what that costs is told, by the log and in numbers.

Each place in the files: `corruption.py`. This is the way from there to people.
"""

from pathlib import Path
from typing import Final

from tests.faults.disk.load import Away
from tests.faults.disk.scene import Scene, opened

FRAME: Final = 24 + 4096  # of SQLite's log, behind a header of 32


def flip(file: Path, at: int) -> None:
    """Change one bit."""
    with file.open("r+b") as damaged:
        damaged.seek(at)
        (byte,) = damaged.read(1)
        damaged.seek(at)
        damaged.write(bytes([byte ^ 1]))


def database(scene: Scene) -> Path:
    """Return the file with what was spooled."""
    (found,) = (scene.data / "journal").glob("*.sqlite3")
    return found


def test_X15_a_changed_bit_in_the_log_is_told(tmp_path: Path) -> None:
    with opened(tmp_path, Away()) as scene:
        sender = scene.sender(padding=3000)
        sender.publish(40)
        scene.proxy.kill()
        log = database(scene).with_name(database(scene).name + "-wal")
        frames = (log.stat().st_size - 32) // FRAME
        flip(log, 32 + frames // 2 * FRAME + 2000)
        scene.start()
        (told,) = scene.proxy.log("journal_lost_commits")
        assert told["level"] == "error"
        assert scene.proxy.metric("mqtt_proxy_journal_lost_commits_total") == told["commits"] > 0
        arrivals = scene.place.collect(scene.proxy)
        assert 0 < len(arrivals) < 40
        assert set(arrivals) <= {("s0", number) for number in sender.acknowledged}


def test_X15_a_changed_bit_in_a_table_costs_a_few_messages_and_is_told(tmp_path: Path) -> None:
    with opened(tmp_path, Away()) as scene:
        sender = scene.sender(padding=3000)
        sender.publish(40)
        scene.proxy.stop()
        flip(database(scene), database(scene).read_bytes().index(b"s0:20 ") + 3)  # s0:30
        scene.start()
        arrivals = scene.place.collect(scene.proxy)
        assert arrivals["s0", 20] == 0
        assert arrivals["s0", 30] == 1
        damaged = scene.proxy.metric("mqtt_proxy_spool_damaged_total")
        assert len(arrivals) == 40 - damaged
        assert 1 <= damaged <= 8, "more than a frame"
        (told,) = scene.proxy.log("spooled messages are damaged")
        assert (told["level"], told["messages"]) == ("error", damaged)
