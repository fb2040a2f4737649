"""From `proxy.toml` to the settings, or to all that is wrong with it.

`parse_config` computes; `read_file`, `unreadable`, `read_secret` and `case_files` are the only places of this room that
look at the disk.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs

from mqttproxy.config.checks import check
from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.salvage import reliable, without_faulty_tables
from mqttproxy.config.structure import structure
from mqttproxy.config.units import write_size

LARGEST_FILE: Final = 16 * 1024 * 1024  # bytes

_BYTE_ORDER_MARKS: Final = {
    b"\xef\xbb\xbf": "a byte order mark",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_PLACE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def load_config(path: Path, *, place: Path | None = None) -> ProxyConfig:
    """Read and check a configuration file.

    Args:
        path: of the file.
        place: where it is to stand, if not where it does: its paths are relative to the folder of that.

    Raises:
        ConfigError: with everything that is wrong with it, an unreadable file included.

    """
    return config_of(read_file(path), str(path), place or path)


def read_file(path: Path, called: str = "") -> bytes:
    """Return what is in a configuration file. Faults name it as `called`, or by its path.

    Raises:
        ConfigError: it cannot be read, or is no such file.

    """
    file = called or str(path)
    try:
        with path.open("rb") as source:
            data = source.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError([Fault(file, "", _os_words(error), "a readable file")]) from error
    if len(data) > LARGEST_FILE:
        raise ConfigError([Fault(file, "", "a very large file", f"at most {write_size(LARGEST_FILE)}")])
    return data


def config_of(data: bytes, called: str, place: Path) -> ProxyConfig:
    """Return the settings that a file holds; see `load_config`.

    Raises:
        ConfigError: with everything that is wrong with it.

    """
    return parse_config(decode(data, called), called, place.parent.absolute())


def decode(data: bytes, file: str) -> str:
    """Return the text of a file, which must be UTF-8 without a byte order mark."""
    for mark, words in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            raise ConfigError([Fault(file, "line 1, column 1", words, "UTF-8 without a byte order mark")])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        found = f"the byte 0x{data[error.start]:02X}"
        raise ConfigError([Fault(file, f"line {line}, column {column}", found, "UTF-8")]) from error


def unreadable(path: Path) -> str | None:
    """Return in words why a file cannot be read, or None: it can."""
    try:
        with path.open("rb") as source:
            source.read(1)
    except OSError as error:
        return _os_words(error)
    return None


def read_secret(path: Path) -> bytes:
    """Return what a file of a secret holds, without the end of its line. Raises OSError."""
    return path.read_bytes().rstrip(b"\r\n")


def parse_config(
    text: str, file: str, base: Path, *, unreadable: Callable[[Path], str | None] = unreadable
) -> ProxyConfig:
    """Return the settings that the text stands for, complete and checked, with absolute paths.

    Args:
        text: TOML.
        file: what the text is called in faults.
        base: the absolute folder that its paths are relative to.
        unreadable: tells in words why a file that the text names cannot be read, or None: it can.

    Raises:
        ConfigError: with everything that is wrong with it.

    """
    return check_document(parse_toml(text, file), file, base, unreadable=unreadable)


def check_document(
    document: dict[str, Any], file: str, base: Path, *, unreadable: Callable[[Path], str | None] = unreadable
) -> ProxyConfig:
    """Return the settings that the tables of a file stand for; see `parse_config`.

    Raises:
        ConfigError: with everything that is wrong with them.

    """
    try:
        config: ProxyConfig = _absolute(structure(document, file), base)
    except ConfigError as error:
        raise ConfigError([*error.faults, *_other_faults(document, error.faults, base, unreadable)]) from error
    if faults := check(config, file, unreadable):
        raise ConfigError(faults)
    return config


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        ConfigError: with line and column.

    """
    if text.startswith("\ufeff"):
        raise ConfigError([Fault(file, "line 1, column 1", "a byte order mark", "UTF-8 without a byte order mark")])
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError([Fault(file, "", "values nested too deeply", "TOML")]) from error
    except ValueError as error:  # TOMLDecodeError, and what int() says of a number with thousands of digits
        raise ConfigError([_syntax_fault(file, text, str(error))]) from error


def _syntax_fault(file: str, text: str, message: str) -> Fault:
    placed = _PLACE.fullmatch(message)
    if placed is None:
        return Fault(file, "", "a number with too many digits", "TOML")
    line, column = placed[2], placed[3]
    if line is None:  # the end of the document
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    words = placed[1][:1].lower() + placed[1][1:]
    return Fault(file, f"line {line}, column {column}", "text that is not TOML", hint=words)


def _os_words(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "no such file"
        case IsADirectoryError():
            return "a folder"
        case PermissionError():
            return "a file that may not be read (permission denied)"
    return (error.strerror or "an error").lower()


def _absolute(settings: Any, base: Path) -> Any:
    """Return the settings with every path in them absolute."""
    changed: dict[str, Any] = {}
    for attribute in attrs.fields(type(settings)):
        value = getattr(settings, attribute.name)
        match value:
            case Path():
                changed[attribute.name] = base / value
            case tuple() if value and attrs.has(type(value[0])):
                changed[attribute.name] = tuple(_absolute(item, base) for item in value)
            case _ if attrs.has(type(value)):
                changed[attribute.name] = _absolute(value, base)
    return attrs.evolve(settings, **changed)


def _other_faults(
    document: dict[str, Any], faults: tuple[Fault, ...], base: Path, unreadable: Callable[[Path], str | None]
) -> list[Fault]:
    """Return what the cross-checks say about the tables that fit."""
    file = faults[0].file
    rest = structure(without_faulty_tables(document, faults), file)
    return reliable(check(_absolute(rest, base), file, unreadable), faults)
