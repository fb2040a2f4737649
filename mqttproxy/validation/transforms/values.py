"""The steps that change single values: `cast`, `unit`, `mask`. Each is a function of the value, raising ValueError."""

import hmac
import math
import re
from collections.abc import Callable
from decimal import Context as Arithmetic, Decimal
from functools import partial
from typing import Any, Final

import orjson

from mqttproxy.config.measures import Conversion, conversion
from mqttproxy.config.transforms import Cast, How, Mask, Unit
from mqttproxy.validation.scan import INTEGERS_FROM, INTEGERS_TO
from mqttproxy.validation.transforms.context import Context
from mqttproxy.validation.transforms.draft import Draft, path_of
from mqttproxy.validation.transforms.errors import TransformError
from mqttproxy.validation.transforms.members import Doing, complain, remove_all
from mqttproxy.validation.words import shown

Change = Callable[[Any], Any]

HASH_LENGTH: Final = 16  # hexadecimal digits, so 64 bits
LONGEST_NUMBER: Final = 400  # characters of a text that may be a number

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # RFC 8259
_EXACTLY: Final = Arithmetic(prec=60, Emax=10_000, Emin=-10_000)
_ROUNDABLE: Final = Decimal(10) ** 20  # no float that is larger has decimal places


def casting_of(step: Cast) -> Doing:
    """Return what does a `cast` step."""
    return _changing(step.path, _CASTS[step.type], step.if_missing)


def converting_of(step: Unit) -> Doing:
    """Return what does a `unit` step."""
    change = partial(converted, conversion(step.from_, step.to), step.digits)
    return _changing(step.path, change, step.if_missing)


def masking_of(step: Mask, key: bytes) -> Doing:
    """Return what does a `mask` step."""
    if step.how != "drop":
        return _changing(step.path, masked(step.how, step.length, key), step.if_missing)
    path, fails = path_of(step.path), step.if_missing == "fail"

    def drop(draft: Draft, _: Context) -> None:
        places, missing = draft.find(draft.top, path)
        complain(missing, fails=fails)
        remove_all(places)

    return drop


def masked(how: How, length: int | None, key: bytes) -> Change:
    """Return what makes a value unreadable, for any way but to drop it."""
    if how == "hash":
        if not key:  # a hash that everybody can make is no mask
            raise ValueError("a hash needs a key")
        return partial(hashed, hmac.new(key, digestmod="sha256"), length or HASH_LENGTH)
    return partial(truncated, length or 0)


def _changing(pointer: str, change: Change, if_missing: str) -> Doing:
    path, fails = path_of(pointer), if_missing == "fail"

    def do(draft: Draft, _: Context) -> None:
        places, missing = draft.find(draft.top, path)
        complain(missing, fails=fails)
        for place in places:
            try:
                place.holder[place.key] = change(place.holder[place.key])
            except ValueError as error:
                raise TransformError(place.pointer, str(error)) from None

    return do


def hashed(keyed: hmac.HMAC, length: int, value: Any) -> str:
    """Return a name for a value that only the holder of the key can make again: of a text its UTF-8, else its JSON."""
    plain = value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    digest = keyed.copy()
    digest.update(plain)
    return digest.hexdigest()[:length]


def truncated(length: int, value: Any) -> str:
    """Return the first characters of a text."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text that can be cut short")  # noqa: TRY004 # told, not raised to a caller
    return value[:length]


def converted(how: Conversion, digits: int | None, value: Any) -> float:
    """Return a number in another unit: computed with 60 digits from how it is written, and rounded once."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is no number")  # noqa: TRY004 # as above
    # Its shortest writing, which is what the device meant: 98.6 is 98.6, and not 98.599999999999994.
    exact = _EXACTLY.divide(_EXACTLY.fma(Decimal(repr(value)), how.times, how.plus), how.by)
    if digits is not None and abs(exact) < _ROUNDABLE:
        exact = exact.quantize(Decimal((0, (1,), -digits)), context=_EXACTLY)
    result = float(exact)
    if not math.isfinite(result):
        raise ValueError(f"{shown(value)} is out of range in the other unit")
    return result + 0.0  # -0.0 is nothing that a device has measured


def _as_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        raise ValueError(f"{shown(value)} is no single value")
    return orjson.dumps(value).decode()


def _as_number(value: Any) -> float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    return _parsed(value)


def _as_integer(value: Any) -> int:
    number = _as_number(value)
    if number != int(number):
        raise ValueError(f"{shown(value)} is not whole")
    whole = int(number)
    if not INTEGERS_FROM <= whole <= INTEGERS_TO:
        raise ValueError(f"{shown(value)} does not fit in 64 bits")
    return whole


def _as_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | float) and value in _BOOLEANS:
        return _BOOLEANS[value]
    raise ValueError(f"{shown(value)} is neither true nor false")


def _parsed(value: Any) -> float:
    if isinstance(value, str) and len(value) <= LONGEST_NUMBER and (found := _NUMBER.fullmatch(value)):
        number = float(value) if found[1] or found[2] else int(value)
        if math.isfinite(number) and (isinstance(number, float) or INTEGERS_FROM <= number <= INTEGERS_TO):
            return number
    raise ValueError(f"{shown(value)} is no number")


_BOOLEANS: Final[dict[str | float, bool]] = {"true": True, "false": False, "1": True, "0": False, 1: True, 0: False}
_CASTS: Final[dict[str, Change]] = {
    "string": _as_string,
    "number": _as_number,
    "integer": _as_integer,
    "boolean": _as_boolean,
}
