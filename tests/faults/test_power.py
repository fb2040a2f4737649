"""The power fails: what was acknowledged is on disk, whatever else is torn. More: `python -m tests.faults.power`."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.disk.image import Disk, read_log
from tests.faults.disk.load import Absent, Away, Held, Place
from tests.faults.disk.mounting import NotPossibleError
from tests.faults.disk.scene import opened, write_place
from tests.faults.forms import LONG, in_long_form
from tests.faults.power import check_copy, load, lose_power_image, lose_power_torn

PLACES = pytest.mark.parametrize("make", [Away, Held, *in_long_form(Absent)])  # as in test_disk.py
ROUNDS = 6 if LONG else 2


@PLACES
def test_X18_power_loss_with_torn_writes_loses_nothing(tmp_path: Path, make: Callable[[], Place]) -> None:
    assert len(list(lose_power_torn(tmp_path, make, ROUNDS, seed=5, seconds=0.5))) == ROUNDS


def test_X18_and_X13_power_loss_after_failed_fsyncs_loses_nothing(tmp_path: Path) -> None:
    assert len(list(lose_power_torn(tmp_path, Away, ROUNDS, seed=6, seconds=1.0, failing=True))) == ROUNDS


def test_X18_power_loss_of_a_file_system_loses_nothing(tmp_path: Path) -> None:
    try:
        assert len(list(lose_power_image(tmp_path, Away, ROUNDS, seed=1, seconds=0.5))) == ROUNDS
    except NotPossibleError as error:
        pytest.skip(f"NOT RUN: power loss on a file system in a file, for want of root or loop devices: {error}")


def test_the_log_of_calls_tells_all_that_is_in_the_files(tmp_path: Path) -> None:
    with opened(tmp_path / "proxy", Away(), log=tmp_path / "log") as scene:
        scene.sender(padding=3000)
        load(scene, 0.5)
        scene.proxy.kill()
        disk = Disk(str(scene.data))
        for step in read_log(tmp_path / "log"):
            disk.take(step)
        disk.write_image(tmp_path / "image", "all", random.Random(1))
        in_memory = (".sqlite3-shm", "mark")  # written by no call
        for file in (path for path in scene.data.rglob("*") if path.is_file() and not path.name.endswith(in_memory)):
            assert (tmp_path / "image" / file.relative_to(scene.data)).read_bytes() == file.read_bytes(), file


def test_a_disk_that_lies_about_fsync_is_seen_to_lose(tmp_path: Path) -> None:
    """The oracle itself: if nothing were synchronised after the start, the check has to fail."""
    with opened(tmp_path / "proxy", Away(), log=tmp_path / "log") as scene:
        scene.sender(moment=lambda: scene.faults.logged)
        begin = scene.faults.logged
        load(scene, 0.5)
        scene.proxy.kill()
        disk = Disk(str(scene.data))
        for step in read_log(tmp_path / "log"):
            if step.kind != "sync" or step.end <= begin:
                disk.take(step)
        copy, place = tmp_path / "copy", scene.place.again()
        write_place(copy, place)
        disk.write_image(copy / "data", "none", random.Random(1))
        with pytest.raises(AssertionError, match="acknowledged and lost"):
            check_copy(copy, place, scene.senders, scene.faults.logged)
