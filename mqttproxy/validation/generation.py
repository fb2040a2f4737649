"""One complete, checked set of rules for messages. A reload builds the next one whole, then swaps it in (P8)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from attrs import define, field, frozen

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import DefaultSettings, ProxyConfig, TopicSettings
from mqttproxy.config.references import candidate_keys, schema_references
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import FilterTree
from mqttproxy.validation.checks import Case
from mqttproxy.validation.files import DraftFiles, SchemaFiles, schema_folder
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.making import action_of, make_policies
from mqttproxy.validation.policy import Policy
from mqttproxy.validation.verdict import Action, Failure, Verdict, join

if TYPE_CHECKING:  # see `_contracts` for the real import
    from mqttproxy.validation.contract import Contract

CACHED_TOPICS: Final = 10_000
CACHED_IDENTITIES: Final = 10_000
_FILE: Final = "proxy.toml"


@frozen(eq=False)
class Seat:
    """A policy that judges, and whether what it finds has consequences."""

    policy: Policy
    enforced: bool


@frozen(eq=False)
class Scope:
    """What applies to a topic. The same object for all topics of the same policies."""

    passed: Verdict  # of good messages; where nothing is judged, of all
    failed: Verdict  # of bad ones, without their failures
    contract: "Contract | None" = None  # one JSON Schema is all there is, which is the most common case
    seats: tuple[Seat, ...] = ()  # what judges where it is more, in order
    reads_text: bool = False  # text that is none has been noticed by them
    candidates: tuple[Policy, ...] = ()  # who judges depends on the sender: ask `Rules.scope_for`
    changers: tuple[Policy, ...] = ()  # who changes what is carried on, in order
    asks: bool = False  # plug-ins may be asked before a message is judged

    def judge(self, case: Case) -> Verdict:
        """Return the verdict of all who judge here."""
        found = [seat.policy.judge(case, enforced=seat.enforced) for seat in self.seats]
        failed = [verdict for verdict in found if verdict is not None]
        return join(failed) if failed else self.passed


@define(eq=False, kw_only=True)
class Rules:
    """What applies to messages of one direction. Immutable, but for the memory of what was found already."""

    direction: Literal["up", "down"]
    policies: tuple[Policy, ...]  # all of the file, in the order in which they judge
    default: Scope
    scopes: dict[str, Scope] = field(init=False, factory=dict)  # by topic name, at most CACHED_TOPICS
    plugins: frozenset[str] = field(init=False)  # names of those that judge here
    _tree: FilterTree[int] = field(init=False)  # positions in `policies` of those for this direction
    _reached: dict[tuple[int, ...], Scope] = field(init=False, factory=dict)  # by the policies that a topic reaches
    _seated: dict[tuple[tuple[int, bool], ...], Scope] = field(init=False, factory=dict)  # by those that judge
    # By id(), which nobody else can have while the identity stands here.
    _chosen: dict[int, tuple[Identity, dict[Scope, Scope]]] = field(init=False, factory=dict)

    @plugins.default
    def _find_plugins(self) -> frozenset[str]:
        here = (self.direction, "both")
        of_policies = [policy.plugins for policy in self.policies if policy.direction in here and policy.level != "off"]
        return frozenset(name for names in of_policies for name in names)

    def __attrs_post_init__(self) -> None:
        """Put the policies of this direction into the tree."""
        self._tree = FilterTree()
        for position, policy in enumerate(self.policies):
            if policy.direction in (self.direction, "both"):
                for topic_filter in policy.captures.filters:
                    self._tree.add(topic_filter, position)

    def scope_of(self, topic: str) -> Scope:
        """Return what applies to a topic name, and remember it."""
        scope = self._find(topic)
        if len(self.scopes) >= CACHED_TOPICS:
            self.scopes.clear()
        self.scopes[topic] = scope
        return scope

    def scope_for(self, scope: Scope, identity: Identity) -> Scope:
        """Return what applies to this sender's messages, of a scope that has `candidates`; and remember it."""
        known = self._chosen.get(id(identity))
        if known is None:
            if len(self._chosen) >= CACHED_IDENTITIES:
                self._chosen.clear()
            known = self._chosen[id(identity)] = identity, {}
        chosen = known[1].get(scope)
        if chosen is None:
            chosen = known[1][scope] = self._seat(scope.candidates, identity)
        return chosen

    def fixed_scope(self, topic: str) -> Scope | None:
        """Return what applies to a topic before any policy is asked, or None: policies are."""
        del topic
        return None

    def reached(self, topic: str) -> frozenset[int]:
        """Return the positions of the policies for this direction whose topic filters match."""
        return frozenset(self._tree.match(topic))

    def asks(self, topic: str) -> bool:
        """Tell whether plug-ins may be asked about messages on a topic before they are judged."""
        return (self.scopes.get(topic) or self.scope_of(topic)).asks

    def transforms(self, topic: str) -> bool:
        """Tell whether policies may change messages on a topic."""
        return any(self.policies[position].change is not None for position in self.reached(topic))

    def binds(self, topic: str) -> bool:
        """Tell whether policies may judge messages on a topic by a schema of their sender's."""
        return any(self.policies[position].bindings for position in self.reached(topic))

    def _find(self, topic: str) -> Scope:
        fixed = self.fixed_scope(topic)
        if fixed is not None:
            return fixed
        positions = tuple(sorted(self.reached(topic)))
        scope = self._reached.get(positions)
        if scope is None:
            scope = self._reach([self.policies[position] for position in positions])
            if len(self._reached) >= CACHED_TOPICS:
                self._reached.clear()
                self._chosen.clear()
            self._reached[positions] = scope
        return scope

    def _reach(self, policies: Sequence[Policy]) -> Scope:
        if any(policy.is_personal for policy in policies):
            asks = self._asks(policies)
            return Scope(self.default.passed, self.default.failed, candidates=tuple(policies), asks=asks)
        return self._seat(policies, None)

    def _seat(self, policies: Iterable[Policy], identity: Identity | None) -> Scope:
        taken = list(taking_part(policies, identity))
        key = tuple((id(policy), enforced) for policy, enforced in taken)
        scope = self._seated.get(key)
        if scope is None:
            if len(self._seated) >= CACHED_TOPICS:
                self._seated.clear()
            asks = self._asks([policy for policy, _ in taken])
            scope = self._seated[key] = _scope([Seat(*one) for one in taken], self.default, asks=asks)
        return scope

    def _asks(self, policies: Iterable[Policy]) -> bool:
        """Tell whether plug-ins may be asked: those of these policies, or of where they may bring the message."""
        return bool(self.plugins) and any(
            policy.plugins or (policy.change is not None and policy.change.renames) for policy in policies
        )


