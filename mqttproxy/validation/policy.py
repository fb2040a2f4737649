"""One policy, ready for messages: whom it is for, what it asks, and the verdict on what fails."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from attrs import evolve, field, frozen
from msgspec.structs import replace

from mqttproxy.config.mapping_checks import as_filter, is_capture
from mqttproxy.mqtt.topics import matches
from mqttproxy.validation.checks import Case, Check, SchemaCheck
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.selector import Selector, place_of
from mqttproxy.validation.verdict import FAILURES_KEPT, Failure, Verdict

if TYPE_CHECKING:  # 10 MB that only schemas need
    from mqttproxy.validation.contract import Contract
    from mqttproxy.validation.transforms.changing import Change


def _named_levels(pattern: str) -> tuple[tuple[str, int], ...]:
    return tuple((level[1:-1], at) for at, level in enumerate(pattern.split("/")) if is_capture(level))


@frozen(eq=False)
class Captures:
    """The named levels of a policy's topic filters."""

    patterns: tuple[str, ...]
    _named: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = field(init=False)  # filter; name and level

    @_named.default
    def _find_named(self) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
        return tuple((as_filter(pattern), _named_levels(pattern)) for pattern in self.patterns)

    @property
    def filters(self) -> tuple[str, ...]:
        """Return the topic filters, without names."""
        return tuple(topic_filter for topic_filter, _ in self._named)

    @property
    def names(self) -> frozenset[str]:
        """Return the names that every filter has."""
        return frozenset.intersection(*(frozenset(name for name, _ in named) for _, named in self._named))

    def of(self, topic: str) -> Mapping[str, str]:
        """Return what the names stand for in a topic name, by the first filter that matches it."""
        if len(self._named) > 1:
            named = next((named for topic_filter, named in self._named if matches(topic_filter, topic)), ())
        else:
            named = self._named[0][1]
        if not named:
            return {}
        levels = topic.split("/")
        return {name: levels[at] for name, at in named}


@frozen(eq=False)
class Binding:
    """Whose messages a policy judges by another schema, and the policy with that schema."""

    schema: str  # as the settings name it
    selector: Selector | None  # None: everybody's
    policy: "Policy"


@frozen(eq=False, kw_only=True)
class Shadow:
    """A candidate for a policy, which is judged beside it and never has consequences."""

    candidate: "Policy"
    percent: float  # of messages
    fingerprint: str  # of the candidate's schema files, which may still change; empty: it has no schema

    def judge(self, case: Case) -> Verdict | None:
        """Return what the candidate has against a message; None: it passes, or the candidate is not for it."""
        candidate, topic = self.candidate, case.message.topic
        if not any(matches(topic_filter, topic) for topic_filter in candidate.captures.filters):
            return None
        if candidate.selector is not None and candidate.selector.why_not(case.identity) is not None:
            return None
        return candidate.judge(case, enforced=True)


@frozen(eq=False, kw_only=True)
class Policy:
    """One policy. Immutable."""

    name: str
    direction: Literal["up", "down", "both"]
    level: Literal["off", "observe", "enforce"]
    percent: float
    final: bool
    captures: Captures
    selector: Selector | None
    checks: tuple[Check, ...]
    any_will_do: bool  # passing one of the checks is enough
    passed: Verdict
    failed: Verdict  # without its failures
    observed: Verdict  # the same where it only observes
    shadow: Shadow | None = None
    change: "Change | None" = None  # what becomes of messages that are carried on
    bindings: tuple[Binding, ...] = ()  # other schemas, in order
    plugins: tuple[str, ...] = ()  # names of those that are asked; some of the checks
    is_personal: bool = field(init=False)  # whether it applies, or is enforced, depends on who asks
    contract: "Contract | None" = field(init=False)  # of a policy that is a JSON Schema and nothing else
    reads_text: bool = field(init=False)

    @is_personal.default
    def _find_personal(self) -> bool:
        is_shared_out = self.level == "enforce" and 0 < self.percent < 100
        return self.selector is not None or bool(self.bindings) or is_shared_out

    @contract.default
    def _find_contract(self) -> "Contract | None":
        only = self.checks[0] if len(self.checks) == 1 else None
        return only.contract if isinstance(only, SchemaCheck) and only.reads_text else None

    @reads_text.default
    def _find_reads_text(self) -> bool:
        reads = [check.reads_text for check in self.checks]
        return bool(reads) and (all(reads) if self.any_will_do else any(reads))

    def enforces(self, identity: Identity | None) -> bool:
        """Tell whether a failed message has consequences. Without a device to choose, a share of them is none."""
        if self.level != "enforce" or self.percent >= 100:
            return self.level == "enforce"
        if identity is None or not identity.client_id:
            return False
        return place_of(self.name, identity.client_id) < self.percent

    def bound_to(self, identity: Identity | None) -> "Policy":
        """Return the policy as it is for a sender: with the schema of the first binding that fits."""
        if identity is not None:
            for binding in self.bindings:
                if binding.selector is None or binding.selector.why_not(identity) is None:
                    return binding.policy
        return self

    def without_disconnect(self) -> "Policy":
        """Return the policy for messages of which no device is to blame."""
        bindings = tuple(evolve(one, policy=one.policy.without_disconnect()) for one in self.bindings)
        return evolve(self, failed=replace(self.failed, disconnect=False), bindings=bindings)

    def judge(self, case: Case, *, enforced: bool) -> Verdict | None:
        """Return the verdict on a message that fails, or None: it passes."""
        found: dict[Failure, None] = {}  # in order; several checks may say the same
        reason = self.failed.reason
        for check in self.checks:
            failures = check.failures(case)
            if failures:
                reason = reason if found else check.reason
                found.update(dict.fromkeys(failures))
            elif self.any_will_do:
                return None
        if not found:
            return None
        verdict = self.failed if enforced else self.observed
        return replace(verdict, failures=tuple(found)[:FAILURES_KEPT], reason=reason)
