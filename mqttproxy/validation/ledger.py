"""What was read from the schema folder, held against what was in force before: what was used never changes."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from attrs import define, field

from mqttproxy.config.errors import Fault
from mqttproxy.validation.files import SUBJECT, USED, SchemaFiles, digest


@define
class Ledger:
    """The schema folder, with the content hash of each file that is read; of `subject.toml` not: it may change."""

    files: SchemaFiles
    directory: Path  # only for words
    hashes: dict[str, str] = field(init=False, factory=dict)
    _described: dict[tuple[object, ...], bytes] = field(init=False, factory=dict)

    def read(self, path: str) -> bytes:
        """Return the content of a file, as `SchemaFiles` says."""
        data = self.files.read(path)
        if PurePosixPath(path).name != SUBJECT:
            self.hashes[path] = digest(data)
        return data

    def names(self) -> Iterable[str]:
        """Return the paths of the files that are there."""
        return self.files.names()

    def used(self) -> Mapping[str, str]:
        """Return the content hashes of files that were in force before."""
        return self.files.used()

    def use(self, hashes: Mapping[str, str]) -> None:
        """Take note of content hashes, as `SchemaFiles` says."""
        self.files.use(hashes)

    def descriptors(self, sources: Mapping[str, bytes], root: str) -> bytes:
        """Return a descriptor set, as `SchemaFiles` says; the same sources are compiled once."""
        key = (root, *((path, digest(data)) for path, data in sorted(sources.items())))
        if key not in self._described:
            self._described[key] = self.files.descriptors(sources, root)
        return self._described[key]

    def faults(self) -> list[Fault]:
        """Return what has changed although it was in force."""
        try:
            used = self.files.used()
        except (OSError, ValueError) as error:
            words = (getattr(error, "strerror", None) or str(error)).lower()
            hint = "it holds the content hashes of schemas that were in force; restore it, or remove it to begin anew"
            return [Fault(USED, "", f"in proxy.data_dir: {words}", "a readable file", hint)]
        return [self._changed(path) for path, found in sorted(self.hashes.items()) if used.get(path, found) != found]

    def _changed(self, path: str) -> Fault:
        subject, _, name = path.rpartition("/")
        version = PurePosixPath(name).stem
        hint = (
            f"version {version} of {subject} was in force and cannot change: "
            "restore this file, and put the change into a new version"
        )
        return Fault(str(self.directory / path), "", "other content than it had when it was used", "the same", hint)
