"""How far the journal had come, in a file of its own: what the database has less of, somebody was told of."""

import os
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from struct import Struct as Layout, error as NotWhole  # noqa: N812 # as it reads in `except`
from typing import Final, NamedTuple
from zlib import crc32

_LAYOUT: Final = Layout("<QQ")
_CHECKSUM: Final = Layout("<I")


class Marked(NamedTuple):
    """The number of the last commit, and of the process that made it."""

    commits: int
    epoch: int


class Mark:
    """The file. Written after each commit and not synced: it may say less than what is on disk, and never more.

    It is an aid, so nothing that goes wrong with it is an error.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._memory: mmap | None = None

    def read(self) -> Marked | None:
        """Return what was written last, or None: nothing, or nothing that can be read."""
        with suppress(OSError, NotWhole):
            data = self._path.read_bytes()
            if _CHECKSUM.unpack_from(data, _LAYOUT.size)[0] == crc32(data[: _LAYOUT.size]):
                return Marked(*_LAYOUT.unpack_from(data))
        return None

    def write(self, marked: Marked) -> None:
        """Write it: to memory that is the file's, so that no call must be waited for."""
        data = _LAYOUT.pack(*marked)
        data += _CHECKSUM.pack(crc32(data))
        with suppress(OSError, ValueError):
            if self._memory is None:
                self._memory = self._open(data)
            self._memory[: len(data)] = data

    def _open(self, data: bytes) -> mmap:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.pwrite(descriptor, data, 0)  # there must be room for it before it is memory
            return mmap(descriptor, len(data))
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._memory is not None:
            memory, self._memory = self._memory, None
            memory.close()
