"""The payload gate: what a JSON payload must be before its schema is looked at (`BAD-INPUT` F1 to F6).

A payload that two decoders may read differently is a way around the judge: duplicate keys, NaN, integers that become
floats, lone surrogates, other encodings than UTF-8. orjson refuses most of that by itself, but it keeps the last of
duplicate keys and turns large integers into floats. That neither has happened is proved in three steps, each dearer
and more exact than the one before: decoding a flat object by its type and counting bytes, measuring the decoded
document, and reading the source again (`scan`). None of them recurses by the payload's depth, and all are linear in
its length.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
import orjson
from attrs import frozen

from mqttproxy.validation.scan import INTEGERS_FROM, INTEGERS_TO, containers, scan
from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import Json, printable

# Floats of this size may have been integers in the source, and are looked up there.
_LARGE: Final = 9.2e18
LONG: Final = 16 * 1024  # bytes of a payload that is looked at before it is decoded

# An object without arrays and objects in it, whose integers fit: what most devices send.
_FlatValue = str | bool | Annotated[int, msgspec.Meta(ge=INTEGERS_FROM, le=INTEGERS_TO)] | float | None
_decode_flat: Final[Callable[[bytes], dict[str, Any]]] = msgspec.json.Decoder(dict[str, _FlatValue]).decode


class PayloadError(Exception):
    """The payload does not pass the gate. `failures` says why."""

    def __init__(self, *failures: Failure) -> None:
        super().__init__(failures[0].message)
        self.failures = failures


@frozen
class Measure:
    """What a decoded document holds. `members` and `texts` count keys and string values."""

    levels: tuple[int, ...]  # how many values there are at each depth; the document itself is the first
    members: int
    texts: int
    large: int  # numbers that may have been integers out of range


def read(payload: bytes, max_depth: int, max_items: int) -> Json:
    """Return the decoded payload.

    Args:
        payload: as the device sent it.
        max_depth: deepest nesting of arrays and objects; a lone number has none.
        max_items: most values, the document itself not counted.

    Raises:
        PayloadError: it is not the JSON that everybody would read in the same way.

    """
    try:
        flat = _decode_flat(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # not such an object, or not JSON: the slower way tells
    else:
        # Every member has a colon and all but one a comma, so more members than `size` would show in both counts.
        size = len(flat)
        if (payload.count(b":") == size or payload.count(b",") + 1 == size) and size <= max_items:
            return flat
    try:
        document: Json = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _not_json(payload, str(error), max_depth) from None
    _prove(payload, document, max_depth, max_items)
    return document


def check_long(payload: bytes, max_items: int) -> None:
    """Look at a payload of more than `LONG` bytes before it is decoded.

    A hundred thousand small arrays would keep the garbage collector busy for 40 ms.

    Raises:
        PayloadError: it has more arrays and objects than values are allowed.

    """
    # One of them is the document itself, which does not count as a value in it.
    if payload.count(b"[") + payload.count(b"{") > max_items + 1 and containers(payload) > max_items + 1:
        raise PayloadError(too_many(max_items))


def measure(document: Json, max_depth: int, max_items: int) -> Measure:
    """Count what a document holds, level by level.

    Raises:
        PayloadError: it is deeper or larger than allowed. Nothing is counted beyond that.

    """
    if not isinstance(document, dict | list):
        return Measure((1,), 0, int(type(document) is str), int(_is_large(document)))
    level: list[dict[str, Json] | list[Json]] = [document]
    levels = [1]
    members = texts = items = large = 0
    while level:
        if len(levels) > max_depth:
            raise PayloadError(too_deep(max_depth))
        counts = [len(container) for container in level]
        levels.append(sum(counts))
        items += levels[-1]
        if items > max_items:
            raise PayloadError(too_many(max_items))
        below: list[dict[str, Json] | list[Json]] = []
        for container, count in zip(level, counts, strict=True):
            if isinstance(container, dict):
                members += count
            for value in container.values() if isinstance(container, dict) else container:
                if isinstance(value, str):
                    texts += 1
                elif isinstance(value, dict | list):
                    below.append(value)
                else:
                    large += _is_large(value)
        level = below
    return Measure(tuple(levels), members, texts, large)


def too_deep(max_depth: int) -> Failure:
    """Return the failure of a payload that is nested deeper than allowed."""
    return Failure("", "depth", f"nested deeper than {max_depth} levels")


def too_many(max_items: int) -> Failure:
    """Return the failure of a payload that holds more values than allowed."""
    return Failure("", "items", f"more than {max_items} values")


def _is_large(value: Json) -> bool:
    if type(value) is float:
        return not -_LARGE < value < _LARGE
    return type(value) is int and not INTEGERS_FROM <= value <= INTEGERS_TO


def _prove(payload: bytes, document: Json, max_depth: int, max_items: int) -> None:
    """Raise PayloadError unless the document is all that the payload says."""
    found = measure(document, max_depth, max_items)
    if not found.large:
        if payload.count(b":") == found.members:
            return
        # Without escaped quotes every string has two, so a member that was lost would leave some over.
        if b'\\"' not in payload and payload.count(b'"') == 2 * (found.members + found.texts):
            return
    if failures := scan(payload, max_depth, max_items):
        raise PayloadError(*failures)


def _not_json(payload: bytes, words: str, max_depth: int) -> PayloadError:
    """Say in words why a payload could not be decoded."""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{payload[error.start]:02x} at offset {error.start} is not UTF-8"
        return PayloadError(Failure("", "utf-8", found))
    if payload.startswith(b"\xef\xbb\xbf"):
        return PayloadError(Failure("", "utf-8", "begins with a byte order mark"))
    if words.startswith("depth limit"):
        return PayloadError(too_deep(max_depth))
    keyword = "json"
    if "infinity" in words:
        keyword = "number"
    elif "surrogate" in words:
        keyword = "surrogate"
    return PayloadError(Failure("", keyword, printable(f"not JSON: {words}", 120)))