@define(eq=False, kw_only=True)
class Generation(Rules):
    """Rules in force: itself for messages from devices, `down` for messages from upstreams to devices."""

    number: int
    down: Rules
    _allowed: FilterTree[int]
    _elsewhere: Scope

    def fixed_scope(self, topic: str) -> Scope | None:
        """Return what applies to a topic where devices may not publish at all."""
        return None if self._allowed.match(topic) else self._elsewhere


def taking_part(policies: Iterable[Policy], identity: Identity | None) -> Iterator[tuple[Policy, bool]]:
    """Yield the policies that apply to a sender, in order, and whether each is enforced; those that are off too.

    Args:
        policies: those for the topic and direction, in order.
        identity: None: none of them depends on it.

    """
    for policy in policies:
        if policy.selector is not None and identity is not None and policy.selector.why_not(identity) is not None:
            continue
        yield policy.bound_to(identity), policy.enforces(identity)
        if policy.final and policy.level != "off":
            return


def build_generation(
    number: int, config: ProxyConfig, files: SchemaFiles | None = None, *, checked: bool = False
) -> Generation:
    """Build the rules that a configuration describes.

    Args:
        number: of the generation, for people.
        config: checked.
        files: the schema folder; None: the one that the configuration names, on disk.
        checked: another process has checked the schemas and found words for their authors; here they are only used,
            as strictly, without what such words need in memory.

    Raises:
        ConfigError: schemas or expressions are missing, broken, or refer to what is not there; with all that is wrong.

    """
    contracts, fingerprints = _contracts(config, files or schema_folder(config), checked=checked)
    policies = make_policies(config, contracts, _FILE, fingerprints)
    # Upstreams decide themselves which topics there are.
    down = Rules(direction="down", policies=tuple(policy.without_disconnect() for policy in policies), default=FREE)
    return Generation(
        number=number,
        direction="up",
        policies=policies,
        default=_default_scope(config.default),
        down=down,
        allowed=_tree(config.topics.allowed),
        elsewhere=_elsewhere(config.topics),
    )


