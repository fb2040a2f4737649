"""`subject.toml` beside the versions of a subject: aliases, compatibility mode, and what Protobuf needs to know."""

import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import evolve, frozen

from mqttproxy.config.errors import Fault, quoted, shown
from mqttproxy.config.references import PART
from mqttproxy.config.units import SIZE_WORDS, parse_size

MODES: Final = (
    "NONE",
    "BACKWARD", "FORWARD", "FULL",
    "BACKWARD_TRANSITIVE", "FORWARD_TRANSITIVE", "FULL_TRANSITIVE",
)  # fmt: skip
DEEPEST: Final = 100  # nesting that the Protobuf library reads


@frozen(kw_only=True)
class ProtobufSettings:
    """`[protobuf]`: what the `.proto` file itself cannot say."""

    message: str | None = None  # full name of the message that payloads are; None: the only one of the file
    required: tuple[str, ...] = ()  # field paths such as `inner.unit`
    unknown_fields: str = "allow"  # or "refuse"
    empty: str = "refuse"  # or "allow": payloads of no bytes
    max_depth: int = 32
    max_bytes: int | None = None


@frozen(kw_only=True)
class SubjectSettings:
    """The whole file."""

    compatibility: str = "NONE"
    compatibility_from: str | None = None  # versions before this one are not compared
    undeclared: str = "anything"  # or "nothing": what devices send besides what a JSON Schema names, when compared
    aliases: Mapping[str, str] = {}
    protobuf: ProtobufSettings = ProtobufSettings()


class _MisfitError(Exception):
    """A value that does not fit; in words what would."""


def parse_subject(data: bytes, file: str) -> tuple[SubjectSettings, list[Fault]]:
    """Return the settings, and all that is wrong with them; what is wrong has its default."""
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        return SubjectSettings(), [Fault(file, "", "text that is not TOML", hint=str(error).partition("\n")[0])]
    faults: list[Fault] = []
    tables = {name: document.pop(name, {}) for name in ("aliases", "protobuf")}
    settings = _filled(SubjectSettings(), document, "", file, faults)
    protobuf = aliases = None
    for name, table in tables.items():
        if not isinstance(table, dict):
            faults.append(Fault(file, name, shown(table), f"a table, written [{name}]"))
        elif name == "protobuf":
            protobuf = _filled(ProtobufSettings(), table, "protobuf.", file, faults)
        else:
            aliases = _aliases(table, file, faults)
    return evolve(settings, protobuf=protobuf or ProtobufSettings(), aliases=aliases or {}), faults


def _filled(settings: Any, table: Mapping[str, Any], prefix: str, file: str, faults: list[Fault]) -> Any:
    readers = _OF_PROTOBUF if prefix else _OF_SUBJECT
    values = {}
    for name, value in table.items():
        if name not in readers:
            known = [*readers, *(("[aliases]", "[protobuf]") if not prefix else ())]
            faults.append(Fault(file, f"{prefix}{name}", "an unknown key", f"one of {', '.join(known)}"))
            continue
        try:
            values[name] = readers[name](value)
        except _MisfitError as misfit:
            faults.append(Fault(file, f"{prefix}{name}", shown(value), str(misfit)))
    return evolve(settings, **values)


def _aliases(table: Mapping[str, Any], file: str, faults: list[Fault]) -> dict[str, str]:
    found = {}
    for name, value in table.items():
        if not PART.fullmatch(name):
            faults.append(
                Fault(file, f"aliases.{quoted(name)}", "a name that cannot be referred to", "letters, digits")
            )
            continue
        try:
            found[name] = _version(value)
        except _MisfitError as misfit:
            faults.append(Fault(file, f"aliases.{name}", shown(value), str(misfit)))
    return found


def _version(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not PART.fullmatch(text):
        raise _MisfitError('a version such as 2 or "2.1"')
    return text


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise _MisfitError(f"one of {', '.join(map(quoted, words))}")

    return read


def _text(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise _MisfitError("a text")


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise _MisfitError('a list of field paths such as "inner.unit"')


def _depth(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= DEEPEST:
        return value
    raise _MisfitError(f"a whole number from 1 to {DEEPEST}")


def _size(value: Any) -> int:
    if (size := parse_size(value)) is None:
        raise _MisfitError(SIZE_WORDS)
    return size


_OF_SUBJECT: Final[dict[str, Callable[[Any], Any]]] = {
    "compatibility": _one_of(*MODES),
    "compatibility_from": _version,
    "undeclared": _one_of("anything", "nothing"),
}
_OF_PROTOBUF: Final[dict[str, Callable[[Any], Any]]] = {
    "message": _text,
    "required": _texts,
    "unknown_fields": _one_of("allow", "refuse"),
    "empty": _one_of("refuse", "allow"),
    "max_depth": _depth,
    "max_bytes": _size,
}
