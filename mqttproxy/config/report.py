"""Where the cross-checks write down what they find."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, define

from mqttproxy.config.errors import LONGEST_PATH, Fault, quoted, shown


@define
class Report:
    """The faults of one file so far. `unreadable` tells in words why a file cannot be read, or None: it can."""

    file: str
    unreadable: Callable[[Path], str | None]
    faults: list[Fault] = Factory(list)

    def add(self, key: str, found: str, expected: str = "", hint: str = "") -> None:
        """Add a fault; the texts are words, see `Fault`."""
        self.faults.append(Fault(self.file, key, found, expected, hint))

    def add_unreadable(self, key: str, path: Path | None) -> None:
        """Add a fault if the file, where one is named, cannot be read."""
        if path is not None and (words := self.unreadable(path)):
            self.add(key, f"{quoted(str(path), LONGEST_PATH)}, {words}", "a readable file")

    def add_unwanted(self, table: str, settings: Any, keys: tuple[str, ...], expected: str) -> None:
        """Add a fault for each of the keys that is set although it has no meaning here."""
        fields = attrs.fields_dict(type(settings))
        for key in keys:
            value = getattr(settings, key)
            if value != fields[key].default:
                self.add(f"{table}.{key}", shown(_plain(value)), expected)


def _plain(value: Any) -> Any:
    """Return a value as the file has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
