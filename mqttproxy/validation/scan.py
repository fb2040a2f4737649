"""The last and exact step of the payload gate: read the source again with Python's own JSON reader.

Only a payload that orjson has read already comes here, so its syntax and encoding are sound. What is left to find are
keys that stand twice, integers out of range, and what was lost with an earlier member of the same name.
"""

import json
import re
from collections import Counter
from itertools import accumulate
from typing import Final

from mqttproxy.validation.verdict import FAILURES_KEPT, Failure
from mqttproxy.validation.words import NAME_LENGTH, cut, pointer

# What a bigint column, a C long long and a Java long can hold.
INTEGERS_FROM: Final = -(2**63)
INTEGERS_TO: Final = 2**63 - 1
_LONGEST_INTEGER: Final = 20  # characters of the smallest; longer texts are never made a number

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: linear
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class _TooManyError(Exception):
    """More values than allowed, those of lost members counted."""


class _Wide(str):
    """The text of an integer that is out of range."""

    __slots__ = ()


class _Object(list[tuple[str, object]]):
    """All members of an object in the order of the source, repeated ones too."""

    __slots__ = ()


class _Reader:
    """The hooks for `json.loads`. They count what they see, so that the work has a bound."""

    def __init__(self, max_items: int) -> None:
        self._left = max_items + 1

    def integer(self, text: str) -> object:
        self._count(1)
        if len(text) <= _LONGEST_INTEGER and INTEGERS_FROM <= int(text) <= INTEGERS_TO:
            return 0
        return _Wide(text)

    def members(self, pairs: list[tuple[str, object]]) -> object:
        self._count(len(pairs))
        return _Object(pairs)

    def _count(self, n: int) -> None:
        self._left -= n
        if self._left < 0:
            raise _TooManyError


def scan(payload: bytes, max_depth: int, max_items: int) -> tuple[Failure, ...]:
    """Return what is wrong with a payload that orjson could read."""
    if _depth(payload) > max_depth:
        return (Failure("", "depth", f"nested deeper than {max_depth} levels"),)
    reader = _Reader(max_items)
    try:
        document = json.loads(payload.decode(), object_pairs_hook=reader.members, parse_int=reader.integer)
    except _TooManyError:
        return (Failure("", "items", f"more than {max_items} values"),)
    return tuple(_findings(document, max_items))


def containers(payload: bytes) -> int:
    """Return how many arrays and objects the source has, without making one."""
    bare = _STRING.sub(b"", payload)
    return bare.count(b"[") + bare.count(b"{")


def _depth(payload: bytes) -> int:
    """Return how deep the source is nested, before anything that recurses sees it."""
    brackets = _STRING.sub(b"", payload).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _findings(document: object, max_items: int) -> list[Failure]:
    found: list[Failure] = []
    left = max_items
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), document)]
    while waiting and len(found) < FAILURES_KEPT:
        place, value = waiting.pop()
        if isinstance(value, _Wide):
            words = f"the integer {cut(value, NAME_LENGTH)} does not fit in 64 bits"
            found.append(Failure(pointer(place), "integer", words))
        elif isinstance(value, _Object):
            left -= len(value)
            found.extend(_repeated(place, value))
            waiting.extend(((*place, name), member) for name, member in reversed(value) if _matters(member))
        elif isinstance(value, list):
            left -= len(value)
            if left < 0:
                return [Failure("", "items", f"more than {max_items} values")]
            inside = [((*place, index), member) for index, member in enumerate(value) if _matters(member)]
            waiting.extend(reversed(inside))
    return found[:FAILURES_KEPT]


def _repeated(place: tuple[str | int, ...], members: _Object) -> list[Failure]:
    times = Counter(name for name, _ in members)
    names = [name for name, count in times.items() if count > 1][:FAILURES_KEPT]
    return [
        Failure(
            pointer((*place, name)), "duplicate-key", f"the key {cut(name, NAME_LENGTH)!r} stands {times[name]} times"
        )
        for name in names
    ]


def _matters(value: object) -> bool:
    return isinstance(value, _Wide | list)
