import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqttproxy.quarantine.payloads import PayloadFolder
from tests.quarantine.examples import files_in

A, B = "A" * 26, "B" * 26


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[PayloadFolder]:
    folder = PayloadFolder(tmp_path)
    yield folder
    folder.close()


def opened(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def test_payloads_come_back_and_are_for_the_owner_only(folder: PayloadFolder, tmp_path: Path) -> None:
    big = os.urandom(3_000_000)
    folder.write([(A, big), (B, b"")])
    assert folder.read(A) == big
    assert folder.read(B) == b""
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert set(folder.names()) == {A, B}


def test_many_payloads_need_few_descriptors(folder: PayloadFolder) -> None:
    folder.write([(f"{number:026}", b"x") for number in range(300)])
    assert len(list(folder.names())) == 300


def test_files_are_synchronised_before_their_folder(tmp_path: Path) -> None:
    synced = []
    folder = PayloadFolder(tmp_path, fsync=lambda descriptor: synced.append(opened(descriptor)))
    folder.write([(A, b"a"), (B, b"b")])
    folder.close()
    assert synced == [tmp_path / A, tmp_path / B, tmp_path]


def test_a_failure_leaves_none_of_them(tmp_path: Path) -> None:
    def fail_at_folder(descriptor: int) -> None:
        if opened(descriptor) == tmp_path:
            raise OSError(errno.EIO, "Input/output error")

    folder = PayloadFolder(tmp_path, fsync=fail_at_folder)
    with pytest.raises(OSError, match="Input/output"):
        folder.write([(A, b"a"), (B, b"b")])
    folder.close()
    assert not list(files_in(tmp_path))


def test_removing_what_is_gone_is_fine(folder: PayloadFolder) -> None:
    folder.write([(A, b"a")])
    folder.remove([B, A, A])
    assert not list(folder.names())


@pytest.mark.parametrize(
    "name", ["../" + "A" * 23, "/etc/passwd", "a" * 26, "A" * 25, "A" * 26 + "\n", "A" * 25 + "\0"]
)
def test_G1_a_name_that_is_not_ours_is_refused(folder: PayloadFolder, name: str) -> None:  # the row's id
    with pytest.raises(OSError, match="not a name of a payload file"):
        folder.read(name)
    with pytest.raises(OSError, match="not a name of a payload file"):
        folder.write([(name, b"")])


def test_G1_links_are_neither_followed_nor_overwritten(folder: PayloadFolder, tmp_path: Path) -> None:  # the row's id
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / A).symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic link"):
        folder.read(A)
    with pytest.raises(FileExistsError):
        folder.write([(A, b"mine")])
    assert (tmp_path / "target").read_bytes() == b"secret"
