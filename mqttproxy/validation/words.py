"""What a device sent, in words that are safe to log, to store and to send: short, printable, on one line."""

from collections.abc import Iterable
from typing import Final

VALUE_LENGTH: Final = 60  # characters of a value that are shown
NAME_LENGTH: Final = 40  # characters of a member's name
POINTER_LENGTH: Final = 256
MESSAGE_LENGTH: Final = 240

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def shown(value: object) -> str:
    """Return a JSON value in words; of arrays and objects only the size."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(cut(value, VALUE_LENGTH))
        case list():
            return f"an array of {len(value)}"
        case dict():
            return f"an object of {len(value)}"
    return cut(repr(value), VALUE_LENGTH)


def listed(names: list[str]) -> str:
    """Return some names of members, and how many more there are."""
    some = ", ".join(repr(cut(name, NAME_LENGTH)) for name in names[:3])
    return some if len(names) <= 3 else f"{some} and {len(names) - 3} more"


def cut(text: str, length: int) -> str:
    """Return at most `length` characters of the text, with a mark where some are left out."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def printable(text: str, length: int) -> str:
    """Return the text cut short, with JSON's escapes for what does not print.

    Pointers go into MQTT properties, where U+0000 would make the packet malformed.
    """
    text = cut(text, length)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def pointer(parts: Iterable[str | int]) -> str:
    """Return a JSON Pointer (RFC 6901), shown as `printable` does."""
    text = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
    return printable(text, POINTER_LENGTH)
