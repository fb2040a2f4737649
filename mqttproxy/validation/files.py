"""How schemas are named, and where their files come from."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field

from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.references import PART
from mqttproxy.validation.protoc import compile_protos
from mqttproxy.wholefile import write_whole

LARGEST_SCHEMA: Final = 1024 * 1024  # bytes of one file
SUBJECT: Final = "subject.toml"
KINDS: Final = {".json": "json", ".proto": "protobuf", ".desc": "protobuf", ".binpb": "protobuf", ".avsc": "avro"}
USED: Final = "used-schemas.json"  # in the data folder: content hashes of files that were in force

_LARGEST_USED: Final = 64 * 1024 * 1024


class SchemaFiles(Protocol):
    """The schema folder. Paths are relative to it, with `/`, and never lead outside."""

    def read(self, path: str) -> bytes:
        """Return the content of a file, or raise OSError: it is not there, not readable, or leads outside."""

    def names(self) -> Iterable[str]:
        """Return the paths of the files that are there."""

    def used(self) -> Mapping[str, str]:
        """Return the content hashes of files that were in force before, by path: they may not change."""

    def use(self, hashes: Mapping[str, str]) -> None:
        """Take note of the content hashes of files that contracts were made of."""

    def descriptors(self, sources: Mapping[str, bytes], root: str) -> bytes:
        """Return the descriptor set of a `.proto` file and of all that it imports; or raise `ProtocError`."""


@define
class SchemaFolder:
    """The folder on disk: the only place of this room that looks at it, at start and reload."""

    directory: Path
    memory: Path | None = None  # the file of content hashes; None: nothing is remembered
    check_time: float = 5.0  # seconds for compiling one `.proto` file
    in_use: dict[str, str] = field(init=False, factory=dict)

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
        return sorted(
            file.relative_to(self.directory).as_posix()
            for file in self.directory.glob("*/*")
            if file.suffix in KINDS or file.name == SUBJECT
        )

    def used(self) -> Mapping[str, str]:
        """Return the content hashes that were remembered.

        Raises:
            OSError: they cannot be read.
            ValueError: the file that holds them is damaged.

        """
        if self.memory is None:
            return {}
        try:
            with self.memory.open("rb") as source:
                document = json.loads(source.read(_LARGEST_USED))
        except FileNotFoundError:
            return {}
        if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
            raise ValueError("it is not what the proxy writes")  # noqa: TRY004 - of the file, not of a type
        return {str(path): str(digest) for path, digest in document["files"].items()}

    def use(self, hashes: Mapping[str, str]) -> None:
        """Take note, in memory only: `remember` writes it down when the contracts are in force."""
        self.in_use.update(hashes)

    def remember(self) -> None:
        """Write down the content hashes of all that was used, for ever.

        Raises:
            OSError, ValueError: they cannot be read or written.

        """
        known = self.used()
        if self.memory is None or self.in_use.items() <= known.items():
            return
        text = json.dumps({"files": {**self.in_use, **known}}, indent=1, sort_keys=True)
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.memory, f"{text}\n".encode())

    def descriptors(self, sources: Mapping[str, bytes], root: str) -> bytes:
        """Return the descriptor set, compiled in a process of its own."""
        return compile_protos(sources, root, self.check_time)


@define
class DraftFiles:
    """The schema folder as candidates read it: what they use is not in force yet, so it may still change."""

    files: SchemaFiles
    hashes: dict[str, str] = field(init=False, factory=dict)  # of what contracts were made of, by path

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return self.files.read(path)

    def names(self) -> Iterable[str]:
        """Return the paths of the files that are there."""
        return self.files.names()

    def used(self) -> Mapping[str, str]:
        """Return the content hashes of files that were in force before; a candidate may use those as well."""
        return self.files.used()

    def use(self, hashes: Mapping[str, str]) -> None:
        """Take note of what a candidate is made of, to know it again."""
        self.hashes.update(hashes)

    def descriptors(self, sources: Mapping[str, bytes], root: str) -> bytes:
        """Return the descriptor set."""
        return self.files.descriptors(sources, root)

    @property
    def fingerprint(self) -> str:
        """What changes when any of the files does."""
        return digest(json.dumps(self.hashes, sort_keys=True).encode())


def schema_folder(config: ProxyConfig) -> SchemaFolder:
    """Return the folder that a configuration names, with the memory of what was in force."""
    return SchemaFolder(config.schemas.directory, config.proxy.data_dir / USED, config.schemas.check_time)


def digest(data: bytes) -> str:
    """Return the content hash of a file."""
    return f"sha256:{sha256(data).hexdigest()}"


def path_of(schema: str) -> str | None:
    """Return the path of `subject@version`, a JSON Schema, or None if it is not such a name."""
    subject, _, version = schema.partition("@")
    if PART.fullmatch(subject) and PART.fullmatch(version):
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
            if not PART.fullmatch(part):
                return None
            parts.append(part)
    return "/".join(parts)
