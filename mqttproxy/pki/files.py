"""Files that are there whole or not at all, and are nobody else's business."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from mqttproxy import sqlite
from mqttproxy.pki.errors import PkiError
from mqttproxy.wholefile import sync_directory, write_all

PUBLIC: Final = 0o644
LARGEST: Final = 1024 * 1024  # bytes of a key, a certificate or a signing request
LARGEST_LIST: Final = 256 * 1024 * 1024


def read_bounded(path: Path, largest: int = LARGEST) -> bytes:
    """Return what is in a file.

    Raises:
        PkiError: it cannot be read, or is too large.

    """
    try:
        with path.open("rb") as source:
            data = source.read(largest + 1)
    except OSError as error:
        raise PkiError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > largest:
        raise PkiError(f"{path}: more than {largest} bytes")
    return data


def refuse_if_open_to_others(path: Path) -> None:
    """Raise PkiError if a file of a secret may be read by others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise PkiError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if mode & 0o077:
        raise PkiError(f"{path}: others may read it (mode {mode:o}): chmod 600, and think of who has")


def write_folder(path: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Make a folder with files, whole or not at all.

    Args:
        path: of the folder, which is not there yet.
        files: what is in each, and its mode.

    Raises:
        OSError: it could not be done; there is no folder, or it is as it was.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # mode 0700
    try:
        for name, (data, mode) in files.items():
            _write(new / name, data, mode)
        sync_directory(new)
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_directory(path.parent)


@contextmanager
def disk(directory: Path, done: str = "") -> Iterator[None]:
    """Say as PkiError what the disk does not let us do in a folder. `done`: what is so all the same."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        place = getattr(error, "filename", None) or directory
        words = sqlite.words(error) if isinstance(error, sqlite3.Error) else (error.strerror or str(error)).lower()
        raise PkiError(f"{place}: {words}" + (f"; {done}" if done else "")) from error


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data, mode)
    finally:
        os.close(descriptor)
