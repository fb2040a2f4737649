"""What must be known after a kill: the last number of a generation, and the configuration that is on trial.

A configuration that was applied with `--confirm-within` is in force, but not in the file: that gets it when it is
confirmed. Until then its text and its deadline are kept here. So whatever is cut off in between, the file holds what
was last confirmed, and the next process knows whether something else was in force, and until when it may be.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

CANDIDATE: Final = "candidate.toml"  # the text that is being checked
TRIAL: Final = "trial.json"
NUMBER: Final = "generation"


@frozen(kw_only=True)
class Trial:
    """A configuration in force until it is confirmed or its time is over. Times are seconds since 1970."""

    number: int  # of its generation
    text: str
    digest: str  # of the text
    called: str  # the file it came from
    file_digest: str  # of the file that it shall replace
    since: float
    until: float
    who: str


class Records:
    """The files in a data folder. Methods block; each write is on disk when it returns."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory

    def number(self) -> int:
        """Return the last number of a generation, 0 if there was none."""
        try:
            return int((self._directory / NUMBER).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def keep_number(self, number: int) -> None:
        """Never give this number again."""
        write_whole(self._directory / NUMBER, b"%d\n" % number)

    def keep_candidate(self, text: bytes) -> Path:
        """Put a text where another process can read it."""
        path = self._directory / CANDIDATE
        write_whole(path, text)
        return path

    def end_candidate(self) -> None:
        """Remove the text that was checked: it may hold secrets."""
        with suppress(FileNotFoundError):
            (self._directory / CANDIDATE).unlink()

    def trial(self) -> Trial | None:
        """Return what is on trial.

        Raises:
            ValueError: the record cannot be read.

        """
        try:
            record: dict[str, Any] = json.loads((self._directory / TRIAL).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(str(error)) from error
        try:
            return Trial(**record)
        except TypeError as error:
            raise ValueError(f"{TRIAL}: {error}") from error

    def keep_trial(self, trial: Trial) -> None:
        """Let the next process know of it."""
        write_whole(self._directory / TRIAL, json.dumps(asdict(trial)).encode())

    def end_trial(self) -> None:
        """Let the next process start from the file."""
        self.end_candidate()
        with suppress(FileNotFoundError):
            (self._directory / TRIAL).unlink()
        _sync_folder(self._directory)


def why_not_replaceable(path: Path) -> str:
    """Say why a file cannot be replaced by another one; empty: it can."""
    if path.is_symlink():
        return "it is a link"
    if not os.access(path.parent, os.W_OK):
        return f"nothing can be written into {path.parent}"
    return ""


def replace_file(path: Path, text: bytes) -> None:
    """Put a text in the place of a file, at once and on disk. Mode and owner stay, as far as may be.

    Raises:
        OSError: it could not be done, and the file is as it was.

    """
    write_whole(path, text, like=path.stat())


def write_whole(path: Path, data: bytes, like: os.stat_result | None = None) -> None:
    """Write a file so that whoever reads it, after a power failure too, sees the old one or the new one whole."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if like is not None:
            with suppress(PermissionError):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, like.st_mode & 0o777)
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    new.replace(path)
    _sync_folder(path.parent)


def _sync_folder(directory: Path) -> None:
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
