"""What waits for the quarantine's commit, and what is due after it."""

from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from mqttproxy.handover import Ticket
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.quarantine.model import Held
from mqttproxy.upstream.callbacks import Poison, Unshaped
from mqttproxy.validation import Failure, Identity, Verdict


class Hold(Protocol):
    """The quarantine as this room sees it."""

    def hold_nowait(self, held: Held, token: object) -> None:
        """Queue a message for the next commit, or raise `trio.WouldBlock`."""

    async def wait_room(self) -> None:
        """Return when the queue may have room again."""


def _nothing() -> None:
    pass


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


def upstream_failure(destination: str, why: ReasonCode | Poison | Unshaped) -> Failure:
    """Say why an upstream does not get a message."""
    if isinstance(why, Unshaped):
        return Failure(why.pointer, "transform", f"transforms of upstream {destination}: {why.words}")
    if isinstance(why, Poison):
        words = f"the link to upstream {destination} was lost {why.links} times while this message was in flight"
        return Failure("", "upstream_poison", words)
    return Failure("", "upstream", f"upstream {destination} answered 0x{why:02x} {why.name.lower()}")


def blamed(verdict: Verdict) -> tuple[tuple[str | None, str | None], ...]:
    """Return policy and schema of each failure, where several policies found something; else nothing."""
    told = verdict.told
    if len(told) < 2:
        return ()
    rules = [(part.policy, part.schema) for part in told for _ in part.failures]
    return tuple(rules[: len(verdict.failures)])
