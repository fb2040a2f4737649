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

from mqttproxy.wholefile import sync_directory, write_whole

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
        sync_directory(self._directory)


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
