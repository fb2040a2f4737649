"""The judge's answer for one message."""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from msgspec import Struct

from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode

FAILURES_KEPT: Final = 32  # of one message; a device can break its contract in more ways than anyone reads


class Failure(Struct, frozen=True, gc=False):
    """One thing that is wrong with a message.

    `pointer` is the JSON Pointer into the payload, empty for the whole. `keyword` is the schema's, or one of our own:
    `utf-8`, `json`, `number`, `integer`, `surrogate`, `duplicate-key`, `depth`, `items`, `cost`, `schema`, `topic`,
    `policy`, `transform`, `format`, `size`, `qos`, `retain`, `content-type`, `user-property`, `expiry`, `expression`,
    `plugin`, `plugin-fault`; of behaviour rules `quota`, `duplicate`, `sequence`, `skew`. `message` and `pointer` are
    short and printable, whatever the device sent.
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
    """Action and reasons. Without failures it is a plain forward, and the same object for all messages of a policy.

    Where several policies found something, each has its verdict in `parts`, in the order in which they judged. Those
    that only observe add nothing to `failures` while another is enforced: they never change what a device is told.
    """

    action: Action
    policy: str | None = None  # of several the first that is enforced
    schema: str | None = None  # subject@version
    failures: tuple[Failure, ...] = ()
    reason: ReasonCode = ReasonCode.SUCCESS
    mark: bool = False  # forwarded although it failed, with user properties that tell the failure
    alert: bool = False
    disconnect: bool = False
    observed: bool = False  # failed, but its policy only observes
    parts: "tuple[Verdict, ...]" = ()
    changed: Message | None = None  # what is carried instead of the message, because policies transform it

    @property
    def told(self) -> "tuple[Verdict, ...]":
        """Return the verdicts that decided: those of enforced policies, or of all if none is."""
        return tuple(part for part in self.parts if part.observed is self.observed) or (self,)


def join(failed: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a message that failed some policies: the strictest that keeps it carries.

    Args:
        failed: of each policy that it failed, in the order in which they judged; at least one.

    """
    if len(failed) == 1:
        return failed[0]
    deciding = [verdict for verdict in failed if not verdict.observed] or failed
    actions = {verdict.action for verdict in deciding}
    action = next(action for action in (Action.HOLD, Action.REFUSE, Action.FORWARD) if action in actions)
    first = deciding[0]
    return Verdict(
        action=action,
        policy=first.policy,
        schema=first.schema,
        failures=tuple(failure for verdict in deciding for failure in verdict.failures)[:FAILURES_KEPT],
        reason=first.reason,
        mark=first.mark if action is Action.FORWARD else False,
        alert=any(verdict.alert for verdict in failed),
        disconnect=any(verdict.disconnect for verdict in deciding),
        observed=first.observed,
        parts=tuple(failed),
    )
