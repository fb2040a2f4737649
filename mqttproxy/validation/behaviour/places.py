"""Where a rule finds its number, time or value in a message, and how it reads it."""

import re
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from mqttproxy.validation.checks import Case, Decode
from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.words import NAME_LENGTH, cut, pointer, shown

LONGEST_TIME: Final = 40  # characters

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final = object()


class MissingError(Exception):
    """What the rule asks for is not there, or cannot be read. Says so in words that are safe to show."""


@frozen(eq=False)
class Place:
    """A JSON Pointer into the payload, or a user property."""

    parts: tuple[str, ...]
    user_property: str | None
    decode: Decode

    @property
    def shown(self) -> str:
        """Return the pointer for a failure; of a user property none."""
        return pointer(self.parts)

    def value(self, case: Case) -> object:
        """Return what stands there: JSON of a payload, text of a user property.

        Raises:
            MissingError: there is nothing, or it stands there more than once.

        """
        if self.user_property is not None:
            return self._of_property(case, self.user_property)
        try:
            found = case.document(self.decode)
        except PayloadError as error:
            raise MissingError(f"cannot be looked for: {error.failures[0].message}") from None
        for part in self.parts:
            if isinstance(found, dict):
                found = found.get(part, _NOTHING)
            elif isinstance(found, list) and part.isascii() and part.isdigit() and len(part) < 10:
                found = found[int(part)] if int(part) < len(found) else _NOTHING
            else:
                found = _NOTHING
            if found is _NOTHING:
                raise MissingError("is missing")
        return found

    def _of_property(self, case: Case, name: str) -> str:
        texts = [text for given, text in case.message.properties.user_properties if given == name]
        words = f"as user property {cut(name, NAME_LENGTH)!r}"
        if not texts:
            raise MissingError(f"is missing {words}")
        if len(texts) > 1:
            raise MissingError(f"stands more than once {words}")
        return texts[0]

    def integer(self, case: Case) -> int:
        """Return the whole number that stands there. Raises MissingError."""
        value = self.value(case)
        if type(value) is int:
            return value
        if self.user_property is not None and isinstance(value, str) and _WHOLE.fullmatch(value):
            return int(value)
        raise MissingError(f"is {shown(value)}, which is no whole number")

    def time(self, case: Case, written: str) -> float:
        """Return the time that stands there, in seconds since 1970. Raises MissingError.

        Args:
            case: the message.
            written: `iso8601`, `seconds` or `milliseconds`. ISO 8601 without a zone is taken as UTC.

        """
        value = self.value(case)
        if written == "iso8601":
            seconds = _iso_time(value)
        else:
            seconds = _number(value, is_text=self.user_property is not None)
            if seconds is not None and written == "milliseconds":
                seconds /= 1000
        if seconds is None:
            words = "a time in ISO 8601" if written == "iso8601" else f"a number of {written}"
            raise MissingError(f"is {shown(value)}, which is not {words}")
        return seconds


def _iso_time(value: object) -> float | None:
    if not isinstance(value, str) or len(value) > LONGEST_TIME:
        return None
    try:
        found = datetime.fromisoformat(value)
        return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH).total_seconds()
    except (ValueError, OverflowError):
        return None


def _number(value: object, *, is_text: bool) -> float | None:
    if is_text:
        return float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None
    if type(value) is int and abs(value) >= 10**18:
        return None
    return float(value) if type(value) in (int, float) else None  # type: ignore[arg-type] # one of the two
