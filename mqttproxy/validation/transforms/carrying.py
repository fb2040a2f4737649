"""Transforms at work on messages: a payload is read once, all lists of steps for its topic run, it is written once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import orjson
from attrs import frozen
from msgspec.structs import replace

from mqttproxy.config.mapping_checks import as_filter, is_capture
from mqttproxy.config.model import LimitSettings, PayloadSettings
from mqttproxy.config.transforms import DestinationTransforms
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.topics import FilterTree, matches
from mqttproxy.validation.gate import LONG, PayloadError, check_long, read
from mqttproxy.validation.transforms.context import Context
from mqttproxy.validation.transforms.errors import TransformError
from mqttproxy.validation.transforms.transform import Transform, compile_steps
from mqttproxy.validation.verdict import Failure

CACHED_TOPICS: Final = 10_000

M = TypeVar("M", bound=Message)
Work = tuple[Transform, Mapping[str, str]]  # and what the captures of its topic pattern stand for


class Codec(Protocol):
    """What reads a payload and writes one: that of JSON here, or a contract, of whatever kind."""

    def document(self, payload: bytes) -> Any:
        """Return the payload as JSON types. Raises PayloadError."""

    def encode(self, document: Any) -> bytes:
        """Return the document as a payload. Raises PayloadError."""


@frozen
class JsonCodec:
    """JSON in, JSON out, read as strictly as the judge does."""

    max_depth: int
    max_items: int

    def document(self, payload: bytes) -> Any:
        """Return the payload as JSON types. Raises PayloadError."""
        if len(payload) > LONG:
            check_long(payload, self.max_items)
        return read(payload, self.max_depth, self.max_items)

    def encode(self, document: Any) -> bytes:
        """Return the document as JSON. Raises PayloadError: it is nested deeper than 254 levels."""
        try:
            return orjson.dumps(document)
        except TypeError as error:
            raise PayloadError(Failure("", "json", str(error))) from None


def json_codec(settings: PayloadSettings) -> JsonCodec:
    """Return the codec that these settings bound."""
    return JsonCodec(settings.json_depth, settings.json_items)


def decoded(codec: Codec, payload: bytes) -> Any:
    """Return what a payload says. Raises TransformError: nobody can tell."""
    try:
        return codec.document(payload)
    except PayloadError as error:
        first = error.failures[0]
        raise TransformError(first.pointer, f"the payload cannot be read: {first.message}") from None


def encoded(codec: Codec, document: Any, max_bytes: int) -> bytes:
    """Return a document as a payload. Raises TransformError: it has no place in one, or in so many bytes."""
    try:
        payload = codec.encode(document)
    except PayloadError as error:
        first = error.failures[0]
        raise TransformError(first.pointer, f"the result cannot be written: {first.message}") from None
    if len(payload) > max_bytes:
        raise TransformError("", f"the result has {len(payload)} bytes, more than {max_bytes}")
    return payload


@frozen
class Carrier:
    """What makes the message that is carried of the one that came."""

    codec: Codec
    max_bytes: int  # of what it makes

    def carry(self, message: M, works: Sequence[Work]) -> M:
        """Return the message as these make it, each from what the one before it has made.

        An empty payload, which clears a retained message, has nothing to change and stays empty.

        Raises:
            TransformError: one of them cannot; the message must not be carried.

        """
        if not message.payload:
            return self._carry_empty(message, works)
        document = decoded(self.codec, message.payload)
        topic = message.topic
        for transform, captures in works:
            result = transform.run(document, Context(message.topic, captures), is_ours=True)
            document = result.document
            if result.topic != message.topic:
                topic = result.topic
        return replace(message, topic=topic, payload=encoded(self.codec, document, self.max_bytes))

    def _carry_empty(self, message: M, works: Sequence[Work]) -> M:
        topic = message.topic
        for transform, captures in works:
            topic = transform.topic_alone(Context(message.topic, captures)) or topic
        return message if topic == message.topic else replace(message, topic=topic)


@frozen
class Pattern:
    """A topic filter, and which levels its captures stand for."""

    topic_filter: str
    captures: tuple[tuple[str, int], ...]

    def captured(self, topic: str) -> dict[str, str]:
        """Return what the captures stand for in a topic that it matches."""
        levels = topic.split("/")
        return {name: levels[place] for name, place in self.captures}


def pattern_of(text: str) -> Pattern:
    """Return a topic pattern, made ready."""
    captures = [(level[1:-1], place) for place, level in enumerate(text.split("/")) if is_capture(level)]
    return Pattern(as_filter(text), tuple(captures))


class TopicCarrier:
    """The transforms of one destination. Immutable but for its memory."""

    def __init__(self, entries: Iterable[tuple[Sequence[str], Transform]], carrier: Carrier) -> None:
        """Make one.

        Args:
            entries: topic patterns, and what is done for them, in order.
            carrier: does it.

        """
        self._entries = [([pattern_of(text) for text in texts], transform) for texts, transform in entries]
        self._tree: FilterTree[int] = FilterTree()
        for place, (patterns, _) in enumerate(self._entries):
            for pattern in patterns:
                self._tree.add(pattern.topic_filter, place)
        self._carrier = carrier
        self._known: dict[str, tuple[Work, ...]] = {}

    def carry(self, message: M) -> M:
        """Return the message as the destination gets it: itself, if nothing is said of its topic.

        Raises:
            TransformError: it cannot be made, and must not be sent there.

        """
        works = self._known.get(message.topic)
        if works is None:
            works = self._find(message.topic)
        return self._carrier.carry(message, works) if works else message

    def _find(self, topic: str) -> tuple[Work, ...]:
        works = []
        for place in sorted(set(self._tree.match(topic))):
            patterns, transform = self._entries[place]
            pattern = next(pattern for pattern in patterns if matches(pattern.topic_filter, topic))
            works.append((transform, pattern.captured(topic)))
        if len(self._known) >= CACHED_TOPICS:
            self._known.clear()
        self._known[topic] = found = tuple(works)
        return found


def carrier_of(
    entries: Sequence[DestinationTransforms], key: bytes, payload: PayloadSettings, limits: LimitSettings
) -> TopicCarrier:
    """Return what the tables of one upstream say."""
    made = [(entry.topics, compile_steps(entry.steps, key, limits)) for entry in entries]
    return TopicCarrier(made, Carrier(json_codec(payload), limits.payload_size))
