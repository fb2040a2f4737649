"""The subjects of the schema folder, their versions and aliases; and which version a reference means.

Only what is asked for is read: a version that nothing names is a draft, and may be as broken as it likes.
"""

from collections import defaultdict
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Final

from attrs import define, field, frozen

from mqttproxy.config.errors import Fault, quoted
from mqttproxy.config.references import WORDS, Reference, number_of, parse_reference
from mqttproxy.validation.files import KINDS, SUBJECT, SchemaFiles
from mqttproxy.validation.subjects import SubjectSettings, parse_subject

_LISTED: Final = 8  # versions that a fault lists


@frozen
class Version:
    """One version of a subject: a file."""

    subject: str
    number: str  # as its file is called: mostly a number
    path: str

    @property
    def name(self) -> str:
        """The `subject@version`."""
        return f"{self.subject}@{self.number}"

    @property
    def kind(self) -> str:
        """One of json, protobuf, avro."""
        return KINDS[PurePosixPath(self.path).suffix]


@frozen
class Subject:
    """A folder of versions, in order; words come after numbers."""

    name: str
    versions: tuple[Version, ...]
    settings: SubjectSettings

    def version(self, number: str) -> Version | None:
        """Return the version of that number."""
        return next((version for version in self.versions if version.number == number), None)

    def before(self, version: Version) -> tuple[Version, ...]:
        """Return the versions before one, as far back as the subject wants them compared, the newest first."""
        first = self.settings.compatibility_from
        older = self.versions[: self.versions.index(version)]
        return tuple(old for old in reversed(older) if first is None or _order(old) >= _rank(first))


class UnresolvedError(Exception):
    """A reference leads to no version; `expected` and `hint` say more, as in a `Fault`."""

    def __init__(self, expected: str, hint: str = "") -> None:
        super().__init__(expected, hint)
        self.expected, self.hint = expected, hint


@define
class Registry:
    """See the module. `faults`: of the `subject.toml` files that were read."""

    files: SchemaFiles
    directory: Path  # only for words
    faults: list[Fault] = field(init=False, factory=list)
    _paths: dict[str, list[str]] | None = field(init=False, default=None)  # by subject
    _subjects: dict[str, Subject] = field(init=False, factory=dict)

    def resolve(self, reference: str) -> str:
        """Return the `subject@number` that a reference means now.

        Raises:
            UnresolvedError: there is none, or it is no reference.

        """
        return self.find(reference).name

    def find(self, reference: str) -> Version:
        """Return the version that a reference means now. Raises UnresolvedError as `resolve` does."""
        parsed = parse_reference(reference)
        if parsed is None:
            raise UnresolvedError(WORDS)
        subject = self.subject(parsed.subject)
        if parsed.conditions:
            return self._newest(parsed, subject)
        if (version := subject.version(parsed.spec)) is not None:
            return version
        if (target := subject.settings.aliases.get(parsed.spec)) is not None:
            if (version := subject.version(target)) is None:
                file = self.directory / subject.name / SUBJECT
                raise UnresolvedError(
                    f"a version, but {file} says {parsed.spec} = {quoted(target)}, which is not there"
                )
            return version
        raise UnresolvedError(f"a readable file {self._expected(parsed)}", self._suggestion(reference))

    def subject(self, name: str) -> Subject:
        """Return a subject; without any version: it is not there."""
        subject = self._subjects.get(name)
        if subject is None:
            subject = self._subjects[name] = self._read(name)
        return subject

    def subjects(self) -> Iterator[Subject]:
        """Yield all subjects by name."""
        for name in sorted(self._files()):
            yield self.subject(name)

    def _files(self) -> dict[str, list[str]]:
        if self._paths is None:
            self._paths = defaultdict(list)
            for path in self.files.names():
                self._paths[path.partition("/")[0]].append(path)
        return self._paths

    def _read(self, name: str) -> Subject:
        settings = SubjectSettings()
        found: dict[str, Version] = {}
        for path in sorted(self._files().get(name, ())):
            file = str(self.directory / path)
            stem, suffix = PurePosixPath(path).stem, PurePosixPath(path).suffix
            if path == f"{name}/{SUBJECT}":
                settings = self._settings(path, file)
            elif suffix in KINDS and path == f"{name}/{stem}{suffix}":
                version = Version(name, stem, path)
                if (other := found.setdefault(stem, version)) is not version:
                    words = f"version {stem} a second time"
                    self.faults.append(Fault(file, "", words, "one file for each version", f"{other.path} is one"))
        subject = Subject(name, tuple(sorted(found.values(), key=_order)), settings)
        self._check(subject)
        return subject

    def _settings(self, path: str, file: str) -> SubjectSettings:
        try:
            data = self.files.read(path)
        except OSError as error:
            self.faults.append(Fault(file, "", (error.strerror or str(error)).lower(), "a readable file"))
            return SubjectSettings()
        settings, faults = parse_subject(data, file)
        self.faults += faults
        return settings

    def _check(self, subject: Subject) -> None:
        file = str(self.directory / subject.name / SUBJECT)
        for alias, target in subject.settings.aliases.items():
            if subject.version(alias) is not None:
                words = f"{quoted(alias)}, which is a version too"
                self.faults.append(Fault(file, f"aliases.{alias}", words, "a name of its own"))
            if subject.version(target) is None:
                known = _listed(subject)
                self.faults.append(Fault(file, f"aliases.{alias}", quoted(target), f"a version that is there: {known}"))

    def _newest(self, reference: Reference, subject: Subject) -> Version:
        for version in reversed(subject.versions):
            if reference.admits(version.number):
                return version
        raise UnresolvedError("a version in that range", f"there are {_listed(subject)}")

    def _expected(self, reference: Reference) -> str:
        return str(self.directory / reference.subject / f"{reference.spec}.json")

    def _suggestion(self, reference: str) -> str:
        known = [f"{path[: path.rindex('.')].replace('/', '@')}" for paths in self._files().values() for path in paths]
        close = get_close_matches(reference, [name for name in known if not name.endswith("@subject")], n=1)
        return f"did you mean {quoted(close[0])}?" if close else ""


def _listed(subject: Subject) -> str:
    numbers = [version.number for version in subject.versions]
    if not numbers:
        return "none"
    more = f" and {len(numbers) - _LISTED} older ones" if len(numbers) > _LISTED else ""
    return ", ".join(numbers[-_LISTED:]) + more


def _rank(number: str) -> tuple[bool, tuple[int, ...], str]:
    parsed = number_of(number)
    return (parsed is None, parsed or (), number)


def _order(version: Version) -> tuple[bool, tuple[int, ...], str]:
    return _rank(version.number)
