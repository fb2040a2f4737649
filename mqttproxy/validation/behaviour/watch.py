"""All behaviour rules in force and what they remember. Pure but for that memory: time comes in, news goes out."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import define, evolve, field, frozen
from msgspec.structs import replace

from mqttproxy.config.behaviours import BehaviourSettings
from mqttproxy.config.model import PayloadSettings
from mqttproxy.config.pointers import parts_of
from mqttproxy.mqtt.packets import Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import FilterTree
from mqttproxy.validation.behaviour.kinds import (
    Duplicates,
    Kind,
    Quota,
    Seen,
    Sequence as Counting,
    Silence,
    Silences,
    Skew,
)
from mqttproxy.validation.behaviour.memory import Bound, Memory
from mqttproxy.validation.behaviour.places import Place
from mqttproxy.validation.checks import Case, Decode, json_decoder
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.making import action_of
from mqttproxy.validation.policy import Captures
from mqttproxy.validation.selector import Selector, make_selector
from mqttproxy.validation.verdict import Action, Verdict

CACHED_TOPICS: Final = 10_000

# What is counted does not depend on these: a rule that differs in nothing else goes on with what it remembers.
_BESIDE: Final[dict[str, Any]] = {"level": "enforce", "on_failure": None}


@frozen(eq=False, kw_only=True)
class Rule:
    """One rule at work."""

    counted: BehaviourSettings  # with the settings that do not matter for what is remembered left out
    captures: Captures
    device: str | None  # the capture that tells it; None: the client identifier does
    selector: Selector | None
    kind: Kind | Silences
    failed: Verdict  # without its failures

    def device_of(self, topic: str, identity: Identity) -> str:
        """Return who is watched."""
        return identity.client_id if self.device is None else self.captures.of(topic)[self.device]


@define(eq=False)
class Watch:
    """See the module. One for the process: a reload gives it new rules, and those that did not change remember."""

    most: int  # states that each rule may have
    rules: tuple[Rule, ...] = field(init=False, default=())
    _bound: Bound = field(init=False)
    _tree: FilterTree[int] = field(init=False, factory=FilterTree)
    _covering: dict[str, tuple[Rule, ...]] = field(init=False, factory=dict)  # by topic, at most CACHED_TOPICS
    _payload: PayloadSettings = field(init=False, factory=PayloadSettings)

    @_bound.default
    def _make_bound(self) -> Bound:
        return Bound(self.most)

    def use(self, behaviours: Sequence[BehaviourSettings], payload: PayloadSettings) -> None:
        """Put rules in force: those of a configuration that was checked."""
        known = {rule.counted: rule for rule in self.rules} if payload == self._payload else {}
        decode = json_decoder(payload)
        rules = []
        for settings in behaviours:
            if settings.level != "off":
                before = known.get(counted := evolve(settings, **_BESIDE))
                kind = before.kind if before is not None else _make_kind(settings, self._bound, decode)
                rules.append(_make_rule(settings, counted, kind))
        self.rules, self._payload = tuple(rules), payload
        self._covering = {}
        self._tree = FilterTree()
        for position, rule in enumerate(rules):
            for topic_filter in rule.captures.filters:
                self._tree.add(topic_filter, position)

    def covering(self, topic: str) -> tuple[Rule, ...]:
        """Return the rules for a topic name, in the order of the file."""
        found = self._covering.get(topic)
        if found is None:
            found = tuple(self.rules[position] for position in sorted(set(self._tree.match(topic))))
            if len(self._covering) >= CACHED_TOPICS:
                self._covering.clear()
            self._covering[topic] = found
        return found

    def ask(
        self, rules: Sequence[Rule], message: Publish, identity: Identity, *, now: float, wall: float
    ) -> tuple[list[Verdict], list[Silence]]:
        """Tell the rules of a message, once.

        Args:
            rules: those that cover its topic.
            message: as the device sent it.
            identity: of the device.
            now: monotonic seconds.
            wall: seconds since 1970.

        Returns:
            The verdicts of rules that it breaks, and silences that it ends.

        """
        case = Case(message, identity)
        failed, ended = [], []
        for rule in rules:
            if rule.selector is not None and rule.selector.why_not(identity) is not None:
                continue
            device = rule.device_of(message.topic, identity)
            if isinstance(rule.kind, Silences):
                if (over := rule.kind.heard(device, now)) is not None:
                    ended.append(over)
            elif (failure := rule.kind.failure(Seen(case, device, now, wall, message.dup))) is not None:
                failed.append(replace(rule.failed, failures=(failure,)))
        return failed, ended

    def fallen_silent(self, now: float, most: int) -> Iterator[Silence]:
        """Yield devices whose silence begins, at most so many; the others at the next call."""
        for rule in self.rules:
            if isinstance(kind := rule.kind, Silences):
                while most > 0 and (news := kind.fallen_silent(now)) is not None:
                    most -= 1
                    yield news

    @property
    def remembered(self) -> int:
        """Return how many states all rules remember."""
        return sum(len(rule.kind) for rule in self.rules)

    @property
    def forgotten(self) -> int:
        """Return how many states were forgotten so far because there were too many."""
        return self._bound.forgotten

    @property
    def silent(self) -> int:
        """Return how many devices are silent, for each rule."""
        return sum(rule.kind.silent for rule in self.rules if isinstance(rule.kind, Silences))


def _make_rule(settings: BehaviourSettings, counted: BehaviourSettings, kind: Kind | Silences) -> Rule:
    on_failure = settings.on_failure or ("hold",)
    observed = settings.level == "observe"
    action = Action.FORWARD if observed else action_of(on_failure)
    is_quota = settings.rule == "quota"
    return Rule(
        counted=counted,
        captures=Captures(settings.topics),
        device=settings.device,
        selector=make_selector(settings.when),
        kind=kind,
        failed=Verdict(
            action=action,
            policy=settings.name,
            reason=ReasonCode.QUOTA_EXCEEDED if is_quota else ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
            mark=action is Action.FORWARD and not observed,
            alert="alert" in on_failure,
            disconnect="disconnect" in on_failure and not observed,
            observed=observed,
        ),
    )


def _make_kind(settings: BehaviourSettings, bound: Bound, decode: Decode) -> Kind | Silences:
    """Return a rule that remembers nothing yet. What its kind needs is there: the settings were checked."""
    given: Any = settings
    match settings.rule:
        case "quota":
            most = given.messages if settings.bytes is None else settings.bytes
            return Quota(most, given.window, settings.bytes is not None, Memory(bound))
        case "silence":
            return Silences(settings.name, given.every, bound)
        case "duplicates":
            return Duplicates(
                given.window, None if settings.pointer is None else _place(settings, decode), Memory(bound)
            )
        case "sequence":
            return Counting(_place(settings, decode), settings.wrap, Memory(bound))
    return Skew(_place(settings, decode), settings.time, given.max_skew)


def _place(settings: BehaviourSettings, decode: Decode) -> Place:
    return Place(parts_of(settings.pointer or ""), settings.user_property, decode)
