"""Each call to the disk failing once, or being the last: some of them. All: `python -m tests.faults.syscalls`."""

import errno
from pathlib import Path
from typing import Final

import pytest

from tests.faults.disk.failing import Kind
from tests.faults.disk.load import Away, Held
from tests.faults.disk.scene import opened
from tests.faults.syscalls import sweep_first_start, sweep_service, sweep_start

BUSY: Final = 40.0  # seconds: here other tests run beside this one


@pytest.mark.parametrize(("kind", "numbers"), [("write", (1, 2, 9)), ("sync", (1, 2)), ("any", (3, 10))])
def test_X13_each_call_may_fail_once_while_messages_are_acknowledged(
    tmp_path: Path, kind: Kind, numbers: tuple[int, ...]
) -> None:
    with opened(tmp_path, Away()) as scene:
        assert sweep_service(scene, kind, errno.EIO, iter(numbers), back_within=BUSY).calls


def test_X12_calls_may_fail_in_a_row_while_the_database_is_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path, Held()) as scene:
        assert sweep_service(scene, "any", errno.ENOSPC, iter((1, 4, 8)), times=7, back_within=BUSY).calls == 3


def test_X13_each_call_may_fail_once_while_the_proxy_starts(tmp_path: Path) -> None:
    with opened(tmp_path, Away()) as scene:
        assert sweep_start(scene, "any", errno.EIO, iter((2, 20)), back_within=BUSY).calls == 2


def test_X20_a_start_after_a_kill_may_be_killed_at_each_call(tmp_path: Path) -> None:
    with opened(tmp_path, Away()) as scene:
        assert sweep_start(scene, "any", None, iter((3, 30)), back_within=BUSY).calls == 2


def test_X20_the_first_start_may_be_killed_at_each_call(tmp_path: Path) -> None:
    assert sweep_first_start(tmp_path, Away, "any", iter((5, 100))).calls == 2
