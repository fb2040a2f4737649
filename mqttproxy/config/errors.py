"""What is wrong with a configuration, told to the person who wrote it: which file, which key, what was expected."""

import datetime as dt
import json
import re
from collections.abc import Iterable
from typing import Final

from attrs import frozen

LONGEST_SHOWN: Final = 60  # characters of a value that are shown in a fault
LONGEST_PATH: Final = 1000

_CREDENTIALS: Final = re.compile(r"^([A-Za-z]*:?//)?.*@", re.DOTALL)  # user:password@, however broken the URL is

_KINDS: Final = {list: "a list", dict: "a table", dt.date: "a date", dt.time: "a time"}


@frozen
class Fault:
    """One fault. All texts are words for people: values go through `shown` first, and secrets never come here."""

    file: str
    key: str  # such as `upstreams[1].url`; empty: the file as a whole
    found: str
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """Return one sentence, such as `proxy.toml: proxy.id: found 5, expected a text`."""
        place = f"{self.file}: {self.key}" if self.key else self.file
        expected = f", expected {self.expected}" if self.expected else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}: found {self.found}{expected}{hint}"


@frozen
class Told(Fault):
    """A fault of which another process told the whole sentence, here as `found`."""

    def __str__(self) -> str:
        """Return it as it was told."""
        return self.found


class ConfigError(Exception):
    """The configuration cannot be used. `faults` holds everything that is wrong with it; a line each in `str`."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        """Return one line for each fault."""
        return "\n".join(map(str, self.faults))


def shown(value: object) -> str:
    """Return a value of the file in words: short, printable, on one line, and without credentials of a URL.

    What is inside of a list or table is not shown: it may be a secret that stands in the wrong place.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(_CREDENTIALS.sub(r"\1***@", value) if ":" in value else value)
        case int() | float():
            return _number(value)
    return next((words for kind, words in _KINDS.items() if isinstance(value, kind)), f"a {type(value).__name__}")


def quoted(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return the text in double quotes, escaped and cut short."""
    short = text if len(text) <= longest else f"{text[:longest]}…"
    return json.dumps(short, ensure_ascii=not short.isprintable())


def _number(value: float) -> str:
    # an int of thousands of digits (hexadecimal in the file) is refused by str() itself
    if isinstance(value, int) and abs(value) >= 10**LONGEST_SHOWN:
        return "a very large number"
    return str(value)
