"""The chain of the audit trail: each line carries the hash of the line before it, over files and restarts.

A line is changed, removed or put in only by writing every later line anew. Whoever can write the folder can do that;
so a hash that was kept elsewhere (`head` of /status, the log's `stopped`) is what proves the lines up to it.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson
from attrs import Factory, define, frozen

KEY: Final = "previous"
START: Final = "0" * 64  # before the first line
_BEGIN: Final = b',"previous":"'
_END: Final = b'"}\n'
LINK_BYTES: Final = len(_BEGIN) + 64 + len(_END) - 2  # that a link adds to a line
LONGEST: Final = 16 * 1024 * 1024  # bytes of a line that is read; a longer one is none of ours


def link(line: bytes, head: str) -> bytes:
    """Return a line, which is a JSON object and ends with a line end, with the hash of the line before it."""
    return line[:-2] + _BEGIN + head.encode("ascii") + _END


def digest(line: bytes) -> str:
    """Return the hash of a line, without its line end."""
    return sha256(line.removesuffix(b"\n")).hexdigest()


@frozen
class Finding:
    """Something about one line, or about a file if `line` is 0."""

    file: str
    line: int
    words: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.file}:{self.line}: {self.words}" if self.line else f"{self.file}: {self.words}"


@define
class Report:
    """What became of reading a whole trail."""

    files: int = 0
    lines: int = 0
    unlinked: int = 0  # lines of versions that had no chain
    head: str = START
    faults: list[Finding] = Factory(list)
    notes: list[Finding] = Factory(list)  # what is as it should be after a kill, or was removed for its age

    @property
    def ok(self) -> bool:
        """Whether nothing was tampered with, as far as the lines themselves can tell."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        told = {name: [str(one) for one in getattr(self, name)] for name in ("faults", "notes")}
        counts = {name: getattr(self, name) for name in ("files", "lines", "unlinked", "head")}
        return {"ok": self.ok, **counts, **told}


class Verifier:
    """Reads lines in order, and finds what does not follow from what came before."""

    def __init__(self, heads: Iterable[str] = ()) -> None:
        """Make one.

        Args:
            heads: hashes that were kept elsewhere, each of which a line must have.

        """
        self.report: Final = Report()
        self._missing: Final = set(heads) - {START}
        self._expected: str | None = None  # the hash of the line before; None: there is none yet
        self._is_linked = False
        self._torn: Finding | None = None  # the line before was no JSON; the next one tells whether that was there

    def read(self, name: str, lines: Iterable[bytes]) -> None:
        """Read one file, after those that are older."""
        self.report.files += 1
        number = 0
        for number, line in enumerate(lines, 1):
            self._line(Finding(name, number, ""), line)
        if not number and self._expected is not None:
            self.report.notes.append(Finding(name, 0, "is empty"))

    def end(self) -> Report:
        """Return what was found, when all files were read."""
        if self._torn is not None:
            self._note(self._torn, "is torn: the process was killed, or lost its power, while it wrote")
        for head in sorted(self._missing):
            self._fault(Finding("", 0, ""), f"no line has the hash {head}: the line that had it was removed or changed")
        return self.report

    def _line(self, place: Finding, line: bytes) -> None:
        report, torn = self.report, self._torn
        report.lines += 1
        self._torn = None
        previous = _previous(line)
        if previous is None:
            self._torn = place
            if torn is not None:  # two in a row: the first is followed by nothing that knows it
                self._fault(torn, "is no line of the trail")
        elif not previous:
            report.unlinked += 1
            if self._is_linked:
                self._fault(place, "has no hash of the line before it: it was put in")
        else:
            self._check(place, previous, torn)
            self._is_linked = True
        self._expected = report.head = digest(line)
        self._missing.discard(report.head)

    def _check(self, place: Finding, previous: str, torn: Finding | None) -> None:
        if self._expected is None:
            if previous != START:
                self._note(place, "follows lines that are not here any more (`audit.keep_files`)")
        elif previous != self._expected:
            what = "the line before it was changed, or lines were removed or put in between"
            self._fault(place, f"does not follow the line before it: {what}")
        elif torn is not None:
            self._note(torn, "is torn: the process was killed, or lost its power, while it wrote; the next one knew it")

    def _fault(self, place: Finding, words: str) -> None:
        self.report.faults.append(Finding(place.file, place.line, words))

    def _note(self, place: Finding, words: str) -> None:
        self.report.notes.append(Finding(place.file, place.line, words))


def _previous(line: bytes) -> str | None:
    """Return the hash that a line carries; empty: none; None: it is no JSON object."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    found = document.get(KEY, "")
    return found if isinstance(found, str) else None


def verify(paths: Iterable[Path], heads: Iterable[str] = ()) -> Report:
    """Read the files of a trail, the oldest first. Blocks.

    Raises:
        OSError: one cannot be read.

    """
    verifier = Verifier(heads)
    for path in paths:
        with path.open("rb") as file:
            verifier.read(path.name, _lines(file))
    return verifier.end()


def _lines(file: Any) -> Iterator[bytes]:
    while line := file.readline(LONGEST):
        yield line
