"""Large payloads, each in a file of its own, under names that no device can choose.

Blocking. Everything goes through a descriptor of the folder, so that nothing outside it can be reached.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

FOLDER: Final = "payloads"

_NAME: Final = re.compile(r"[0-9A-Z]{26}")
_OPEN_AT_ONCE: Final = 64  # files that are written before the first of them is synchronised
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class PayloadFolder:
    """The folder, open until `close`."""

    def __init__(self, path: Path, *, fsync: Callable[[int], None] = os.fsync) -> None:
        """Open it.

        Args:
            path: of the folder, which exists.
            fsync: makes what was written durable; tests have a failing one.

        """
        self._fsync: Final = fsync
        self._folder: Final = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._folder)

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Store payloads under new names; all are durable on return, and none is there if this raises.

        Raises:
            OSError: disk full or broken. Close this folder and open it anew before trying again: a second fsync on
                the same descriptor may succeed although the data is lost.

        """
        try:
            for start in range(0, len(items), _OPEN_AT_ONCE):
                self._write_some(items[start : start + _OPEN_AT_ONCE])
            self._fsync(self._folder)
        except OSError:
            with suppress(OSError):
                self.remove(name for name, _ in items)
            raise

    def read(self, name: str) -> bytes:
        """Return a payload.

        Raises:
            OSError: it is not there, or the disk is broken.

        """
        with os.fdopen(self._descriptor(name, _OLD), "rb") as file:
            return file.read()

    def remove(self, names: Iterable[str]) -> None:
        """Remove payloads; one that is gone already is fine.

        Raises:
            OSError: one cannot be removed; the others were not tried.

        """
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(_checked(name), dir_fd=self._folder)

    def names(self) -> Iterator[str]:
        """Return the names of all payloads."""
        with os.scandir(self._folder) as entries:
            yield from (entry.name for entry in entries if _NAME.fullmatch(entry.name))

    def _write_some(self, items: Sequence[tuple[str, bytes]]) -> None:
        with ExitStack() as opened:
            descriptors = []
            for name, payload in items:
                descriptor = self._descriptor(name, _NEW)
                opened.callback(os.close, descriptor)
                descriptors.append(descriptor)
                _write_all(descriptor, payload)
            for descriptor in descriptors:
                self._fsync(descriptor)

    def _descriptor(self, name: str, flags: int) -> int:
        return os.open(_checked(name), flags, 0o600, dir_fd=self._folder)


def _checked(name: str) -> str:
    # The name comes from our own database; but an absolute path in a tampered one would escape from the folder.
    if not _NAME.fullmatch(name):
        raise OSError(f"not a name of a payload file: {name[:100]!r}")
    return name


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
