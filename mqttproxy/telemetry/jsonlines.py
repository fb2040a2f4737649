"""One JSON document on one line, whatever is in it: nothing that a device sent may break the line or the terminal."""

import re
from typing import Final

import orjson

_DEEPEST: Final = 16

# What JSON allows unescaped, but a terminal or an editor acts on: DEL, C1 controls (U+009B starts a sequence like ESC),
# line separators and the marks that turn the direction of writing. Given in UTF-8.
_ACTED_ON: Final = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xf3\xa0[\x80\x81][\x80-\xbf]"
)


def encode_line(document: object) -> bytes:
    """Return the document as one line of JSON without its line end; cannot fail on any value.

    Text that is not Unicode (lone surrogates), bytes, whole numbers over 64 bits and objects of other kinds are told
    as escaped text. Reading the line gives every other value back as it was.
    """
    try:
        line = orjson.dumps(document, default=_as_text)
    except (TypeError, RecursionError):  # orjson.JSONEncodeError is a TypeError
        line = orjson.dumps(_tamed(document, 0))
    if line.isascii() and b"\x7f" not in line:  # ten times cheaper than the search, and nearly always so
        return line
    return _ACTED_ON.sub(_escaped, line)


def _as_text(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return repr(value).encode("utf-8", "backslashreplace").decode()


def _tamed(value: object, depth: int) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(value)
    if depth < _DEEPEST and isinstance(value, dict):
        return {str(_tamed(str(key), depth)): _tamed(inner, depth + 1) for key, inner in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [_tamed(inner, depth + 1) for inner in value]
    return _as_text(value)


def _escaped(match: re.Match[bytes]) -> bytes:
    units = match.group().decode().encode("utf-16-be")
    return b"".join(b"\\u%04x" % int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