def _contracts(
    config: ProxyConfig, files: SchemaFiles, *, checked: bool
) -> tuple[Mapping[str, "Contract"], Mapping[str, str]]:
    """Return contracts by reference, and the fingerprints of those that candidates use."""
    of_candidates = set(candidate_keys(config))
    wanted: dict[str, str] = {}
    candidates: dict[str, str] = {}
    for key, reference in schema_references(config):  # those of policies that are off too: they may come on
        (candidates if key in of_candidates else wanted).setdefault(reference, key)
    if not wanted and not candidates:
        return {}, {}
    from mqttproxy.validation.compile import compile_contracts  # noqa: PLC0415 - 10 MB that only schemas need

    directory = config.schemas.directory
    contracts, faults = compile_contracts(wanted, files, directory, config.payload, _FILE, checked=checked)
    fingerprints: dict[str, str] = {}
    for reference, key in candidates.items():
        notes = DraftFiles(files)
        made, more = compile_contracts({reference: key}, notes, directory, config.payload, _FILE, checked=checked)
        contracts |= made
        faults += more
        fingerprints[reference] = notes.fingerprint
    if faults:
        raise ConfigError(dict.fromkeys(faults))
    return contracts, fingerprints


def _tree(filters: Iterable[str]) -> FilterTree[int]:
    tree: FilterTree[int] = FilterTree()
    for topic_filter in filters:
        tree.add(topic_filter, 0)
    return tree


def _scope(seats: Sequence[Seat], default: Scope, *, asks: bool) -> Scope:
    """Return what applies where these policies do."""
    if not seats:
        return default
    judging = [seat for seat in seats if seat.policy.level != "off"]
    if not judging:  # it is as if nothing were said about the topic; broken text is refused there too
        return Scope(seats[0].policy.passed, _BROKEN_TEXT)
    first = judging[0].policy
    changers = tuple(seat.policy for seat in judging if seat.enforced and seat.policy.change is not None)
    if len(judging) == 1 and first.contract is not None:
        failed = first.failed if judging[0].enforced else first.observed
        return Scope(first.passed, failed, contract=first.contract, reads_text=True, changers=changers, asks=asks)
    reads_text = any(seat.policy.reads_text for seat in judging)
    seated = tuple(judging)
    return Scope(first.passed, _BROKEN_TEXT, seats=seated, reads_text=reads_text, changers=changers, asks=asks)


def _default_scope(settings: DefaultSettings) -> Scope:
    if settings.action == "forward":
        return FREE
    verdict = Verdict(
        action=Action.HOLD if settings.action == "hold" else Action.REFUSE,
        failures=(Failure("", "policy", "no policy covers this topic"),),
        reason=ReasonCode.TOPIC_NAME_INVALID,
    )
    return Scope(verdict, verdict)


def _elsewhere(settings: TopicSettings) -> Scope:
    verdict = Verdict(
        action=action_of(settings.on_failure),
        failures=(Failure("", "topic", "devices may not publish to this topic"),),
        reason=ReasonCode.TOPIC_NAME_INVALID,
        alert="alert" in settings.on_failure,
        disconnect="disconnect" in settings.on_failure,
    )
    return Scope(verdict, verdict)


_BROKEN_TEXT: Final = Verdict(action=Action.REFUSE, reason=ReasonCode.PAYLOAD_FORMAT_INVALID)
FREE: Final = Scope(Verdict(action=Action.FORWARD), _BROKEN_TEXT)  # of topics that nothing is said about
