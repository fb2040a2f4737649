"""How a policy says which texts it means: by globs, or by comparing versions. Nothing here uses regular expressions.

The texts that are compared come from devices: what a comparison costs depends on their length alone, never on what
stands in them (`BAD-INPUT` F7), and a text that is no version fits no comparison.
"""

import operator
from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import frozen

LONGEST_VERSION: Final = 64  # characters
MOST_DIGITS: Final = 15  # of one part

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}

Version = tuple[tuple[int, ...], tuple[tuple[int, int, str], ...]]


class Condition(Protocol):
    """What a text may be asked."""

    def fits(self, text: str) -> bool:
        """Tell whether the text is one of those that are meant."""


@frozen
class Glob:
    """A text in which `*` stands for any run of characters and `?` for one. Capitals matter."""

    text: str

    def fits(self, text: str) -> bool:
        """Tell whether the text is one of those that are meant."""
        pattern = self.text
        at = place = 0
        star = resume = -1
        while place < len(text):
            if at < len(pattern) and pattern[at] == "*":
                star, resume = at, place
                at += 1
            elif at < len(pattern) and pattern[at] in ("?", text[place]):
                at += 1
                place += 1
            elif star >= 0:  # let the last star take one character more
                resume += 1
                at, place = star + 1, resume
            else:
                return False
        return not pattern[at:].strip("*")


@frozen
class Comparison:
    """Some bounds that a version must all keep, such as `>=2.1, <3`."""

    bounds: tuple[tuple[str, Version], ...]

    def fits(self, text: str) -> bool:
        """Tell whether the text is a version within the bounds."""
        version = parse_version(text)
        return version is not None and all(_OPERATORS[sign](version, bound) for sign, bound in self.bounds)


def parse_condition(text: str) -> Glob | Comparison | None:
    """Return the condition that a text stands for, or None: it begins like a comparison, but is none."""
    if text[:1] not in (">", "<", "=", "!"):
        return Glob(text) if text else None
    bounds = []
    for part in text.split(","):
        sign = next((sign for sign in _OPERATORS if part.strip().startswith(sign)), None)
        version = parse_version(part.strip()[len(sign) :].strip()) if sign else None
        if sign is None or version is None:
            return None
        bounds.append((sign, version))
    return Comparison(tuple(bounds))


def parse_version(text: str) -> Version | None:
    """Return what can be compared of a number or version such as `2`, `v2.1` or `2.1.0-rc.1+build`, or None.

    Part by part: 2.10 is more than 2.9, and 2.1 the same as 2.1.0. What has a suffix comes before what has none.
    """
    if len(text) > LONGEST_VERSION or not text.isascii():
        return None
    numbers, _, suffix = text.partition("+")[0].removeprefix("v").partition("-")
    parts = numbers.split(".")
    if not all(part.isdigit() and len(part) <= MOST_DIGITS for part in parts):
        return None
    release = [int(part) for part in parts]
    while len(release) > 1 and not release[-1]:
        del release[-1]
    return tuple(release), tuple(map(_suffix_part, suffix.split("."))) if suffix else ((2, 0, ""),)


def _suffix_part(part: str) -> tuple[int, int, str]:
    """Return what orders a part of a suffix: numbers by value, before all others."""
    return (0, int(part), "") if part.isdigit() and len(part) <= MOST_DIGITS else (1, 0, part)
