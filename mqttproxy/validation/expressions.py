"""Regular expressions of schemas: what they cost on device data.

jsonschema-rs is told to use an engine of guaranteed linear time, which has no look-around and no back-references. What
is linear can still be slow: time is text times states in the worst case. The size of the compiled expression stands
for its states, and is found by trying.
"""

from typing import Final

import jsonschema_rs

LARGEST: Final = 64 * 1024  # bytes of a compiled expression, about a thousand states
_CACHE: Final = 256 * 1024  # bytes; a larger one is given up later when it does not help
OPTIONS: Final = jsonschema_rs.RegexOptions(size_limit=LARGEST, dfa_size_limit=_CACHE)

_SMALLEST: Final = 1024
_BASE: Final = 200.0  # nanoseconds for a byte, when the engine's cache of states does not help
_FOR_KIBIBYTE: Final = 60.0  # and for each KiB of compiled expression


def rate(expression: str) -> float | None:
    """Return the most nanoseconds that a byte of text costs, or None: not of linear time, too large, or malformed."""
    size = _SMALLEST
    while size <= LARGEST:
        try:
            options = jsonschema_rs.RegexOptions(size_limit=size, dfa_size_limit=_CACHE)
            jsonschema_rs.Draft202012Validator({"pattern": expression}, pattern_options=options, offline=True)
        except (ValueError, jsonschema_rs.ReferencingError):
            size *= 2
        else:
            return _BASE + _FOR_KIBIBYTE * size / 1024
    return None
