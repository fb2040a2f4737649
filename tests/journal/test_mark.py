"""The file that says how far the journal had come: believed only whole, and never in the way."""

from pathlib import Path

import pytest

from mqttproxy.journal.mark import Mark, Marked


def test_what_was_written_last_is_read(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "mark")
    assert mark.read() is None
    for commits in range(3):
        mark.write(Marked(commits, 7))
        assert Mark(tmp_path / "mark").read() == Marked(commits, 7)
    mark.close()
    assert mark.read() == Marked(2, 7)
    mark.write(Marked(2**63, 2**40))
    mark.close()
    assert mark.read() == Marked(2**63, 2**40)


def test_each_byte_that_is_changed_or_missing_makes_it_worth_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    mark = Mark(path)
    mark.write(Marked(123456, 42))
    mark.close()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert mark.read() is None
        path.write_bytes(whole[:place])
        assert mark.read() is None


def test_it_is_for_us_alone(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "mark")
    mark.write(Marked(1, 1))
    mark.close()
    assert (tmp_path / "mark").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("obstacle", ["folder", "link", "nowhere"])
def test_what_cannot_be_written_or_read_is_no_error(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "mark"
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path = tmp_path / "none" / "mark"
    mark = Mark(path)
    mark.write(Marked(1, 1))
    mark.close()
    assert mark.read() is None
    assert not (tmp_path / "elsewhere").exists()
