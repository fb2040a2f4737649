"""Files that are there whole or not at all, for whoever reads them, after a power failure too."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Final

PRIVATE: Final = 0o600


def write_whole(path: Path, data: bytes, mode: int = PRIVATE, like: os.stat_result | None = None) -> None:
    """Put data in the place of a file, which need not be there, and wait for the disk.

    Args:
        path: of the file. A link there is replaced, not followed.
        data: all of it.
        mode: who may do what with it, whatever the umask says.
        like: owner and mode instead, as far as may be.

    Raises:
        OSError: it could not be done, and the file is as it was.

    """
    descriptor, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of its own, whoever else writes just now
    new = Path(name)
    try:
        try:
            write_all(descriptor, data, mode if like is None else like.st_mode & 0o777, like)
        finally:
            os.close(descriptor)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_all(descriptor: int, data: bytes, mode: int, like: os.stat_result | None = None) -> None:
    """Write data to a new file, and wait for the disk. Raises OSError."""
    if like is not None:
        with suppress(PermissionError):
            os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, mode)
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make durable which files there are in a folder. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
