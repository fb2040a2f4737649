"""Processes that are forked from a template behave as others."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.forking import fork


def test_a_forked_proxy_tells_its_exit_code_and_what_it_says(tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as output:
        process = fork(["check", str(tmp_path / "none.toml")], output)
    assert process.wait(60) == 1
    assert process.poll() == 1
    assert b"none.toml" in (tmp_path / "said").read_bytes()
    process.kill()  # nobody


def test_a_forked_proxy_can_be_waited_for_and_killed(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text('[proxy]\ndata_dir = "data"\n[[listeners]]\nname = "tcp"\nbind = "127.0.0.1:0"\n')
    with (tmp_path / "said").open("wb") as output:
        process = fork(["run", str(file)], output)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
