"""Which rules the cases have exercised, and which they have not: policies, their levels and their checks."""

from collections.abc import Iterator

from attrs import define, field

from mqttproxy.config.errors import quoted
from mqttproxy.explain.walk import Explanation, Premises
from mqttproxy.validation.checks import Case, Check, EmptyCheck, JsonCheck, RequireCheck, SchemaCheck, TextCheck
from mqttproxy.validation.plugins import Answers, PluginCheck
from mqttproxy.validation.policy import Policy
from mqttproxy.validation.trace import Step

_FORMATS = {JsonCheck: "format json", TextCheck: "format text", EmptyCheck: "format none", RequireCheck: "require"}


@define
class PolicyCoverage:
    """How often a policy was asked, what it said, and how it was in force; and how often each check found something."""

    policy: Policy
    asked: int = 0
    passed: int = 0
    failed: int = 0
    enforced: int = 0
    observed: int = 0
    bound: list[int] = field(init=False)  # by binding: how often it held
    found: list[int] = field(init=False)  # by check

    @bound.default
    def _count_bindings(self) -> list[int]:
        return [0] * len(self.policy.bindings)

    @found.default
    def _count_checks(self) -> list[int]:
        return [0] * len(self.policy.checks)

    @property
    def checks(self) -> list[tuple[str, int]]:
        """Return each check in words, and how often it found something."""
        return [(_name(check), count) for check, count in zip(self.policy.checks, self.found, strict=True)]

    def note(self, step: Step, explanation: Explanation, answers: Answers) -> None:
        """Count one message that this policy was asked about."""
        self.asked += 1
        if step.outcome == "off":
            return
        self.passed += step.outcome == "passed"
        self.failed += step.outcome == "failed"
        self.enforced += step.enforced
        self.observed += not step.enforced
        case = Case(explanation.message, explanation.identity, answers)
        if step.bindings and not step.bindings[-1].why_not:
            self.bound[len(step.bindings) - 1] += 1
        for index, check in enumerate(self.policy.bound_to(case.identity).checks):
            self.found[index] += bool(check.failures(case))

    def missing(self) -> Iterator[str]:
        """Yield in words what no case has exercised."""
        policy = self.policy
        if not self.asked:
            yield "no case asks it"
            return
        if policy.level == "off":
            return
        if not self.passed:
            yield "no case passes it"
        if policy.level == "enforce" and policy.percent > 0 and not self.enforced:
            yield "no case has a device for which it is enforced"
        if policy.level == "enforce" and policy.percent < 100 and not self.observed:
            yield "no case has a device for which it only observes"
        for binding, count in zip(policy.bindings, self.bound, strict=True):
            if not count:
                yield f"no case has a device for its binding to schema {binding.schema}"
        if policy.checks and not self.failed:
            yield "no case fails it"
        elif len(policy.checks) > 1:
            yield from (f"no case fails its {name}" for name, count in self.checks if not count)


@define
class Coverage:
    """What the cases so far have exercised."""

    premises: Premises
    policies: dict[str, PolicyCoverage] = field(init=False)  # by name, in the order in which they judge
    _decided: set[str] = field(init=False, factory=set)  # rules beside policies that decided

    @policies.default
    def _make_policies(self) -> dict[str, PolicyCoverage]:
        return {policy.name: PolicyCoverage(policy) for policy in self.premises.generation.policies}

    def note(self, explanation: Explanation) -> None:
        """Count one message."""
        self._decided.add(explanation.trace.rule)
        for step in explanation.trace.steps:
            if step.outcome != "not asked":
                self.policies[step.policy].note(step, explanation, self.premises.answers)

    def missing(self) -> Iterator[str]:
        """Yield in words each rule that no case has exercised."""
        config = self.premises.config
        for name, policy in self.policies.items():
            yield from (f"policy {quoted(name)}: {words}" for words in policy.missing())
        if "#" not in config.topics.allowed and "topics.allowed" not in self._decided:
            yield "topics.allowed: no case is on a topic that it does not name"
        if config.default.action != "forward" and "default.action" not in self._decided:
            yield "default.action: no case is on a topic without a policy"


def _name(check: Check) -> str:
    if isinstance(check, SchemaCheck):
        return f"schema {check.contract.name}"
    if isinstance(check, PluginCheck):
        return f"plug-in {check.name}"
    text = getattr(check, "text", None)  # of an expression, whose class needs CEL
    return f"expression {quoted(text)}" if text is not None else _FORMATS.get(type(check), "check")
