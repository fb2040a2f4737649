"""What policies make of a message that is carried on: `[[policies.transforms]]`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen
from msgspec.structs import replace

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message
from mqttproxy.validation.transforms.carrying import Codec, decoded, encoded
from mqttproxy.validation.transforms.context import Context
from mqttproxy.validation.transforms.errors import TransformError
from mqttproxy.validation.transforms.transform import Transform

if TYPE_CHECKING:  # who has changes
    from mqttproxy.validation.policy import Policy

M = TypeVar("M", bound=Message)

JSON_TYPE: Final = "application/json"


@frozen(eq=False)
class Change:
    """Of one policy.

    Attributes:
        transform: its steps.
        reads: what its messages are written in.
        writes: what they are carried on in.
        becomes_json: these two differ.
        max_bytes: of the result.

    """

    transform: Transform
    reads: Codec
    writes: Codec
    becomes_json: bool
    max_bytes: int

    @property
    def renames(self) -> bool:
        """Whether it may bring a message to another topic."""
        return bool(self.transform.topical)


class ChangeError(Exception):
    """A policy's transforms cannot be done."""

    def __init__(self, policy: "Policy", error: TransformError) -> None:
        super().__init__(str(error))
        self.policy = policy
        self.failures = error.failures


def changed(message: M, policies: "Sequence[Policy]") -> M:
    """Return the message as these policies make it, each of what the one before it has made.

    The payload is read by the first and written by the last. An empty one stays empty.

    Args:
        message: judged, and to be carried on.
        policies: which have a change, in order; at least one.

    Raises:
        ChangeError: one of them cannot; the message must not be carried on.

    """
    topic = message.topic
    policy = policies[0]
    document = None
    try:
        if message.payload:
            document = decoded(_change(policy).reads, message.payload)
        for policy in policies:
            context = Context(message.topic, policy.captures.of(message.topic))
            transform = _change(policy).transform
            if not message.payload:
                topic = transform.topic_alone(context) or topic
                continue
            result = transform.run(document, context, is_ours=True)
            document = result.document
            topic = topic if result.topic == message.topic else result.topic
        if not message.payload:
            return message if topic == message.topic else replace(message, topic=topic)
        last = _change(policy)
        payload = encoded(last.writes, document, last.max_bytes)
    except TransformError as error:
        raise ChangeError(policy, error) from None
    properties = message.properties
    if last.becomes_json and properties is not NO_PROPERTIES:
        text = properties.payload_format_indicator
        properties = replace(
            properties,
            content_type=JSON_TYPE if properties.content_type is not None else None,
            payload_format_indicator=1 if text is not None else None,
        )
    return replace(message, topic=topic, payload=payload, properties=properties)


def _change(policy: "Policy") -> Change:
    assert policy.change is not None  # noqa: S101 # they were chosen by it
    return policy.change
