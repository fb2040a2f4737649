"""What a policy can ask of a message, one class for each kind of question. CEL stands in `cel`, schemas in `contract`.

A check computes, and it is bounded: what it costs depends on the size of the message, never on what stands in it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from attrs import define, field, frozen

from mqttproxy.config.conditions import Glob
from mqttproxy.config.model import PayloadSettings, RequireSettings
from mqttproxy.config.units import write_duration
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation.gate import LONG, PayloadError, check_long, read
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import Json, cut, shown

if TYPE_CHECKING:  # 10 MB that only schemas need
    from mqttproxy.validation.contract import Contract
    from mqttproxy.validation.json_contract import JsonContract
    from mqttproxy.validation.plugins import Answers

Decode = Callable[[bytes], Any]  # raises PayloadError

_LONGEST_NAME: Final = 40  # characters of a name that is shown


@define(eq=False)
class Case:
    """One message before its judges. What several of them need is made once."""

    message: Message
    identity: Identity
    answers: "Answers | None" = None  # of plug-ins; None: none was asked
    _decoded: dict[Decode, object] = field(factory=dict)  # the document, or the PayloadError

    def document(self, decode: Decode) -> Any:
        """Return the decoded payload. Raises PayloadError."""
        found = self._decoded.get(decode, self)
        if found is self:
            try:
                found = decode(self.message.payload)
            except PayloadError as error:
                found = error
            self._decoded[decode] = found
        if isinstance(found, PayloadError):
            raise found
        return found


class Check(Protocol):
    """One question. `reason` is what a device is answered whose message fails it."""

    @property
    def reason(self) -> ReasonCode:
        """Return what MQTT calls it."""

    @property
    def reads_text(self) -> bool:
        """Tell whether a payload that is not UTF-8 fails for certain."""

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return all that is wrong; nothing: it is good."""


@frozen(eq=False)
class SchemaCheck:
    """The payload must match a schema of a kind that reads payloads in its own way."""

    contract: "Contract"
    reason: ClassVar[ReasonCode] = ReasonCode.PAYLOAD_FORMAT_INVALID

    @property
    def reads_text(self) -> bool:
        """Tell whether a payload that is not UTF-8 fails for certain: that of JSON does."""
        return self.contract.reads_text

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return all that is wrong."""
        return self.contract.failures(case.message.payload)


@frozen(eq=False)
class JsonSchemaCheck(SchemaCheck):
    """The payload must match a JSON Schema. It is read once for all policies and expressions that look at it."""

    contract: "JsonContract"
    decode: Decode

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return all that is wrong."""
        try:
            document = case.document(self.decode)
        except PayloadError as error:
            return error.failures
        return self.contract.failures_of_document(document, len(case.message.payload))


@frozen(eq=False)
class JsonCheck:
    """The payload must be JSON that everybody reads in the same way."""

    decode: Decode
    reason: ClassVar[ReasonCode] = ReasonCode.PAYLOAD_FORMAT_INVALID
    reads_text: ClassVar[bool] = True

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return all that is wrong."""
        try:
            case.document(self.decode)
        except PayloadError as error:
            return error.failures
        return ()


@frozen(eq=False)
class TextCheck:
    """The payload must be UTF-8."""

    reason: ClassVar[ReasonCode] = ReasonCode.PAYLOAD_FORMAT_INVALID
    reads_text: ClassVar[bool] = True

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return all that is wrong."""
        try:
            case.document(decode_text)
        except PayloadError as error:
            return error.failures
        return ()


@frozen(eq=False)
class EmptyCheck:
    """There must be no payload."""

    reason: ClassVar[ReasonCode] = ReasonCode.PAYLOAD_FORMAT_INVALID
    reads_text: ClassVar[bool] = True

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return all that is wrong."""
        size = len(case.message.payload)
        return (Failure("", "format", f"a payload of {size} bytes, where none is allowed"),) if size else ()


@frozen(eq=False)
class RequireCheck:
    """What a message must be beside its payload. Globs stand ready; None: not asked."""

    settings: RequireSettings
    content_types: tuple[Glob, ...] = field(init=False)
    reason: ClassVar[ReasonCode] = (
        ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
    )  # [MQTT 5.0, 3.4.2.1]: not willing to accept
    reads_text: ClassVar[bool] = False

    @content_types.default
    def _make_content_types(self) -> tuple[Glob, ...]:
        return tuple(map(Glob, self.settings.content_type or ()))

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return all that is wrong."""
        message, wanted = case.message, self.settings
        found: list[Failure] = []
        if wanted.qos is not None and message.qos not in wanted.qos:
            allowed = " or ".join(map(str, sorted(wanted.qos)))
            found.append(Failure("", "qos", f"QoS {message.qos}, where only {allowed} is allowed"))
        if wanted.retain is not None and message.retain is not wanted.retain:
            words = "not retained, where messages must be" if wanted.retain else "retained, which is not allowed"
            found.append(Failure("", "retain", words))
        self._check_size(len(message.payload), found)
        self._check_properties(message, found)
        return tuple(found)

    def _check_size(self, size: int, found: list[Failure]) -> None:
        wanted = self.settings
        if size < wanted.min_bytes:
            found.append(Failure("", "size", f"a payload of {size} bytes, fewer than {wanted.min_bytes}"))
        if wanted.max_bytes is not None and size > wanted.max_bytes:
            found.append(Failure("", "size", f"a payload of {size} bytes, more than {wanted.max_bytes}"))

    def _check_properties(self, message: Message, found: list[Failure]) -> None:
        wanted, given = self.settings, message.properties
        if self.content_types:
            kind = given.content_type
            if kind is None:
                found.append(Failure("", "content-type", "without a content type, where one must be told"))
            elif not any(glob.fits(kind) for glob in self.content_types):
                found.append(Failure("", "content-type", f"the content type {shown(kind)} is not allowed"))
        if wanted.user_properties:
            names = {name for name, _ in given.user_properties}
            for name in wanted.user_properties:
                if name not in names:
                    words = f"without the user property {cut(name, _LONGEST_NAME)!r}, which must be there"
                    found.append(Failure("", "user-property", words))
        if wanted.max_expiry is not None:
            seconds, longest = given.message_expiry_interval, write_duration(wanted.max_expiry)
            if seconds is None:
                found.append(Failure("", "expiry", f"never expires, where {longest} is the longest"))
            elif seconds > wanted.max_expiry:
                found.append(Failure("", "expiry", f"expires after {seconds}s, where {longest} is the longest"))


def json_decoder(settings: PayloadSettings) -> Decode:
    """Return what decodes a JSON payload within the bounds of the settings."""
    depth, items = settings.json_depth, settings.json_items

    def decode(payload: bytes) -> Json:
        if len(payload) > LONG:
            check_long(payload, items)
        return read(payload, depth, items)

    return decode


def decode_text(payload: bytes) -> str:
    """Return the text of a payload. Raises PayloadError."""
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        words = f"byte 0x{payload[error.start]:02x} at offset {error.start} is not UTF-8"
        raise PayloadError(Failure("", "utf-8", words)) from None


def decode_bytes(payload: bytes) -> bytes:
    """Return the payload as it is."""
    return payload
