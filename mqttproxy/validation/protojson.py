"""Protobuf messages as JSON documents, within bounds: for expressions, transforms and people."""

import base64
import math
from typing import Any

from attrs import define
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor as Field

from mqttproxy.validation.gate import too_deep, too_many
from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import MESSAGE_LENGTH, printable

_GOOGLES = "google.protobuf."


class OutOfBoundsError(Exception):
    """The message is too deep or too large, or says what cannot be said; `failure` tells."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@define
class CountedDocument:
    """Makes one document."""

    max_items: int
    max_depth: int
    _left: int = 0

    def of(self, message: Any) -> Any:
        """Return a message as JSON types. Raises OutOfBoundsError."""
        self._left = self.max_items
        return self._message(message, 1)

    def _message(self, message: Any, depth: int) -> Any:
        if depth > self.max_depth:
            raise OutOfBoundsError(too_deep(self.max_depth))
        if message.DESCRIPTOR.full_name.startswith(_GOOGLES):
            self._count(message.ByteSize() + 1)  # at least so many values can be inside
            try:
                return json_format.MessageToDict(message)
            except (json_format.Error, ValueError, TypeError, OverflowError) as error:
                words = printable(str(error), MESSAGE_LENGTH)
                raise OutOfBoundsError(Failure("", "protobuf", words)) from error
        document = {}
        for one in message.DESCRIPTOR.fields:
            if one.is_repeated or not one.has_presence or message.HasField(one.name):
                self._count(1)
                document[one.name] = self._field(one, getattr(message, one.name), depth)
        return document

    def _field(self, one: Field, value: Any, depth: int) -> Any:
        if not one.is_repeated:
            return self._value(one, value, depth)
        self._count(len(value))
        kind: Any = one.message_type
        if kind is not None and kind.GetOptions().map_entry:
            inner = kind.fields_by_name["value"]
            return {_key(key): self._value(inner, value[key], depth) for key in value}
        return [self._value(one, item, depth) for item in value]

    def _value(self, one: Field, value: Any, depth: int) -> Any:
        if one.message_type is not None:
            return self._message(value, depth + 1)
        if one.enum_type is not None:
            known = one.enum_type.values_by_number.get(value)
            return value if known is None else known.name
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, float) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return value

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise OutOfBoundsError(too_many(self.max_items))


def _key(key: Any) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)
