"""Why a message is judged as it is: the same policies as for `judge`, asked one after the other, each with its answer.

`trace` does not call `judge`. It walks all policies of the file and joins what they find itself, and a test holds the
two verdicts together on thousands of messages: what is explained is what happens.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from mqttproxy.mqtt.packets import Message
from mqttproxy.validation.checks import Case
from mqttproxy.validation.generation import FREE, Rules, Scope
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.judge import changed_by, refused_as_text
from mqttproxy.validation.policy import Policy
from mqttproxy.validation.selector import place_of
from mqttproxy.validation.verdict import Verdict, join

if TYPE_CHECKING:  # who has plug-ins
    from mqttproxy.validation.plugins import Answers

Outcome = Literal["passed", "failed", "off", "not asked"]


@frozen
class Bound:
    """One binding of a policy. `why_not`: it does not fit the sender, in words; empty: it holds."""

    schema: str
    why_not: str


@frozen(kw_only=True)
class Step:
    """One policy of the file, in the order in which they judge."""

    policy: str
    outcome: Outcome
    why: str  # it was not asked, or is enforced or only observed, in words
    enforced: bool = False
    captures: Mapping[str, str]  # of a policy whose topic filters match
    verdict: Verdict | None = None  # what it alone says of a message that failed it
    bindings: tuple[Bound, ...] = ()  # that were looked at, up to the one that fits


@frozen(kw_only=True)
class Trace:
    """How a message is judged. `rule` tells in words what decided where no policy did; empty: policies did."""

    verdict: Verdict
    steps: tuple[Step, ...]
    rule: str = ""


def trace(message: Message, identity: Identity, rules: Rules, answers: "Answers | None" = None) -> Trace:
    """Return the verdict that `judge` has for a message, and each policy that did or did not lead to it."""
    fixed = rules.fixed_scope(message.topic)
    if fixed is not None:
        steps = tuple(_not_asked(policy, "devices may not publish to this topic") for policy in rules.policies)
        return Trace(verdict=fixed.passed, steps=steps, rule="topics.allowed")
    reached = rules.reached(message.topic)
    case = Case(message, identity, answers)
    steps_made: list[Step] = []
    judging: list[Policy] = []
    covers: list[Policy] = []
    behind = ""
    for position, policy in enumerate(rules.policies):
        why = behind or _why_not_asked(policy, identity, rules, is_reached=position in reached)
        if why:
            steps_made.append(_not_asked(policy, why))
            continue
        covers.append(policy)
        if policy.level != "off":
            judging.append(policy.bound_to(identity))
            behind = f"behind {policy.name}, which is final" if policy.final else ""
        steps_made.append(_asked(policy, case))
    steps = tuple(steps_made)
    verdict, rule = _verdict(message, rules, covers, judging, steps)
    changers = [policy for policy in judging if policy.change is not None and policy.enforces(identity)]
    if changers:
        verdict = changed_by(changers, message, identity, rules, verdict, answers=answers)
    return Trace(verdict=verdict, steps=steps, rule=rule)


def _verdict(
    message: Message, rules: Rules, covers: list[Policy], judging: list[Policy], steps: tuple[Step, ...]
) -> tuple[Verdict, str]:
    scope, rule = rules.default, "default.action"
    if covers:
        scope = Scope(
            (judging or covers)[0].passed, FREE.failed, reads_text=any(policy.reads_text for policy in judging)
        )
        rule = "" if judging else "level of the policy"
    broken = refused_as_text(message, scope)
    if broken is not None:
        return broken, "payload format indicator"
    failed = [step.verdict for step in steps if step.verdict is not None]
    return (join(failed) if failed else scope.passed), rule


def _why_not_asked(policy: Policy, identity: Identity, rules: Rules, *, is_reached: bool) -> str:
    """Return in words why a policy does not apply; empty: it does."""
    if policy.direction not in (rules.direction, "both"):
        return f"it is for messages {policy.direction}"
    if not is_reached:
        return "no topic filter of it matches"
    return (policy.selector.why_not(identity) if policy.selector is not None else None) or ""


def _not_asked(policy: Policy, why: str) -> Step:
    return Step(policy=policy.name, outcome="not asked", why=why, captures={})


def _asked(policy: Policy, case: Case) -> Step:
    captures = policy.captures.of(case.message.topic)
    if policy.level == "off":
        return Step(policy=policy.name, outcome="off", why="level is off", captures=captures)
    enforced = policy.enforces(case.identity)
    verdict = policy.bound_to(case.identity).judge(case, enforced=enforced)
    return Step(
        policy=policy.name,
        outcome="failed" if verdict is not None else "passed",
        why=_level_words(policy, case.identity, enforced=enforced),
        enforced=enforced,
        captures=captures,
        verdict=verdict,
        bindings=tuple(_bindings(policy, case.identity)),
    )


def _bindings(policy: Policy, identity: Identity) -> Iterator[Bound]:
    for binding in policy.bindings:
        why_not = (binding.selector.why_not(identity) if binding.selector is not None else None) or ""
        yield Bound(binding.schema, why_not)
        if not why_not:
            return


def _level_words(policy: Policy, identity: Identity, *, enforced: bool) -> str:
    if policy.level == "observe":
        return "level is observe"
    if policy.percent >= 100:
        return "level is enforce"
    if not identity.client_id:
        return f"enforced for {policy.percent:g} % of devices, and no device sent this"
    place = place_of(policy.name, identity.client_id)
    word = "within" if enforced else "not within"
    return f"enforced for {policy.percent:g} % of devices; this one stands at {place:.2f}, {word} them"
