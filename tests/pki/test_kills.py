"""A kill at every step: what is on disk is of use, nothing that was revoked is forgotten, no file is half of one."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.pki.authority import Authority, all_records
from mqttproxy.pki.errors import PkiError
from mqttproxy.pki.index import Index
from mqttproxy.pki.wanted import wanted
from tests.pki.authorities import DAY, MONTH, NOW, begin, holder, listed, the_list

CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "fchmod")
STATEMENTS = ("add", "revoke", "keep")


def killed_at(step: int, do: Callable[[], object]) -> bool:
    """Do it in a process that is killed before its `step`-th call to the disk; tell whether it was."""
    child = os.fork()
    if child == 0:  # whatever happens here, it must not go on as a second pytest
        with suppress(BaseException):
            _count_down(step)
            do()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, f"it failed at step {step}"
    return False


def _count_down(step: int) -> None:
    left = [step]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return wrapper

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    for name in STATEMENTS:
        setattr(Index, name, counted(getattr(Index, name)))


def every_step(folder: Path, prepare: Callable[[Path], object], do: Callable[[Path], object]) -> list[Path]:
    """Return a folder for each step at which it was killed."""
    folders: list[Path] = []
    for step in range(500):
        inside = folder / str(step)
        inside.mkdir()
        prepare(inside)
        if not killed_at(step, partial(do, inside)):
            return folders
        folders.append(inside)
    pytest.fail("it never came to its end")


def test_beginning_a_ca(tmp_path: Path) -> None:
    folders = every_step(tmp_path, lambda _: None, begin)
    assert len(folders) > 10
    for folder in folders:
        with suppress(PkiError):  # "there is a CA already": it was killed after its last step
            begin(folder)
        with Authority.open(folder / "pki", now=NOW) as ca:
            holder(ca.issue(wanted("d"), now=NOW, life=DAY, out=folder / "out").folder)
        assert the_list(folder / "pki").life == MONTH


def _issue(folder: Path) -> None:
    with Authority.open(folder / "pki", now=NOW) as ca:
        ca.issue(wanted("d", mac="001b44113ab7"), now=NOW, life=DAY, out=folder / "out")


def test_issuing(tmp_path: Path) -> None:
    folders = every_step(tmp_path, begin, _issue)
    assert len(folders) > 10
    for folder in folders:
        if not (folder / "out" / "d").exists():
            _issue(folder)
        made = holder(folder / "out" / "d")
        records, notes = all_records(folder / "pki", now=NOW)
        assert made.serial_number in {record.serial for record in records}
        assert notes == []


def _prepare_one(folder: Path) -> None:
    begin(folder)
    _issue(folder)


def _renew(folder: Path) -> None:
    with Authority.open(folder / "pki", now=NOW) as ca:
        ca.renew("d", now=NOW, life=2 * DAY, out=folder / "out")


def test_renewing(tmp_path: Path) -> None:
    folders = every_step(tmp_path, _prepare_one, _renew)
    assert len(folders) > 5
    for folder in folders:
        made = holder(folder / "out" / "d")
        records, _ = all_records(folder / "pki", now=NOW)
        assert made.serial_number in {record.serial for record in records}
        _renew(folder)
        assert holder(folder / "out" / "d").not_valid_after_utc == (NOW + 2 * DAY).replace(microsecond=0)


def _revoke(folder: Path) -> None:
    with Authority.open(folder / "pki", now=NOW) as ca:
        ca.revoke("d", now=NOW, reason="keyCompromise")


def test_revoking(tmp_path: Path) -> None:
    folders = every_step(tmp_path, _prepare_one, _revoke)
    assert len(folders) > 5
    for folder in folders:
        directory = folder / "pki"
        before = the_list(directory).number  # whole, whichever it is
        is_revoked = all_records(directory, now=NOW)[0][0].revoked_at is not None
        with Authority.open(directory, now=NOW):
            pass
        assert bool(listed(directory)) is is_revoked
        _revoke(folder)
        assert len(listed(directory)) == 1
        assert the_list(directory).number > before
