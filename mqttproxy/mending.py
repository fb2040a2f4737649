"""A held message as it would go today: mended, and judged by the rules in force. A release and its preview ask here."""

from collections.abc import Callable
from math import inf
from typing import Final

from msgspec.structs import replace

from mqttproxy.mqtt.packets import Message, Properties, Timed
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.releases import Options
from mqttproxy.recipe import Mend, RecipeError
from mqttproxy.upstream.guard import HELD_AT, HELD_ID
from mqttproxy.validation import Action, Failure, Generation, Identity, Verdict, identity_of_upstream, judge
from mqttproxy.validation.answers import mark_properties
from mqttproxy.validation.plugins import Answers

_UPSTREAM: Final = "upstream:"  # begins the listener of what an upstream sent


class MendingError(Exception):
    """A message cannot go: it stays held. `verdict` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.failures[0].message)
        self.verdict = verdict


def came_from(held: Held) -> str | None:
    """Return the name of the upstream that sent it, None: a device did."""
    return held.listener.removeprefix(_UPSTREAM) if held.listener.startswith(_UPSTREAM) and not held.client_id else None


def identity_of(held: Held) -> Identity:
    """Return who sent it."""
    upstream = came_from(held)
    if upstream is not None:
        return identity_of_upstream(upstream)
    return Identity(held.client_id, held.username, held.address, held.listener, held.attributes)


def mended(held: Held, options: Options, mend: Mend | None, *, age: float, now: float) -> Message:
    """Return the message as it would be judged.

    Args:
        held: as it came.
        options: how it changes besides.
        mend: the recipe, None: none.
        age: seconds since it was held.
        now: monotonic seconds.

    Raises:
        MendingError: it cannot go, whatever the rules say.

    """
    if held.is_masked:
        words = "its payload was masked when it was stored, so nobody knows what it was"
        raise MendingError(refusal(Failure("", "masked", words), reason=ReasonCode.UNSPECIFIED_ERROR))
    properties, over = held.properties, inf
    interval = properties.message_expiry_interval
    if interval is not None:
        if options.ignore_expiry:
            properties = replace(properties, message_expiry_interval=None)
        elif (over := interval - age) <= 0:
            words = "its message expiry interval is over: --ignore-expiry releases it all the same"
            raise MendingError(refusal(Failure("", "expired", words), reason=ReasonCode.UNSPECIFIED_ERROR))
    retain = held.retain and not options.clear_retain
    message: Message = (
        Message(held.topic, held.payload, held.qos, retain, properties)
        if over == inf
        else Timed(held.topic, held.payload, held.qos, retain, properties, now + over)
    )
    if mend is None:
        return message
    try:
        return mend(message)
    except RecipeError as error:
        raise MendingError(refusal(*error.failures)) from error


def judged(
    message: Message,
    identity: Identity,
    generation: Generation,
    judge_raised: Callable[[Exception], Verdict],
    answers: Answers | None = None,
) -> tuple[Message, Verdict]:
    """Return the message as it may be carried, and its verdict.

    Args:
        message: from `mended`.
        identity: from `identity_of`.
        generation: in force.
        judge_raised: the verdict where the judge has a bug.
        answers: of plug-ins, as for `judge`; those that are missing are noted there.

    Raises:
        MendingError: it fails again.

    """
    rules = generation.down if identity.listener.startswith(_UPSTREAM) and not identity.client_id else generation
    try:
        verdict = judge(message, identity, rules, answers)
    except Exception as error:  # noqa: BLE001 # a bug of ours: this message fails closed (promise P7), told
        verdict = judge_raised(error)
    if verdict.action is not Action.FORWARD and not verdict.observed:
        raise MendingError(verdict)
    if verdict.changed is not None:
        message = verdict.changed
    if verdict.failures and not verdict.observed:
        return replace(message, properties=mark_properties(message, verdict)), verdict
    return message, verdict


def stamped(message: Message, held: Held, held_at: str) -> Message:
    """Return the message as it is carried: with what it is known by, and not at QoS 0, which nothing keeps.

    Args:
        message: from `judged`.
        held: which it was.
        held_at: when it was held, for people and programs.

    """
    given = message.properties
    fields = {name: getattr(given, name) for name in given.__struct_fields__}
    fields["user_properties"] = (*given.user_properties, (HELD_ID, held.id), (HELD_AT, held_at))
    return replace(message, qos=max(message.qos, 1), properties=Properties(**fields))


def refusal(*failures: Failure, reason: ReasonCode = ReasonCode.PAYLOAD_FORMAT_INVALID) -> Verdict:
    """Return a verdict that is not a policy's."""
    return Verdict(action=Action.HOLD, failures=failures, reason=reason)
