import os
import subprocess
import sys
from pathlib import Path

import pytest

from mqttproxy.quarantine.lock import LOCK_FILE, DataDirInUseError, lock_data_dir

HOLDER = """
import sys, time
from pathlib import Path
from mqttproxy.quarantine.lock import lock_data_dir
with lock_data_dir(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with lock_data_dir(tmp_path / "a" / "data"):
        assert (tmp_path / "a" / "data").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "a" / "data" / LOCK_FILE).stat().st_mode & 0o777 == 0o600


def test_X15_a_second_holder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with (
        lock_data_dir(tmp_path),
        pytest.raises(DataDirInUseError, match=f"in use by process {os.getpid()}"),
        lock_data_dir(tmp_path),
    ):
        pass


def test_it_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with lock_data_dir(tmp_path):
            pass


def test_kill_9_leaves_no_lock_behind(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(DataDirInUseError, match=f"process {holder.pid}"), lock_data_dir(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with lock_data_dir(tmp_path):
        pass


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), lock_data_dir(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()
