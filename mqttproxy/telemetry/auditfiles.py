"""The files of the audit trail: link, append, rotate by size, keep the newest. All of it runs in one worker thread."""

import os
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mqttproxy.telemetry.auditchain import LINK_BYTES, START, digest, link

CURRENT: Final = "audit.jsonl"
_CLOSED: Final = re.compile(r"audit-\d{8}T\d{6}\.\d{3}Z\.jsonl")
_CHUNK: Final = 1024 * 1024  # bytes given to the kernel at once
_STEP: Final = 64 * 1024  # bytes read at once from the end
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class AuditFiles:
    """Moves lines from a deque, to which another thread adds, to the current file.

    A line leaves the deque when it is written whole; a write that fails half-way is taken back, so that no line is torn
    and none is there twice.
    """

    def __init__(
        self, directory: Path, waiting: deque[bytes], rotate_bytes: int, keep_files: int, now: Callable[[], float]
    ) -> None:
        """Make one that has nothing open."""
        self._directory: Final = directory
        self._current: Final = directory / CURRENT
        self._waiting: Final = waiting
        self._rotate_bytes = rotate_bytes
        self._keep = keep_files
        self._now: Final = now
        self._file: int | None = None
        self._size = 0
        self._prune_due = True  # once at start: `keep_files` may have been lowered
        self._head: str | None = None  # hash of the last line; None: not looked for yet
        self.written_bytes = 0  # written by this thread alone, read by the other

    @property
    def head(self) -> str | None:
        """The hash of the last line that was written; None: nothing was opened yet."""
        return self._head

    def apply(self, rotate_bytes: int, keep_files: int) -> None:
        """Go on with other bounds. Called by the other thread."""
        self._rotate_bytes, self._keep = rotate_bytes, keep_files
        self._prune_due = True

    def write_waiting(self) -> str | None:
        """Write what waits, as much as can be. Return None, or in words what is wrong with the disk."""
        try:
            self._open()
            while self._waiting:
                self._write_chunk()
        except OSError as error:
            self.close()
            return f"{self._current}: {error.strerror or error}"
        return self._remove_old()

    def close(self) -> None:
        """Close the current file; the next write opens it again."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None

    def _open(self) -> None:
        if self._file is not None:
            if os.fstat(self._file).st_nlink:
                return
            self.close()  # somebody removed it under us
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._current, _FLAGS, 0o600)
        self._size = os.fstat(self._file).st_size
        if self._size:
            last = _last_line(self._file, self._size)
            if not last.endswith(b"\n"):
                self._append(b"\n")  # the process before us was killed in the middle of a line
                self._head = digest(last)
            elif self._head is None:
                self._head = digest(last)
        elif self._head is None:
            self._head = self._head_of_closed()

    def _head_of_closed(self) -> str:
        closed = closed_files(self._directory)
        if not closed:
            return START
        descriptor = os.open(closed[-1], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return digest(_last_line(descriptor, os.fstat(descriptor).st_size))
        finally:
            os.close(descriptor)

    def _write_chunk(self) -> None:
        if self._size and self._size + len(self._waiting[0]) + LINK_BYTES > self._rotate_bytes:
            self._rotate()
        room = min(_CHUNK, self._rotate_bytes - self._size)
        taken: list[bytes] = []
        linked: list[bytes] = []
        head, length = self._head or START, 0
        while self._waiting and (not taken or length + len(self._waiting[0]) + LINK_BYTES <= room):
            taken.append(self._waiting.popleft())
            linked.append(link(taken[-1], head))
            head = digest(linked[-1])
            length += len(linked[-1])
        try:
            self._append(b"".join(linked))
        except OSError:
            self._waiting.extendleft(reversed(taken))
            raise
        self._head = head
        self.written_bytes += sum(map(len, taken))

    def _append(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101  # for mypy: `_open` comes first
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with suppress(OSError):  # when even this fails, `_open` ends the torn line
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _rotate(self) -> None:
        assert self._file is not None  # noqa: S101  # for mypy: `_open` comes first
        os.fdatasync(self._file)  # or a power failure could take its end, and leave the file that follows it
        self.close()
        at = int(self._now() * 1000)
        while (closed := self._directory / _closed_name(at)).exists():
            at += 1  # two in a millisecond, or the clock went back
        self._current.rename(closed)
        self._prune_due = True
        self._open()

    def _remove_old(self) -> str | None:
        if not self._prune_due:
            return None
        try:
            for path in closed_files(self._directory)[: -self._keep or None]:
                path.unlink(missing_ok=True)
        except OSError as error:
            return f"old files of the audit trail cannot be removed: {error}"
        self._prune_due = False
        return None


def closed_files(directory: Path) -> list[Path]:
    """Return the files that were closed, the oldest first."""
    return sorted(path for path in directory.iterdir() if _CLOSED.fullmatch(path.name))


def trail_files(directory: Path) -> list[Path]:
    """Return all files of a trail, the oldest first."""
    current = directory / CURRENT
    return [*closed_files(directory), *([current] if current.exists() else [])]


def _last_line(descriptor: int, size: int) -> bytes:
    """Return the last line of a file, with its line end if it has one."""
    last, at = b"", size
    while at and b"\n" not in last[:-1]:
        step = min(_STEP, at)
        at -= step
        last = os.pread(descriptor, step, at) + last
    return last[last.rfind(b"\n", 0, -1) + 1 :]


def _closed_name(milliseconds: int) -> str:
    second, rest = divmod(milliseconds, 1000)
    return f"audit-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(second))}.{rest:03d}Z.jsonl"
