"""A Protobuf message made ready for payloads.

Almost any bytes are a Protobuf message: what a schema does not know is kept as unknown, what is missing has its
default, and no bytes at all are a message with nothing in it. So a contract says more than the `.proto` file
(`ProtobufSettings`): which fields must be there, whether there may be unknown ones, and how deep and large it may be.
A known field with the wrong encoding is a failure in any case, although the library takes it for an unknown one.
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

from attrs import define, field
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor as Field
from google.protobuf.message import DecodeError, EncodeError, Message

from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.protojson import CountedDocument, OutOfBoundsError
from mqttproxy.validation.subjects import ProtobufSettings
from mqttproxy.validation.verdict import FAILURES_KEPT, Failure
from mqttproxy.validation.wire import findings
from mqttproxy.validation.words import MESSAGE_LENGTH, Json, pointer, printable, shown

Path = tuple[Field, ...]

_STEPS: Final = 1_000  # fields that are looked at to explain; each takes some microseconds


@define(eq=False)
class ProtobufContract:
    """One message type in force, see `Contract`."""

    name: str
    kind: ClassVar[str] = "protobuf"
    reads_text: ClassVar[bool] = False
    descriptor: Descriptor
    settings: ProtobufSettings
    required: tuple[Path, ...]
    max_items: int
    _class: type[Message] = field(init=False)
    _strict: bool = field(init=False)
    _initialized: bool = field(init=False)
    _deep: bool = field(init=False)
    _enums: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        """See what of the checks can be left out for this message."""
        self._class = message_factory.GetMessageClass(self.descriptor)
        self._strict = self.settings.unknown_fields == "refuse"
        inside = types_in(self.descriptor)
        fields = [one for descriptor in inside for one in descriptor.fields]
        self._initialized = not any(one.is_required for one in fields)
        self._deep = depth_of(self.descriptor) > self.settings.max_depth
        self._enums = self._strict and any(one.enum_type is not None for one in fields)

    def failures(self, payload: bytes) -> tuple[Failure, ...]:
        """Return everything that is wrong with a payload, at most `FAILURES_KEPT`; nothing: it is good."""
        try:
            message = self._parsed(payload)
        except PayloadError as error:
            return error.failures
        if self._deep or len(payload) > self.max_items:
            try:
                self._document(message)
            except PayloadError as error:
                return error.failures
        found: list[Failure] = []
        if not self._initialized:
            found += [
                Failure("/" + path.replace(".", "/").replace("[", "/").replace("]", ""), "required", "is required")
                for path in message.FindInitializationErrors()[:FAILURES_KEPT]
            ]
        for path in self.required:
            found += _missing(message, path, ())
        if found:
            found = [*self._findings(payload, broken=False), *found]
        else:
            found += self._misfits(message, payload)
        return tuple(dict.fromkeys(found))[:FAILURES_KEPT]

    def document(self, payload: bytes) -> Json:
        """Return the message as JSON: fields by the names in the `.proto` file, 64-bit integers as numbers.

        Fields that cannot be absent are always there, with their default. Enums are their names, bytes are base64,
        and Google's own types, such as Timestamp, are what the Protobuf JSON mapping makes of them.
        """
        return self._document(self._parsed(payload))

    def encode(self, document: Json) -> bytes:
        """Return the message that a document says. Unknown members are failures."""
        message: Any = self._class()
        if not isinstance(document, dict):
            raise PayloadError(Failure("", "protobuf", f"{shown(document)} is no message"))
        try:
            json_format.ParseDict(document, message, max_recursion_depth=self.settings.max_depth)
            return bytes(message.SerializeToString(deterministic=True))
        except (json_format.ParseError, EncodeError, TypeError, ValueError, AttributeError) as error:
            raise PayloadError(Failure("", "protobuf", printable(str(error), MESSAGE_LENGTH))) from error

    def _misfits(self, message: Any, payload: bytes) -> tuple[Failure, ...]:
        """Return what is wrong with fields and values that the type of a message does not know."""
        if self._enums and any(map(_has_odd_enum, _messages_in(message))):
            failure = Failure("", "enum", "there is a value that its enum does not have")
        elif not _has_unknown(message):
            return ()
        elif self._strict:
            failure = Failure("", "unknown-field", "there is a field that the schema does not have, or not so encoded")
        else:  # They are allowed, but a known field with the wrong encoding is among them too: each is looked at.
            words = f"more than {self.max_items} fields, some of them unknown"
            beyond = Failure("", "items", words)
            return self._findings(payload, broken=False, most_steps=self.max_items, beyond=beyond)
        return self._findings(payload, broken=False) or (failure,)  # it stands behind what was looked at

    def _parsed(self, payload: bytes) -> Any:
        if not payload and self.settings.empty == "refuse":
            words = "an empty payload, which would be a message with nothing in it"
            raise PayloadError(Failure("", "empty", words))
        most = self.settings.max_bytes
        if most is not None and len(payload) > most:
            raise PayloadError(Failure("", "size", f"{len(payload)} bytes, at most {most} are allowed"))
        message: Any = self._class()  # its fields are attributes
        try:
            message.MergeFromString(payload)
        except DecodeError:
            raise PayloadError(*self._findings(payload, broken=True)) from None
        return message

    def _document(self, message: Any) -> Json:
        try:
            document: Json = CountedDocument(self.max_items, self.settings.max_depth).of(message)
        except OutOfBoundsError as error:
            raise PayloadError(error.failure) from None
        return document

    def _findings(
        self, payload: bytes, *, broken: bool, most_steps: int = _STEPS, beyond: Failure | None = None
    ) -> tuple[Failure, ...]:
        return findings(
            self.descriptor, payload, unknown=self._strict, broken=broken, most_steps=most_steps, beyond=beyond
        )


def types_in(descriptor: Descriptor) -> list[Descriptor]:
    """Return a message type and all that can be inside."""
    found = {descriptor.full_name: descriptor}
    waiting = [descriptor]
    while waiting:
        for one in waiting.pop().fields:
            inner = one.message_type
            if inner is not None and inner.full_name not in found:
                found[inner.full_name] = inner
                waiting.append(inner)
    return list(found.values())


def depth_of(descriptor: Descriptor) -> float:
    """Return how deep messages of a type can be nested; infinity: it can be inside of itself."""
    depths: dict[str, float] = {}

    def look(kind: Descriptor) -> float:
        if kind.full_name not in depths:
            depths[kind.full_name] = float("inf")  # found again below itself
            inner = [one.message_type for one in kind.fields if one.message_type is not None]
            depths[kind.full_name] = 1 + max(map(look, inner), default=0)
        return depths[kind.full_name]

    return look(descriptor)


def required_paths(descriptor: Descriptor, paths: Iterable[str]) -> tuple[list[Path], list[str], list[str]]:
    """Return required fields, and which of the paths this version does not have, or cannot tell from absent."""
    found, missing, blind = [], [], []
    for text in paths:
        path: list[Field] = []
        kind: Any = descriptor
        for name in text.split("."):
            one = kind.fields_by_name.get(name) if kind is not None else None
            if one is None:
                missing.append(text)
                break
            path.append(one)
            kind = one.message_type
        else:
            if path[-1].has_presence or path[-1].is_repeated:
                found.append(tuple(path))
            else:
                blind.append(text)
    return found, missing, blind


def _has_unknown(message: Any) -> bool:
    """Return whether there is something in a message, or below, that its type does not know. Forgets it."""
    size: int = message.ByteSize()
    message.DiscardUnknownFields()
    return bool(message.ByteSize() != size)


def _messages_in(message: Any) -> Iterator[Any]:
    """Yield a message and all below it."""
    waiting = [message]
    while waiting:
        found = waiting.pop()
        yield found
        for one, value in found.ListFields():
            if one.message_type is None:
                continue
            if one.message_type.GetOptions().map_entry:
                if one.message_type.fields_by_name["value"].message_type is not None:
                    waiting += value.values()
            elif one.is_repeated:
                waiting += value
            else:
                waiting.append(value)


def _has_odd_enum(message: Any) -> bool:
    """Return whether there is a value in a message itself that its enum does not know."""
    for one, value in message.ListFields():
        kind, values = one.enum_type, value
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            kind, values = one.message_type.fields_by_name["value"].enum_type, value.values()
        elif not one.is_repeated:
            values = (value,)
        if kind is not None and any(number not in kind.values_by_number for number in values):
            return True
    return False


def _missing(message: Any, path: Path, place: tuple[str | int, ...]) -> list[Failure]:
    one, rest = path[0], path[1:]
    inside = (*place, one.name)
    value = getattr(message, one.name)
    if one.is_repeated:
        if not rest:
            return [] if len(value) else [Failure(pointer(inside), "required", "at least one is required")]
        kind: Any = one.message_type
        if kind.GetOptions().map_entry:
            return []  # of values of a map nothing is required
        items = [(item, (*inside, index)) for index, item in enumerate(value)]
    elif not message.HasField(one.name):
        return [Failure(pointer(inside), "required", "is required")] if not rest else []
    elif not rest:
        return []
    else:
        items = [(value, inside)]
    return [failure for item, where in items for failure in _missing(item, rest, where)][:FAILURES_KEPT]
