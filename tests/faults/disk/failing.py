"""Disk calls of the proxy, made to fail, to be slow, or to be its last, from a cause's beginning to its end.

    faults = Failing(tmp_path, below=file.parent / "data")
    with running_proxy(file, environment=faults.environment) as proxy:
        faults.fail("sync", errno.EIO, at=3)
        ...
        faults.heal()

Beneath is a small library (`failing.c`) that is loaded before libc; it is compiled when it is first needed.
"""

import mmap
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, Literal, get_args

Kind = Literal["write", "sync", "truncate", "open", "rename", "unlink", "mkdir", "any"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)[:-1]
FOR_EVER: Final = -1

_NOTHING, _FAIL, _SLOW, _KILL = range(4)
# The fields of `struct control` in failing.c, each a signed integer of 8 bytes; behind them the part.
_FIELDS: Final = (
    *("action", "kinds", "first", "times", "error", "milliseconds", "in_half"),
    *("seen", "done", "repeated", "trusted", "logged", "clock"),
    *KINDS,
)
_PART: Final = slice(8 * len(_FIELDS), 8 * len(_FIELDS) + 256)


@cache
def library() -> Path:
    """Compile the library, once for a process."""
    made = Path(mkdtemp(prefix="failing-")) / "failing.so"
    source = Path(__file__).with_name("failing.c")
    command = ["cc", "-O2", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-o", str(made), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return made


class Failing:
    """What is wrong with the disk of one proxy, or of several one after the other."""

    def __init__(self, folder: Path, below: Path, *, log: Path | None = None) -> None:
        """Make it; nothing is wrong yet.

        Args:
            folder: for the page that the proxy shares with us.
            below: only files in here are concerned.
            log: where everything that reaches these files is noted, see image.py; None: nowhere.

        """
        folder.mkdir(parents=True, exist_ok=True)
        self._file: Final = folder / "failing.page"
        self._file.write_bytes(bytes(mmap.PAGESIZE))
        with self._file.open("r+b") as page:
            self._page: Final = mmap.mmap(page.fileno(), mmap.PAGESIZE)
        self._numbers: Final = memoryview(self._page).cast("q")
        self._below: Final = below
        self._log: Final = log

    @property
    def environment(self) -> Mapping[str, str]:
        """What a proxy must be started with."""
        return {
            **os.environ,
            "LD_PRELOAD": str(library()),
            "FAILING_CONTROL": str(self._file),
            "FAILING_BELOW": str(self._below),
            "FAILING_LOG": str(self._log or ""),
        }

    # Causes. A new one ends the one before.

    def fail(
        self, kind: Kind, error: int, *, at: int = 1, times: int = FOR_EVER, part: str = "", in_half: bool = False
    ) -> None:
        """Let calls fail.

        Args:
            kind: of call.
            error: errno.
            at: the first that fails, counted from now.
            times: how many fail.
            part: only files with this in their path; with a `$` behind it, at the end of their path.
            in_half: half of a write is done before it fails.

        """
        self._begin(_FAIL, kind, at, times, part, error=error, in_half=int(in_half))

    def slow(self, kind: Kind, milliseconds: int, *, part: str = "") -> None:
        """Let calls take this long."""
        self._begin(_SLOW, kind, 1, FOR_EVER, part, milliseconds=milliseconds)

    def kill(self, kind: Kind, *, at: int, in_half: bool = False) -> None:
        """Let the process end at a call, as by `kill -9`."""
        self._begin(_KILL, kind, at, 1, "", in_half=int(in_half))

    def count(self, kind: Kind, *, part: str = "") -> None:
        """Let nothing happen, but count in `seen`."""
        self._begin(_SLOW, kind, 1, 0, part)

    def heal(self) -> None:
        """End the cause."""
        self._set(action=_NOTHING)

    def set_clock(self, seconds: float) -> None:
        """Let the wall clock be wrong by so much."""
        self._set(clock=int(seconds * 1e9))

    # What happened.

    @property
    def seen(self) -> int:
        """Calls of the kind that the cause is about, since it began."""
        return self._get("seen")

    @property
    def done(self) -> int:
        """Calls that it has hit."""
        return self._get("done")

    @property
    def repeated(self) -> int:
        """Calls of fsync on a descriptor for which it had failed. SQLite makes one when it closes a log."""
        return self._get("repeated")

    @property
    def trusted(self) -> int:
        """Of them, those for something that was written after the failure: there must be none.

        Tables are not counted: a checkpoint that failed is begun anew by SQLite, which writes every page again,
        and keeps the log until all are durable. The torn writes of image.py hold it to that.
        """
        return self._get("trusted")

    @property
    def logged(self) -> int:
        """How far the log has got, in bytes."""
        return self._get("logged")

    def calls(self) -> dict[Kind, int]:
        """Return how many calls there were since the start."""
        return {kind: self._get(kind) for kind in KINDS}

    def _begin(self, action: int, kind: Kind, at: int, times: int, part: str, **more: int) -> None:
        self.heal()
        self._page[_PART] = part.encode().ljust(256, b"\0")
        kinds = (1 << len(KINDS)) - 1 if kind == "any" else 1 << KINDS.index(kind)
        self._set(kinds=kinds, first=at, times=times, seen=0, done=0, **{"in_half": 0, **more})
        self._set(action=action)

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self._numbers[_FIELDS.index(name)] = value

    def _get(self, name: str) -> int:
        return self._numbers[_FIELDS.index(name)]
