"""JSON as the gate takes it, read the long way round: everything that may be wrong is looked for by itself."""

import json
import math
from typing import Any


class NotAcceptedError(Exception):
    """By the slow reader."""


def slow(payload: bytes, depth: int, items: int) -> Any:
    """Return the document of a payload that is nested at most `depth` deep and has at most `items` values."""
    if payload.startswith(b"\xef\xbb\xbf"):
        raise NotAcceptedError
    try:
        text = payload.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotAcceptedError from error
    if _walk(document, depth) > items:
        raise NotAcceptedError
    return document


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise NotAcceptedError
    return dict(pairs)


def _no_constant(_text: str) -> None:
    raise NotAcceptedError


def _walk(value: Any, left: int) -> int:
    """Return how many values there are in a value. `left`: levels that may still come."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise NotAcceptedError from error
    if isinstance(value, float) and math.isinf(value):
        raise NotAcceptedError
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NotAcceptedError
    if isinstance(value, dict | list):
        if not left:
            raise NotAcceptedError
        if isinstance(value, dict):
            for name in value:
                _walk(name, left)
            value = list(value.values())
        return len(value) + sum(_walk(item, left - 1) for item in value)
    return 0
