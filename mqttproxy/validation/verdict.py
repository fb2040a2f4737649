"""The judge's answer for one message."""

from enum import Enum
from typing import Final

from msgspec import Struct

from mqttproxy.mqtt.reasons import ReasonCode

FAILURES_KEPT: Final = 32  # of one message; a device can break its contract in more ways than anyone reads


class Failure(Struct, frozen=True, gc=False):
    """One thing that is wrong with a message.

    `pointer` is the JSON Pointer into the payload, empty for the whole. `keyword` is the schema's, or one of our own:
    `utf-8`, `json`, `number`, `integer`, `surrogate`, `duplicate-key`, `depth`, `items`, `cost`, `schema`, `topic`,
    `policy`. `message` and `pointer` are short and printable, whatever the device sent.
    """

    pointer: str
    keyword: str
    message: str


class Action(Enum):
    """What happens to the message."""

    FORWARD = "forward"
    HOLD = "hold"
    REFUSE = "refuse"


class Verdict(Struct, frozen=True, kw_only=True):
    """Action and reasons. Without failures it is a plain forward, and the same object for all messages of a policy."""

    action: Action
    policy: str | None = None
    schema: str | None = None  # subject@version
    failures: tuple[Failure, ...] = ()
    reason: ReasonCode = ReasonCode.SUCCESS
    mark: bool = False  # forwarded although it failed, with user properties that tell the failure
    alert: bool = False
    disconnect: bool = False
    observed: bool = False  # failed, but its policy only observes
