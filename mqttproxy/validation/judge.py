"""The judge: one pure function that everything asks, so that enforcement, dry run and explanations cannot disagree."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation.checks import Case
from mqttproxy.validation.generation import Rules, Scope
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.policy import Policy
from mqttproxy.validation.transforms.changing import ChangeError, changed
from mqttproxy.validation.verdict import Action, Failure, Verdict, join
from mqttproxy.validation.words import NAME_LENGTH, cut

if TYPE_CHECKING:  # who has plug-ins
    from mqttproxy.validation.plugins import Answers


def judge(message: Message, identity: Identity, generation: Rules, answers: "Answers | None" = None) -> Verdict:
    """Return what is to be done with a message, and why: a device's by the generation, an upstream's by its `down`.

    Good messages of the same policies all get the same verdict. Policies are found by the effective topic name and the
    sender alone; nothing else in the message can choose weaker ones (`BAD-INPUT` F13).

    Args:
        message: under its local name.
        identity: who sent it.
        generation: the rules.
        answers: what plug-ins have said of it. A policy that has one fails what there is no answer for, and notes the
            question as missing.

    """
    scope = _scope_of(message, identity, generation)
    if scope.changers:
        verdict = _judged(message, identity, scope, answers)
        return changed_by(scope.changers, message, identity, generation, verdict, answers=answers)
    return _judged(message, identity, scope, answers)


def _judged(message: Message, identity: Identity, scope: Scope, answers: "Answers | None") -> Verdict:
    if scope.contract is not None:
        failures = scope.contract.failures(message.payload)
        return replace(scope.failed, failures=failures) if failures else scope.passed
    if message.properties is not NO_PROPERTIES and (broken := refused_as_text(message, scope)) is not None:
        return broken
    return scope.judge(Case(message, identity, answers)) if scope.seats else scope.passed


def changed_by(
    policies: Sequence[Policy],
    message: Message,
    identity: Identity,
    generation: Rules,
    verdict: Verdict,
    *,
    answers: "Answers | None" = None,
) -> Verdict:
    """Return the verdict with what the message becomes, if it is carried on at all.

    A message that gets another topic is judged there too, as it has become: what it passes here says nothing of that
    topic. It cannot get a third one.

    Args:
        policies: those in force for it that change messages, in order; at least one.
        message: as it came.
        identity: who sent it.
        generation: the rules.
        verdict: of all policies, on the message as it came.
        answers: as for `judge`.

    """
    if verdict.action is not Action.FORWARD:
        return verdict
    try:
        carried = changed(message, policies)
    except ChangeError as error:
        return _joined(verdict, _unchanged(error.policy, error.failures))
    if carried.topic == message.topic:
        return replace(verdict, changed=carried)
    there = _judged_there(carried, identity, generation, answers)
    joined = _joined(verdict, there)
    if joined.action is not Action.FORWARD:
        return replace(joined, changed=None)
    return replace(joined, changed=there.changed or carried)


def _judged_there(message: Message, identity: Identity, generation: Rules, answers: "Answers | None") -> Verdict:
    """Return the verdict on a message that policies have brought to its topic."""
    scope = _scope_of(message, identity, generation)
    verdict = _judged(message, identity, scope, answers)
    if not scope.changers or verdict.action is not Action.FORWARD:
        return verdict
    try:
        carried = changed(message, scope.changers)
    except ChangeError as error:
        return _joined(verdict, _unchanged(error.policy, error.failures))
    if carried.topic != message.topic:
        words = f"policies have made the topic {cut(message.topic, NAME_LENGTH)!r}, and cannot make another one of it"
        return _joined(verdict, _unchanged(scope.changers[-1], (Failure("", "transform", words),)))
    return replace(verdict, changed=carried)


def _scope_of(message: Message, identity: Identity, generation: Rules) -> Scope:
    scope = generation.scopes.get(message.topic) or generation.scope_of(message.topic)
    if scope.contract is None and scope.candidates:
        return generation.scope_for(scope, identity)
    return scope


def _unchanged(policy: Policy, failures: tuple[Failure, ...]) -> Verdict:
    """Return the verdict on a message that a policy cannot change. It is not carried on, not even marked."""
    failed = policy.failed
    if failed.action is Action.FORWARD:
        failed = replace(failed, action=Action.HOLD, mark=False)
    return replace(failed, failures=failures, reason=ReasonCode.PAYLOAD_FORMAT_INVALID)


def _joined(*verdicts: Verdict) -> Verdict:
    """Return the verdict of several judgements, the last of them if nothing failed."""
    failed = [part for verdict in verdicts if verdict.failures for part in verdict.parts or (verdict,)]
    return join(failed) if failed else verdicts[-1]


def refused_as_text(message: Message, scope: Scope) -> Verdict | None:
    """Hold a payload against its payload format indicator. [MQTT 5.0, 3.3.2.3.2].

    Returns:
        What refuses it; None: it is as it says, it says nothing, or those who judge it notice by themselves.

    """
    if message.properties.payload_format_indicator != 1 or scope.reads_text or scope.passed.failures:
        return None
    try:
        message.payload.decode()
    except UnicodeDecodeError as error:
        words = f"said to be UTF-8, but byte 0x{message.payload[error.start]:02x} at offset {error.start} is not"
        return replace(scope.failed, failures=(Failure("", "utf-8", words),))
    return None
