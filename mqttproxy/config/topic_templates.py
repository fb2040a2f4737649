"""Topic filters and texts with `${name}` in them, for what is known of a device: `plant/${site}/${client_id}/#`.

A template is taken apart before anything is put in, level by level for topics. So what a device says of itself can
neither add a level nor a wildcard (`BAD-INPUT` D1); values that could are refused by `safe_value` beside that.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen

from mqttproxy.config.attribute_patterns import NAME
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import SHARE, check_topic_filter

_PART: Final = re.compile(r"\$\{([^{}]*)\}")  # of templates, which are ours; never of what devices send
_UNSAFE: Final = frozenset("+#/")


@frozen
class Variable:
    """What `${name}` stands for: `client_id`, `username` or an attribute."""

    name: str


Text = tuple[str | Variable, ...]


class UnsafeValueError(ValueError):
    """A value would mean more in a topic than its text. `name`: of what."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} holds a wildcard, a separator or a control character, or is empty")
        self.name = name


def safe_value(value: str) -> bool:
    """Tell whether a text means itself in a level of a topic filter."""
    return bool(value) and value.isprintable() and not _UNSAFE & set(value)


@frozen
class TopicParts:
    """A topic filter, taken apart. Levels without a variable are texts."""

    levels: tuple[str | Text, ...]

    @property
    def names(self) -> frozenset[str]:
        """What it asks for."""
        parts = (part for level in self.levels if not isinstance(level, str) for part in level)
        return frozenset(part.name for part in parts if isinstance(part, Variable))

    def fill(self, value_of: Callable[[str], str | None]) -> str | None:
        """Return the topic filter for a device, or None: the device lacks what it asks for.

        Raises:
            UnsafeValueError: a value would mean more than its text.

        """
        levels = []
        for number, level in enumerate(self.levels):
            text = level if isinstance(level, str) else fill_text(level, value_of, safe_value)
            if text is None:
                return None
            if number == 0 and text.startswith("$") and not isinstance(level, str) and isinstance(level[0], Variable):
                raise UnsafeValueError(level[0].name)  # topics of servers are for who wrote the rule to name
            levels.append(text)
        return "/".join(levels)


def fill_text(text: Text, value_of: Callable[[str], str | None], is_safe: Callable[[str], bool]) -> str | None:
    """Return a text with its variables filled in, or None: one of them is not known.

    Raises:
        UnsafeValueError: a value is not safe here.

    """
    found = []
    for part in text:
        value = part if isinstance(part, str) else value_of(part.name)
        if value is None:
            return None
        if isinstance(part, Variable) and not is_safe(value):
            raise UnsafeValueError(part.name)
        found.append(value)
    return "".join(found)


def parse_text(text: str) -> Text | str:
    """Return the parts of a text with variables, or what is wrong with it, in words."""
    parts: list[str | Variable] = []
    for place, piece in enumerate(_PART.split(text)):
        if place % 2:
            if not NAME.fullmatch(piece):
                return f"${{{piece}}} is no name of letters, digits and underscores"
            parts.append(Variable(piece))
        elif "${" in piece:
            return "a ${ without its }"
        elif piece:
            parts.append(piece)
    return tuple(parts) if parts else "an empty text"


def parse_topic(text: str, *, max_bytes: int = 65_535, max_levels: int = 65_535) -> TopicParts | str:
    """Return the levels of a topic filter with variables, or what is wrong with it, in words."""
    if text.startswith(SHARE):
        return 'groups of shared subscriptions are chosen by "shared"'
    levels: list[str | Text] = []
    plain = []  # as it is when each variable is one letter
    for level in text.split("/"):
        parts = parse_text(level) if level else (level,)
        if isinstance(parts, str):
            return parts
        levels.append(parts if any(isinstance(part, Variable) for part in parts) else level)
        plain.append(_with_letters(parts))
    try:
        check_topic_filter("/".join(plain), max_bytes=max_bytes, max_levels=max_levels)
    except RemoteProtocolError as error:
        return str(error)
    return TopicParts(tuple(levels))


def _with_letters(parts: Sequence[str | Variable]) -> str:
    return "".join("x" if isinstance(part, Variable) else part for part in parts)
