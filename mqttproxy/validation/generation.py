"""One complete, checked set of rules for messages. A reload builds the next one whole, then swaps it in (P8)."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen
from msgspec.structs import replace

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import DefaultSettings, PolicySettings, ProxyConfig, TopicSettings
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import FilterTree
from mqttproxy.validation.files import SchemaFiles, SchemaFolder
from mqttproxy.validation.verdict import Action, Failure, Verdict

if TYPE_CHECKING:  # see `_contracts` for the real import
    from mqttproxy.validation.contract import Contract

CACHED_TOPICS: Final = 10_000
_FILE: Final = "proxy.toml"


@frozen
class Scope:
    """What applies to a topic."""

    passed: Verdict  # of good messages; where nothing is judged, of all
    failed: Verdict  # of bad ones, without their failures
    contract: "Contract | None" = None  # None: payloads are not judged


@define(eq=False, kw_only=True)
class Rules:
    """What applies to messages of one direction. Immutable, but for the memory of which scope a topic has."""

    scopes: dict[str, Scope] = field(init=False, factory=dict)  # by topic name, at most CACHED_TOPICS
    _policies: FilterTree[int]  # positions in `_of_policies`
    _of_policies: tuple[Scope, ...]
    _default: Scope

    def scope_of(self, topic: str) -> Scope:
        """Return what applies to a topic name, and remember it."""
        scope = self._find(topic)
        if len(self.scopes) >= CACHED_TOPICS:
            self.scopes.clear()
        self.scopes[topic] = scope
        return scope

    def _find(self, topic: str) -> Scope:
        found = self._policies.match(topic)
        return self._of_policies[min(found)] if found else self._default


@define(eq=False, kw_only=True)
class Generation(Rules):
    """Rules in force: itself for messages from devices, `down` for messages from upstreams to devices."""

    number: int
    down: Rules
    _allowed: FilterTree[int]
    _elsewhere: Scope

    def _find(self, topic: str) -> Scope:
        return super()._find(topic) if self._allowed.match(topic) else self._elsewhere


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
        ConfigError: schemas are missing, broken, or refer to what is not there; with all that is wrong.

    """
    contracts = _contracts(config, files or SchemaFolder(config.schemas.directory), checked=checked)
    up = [policy for policy in config.policies if policy.direction != "down"]
    return Generation(
        number=number,
        allowed=_tree([config.topics.allowed]),
        policies=_tree(policy.topics for policy in up),
        of_policies=tuple(_scope(policy, contracts) for policy in up),
        default=_default_scope(config.default),
        elsewhere=_elsewhere(config.topics),
        down=_down(config, contracts),
    )


def _down(config: ProxyConfig, contracts: Mapping[str, "Contract"]) -> Rules:
    """Build the rules for messages from upstreams, who decide themselves which topics there are."""
    policies = [policy for policy in config.policies if policy.direction != "up"]
    return Rules(
        policies=_tree(policy.topics for policy in policies),
        of_policies=tuple(_without_disconnect(_scope(policy, contracts)) for policy in policies),
        default=_FREE,
    )


def _without_disconnect(scope: Scope) -> Scope:
    return evolve(scope, failed=replace(scope.failed, disconnect=False))


def _contracts(config: ProxyConfig, files: SchemaFiles, *, checked: bool) -> Mapping[str, "Contract"]:
    if not config.policies:
        return {}
    wanted: dict[str, str] = {}
    for index, policy in enumerate(config.policies):
        wanted.setdefault(policy.schema, f"policies[{index}].schema")  # those that are off too: they may come on
    from mqttproxy.validation.compile import compile_contracts  # noqa: PLC0415 - 10 MB that only policies need

    directory = config.schemas.directory
    contracts, faults = compile_contracts(wanted, files, directory, config.payload, _FILE, checked=checked)
    if faults:
        raise ConfigError(faults)
    return contracts


def _tree(filters: Iterable[Iterable[str]]) -> FilterTree[int]:
    tree: FilterTree[int] = FilterTree()
    for position, group in enumerate(filters):
        for topic_filter in group:
            tree.add(topic_filter, position)
    return tree


def _scope(policy: PolicySettings, contracts: Mapping[str, "Contract"]) -> Scope:
    # Without a schema's say it is as if there were no policy; broken text is refused there too.
    if policy.level == "off":
        return Scope(Verdict(action=Action.FORWARD, policy=policy.name), _BROKEN_TEXT)
    passed = Verdict(action=Action.FORWARD, policy=policy.name, schema=policy.schema)
    observed = policy.level == "observe"
    failed = Verdict(
        action=Action.FORWARD if observed else _action(policy.on_failure),
        policy=policy.name,
        schema=policy.schema,
        reason=ReasonCode.PAYLOAD_FORMAT_INVALID,
        mark=not observed and _action(policy.on_failure) is Action.FORWARD,
        alert="alert" in policy.on_failure,
        disconnect=not observed and "disconnect" in policy.on_failure,
        observed=observed,
    )
    return Scope(passed, failed, contracts[policy.schema])


def _action(on_failure: Iterable[str]) -> Action:
    """Return the strictest that keeps the message; one that failed is carried only where `mark` says so."""
    for word, action in (("hold", Action.HOLD), ("refuse", Action.REFUSE), ("mark", Action.FORWARD)):
        if word in on_failure:
            return action
    return Action.REFUSE


def _default_scope(settings: DefaultSettings) -> Scope:
    if settings.action == "forward":
        return _FREE
    verdict = Verdict(
        action=Action.HOLD if settings.action == "hold" else Action.REFUSE,
        failures=(Failure("", "policy", "no policy covers this topic"),),
        reason=ReasonCode.TOPIC_NAME_INVALID,
    )
    return Scope(verdict, verdict)


def _elsewhere(settings: TopicSettings) -> Scope:
    verdict = Verdict(
        action=_action(settings.on_failure),
        failures=(Failure("", "topic", "devices may not publish to this topic"),),
        reason=ReasonCode.TOPIC_NAME_INVALID,
        alert="alert" in settings.on_failure,
        disconnect="disconnect" in settings.on_failure,
    )
    return Scope(verdict, verdict)


_BROKEN_TEXT: Final = Verdict(action=Action.REFUSE, reason=ReasonCode.PAYLOAD_FORMAT_INVALID)
_FREE: Final = Scope(Verdict(action=Action.FORWARD), _BROKEN_TEXT)  # of topics that nothing is said about
