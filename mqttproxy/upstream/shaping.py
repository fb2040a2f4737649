"""What an upstream gets of a message, beside the message itself.

Only what is sent is shaped: spool and outbox hold messages as they came. What went and comes back (refused, not now,
the upstream was removed) is the message again, never its shape: it may go elsewhere, or under other settings.
"""

from math import inf

from mqttproxy.mqtt.packets import Message, Timed
from mqttproxy.upstream.callbacks import Refusal, Shape, Unshaped
from mqttproxy.upstream.outbox import Item


class Shaped(Timed, frozen=True, gc=False, kw_only=True):
    """What is sent in the place of `original`."""

    original: Message


def shaped(items: list[Item], shape: Shape) -> tuple[list[Item], list[Refusal]]:
    """Return items as they go, and the refusals of those that cannot be made."""
    ready: list[Item] = []
    refused: list[Refusal] = []
    for item in items:
        message, token = item
        result = shape(message)
        if result is message:
            ready.append(item)
        elif isinstance(result, Unshaped):
            refused.append((token, message, result))
        else:
            ready.append((beside(result, message), token))
    return ready, refused


def beside(result: Message, original: Message) -> Shaped:
    """Return a shape that remembers what it was made of."""
    return Shaped(
        result.topic,
        result.payload,
        result.qos,
        result.retain,
        result.properties,
        original.expires_at if isinstance(original, Timed) else inf,
        original=original,
    )
