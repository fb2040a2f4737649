"""File systems made for a test: in a file, or in memory. They need root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotPossibleError(Exception):
    """This machine does not let us; the text says why."""


def as_root(*command: str) -> None:
    """Run a command.

    Raises:
        NotPossibleError: it is missing, or has failed.

    """
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise NotPossibleError(f"{command[0]}: not installed") from error
    if done.returncode:
        raise NotPossibleError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    """Mount an image that writes by itself only every 300 seconds.

    Raises:
        NotPossibleError: this machine does not allow it.

    """
    yield from _mounted(at, "-o", "loop,commit=300", str(image))


@contextmanager
def mounted_in_memory(at: Path, size: str) -> Iterator[None]:
    """Mount a file system in memory that is soon full.

    Raises:
        NotPossibleError: this machine does not allow it.

    """
    yield from _mounted(at, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


def _mounted(at: Path, *how: str) -> Iterator[None]:
    at.mkdir(parents=True, exist_ok=True)
    as_root("mount", *how, str(at))
    try:
        yield
    finally:
        as_root("umount", str(at))
