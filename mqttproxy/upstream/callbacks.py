"""What an upstream tells the pipeline: once for everything that came in one read, never once a message."""

from collections.abc import Callable

from attrs import frozen

from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.mqtt.reasons import ReasonCode

Refusal = tuple[object, Message, ReasonCode]  # token, message, why
Arrival = tuple[Publish, tuple[str, ...] | None]  # the filters it came for; None: not known


@frozen(kw_only=True)
class Callbacks:
    """Called in the trio thread, never waiting. What they raise is a bug and ends the process.

    Attributes:
        settled: (upstream, tokens) of messages that are where they belong: PUBACK, PUBCOMP, or written at QoS 0. A
            token that is None is not told.
        refused: (upstream, [(token, message, reason)]) of messages that will never get there: the broker's negative
            answer, too large for it (0x95), or the upstream was removed (0x98). QoS 0 included, with the token None.
        received: (upstream, [(publish, filters)]) from the broker; `filters` are those it came for, None: not known.
            They are acknowledged to the broker after this returns.

    """

    settled: Callable[[str, list[object]], None]
    refused: Callable[[str, list[Refusal]], None]
    received: Callable[[str, list[Arrival]], None]
