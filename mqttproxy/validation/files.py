"""How schemas are named, and where their files come from."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

LARGEST_SCHEMA: Final = 1024 * 1024  # bytes of one file

_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # cannot be `..`, cannot hold a separator


class SchemaFiles(Protocol):
    """The schema folder. Paths are relative to it, with `/`, and never lead outside."""

    def read(self, path: str) -> bytes:
        """Return the content of a file, or raise OSError: it is not there, not readable, or leads outside."""

    def names(self) -> Iterable[str]:
        """Return the paths of the files that are there, for suggestions."""


@frozen
class SchemaFolder:
    """The folder on disk: the only place of this room that looks at it, at start and reload."""

    directory: Path

    def read(self, path: str) -> bytes:
        """Return the content of a file, as `SchemaFiles` says. Symbolic links may lead about inside the folder only."""
        file = (self.directory / path).resolve(strict=True)
        if not file.is_relative_to(self.directory.resolve()):
            raise OSError(f"{path} leads outside of the schema folder")
        if not file.is_file():  # a pipe would never end
            raise OSError(f"{path} is not a file")
        with file.open("rb") as source:
            return source.read(LARGEST_SCHEMA + 1)

    def names(self) -> Iterable[str]:
        """Return the paths of the files that are there."""
        return sorted(file.relative_to(self.directory).as_posix() for file in self.directory.glob("*/*.json"))


def path_of(schema: str) -> str | None:
    """Return the path of `subject@version`, or None if it is not such a name."""
    subject, _, version = schema.partition("@")
    if _PART.fullmatch(subject) and _PART.fullmatch(version):
        return f"{subject}/{version}.json"
    return None


def joined(path: str, reference: str) -> str | None:
    """Return the path of a file that another one refers to, or None if it is not one inside the folder."""
    parts = path.split("/")[:-1]
    for part in reference.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part != ".":
            if not _PART.fullmatch(part):
                return None
            parts.append(part)
    return "/".join(parts)
