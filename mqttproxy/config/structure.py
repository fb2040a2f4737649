"""From the tables of a parsed file to the settings: strictly, and with every fault told at once.

cattrs does the walking. Its own leniency (`"false"` is True, 1883.9 is 1883, a text is a list of letters) is switched
off by a reader for each type that may stand in the file.
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import attrs
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError, override
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.gen import make_dict_structure_fn

from mqttproxy.config.cases import CaseFile
from mqttproxy.config.errors import LONGEST_SHOWN, ConfigError, Fault, quoted, shown
from mqttproxy.config.kinds import JsonValue, TopicTemplate, file_key
from mqttproxy.config.limiting import parse_windows
from mqttproxy.config.model import (
    Ack,
    Address,
    Bytes,
    Conditions,
    Count,
    Labels,
    Network,
    PolicyTopic,
    ProxyConfig,
    Quorum,
    RouteSettings,
    Seconds,
    TelemetrySettings,
    TopicFilter,
    TopicPattern,
    Windows,
    every_table,
    table_class,
)
from mqttproxy.config.pointers import parse_pointer
from mqttproxy.config.templates import parse_template
from mqttproxy.config.transforms import STEP_WORDS, STEPS, JsonPointer, Step, Template
from mqttproxy.config.units import (
    ADDRESS_WORDS,
    DURATION_WORDS,
    NETWORK_WORDS,
    SIZE_WORDS,
    parse_address,
    parse_duration,
    parse_network,
    parse_size,
)
from mqttproxy.config.users import UsersFile

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")  # a secret that stands in the environment
_NOT_SHOWN: Final = "something that is not shown"
_ACKS: Final = get_args(get_args(Ack)[0])


class MisfitError(ValueError):
    """A value is not what its setting takes. Its words never show a secret."""

    def __init__(self, found: str, expected: str, hint: str = "") -> None:
        super().__init__(found, expected)
        self.found, self.expected, self.hint = found, expected, hint


def structure(document: dict[str, Any], file: str) -> ProxyConfig:
    """Return the settings a parsed file stands for; what it does not name has its default.

    Raises:
        ConfigError: with all values that are not what their setting takes, and all keys that are not known.

    """
    config: ProxyConfig = structure_as(document, ProxyConfig, file)
    return config


def structure_as(document: dict[str, Any], kind: type[Any], file: str) -> Any:
    """Return the same for a file of another kind. Raises ConfigError likewise."""
    try:
        return _CONVERTER.structure(document, kind)
    except ClassValidationError as error:
        raise ConfigError(_faults(error, file, "", kind)) from error


def type_words(kind: Any) -> str:
    """Return in words what a setting of this type takes."""
    if kind == Ack or _is_literal(kind):
        words = "one of " + ", ".join(map(quoted, _ACKS if kind == Ack else get_args(kind)))
        return f"{words}, or {{ quorum = 2 }}" if kind == Ack else words
    if (tables := table_class(kind)) is not None:
        return f"tables, each written {_TABLES[tables]}"
    if _is_tuple(kind):
        return f"a list, each {type_words(get_args(kind)[0])}"
    if kind in _TABLES:
        return f"a table, written {_TABLES[kind]}"
    if kind is Step or kind in _READERS:
        return STEP_WORDS if kind is Step else _READERS[kind][1]
    return next(type_words(part) for part in get_args(kind) if part is not type(None))  # of `X | None`


def _text(value: object) -> str | None:
    # NUL is forbidden in every text of MQTT, in paths and in host names
    return value if isinstance(value, str) and "\0" not in value else None


def _path(value: object) -> Path | None:
    return Path(text) if (text := _text(value)) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _number(value: object) -> float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _whole(value)


def _count(value: object) -> int | None:
    return number if (number := _whole(value)) and number > 0 else None


def _address(value: object) -> str | None:
    return _text(value) if parse_address(value) else None


def _network(value: object) -> str | None:
    return _text(value) if parse_network(value) else None


def _labels(value: object) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(value, dict) or not all(map(_text, value.values())):
        return None
    return tuple(value.items()) if all(map(_text, value)) else None


def _conditions(value: object) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """Read a table of texts or lists of texts."""
    if not isinstance(value, dict) or not all(map(_text, value)):
        return None
    found = {name: tuple(one) if isinstance(one, list) else (one,) for name, one in value.items()}
    return tuple(found.items()) if all(some and all(map(_text, some)) for some in found.values()) else None


def _pointer(value: object) -> str | None:
    return _text(value) if parse_pointer(value) is not None else None


def _template(value: object) -> str | None:
    return _text(value) if parse_template(value) else None


def _windows(value: object) -> str | None:
    return text if (text := _text(value)) and parse_windows(text) else None


def _json(value: object) -> object | None:
    """Return a value that JSON can say; TOML has dates beside, and numbers that are none."""
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return value if all(_json(item) is not None for item in inside) else None
    return value if isinstance(value, str | bool) else _number(value)


# For each type that may stand in the file: what reads it (None: it does not fit), and what it takes, in words.
_READERS: Final[dict[Any, tuple[Callable[[object], Any], str]]] = {
    str: (_text, "a text"),
    bool: (_flag, "true or false"),
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
    Path: (_path, "a path"),
    Seconds: (parse_duration, DURATION_WORDS),
    Bytes: (parse_size, SIZE_WORDS),
    Count: (_count, "a whole number of at least 1"),
    Address: (_address, ADDRESS_WORDS),
    Network: (_network, NETWORK_WORDS),
    TopicFilter: (_text, 'a topic filter such as "sensor/+/temperature"'),
    TopicPattern: (_text, 'a topic pattern such as "plant/{line}/#"'),
    TopicTemplate: (_text, 'a topic filter such as "plant/${site}/#"'),
    PolicyTopic: (_text, 'a topic filter such as "sensor/{device}/temperature"'),
    Windows: (_windows, 'amount:seconds of each window, such as "10:1,300:60" or "1MiB:1s", at most 30 days'),
    Labels: (_labels, "a table of names and texts"),
    Conditions: (_conditions, "a table of names, and a text or some texts for each"),
    JsonPointer: (_pointer, 'a JSON Pointer such as "/values/0/unit"'),
    JsonValue: (_json, "a text, a number, true, false, or a list or table of those"),
    Template: (_template, 'a text such as "plant/{line}/{2}"'),
}


# How the table of each class is written in the file.
_FILES: Final = (ProxyConfig, CaseFile, UsersFile)
_TABLES: Final = {kind: heading for file in _FILES for _, heading, kind in every_table(file)}
_FILE_OF: Final = {kind: file for file in _FILES for kind in (file, *(inner for _, _, inner in every_table(file)))}


def _scalar_hook(kind: Any) -> Callable[[object, Any], Any]:
    read, words = _READERS[kind]

    def hook(value: object, _: Any) -> Any:
        result = read(value)
        if result is None:
            raise MisfitError(shown(value), words)
        return result

    return hook


def _literal(value: object, kind: Any) -> Any:
    if isinstance(value, str) and value in get_args(kind):
        return value
    raise MisfitError(shown(value), type_words(kind))


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _tuple_hook(kind: Any, converter: Converter) -> Callable[[object, Any], Any]:
    structure_items = homogenous_tuple_structure_factory(kind, converter)

    def hook(value: object, _: Any) -> Any:
        if not isinstance(value, list):
            raise MisfitError(shown(value), type_words(kind))
        return structure_items(value, kind)

    return hook


def _class_hook(kind: Any, converter: Converter) -> Callable[[object, Any], Any]:
    hooks = {a.name: _secret for a in attrs.fields(kind) if a.metadata.get("secret")} | _SPECIAL.get(kind, {})
    overrides: dict[str, Any] = {name: override(struct_hook=hook) for name, hook in hooks.items()}
    overrides |= {a.name: override(rename=file_key(a.name)) for a in attrs.fields(kind) if a.name != file_key(a.name)}
    structure_table = make_dict_structure_fn(kind, converter, **overrides)

    def hook(value: object, _: Any) -> Any:
        if not isinstance(value, dict):
            raise MisfitError(shown(value), type_words(kind))
        return structure_table(value, kind)

    return hook


def _step_hook(converter: Converter) -> Callable[[object, Any], Step]:
    def hook(value: object, _: Any) -> Step:
        if not isinstance(value, dict):
            raise MisfitError(shown(value), STEP_WORDS)
        op = value.get("op")
        if not isinstance(op, str) or op not in STEPS:
            found = "no op" if op is None else f"the op {shown(op)}"
            near = difflib.get_close_matches(str(op), STEPS, n=1)
            raise MisfitError(
                found, f"one of {', '.join(map(quoted, STEPS))}", f"did you mean {quoted(near[0])}?" if near else ""
            )
        return converter.structure(value, STEPS[op])

    return hook


def _secret(value: object, _: Any) -> str:
    if (text := _text(value)) is None:
        raise MisfitError(_NOT_SHOWN, "a text")
    if (variable := _VARIABLE.fullmatch(text)) is None:
        return text
    found = os.environ.get(variable[1])
    if not found:
        raise MisfitError(f"the environment variable {variable[1]}, which is not set", "one that is")
    return found


def _ack(value: object, _: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"quorum"} and (number := _count(value["quorum"])):
        return Quorum(number)
    if isinstance(value, str) and value in _ACKS:
        return value
    raise MisfitError(shown(value), type_words(Ack))


def _optional_address(value: object, _: Any) -> str | None:
    if value == "":
        return None
    if (address := _address(value)) is None:
        raise MisfitError(shown(value), f'{ADDRESS_WORDS}, or "" for none')
    return address


# Settings that take more, or explain more, than their type says.
_SPECIAL: Final[dict[Any, dict[str, Callable[[object, Any], Any]]]] = {
    RouteSettings: {"ack": _ack},
    TelemetrySettings: {"metrics_bind": _optional_address},
}


def _strict_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in _READERS:
        converter.register_structure_hook(kind, _scalar_hook(kind))
    converter.register_structure_hook_func(lambda kind: kind is Step, _step_hook(converter))
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_factory(_is_tuple, _tuple_hook)
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    return converter


_CONVERTER: Final = _strict_converter()


def _faults(error: Exception, file: str, key: str, kind: Any = None) -> Iterator[Fault]:
    """Yield the faults in cattrs's tree of errors. `kind` is the type of the setting that `key` names."""
    match error:
        case ClassValidationError():
            inner, others = error.group_exceptions()
            for cause, note in inner:
                name = file_key(note.name)
                yield from _faults(cause, file, f"{key}.{name}" if key else name, note.type)
            for cause in others:
                yield from _faults(cause, file, key, error.cl)
        case IterableValidationError():
            for cause, item in error.group_exceptions()[0]:
                yield from _faults(cause, file, f"{key}[{item.index}]", item.type)
        case ForbiddenExtraKeysError():
            for name in sorted(error.extra_fields):
                yield _unknown_key(file, key, name, error.cl)
        case KeyError():
            yield Fault(file, key, "nothing", type_words(kind))
        case MisfitError():
            yield Fault(file, key, error.found, error.expected, error.hint)
        case _:  # not a fault of the file, but a bug of ours
            raise error


def _unknown_key(file: str, parent: str, name: str, kind: Any) -> Fault:
    # its value is not shown: it may be a misspelt password
    is_bare = name.replace("_", "").replace("-", "").isalnum() and name.isascii() and len(name) <= LONGEST_SHOWN
    bare = name if is_bare else quoted(name)
    key = f"{parent}.{bare}" if parent else bare
    known = _setting_names(kind)
    if near := difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5):
        return Fault(file, key, "an unknown key", hint=f'did you mean "{near[0]}"?')
    same_file = [owner for owner in _TABLES if _FILE_OF[owner] is _FILE_OF[kind]]
    if homes := [_TABLES[owner] for owner in same_file if name in _setting_names(owner)]:
        return Fault(file, key, "an unknown key", hint=f"it belongs into {' or '.join(homes)}")
    return Fault(file, key, "an unknown key", f"one of {', '.join(known)}")


def _setting_names(kind: Any) -> list[str]:
    return [file_key(attribute.name) for attribute in attrs.fields(kind)]
