"""How a step of `transforms` and a mask name a place in a document: JSON Pointers (RFC 6901) with `*` for all."""

import re
from collections.abc import Sequence
from typing import Final

ALL: Final = "*"  # every item of an array, or every member of an object
LONGEST_POINTER: Final = 1000  # characters
MOST_PARTS: Final = 64

_ESCAPE: Final = re.compile(r"~(?![01])")


def parse_pointer(text: object) -> tuple[str, ...] | None:
    """Return the parts of a JSON Pointer, none for the whole document; or None: it is no pointer."""
    if not isinstance(text, str) or len(text) > LONGEST_POINTER or "\0" in text or _ESCAPE.search(text):
        return None
    if text == "":
        return ()
    empty, *parts = text.split("/")
    if empty or len(parts) > MOST_PARTS:
        return None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def parts_of(pointer: str) -> tuple[str, ...]:
    """Return the parts of a text that is known to be a pointer."""
    parts = parse_pointer(pointer)
    assert parts is not None, pointer  # noqa: S101 # a bug of ours: settings hold good ones only
    return parts


def shared(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the parts up to the last `*`, which two pointers of one step must have in common."""
    last = max((place for place, part in enumerate(parts) if part == ALL), default=-1)
    return tuple(parts[: last + 1])
