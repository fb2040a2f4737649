"""Texts with parts of a topic in them: `{device}` a capture, `{2}` a level, `{0}` all, `{/site}` of the payload."""

import re
from typing import Final

from attrs import frozen

from mqttproxy.config.pointers import ALL, parse_pointer

LONGEST_TEMPLATE: Final = 1000  # characters

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEVEL: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_PART: Final = re.compile(r"\{([^{}]*)\}")


@frozen
class Capture:
    """The level that `{name}` stands for in the topic pattern."""

    name: str


@frozen
class Level:
    """A level of the topic by its number, the first is 1; 0: the whole topic."""

    number: int


@frozen
class Value:
    """A value of the payload."""

    pointer: str


Part = str | Capture | Level | Value


def parse_template(text: object) -> tuple[Part, ...] | None:
    """Return the parts of a template, or None: it is none."""
    if not isinstance(text, str) or not text or len(text) > LONGEST_TEMPLATE or "\0" in text:
        return None
    parts: list[Part] = []
    for place, piece in enumerate(_PART.split(text)):
        if place % 2:
            part = _part(piece)
            if part is None:
                return None
            parts.append(part)
        elif "{" in piece or "}" in piece:
            return None
        elif piece:
            parts.append(piece)
    return tuple(parts)


def _part(text: str) -> Part | None:
    if _NAME.fullmatch(text):
        return Capture(text)
    if _LEVEL.fullmatch(text):
        return Level(int(text))
    parts = parse_pointer(text)
    return Value(text) if parts and ALL not in parts else None
