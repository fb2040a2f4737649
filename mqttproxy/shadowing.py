"""Candidates for policies, judged beside them on what really comes, and never heard: `[policies.shadow]`.

The pipeline hands over what it has carried and waits for nothing; what the queue has no room for is counted. One task
judges what waits, a slice at a time, and rests after each so that its share of the process stays what `[shadow]` says.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import trio
from attrs import Factory, define, evolve, field, frozen

from mqttproxy.access.acl import Acl
from mqttproxy.config.model import PolicySettings, ProxyConfig, ShadowSettings
from mqttproxy.handover import Origin
from mqttproxy.mqtt.packets import Message
from mqttproxy.refusal import Refusal
from mqttproxy.ruleset import Ruleset
from mqttproxy.validation import Identity, Rules, Verdict, identity_of_upstream
from mqttproxy.validation.checks import Case
from mqttproxy.validation.comparison import PASSES, Comparison, Outcome, outcome_of
from mqttproxy.validation.generation import Generation, taking_part
from mqttproxy.validation.plugins import ASKED_BEFORE
from mqttproxy.validation.policy import Policy
from mqttproxy.validation.words import cut, printable

SLICE: Final = 0.001  # seconds after which candidates let go of the process
CACHED_TOPICS: Final = 10_000
PAYLOAD_SHOWN: Final = 500  # characters of a sample


@define(eq=False, kw_only=True)
class Tally:
    """What was found about one candidate, and what was not looked at. Kept as long as nothing of it changes."""

    policy: str
    candidate: str  # in words
    percent: float
    identity: tuple[object, ...]  # of both and all bounds: another one begins anew
    since: float  # seconds since 1970
    comparison: Comparison
    left_out: int = 0  # by `percent`
    dropped: int = 0  # the queue was full
    raised: int = 0  # by the candidate, or the policy

    def counts(self) -> dict[str, int]:
        """Return what became of all messages on the topics of the policy that it is for."""
        others = {"left_out": self.left_out, "dropped": self.dropped, "raised": self.raised}
        return self.comparison.total.as_document() | others

    def as_document(self, most_rows: int | None) -> dict[str, Any]:
        """Return it for JSON, at most so many rows of each kind."""
        return {
            "policy": self.policy,
            "candidate": self.candidate,
            "percent": self.percent,
            "since": self.since,
            "not_judged": {"left_out": self.left_out, "dropped": self.dropped, "raised": self.raised},
            **self.comparison.as_document(most_rows),
        }


@frozen(eq=False)
class _Covering:
    """What covers a topic: all its policies in order, and the tallies of those with a candidate."""

    policies: tuple[Policy, ...]
    tallies: dict[str, Tally]  # by policy
    percent: float  # the largest


@frozen(eq=False)
class _Waiting:
    message: Message
    identity: Identity
    covering: _Covering
    drawn: float  # from 0 up to 100: whoever's share is above it judges


@define(eq=False)
class Shadowing:
    """See the module. One for the process."""

    refusal: Refusal
    chance: Callable[[], float] = random.random
    has_candidates: bool = field(init=False, default=False)
    settings: ShadowSettings = field(init=False, factory=ShadowSettings)
    _tallies: dict[str, Tally] = field(init=False, factory=dict)  # by policy
    _generation: Generation | None = field(init=False, default=None)
    _acl: Acl | None = field(init=False, default=None)
    _up: dict[str, _Covering | None] = field(init=False, factory=dict)  # by topic
    _down: dict[str, _Covering | None] = field(init=False, factory=dict)
    _queue: deque[_Waiting] = field(init=False, factory=deque)
    _size: int = field(init=False, default=0)  # payload bytes that wait
    _something_waits: trio.Event = field(init=False, default=Factory(trio.Event))

    def __attrs_post_init__(self) -> None:
        """Tell the metrics."""
        self.refusal.metrics.refresh.append(self._refresh)

    def use(self, ruleset: Ruleset) -> None:
        """Judge by the candidates of a ruleset; what was found about those that did not change stays."""
        config, generation = ruleset.config, ruleset.generation
        self.settings, self._generation, self._acl = config.shadow, generation, ruleset.acl
        settings = {policy.name: policy for policy in config.policies}
        before, self._tallies = self._tallies, {}
        for policy in generation.policies:
            if policy.shadow is not None and policy.level != "off":
                tally = self._tally(policy, settings, config)
                known = before.get(policy.name)
                self._tallies[policy.name] = known if known and known.identity == tally.identity else tally
        self.has_candidates = bool(self._tallies)
        self._up, self._down = {}, {}

    def _tally(self, policy: Policy, settings: dict[str, PolicySettings], config: ProxyConfig) -> Tally:
        shadow, own = policy.shadow, settings[policy.name]
        assert shadow is not None  # noqa: S101  # for mypy; the caller has looked
        bounds, candidate = config.shadow, shadow.candidate
        other = settings.get(own.shadow.policy or "")
        judged_by = [_what_it_says(one) for one in (own, other) if one is not None]
        # Masked samples were masked by the rules of their time.
        shown_by = (config.masks, config.masking, bounds.rows, bounds.samples)
        versions = (policy.passed.schema, candidate.failed.schema, shadow.fingerprint)
        words = f"policy {candidate.name}" if other is not None else f"schema {candidate.failed.schema}"
        return Tally(
            policy=policy.name,
            candidate=words,
            percent=shadow.percent,
            identity=(*judged_by, config.payload, *versions, *shown_by),
            since=self.refusal.wall(),
            comparison=Comparison(most_rows=bounds.rows, most_samples=bounds.samples),
        )

    # On the way of the messages: nothing here waits or judges.

    def offer(self, reads: Iterable[tuple[Origin, Sequence[Message]]]) -> None:
        """Take what devices sent and might send, as far as there is room for it."""
        known, acl = self._up, self._acl
        for origin, messages in reads:
            rights = None if acl is None else acl.rights_of(origin.identity)
            for message in messages:
                topic = message.topic
                covering = known[topic] if topic in known else self._find(topic, known, self._generation)
                if covering is not None and (rights is None or rights.allow(message)):
                    self._take(message, origin.identity, covering)

    def offer_down(self, upstream: str, messages: Sequence[Message]) -> None:
        """Take what an upstream sent, likewise."""
        known, identity = self._down, identity_of_upstream(upstream)
        rules = self._generation.down if self._generation is not None else None
        for message in messages:
            topic = message.topic
            covering = known[topic] if topic in known else self._find(topic, known, rules)
            if covering is not None:
                self._take(message, identity, covering)

    def _find(self, topic: str, known: dict[str, _Covering | None], rules: Rules | None) -> _Covering | None:
        found = None
        if rules is not None and rules.fixed_scope(topic) is None:
            policies = tuple(rules.policies[position] for position in sorted(rules.reached(topic)))
            tallies = {one.name: self._tallies[one.name] for one in policies if one.name in self._tallies}
            if tallies:
                found = _Covering(policies, tallies, max(tally.percent for tally in tallies.values()))
        if len(known) >= CACHED_TOPICS:
            known.clear()
        known[topic] = found
        return found

    def _take(self, message: Message, identity: Identity, covering: _Covering) -> None:
        drawn = self.chance() * 100
        if drawn >= covering.percent:
            for tally in covering.tallies.values():
                tally.left_out += 1
            return
        bounds, size = self.settings, len(message.payload)
        if len(self._queue) >= bounds.queue_messages or self._size + size > bounds.queue_bytes:
            for tally in covering.tallies.values():
                tally.dropped += 1
            return
        self._size += size
        self._queue.append(_Waiting(message, identity, covering, drawn))
        self._something_waits.set()

    # Beside it.

    async def run(self) -> None:
        """Judge what waits, until cancelled, within the share of the process that the settings give."""
        now = self.refusal.metrics.now
        while True:
            await self._something_waits.wait()
            began = now()
            while self._queue and now() - began < SLICE:
                self._judge(self._queue.popleft())
            if not self._queue:
                self._something_waits = trio.Event()
            await trio.sleep((now() - began) * (100 / self.settings.time_percent - 1))

    def _judge(self, waiting: _Waiting) -> None:
        message, covering = waiting.message, waiting.covering
        self._size -= len(message.payload)
        case = Case(message, waiting.identity, ASKED_BEFORE)  # plug-ins are not asked for a candidate
        for policy, _ in taking_part(covering.policies, waiting.identity):
            tally, shadow = covering.tallies.get(policy.name), policy.shadow
            if tally is None or shadow is None or policy.level == "off":
                continue
            if waiting.drawn >= tally.percent:
                tally.left_out += 1
                continue
            try:
                self._compare(tally, policy.judge(case, enforced=True), shadow.judge(case), waiting)
            except Exception as error:  # noqa: BLE001 # a bug of ours: it is told, and no message suffers from it
                tally.raised += 1
                self.refusal.alerts.error(
                    f"shadow_raised:{policy.name}", "shadow_raised", policy=policy.name, exc_info=error
                )

    def _compare(self, tally: Tally, now: Verdict | None, then: Verdict | None, waiting: _Waiting) -> None:
        message, identity, masker = waiting.message, waiting.identity, self.refusal.masker
        outcomes = [self._outcome(verdict, message.topic) for verdict in (now, then)]
        shown = ""
        if outcomes != [PASSES, PASSES]:
            payload = masker.payload(message.payload, message.topic).decode(errors="backslashreplace")
            shown = printable(cut(payload, PAYLOAD_SHOWN), PAYLOAD_SHOWN)
        tally.comparison.add(
            *outcomes,
            device=identity.client_id or identity.listener,
            attributes=identity.attributes,
            topic=message.topic,
            payload=shown,
        )

    def _outcome(self, verdict: Verdict | None, topic: str) -> Outcome:
        return PASSES if verdict is None else outcome_of(self.refusal.masker.verdict(verdict, topic))

    # What operators see.

    def as_document(self, policy: str | None = None, most_rows: int | None = None) -> list[dict[str, Any]]:
        """Return what was found, for JSON: of all candidates or of that for one policy."""
        wanted = [tally for name, tally in self._tallies.items() if policy in (None, name)]
        return [tally.as_document(most_rows) for tally in wanted]

    def _refresh(self) -> None:
        metrics = self.refusal.metrics
        metrics.shadow_waiting = len(self._queue)
        metrics.shadowed = {
            (name, outcome): count for name, tally in self._tallies.items() for outcome, count in tally.counts().items()
        }


def _what_it_says(policy: PolicySettings) -> PolicySettings:
    """Return the settings without those that change nothing of what it and its candidate say of a message."""
    return evolve(policy, level="enforce", percent=100.0, priority=0, final=False, on_failure=())
