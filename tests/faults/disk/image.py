"""What is on disk after the power fails, built from the log of everything that reached the files.

The model is meaner than most disks. Of what was written to a file since its last fsync, any sector may be there or not,
in any combination. Names (made, renamed, removed) are kept in order, as journals of file systems do it, up to any point
after the last fsync of a folder or of a file. What an fsync could not write is gone for good, whatever later ones say,
although reads still show it: so it is with Linux.
"""

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from attrs import define, field, frozen

from tests.faults.disk.failing import KINDS

SECTOR: Final = 512
_RECORD: Final = struct.Struct("=iiqqii")  # `struct record` in failing.c

Luck = Literal["none", "all", "sectors", "writes"]  # which of the writes in doubt are there
LUCKS: Final[tuple[Luck, ...]] = ("none", "all", "sectors", "writes")


@frozen
class Step:
    """One call."""

    kind: str
    path: str
    other: str
    offset: int
    length: int
    data: bytes
    failed: bool
    end: int  # of its record in the log


def read_log(log: Path) -> Iterator[Step]:
    """Yield what is in a log, in order."""
    content = memoryview(log.read_bytes())
    at = 0
    while at + _RECORD.size <= len(content):
        kind, failed, offset, length, path_size, other_size = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        path = bytes(content[at : at + path_size]).decode()
        at += path_size
        other = bytes(content[at : at + other_size]).decode()
        at += other_size
        data = b""
        if KINDS[kind] == "write":
            data = bytes(content[at : at + length])
            at += length
        yield Step(KINDS[kind], path, other, offset, length, data, bool(failed), at)


@define(eq=False)
class _File:
    durable: bytearray = field(factory=bytearray)
    doubtful: list[Step] = field(factory=list)  # writes and truncations since the last fsync
    doomed: list[Step] = field(factory=list)  # those that a failed fsync has let go of

    def sync(self) -> None:
        for step in self.doubtful:
            _apply(self.durable, step)
        self.doubtful.clear()

    def fail_to_sync(self) -> None:
        # A truncation is the journal's affair and comes later.
        self.doomed += [step for step in self.doubtful if step.kind == "write"]
        self.doubtful = [step for step in self.doubtful if step.kind != "write"]

    def after_power_loss(self, luck: Luck, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        for step in self.doubtful:
            if step.kind == "truncate":
                if luck == "all" or chance.random() < 0.5:
                    _apply(content, step)
            elif luck == "all" or (luck == "writes" and chance.random() < 0.5):
                _apply(content, step)
            elif luck == "sectors":
                for piece in _sectors(step):
                    if chance.random() < 0.5:
                        _apply(content, piece)
        return bytes(content)


@define(eq=False)
class Disk:
    """Files and folders, as far as they are durable, and what is in doubt."""

    root: str
    _files: dict[str, _File] = field(factory=dict)  # as they are called now
    _durable: dict[str, _File] = field(factory=dict)  # as they are called on disk
    _folders: set[str] = field(factory=set)
    _names: list[Callable[[dict[str, _File]], object]] = field(factory=list)  # changes since, in order

    def take(self, step: Step) -> None:
        """Do a step."""
        match step.kind:
            case "open":
                self._open(step)
            case "write" | "truncate":
                self._file(step.path).doubtful.append(step)
            case "sync":
                self._sync(step)
            case "rename":
                self._change(lambda names: _rename(names, step.path, step.other))
            case "unlink":
                self._change(lambda names: _remove(names, step.path))
            case _:
                self._folders.add(step.path)

    def write_image(self, target: Path, luck: Luck, chance: random.Random) -> None:
        """Write what is there after a loss of power now."""
        names = dict(self._durable)
        kept = {"none": 0, "all": len(self._names)}.get(luck, chance.randint(0, len(self._names)))
        for change in self._names[:kept]:
            change(names)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in sorted(self._folders):
            self._inside(target, folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, file in names.items():
            path = self._inside(target, name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(file.after_power_loss(luck, chance))
            path.chmod(0o600)

    def _inside(self, target: Path, name: str) -> Path:
        return target / Path(name).relative_to(self.root)

    def _file(self, path: str) -> _File:
        if path not in self._files:
            file = _File()
            self._change(lambda names: names.setdefault(path, file))
        return self._files[path]

    def _open(self, step: Step) -> None:
        file = self._file(step.path)
        if step.offset == 0:  # O_TRUNC
            file.doubtful.append(Step("truncate", step.path, "", 0, 0, b"", failed=False, end=step.end))

    def _sync(self, step: Step) -> None:
        if step.path in self._files:
            file = self._files[step.path]
            if step.failed:
                file.fail_to_sync()
                return
            file.sync()
        if not step.failed:
            # With a file its name is made durable, and with that all that the journal has before it.
            for change in self._names:
                change(self._durable)
            self._names.clear()

    def _change(self, change: Callable[[dict[str, _File]], object]) -> None:
        change(self._files)
        self._names.append(change)


def _rename(names: dict[str, _File], old: str, new: str) -> None:
    for name in [name for name in names if name == old or name.startswith(old + "/")]:
        names[new + name.removeprefix(old)] = names.pop(name)


def _remove(names: dict[str, _File], path: str) -> None:
    names.pop(path, None)


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        size = step.offset
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    end = step.offset + len(step.data)
    content.extend(bytes(max(0, end - len(content))))
    content[step.offset : end] = step.data


def _sectors(step: Step) -> Iterator[Step]:
    at = step.offset
    end = step.offset + len(step.data)
    while at < end:
        size = min(SECTOR - at % SECTOR, end - at)
        start = at - step.offset
        yield Step("write", step.path, "", at, size, step.data[start : start + size], failed=False, end=step.end)
        at += size
