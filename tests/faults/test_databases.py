"""A database that another process has locked, that is damaged, or that a newer program has made."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.faults.disk.load import Absent, Away, Held, Place
from tests.faults.disk.scene import Scene, opened
from tests.faults.forms import in_long_form
from tests.faults.test_disk import check_healed, unanswered
from tests.waiting import wait_until

PLACES: Final = pytest.mark.parametrize("make", [Away, Held, *in_long_form(Absent)])  # as in test_disk.py


def database(scene: Scene) -> Path:
    """Return the file that acknowledged messages are in."""
    (found,) = (scene.data / scene.place.part).glob("*.sqlite3")
    return found


@PLACES
def test_X16_a_database_locked_by_another_process_delays_acknowledgements_only(
    tmp_path: Path, make: Callable[[], Place]
) -> None:
    with opened(tmp_path, make()) as scene:
        sender = scene.sender(window=50)
        sender.publish(10)
        with closing(sqlite3.connect(database(scene), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            unanswered(sender, seconds=1.0)
            scene.wait_unready("locked")
            other.execute("ROLLBACK")
        check_healed(scene)


@PLACES
def test_X16_a_damaged_database_is_set_aside_and_device_traffic_goes_on(
    tmp_path: Path, make: Callable[[], Place]
) -> None:
    with opened(tmp_path, make()) as scene:
        sender = scene.sender(padding=2000)
        sender.publish(20)
        file = database(scene)
        scene.proxy.stop()
        with file.open("r+b") as damaged:
            damaged.seek(4096)
            damaged.write(b"\xa5" * 8192)
        scene.launch()
        sender.connections = 0  # its session may be gone
        sender.connect(scene.proxy.port())
        sender.publish(20)
        (line,) = [one for one in scene.proxy.log() if one["event"].endswith("_set_aside")]
        assert (Path(line["folder"]) / file.name).exists()
        scene.wait_ready()


@PLACES
def test_X16_a_database_of_a_newer_program_is_refused_with_words_and_left_alone(
    tmp_path: Path, make: Callable[[], Place]
) -> None:
    with opened(tmp_path, make()) as scene:
        file = database(scene)
        scene.proxy.stop()
        with closing(sqlite3.connect(file)) as newer:
            newer.execute("PRAGMA user_version = 99")
        before = file.read_bytes()
        proxy = scene.launch()
        if isinstance(scene.place, Held):  # the quarantine refuses, and the rest goes on
            wait_until(lambda: [line for line in proxy.log() if "use the newer program" in str(line)], "words")
            proxy.stop()
        else:
            assert proxy.wait() == 1
            (line,) = proxy.log("cannot start")
            assert "use the newer program" in line["error"]
        assert file.read_bytes() == before
