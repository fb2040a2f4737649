"""One process to a data folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LOCK_FILE: Final = "lock"


class DataDirInUseError(OSError):
    """Another process works in this data folder: do not start."""


@contextmanager
def lock_data_dir(directory: Path) -> Iterator[None]:
    """Keep the folder for this process, until the block is left or the process dies; make it if it is missing.

    The lock is the kernel's (flock), so nothing is left behind by `kill -9`. Readers do not need it.

    Raises:
        DataDirInUseError: another process has it; the text names its process id.
        OSError: the folder or the lock file cannot be made.

    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            raise DataDirInUseError(f"{directory} is in use by process {holder or 'unknown'}") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        # The file stays: removing it could leave two processes with a lock each, on two files of the same name.
        os.close(descriptor)
