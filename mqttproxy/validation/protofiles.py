"""From `.proto` files and descriptor sets to the descriptor of the one message that payloads are."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, Final

from attrs import frozen
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from mqttproxy.config.errors import quoted
from mqttproxy.validation.files import LARGEST_SCHEMA, SchemaFiles, joined
from mqttproxy.validation.protoc import ProtocError, imports
from mqttproxy.validation.words import listed

MOST_FILES: Final = 1000


class UnusableError(Exception):
    """A file cannot be used: `found` in words, at `key`; `expected` and `hint` as in a `Fault`."""

    def __init__(self, found: str, expected: str = "", hint: str = "", *, key: str = "") -> None:
        super().__init__(found)
        self.found, self.expected, self.hint, self.key = found, expected, hint, key


@frozen(eq=False)
class Described:
    """The message of one version. `pool` keeps the descriptors alive."""

    message: Descriptor
    file: descriptor_pb2.FileDescriptorProto
    pool: descriptor_pool.DescriptorPool


def describe(path: str, files: SchemaFiles, message: str | None) -> Described:
    """Read a `.proto` file with what it imports, or a descriptor set, and find its message.

    Args:
        path: in the schema folder.
        files: the schema folder.
        message: its full name, or None: the only one that the file has.

    Raises:
        UnusableError: something is wrong with the file.
        OSError: it cannot be read.

    """
    if PurePosixPath(path).suffix == ".proto":
        try:
            data = files.descriptors(_sources(path, files), path)
        except ProtocError as error:
            raise UnusableError("; ".join(str(error).splitlines()), "Protobuf that compiles") from error
    else:
        data = _read(path, files)
    try:
        described = descriptor_pb2.FileDescriptorSet.FromString(data)
    except DecodeError as error:
        raise UnusableError("what is no descriptor set", "the output of protoc --descriptor_set_out") from error
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        try:
            pool.Add(file)
        except TypeError as error:
            hint = "protoc --include_imports puts all that is needed into it, in order"
            raise UnusableError(f"a descriptor set that does not fit together: {error}", hint=hint) from error
    roots = [file for file in described.file if file.name == path] or _roots(described.file)
    name = message or _only_message(roots)
    try:
        found = pool.FindMessageTypeByName(name)
    except KeyError:
        known = listed(sorted(_messages(roots)))
        raise UnusableError(
            quoted(name), f"a message of {path}", f"there are {known}", key="protobuf.message"
        ) from None
    file = next(file for file in described.file if file.name == found.file.name)
    return Described(found, file, pool)


def _sources(path: str, files: SchemaFiles) -> dict[str, bytes]:
    sources = {path: _read(path, files)}
    waiting = [path]
    while waiting:
        for name in imports(sources[waiting.pop()]):
            inside = joined("", name)
            if inside is None or inside != name or inside in sources:
                continue  # the compiler has words for a name that leads nowhere
            try:
                sources[inside] = _read(inside, files)
            except OSError:
                continue  # one that Google ships, or missing: the compiler knows
            if len(sources) > MOST_FILES:
                raise UnusableError(f"more than {MOST_FILES} imported files")
            waiting.append(inside)
    return sources


def _read(path: str, files: SchemaFiles) -> bytes:
    data = files.read(path)
    if len(data) > LARGEST_SCHEMA:
        raise UnusableError(f"{len(data)} bytes in {path}", f"at most {LARGEST_SCHEMA}")
    return data


def _roots(described: Iterable[Any]) -> list[Any]:
    """Return the files that no other one needs."""
    needed = {name for file in described for name in file.dependency}
    return [file for file in described if file.name not in needed]


def _messages(files: Iterable[Any]) -> list[str]:
    return [f"{file.package}.{message.name}".lstrip(".") for file in files for message in file.message_type]


def _only_message(roots: Iterable[Any]) -> str:
    names = _messages(roots)
    if len(names) == 1:
        return names[0]
    found = f"{len(names)} messages" if names else "no message"
    hint = f'say which one in subject.toml: [protobuf] message = "{names[0]}"' if names else ""
    raise UnusableError(found, "one message that payloads are", hint)
