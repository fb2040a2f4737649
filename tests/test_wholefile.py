import errno
import os
import stat
from pathlib import Path

import pytest

from mqttproxy.wholefile import write_whole


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_made_for_its_owner_alone_unless_told_otherwise(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"1")
    write_whole(tmp_path / "b", b"2", 0o644)
    write_whole(tmp_path / "c", b"3", like=(tmp_path / "b").stat())
    assert [(path.name, mode_of(path), path.read_bytes()) for path in sorted(tmp_path.iterdir())] == [
        ("a", 0o600, b"1"),
        ("b", 0o644, b"2"),
        ("c", 0o644, b"3"),
    ]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "other").read_text() == "other"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("call", ["write", "fsync", "fchmod"])
def test_where_the_disk_fails_the_file_is_as_it_was_and_nothing_is_left_behind(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"
