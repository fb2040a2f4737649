"""What waits for the quarantine's commit, and what is due after it."""

from collections.abc import Callable
from typing import Final, Protocol

from attrs import frozen

from mqttproxy.handover import Ticket
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.quarantine.model import Held
from mqttproxy.upstream.callbacks import Poison, Unshaped
from mqttproxy.validation import Action, Failure, Identity, Verdict


class Hold(Protocol):
    """The quarantine as this room sees it."""

    def hold_nowait(self, held: Held, token: object) -> None:
        """Queue a message for the next commit, or raise `trio.WouldBlock`."""

    async def wait_room(self) -> None:
        """Return when the queue may have room again."""


def _nothing() -> None:
    pass


# What an upstream may answer to a PUBLISH and a device may read in a PUBACK. [MQTT 5.0, 3.4.2.1]
_PASSED_ON: Final = frozenset(
    {
        ReasonCode.UNSPECIFIED_ERROR,
        ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.TOPIC_NAME_INVALID,
        ReasonCode.QUOTA_EXCEEDED,
        ReasonCode.PAYLOAD_FORMAT_INVALID,
    }
)


@frozen
class HeldTicket:
    """What the quarantine gives back after its commit."""

    ticket: Ticket | None  # None: its device was acknowledged long ago
    verdict: Verdict
    message: Message
    quarantine_id: str
    identity: Identity
    judged: bool = True  # False: an upstream would not have it
    after: Callable[[], None] = _nothing  # what is due then


Waiting = tuple[Held, HeldTicket]


@frozen
class HeldDown:
    """The same for a message from an upstream."""

    answer: Callable[[ReasonCode], None]
    identity: Identity
    verdict: Verdict
    message: Message
    quarantine_id: str


def upstream_verdict(destination: str, why: ReasonCode | Poison | Unshaped) -> Verdict:
    """Return the verdict on a message that an upstream does not get, with the reason that a device may be told."""
    reason = why if isinstance(why, ReasonCode) and why in _PASSED_ON else ReasonCode.UNSPECIFIED_ERROR
    if isinstance(why, Unshaped):
        reason = ReasonCode.PAYLOAD_FORMAT_INVALID
        failure = Failure(why.pointer, "transform", f"transforms of upstream {destination}: {why.words}")
    elif isinstance(why, Poison):
        words = f"the link to upstream {destination} was lost {why.links} times while this message was in flight"
        failure = Failure("", "upstream_poison", words)
    else:
        failure = Failure("", "upstream", f"upstream {destination} answered 0x{why:02x} {why.name.lower()}")
    return Verdict(action=Action.HOLD, failures=(failure,), reason=reason)


def blamed(verdict: Verdict) -> tuple[tuple[str | None, str | None], ...]:
    """Return policy and schema of each failure, where several policies found something; else nothing."""
    told = verdict.told
    if len(told) < 2:
        return ()
    rules = [(part.policy, part.schema) for part in told for _ in part.failures]
    return tuple(rules[: len(verdict.failures)])
