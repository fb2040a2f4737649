"""What is held: a message that was not let through, who sent it, and every reason why."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from attrs import field, fields, frozen

from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties

Failures = tuple[tuple[str, str, str], ...]  # pointer, keyword, message of each

_encode_json: Final = msgspec.json.Encoder().encode
_decode_attributes: Final = msgspec.json.Decoder(dict[str, str]).decode
_decode_properties: Final = msgspec.json.Decoder(Properties).decode


@frozen(kw_only=True)
class HeldFacts:
    """Everything that is told of a held message, except its payload.

    `id` is a ULID of our own, `at` seconds since 1970, `schema` is subject@version, `reason` the MQTT reason code that
    the device was given. In `failures`, pointer is a JSON Pointer into the payload, empty for the whole. `destination`
    is the upstream that would not have it, None: it was not let through to any. `blamed` has policy and schema of each
    failure where several policies found something; empty: those of the message. `attributes` are the sender's. If
    it `is_masked`, its payload was changed when it was stored.
    """

    id: str
    at: float
    client_id: str
    username: str | None
    address: str
    listener: str
    topic: str
    qos: int
    retain: bool
    properties: Properties = NO_PROPERTIES
    policy: str | None
    schema: str | None
    reason: int
    failures: Failures
    destination: str | None = None
    blamed: tuple[tuple[str | None, str | None], ...] = ()
    attributes: Mapping[str, str] = field(factory=dict)
    is_masked: bool = False


@frozen(kw_only=True)
class Held(HeldFacts):
    """A message on its way into the quarantine. `owner`: in whose share it counts, see `owners`."""

    payload: bytes
    owner: str = ""


@frozen(kw_only=True)
class Record(HeldFacts):
    """A message found in the quarantine. Its payload, of `payload_size` bytes, is read when it is asked for.

    `release` is the number of the release that took it up last, `issues` are those of its failures.
    """

    seq: int
    release: int | None = None
    released_at: float | None = None
    issues: tuple[str, ...] = ()
    state: str
    payload_size: int
    file: str | None

    def with_payload(self, payload: bytes) -> Held:
        """Return the message as it came into the quarantine."""
        facts = {attribute.name: getattr(self, attribute.name) for attribute in fields(HeldFacts)}
        return Held(**facts, payload=payload)


def rules_of(held: HeldFacts) -> Iterable[tuple[str | None, str | None]]:
    """Return policy and schema of each failure, in order."""
    return held.blamed or [(held.policy, held.schema)] * len(held.failures)


def weigh(held: Held) -> int:
    """Return what a held message counts for in every bound in bytes.

    Not the payload alone: a device could fill the disk with user properties, or with one small payload that fails
    ten thousand times.
    """
    weight = len(held.payload)
    for pointer, keyword, message in held.failures:
        weight += len(pointer) + len(keyword) + len(message)
    if held.properties is not NO_PROPERTIES:
        weight += len(properties_to_json(held.properties) or "")
    return weight


def properties_to_json(properties: Properties) -> str | None:
    """Return the properties as JSON, None for none. Binary values are base64."""
    if properties == NO_PROPERTIES:
        return None
    try:
        return _encode_json(properties).decode()
    except UnicodeEncodeError:
        return _encode_json(_storable_properties(properties)).decode()


def properties_from_json(text: str | None) -> Properties:
    """Return what `properties_to_json` was given.

    Raises:
        msgspec.DecodeError: the text is not its work.

    """
    return NO_PROPERTIES if text is None else _decode_properties(text)


def attributes_to_json(attributes: Mapping[str, str]) -> str | None:
    """Return a sender's attributes as JSON, None for none."""
    return _encode_json(attributes).decode() if attributes else None


def attributes_from_json(text: str | None) -> Mapping[str, str]:
    """Return what `attributes_to_json` was given."""
    return {} if text is None else _decode_attributes(text)


def storable(text: str) -> str:
    r"""Return the text as UTF-8 can carry it: a lone surrogate becomes its escape, such as `\udc80`."""
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()


def storable_or_none(text: str | None) -> str | None:
    """Do the same for a text that may be missing."""
    return None if text is None else storable(text)


def _storable_properties(properties: Properties) -> Properties:
    changed: dict[str, object] = {
        name: storable(value) for name, value in _fields(properties) if isinstance(value, str)
    }
    changed["user_properties"] = tuple((storable(key), storable(value)) for key, value in properties.user_properties)
    return msgspec.structs.replace(properties, **changed)


def _fields(properties: Properties) -> Iterable[tuple[str, object]]:
    return msgspec.structs.asdict(properties).items()
