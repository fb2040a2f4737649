"""From the settings of policies to policies: in the order in which they judge, with all that is wrong at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, cast

from attrs import evolve, frozen
from msgspec.structs import replace

from mqttproxy.config.errors import ConfigError, Fault, quoted
from mqttproxy.config.model import PolicySettings, ProxyConfig, RequireSettings
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation.checks import (
    Check,
    Decode,
    EmptyCheck,
    JsonCheck,
    JsonSchemaCheck,
    RequireCheck,
    SchemaCheck,
    TextCheck,
    decode_bytes,
    decode_text,
    json_decoder,
)
from mqttproxy.validation.policy import Binding, Captures, Policy, Shadow
from mqttproxy.validation.selector import make_selector
from mqttproxy.validation.transforms.making import ChangeMaker, has_change
from mqttproxy.validation.verdict import Action, Verdict

if TYPE_CHECKING:  # 10 MB that only schemas need
    from mqttproxy.validation.contract import Contract
    from mqttproxy.validation.json_contract import JsonContract

_NOTHING: Final = RequireSettings()
_FORMATS: Final[dict[str | None, Check]] = {"text": TextCheck(), "none": EmptyCheck()}


def make_policies(
    config: ProxyConfig, contracts: Mapping[str, "Contract"], file: str, fingerprints: Mapping[str, str] | None = None
) -> tuple[Policy, ...]:
    """Return the policies of a configuration in the order in which they judge.

    Args:
        config: checked.
        contracts: by reference, all that the policies name.
        file: the file of the settings, for words.
        fingerprints: of the schema files of candidates, by reference.

    Raises:
        ConfigError: expressions cannot be compiled.

    """
    faults: list[Fault] = []

    def complain(key: str, found: str, hint: str) -> None:
        faults.append(Fault(file, key, found, hint=hint))

    changes = ChangeMaker(config, contracts) if any(map(has_change, config.policies)) else None
    maker = _Maker(config, contracts, json_decoder(config.payload), complain, changes, fingerprints or {})
    made = [maker.policy(policy, f"policies[{index}]") for index, policy in enumerate(config.policies)]
    if faults:
        raise ConfigError(dict.fromkeys(faults))  # bindings have those of their policy again
    shadows = [maker.shadow(policy, f"policies[{index}]") for index, policy in enumerate(config.policies)]
    if faults:
        raise ConfigError(dict.fromkeys(faults))
    made = [evolve(policy, shadow=shadow) for policy, shadow in zip(made, shadows, strict=True)]
    order = sorted(range(len(made)), key=lambda index: -config.policies[index].priority)  # keeps that of the file
    return tuple(made[index] for index in order)


def action_of(on_failure: Iterable[str]) -> Action:
    """Return the strictest that keeps the message; one that failed is carried only where `mark` says so."""
    for word, action in (("hold", Action.HOLD), ("refuse", Action.REFUSE), ("mark", Action.FORWARD)):
        if word in on_failure:
            return action
    return Action.REFUSE


@frozen
class _Maker:
    """Makes policies of one configuration, and tells what is wrong with any of them."""

    config: ProxyConfig
    contracts: Mapping[str, "Contract"]
    decode_json: Decode
    complain: Callable[[str, str, str], None]  # key, what was found, hint
    changes: ChangeMaker | None = None
    fingerprints: Mapping[str, str] = {}

    def policy(self, settings: PolicySettings, key: str) -> Policy:
        """Return the policy that these settings, which stand at this key, describe."""
        bindings = []
        for binding in settings.bindings:
            bound = self._bound(evolve(settings, schema=binding.schema), key)
            bindings.append(Binding(binding.schema, make_selector(binding.when), bound))
        return evolve(self._bound(settings, key), bindings=tuple(bindings))

    def _bound(self, settings: PolicySettings, key: str) -> Policy:
        """Return the policy with the schema that it has by itself."""
        captures = Captures(settings.topics)
        schema = self.contracts[settings.schema].name if settings.schema is not None else None  # of an alias, say
        action = action_of(settings.on_failure)
        failed = Verdict(
            action=action,
            policy=settings.name,
            schema=schema,
            reason=ReasonCode.PAYLOAD_FORMAT_INVALID,
            mark=action is Action.FORWARD,
            alert="alert" in settings.on_failure,
            disconnect="disconnect" in settings.on_failure,
        )
        return Policy(
            name=settings.name,
            direction=settings.direction,
            level=settings.level,
            percent=settings.percent,
            final=settings.final,
            captures=captures,
            selector=make_selector(settings.when),
            checks=tuple(self._checks(settings, key, captures)),
            any_will_do=settings.strategy == "any",
            passed=Verdict(
                action=Action.FORWARD, policy=settings.name, schema=schema if settings.level != "off" else None
            ),
            failed=failed,
            observed=replace(failed, action=Action.FORWARD, mark=False, disconnect=False, observed=True),
            change=self.changes.of(settings) if self.changes is not None else None,
            plugins=tuple(plugin.name for plugin in settings.plugins),
        )

    def shadow(self, settings: PolicySettings, key: str) -> Shadow | None:
        """Return the candidate for the policy that these settings describe. The policy itself was made already."""
        shadow = settings.shadow
        if shadow.schema is not None:
            candidate = evolve(settings, schema=shadow.schema, format=None, transforms=(), carry_as="same")
            key = f"{key}.shadow"
        elif shadow.policy is not None:
            index, candidate = next(
                (index, one) for index, one in enumerate(self.config.policies) if one.name == shadow.policy
            )
            candidate, key = evolve(candidate, transforms=(), carry_as="same"), f"policies[{index}]"
        else:
            return None
        return Shadow(
            candidate=self.policy(candidate, key),
            percent=shadow.percent,
            fingerprint=self.fingerprints.get(candidate.schema or "", ""),
        )

    def _checks(self, settings: PolicySettings, key: str, captures: Captures) -> Iterator[Check]:
        """Yield what a policy asks, the cheap first."""
        if settings.require != _NOTHING:
            yield RequireCheck(settings.require)
        contract = self.contracts[settings.schema] if settings.schema is not None else None
        if contract is not None:  # it knows its format
            if settings.format is not None and settings.format != contract.kind:
                hint = f"{contract.name} is for {contract.kind}; without a format that is what the payload must be"
                self.complain(f"{key}.format", quoted(settings.format), hint)
            if contract.kind == "json":
                yield JsonSchemaCheck(cast("JsonContract", contract), self.decode_json)
            else:
                yield SchemaCheck(contract)
        elif settings.format == "json":
            yield JsonCheck(self.decode_json)
        elif settings.format in _FORMATS:
            yield _FORMATS[settings.format]
        if settings.expressions:
            yield from self._expressions(settings, key, captures, self._decoder(settings, contract))
        if settings.plugins:
            yield from self._plugins(settings, key, captures, contract)

    def _expressions(self, settings: PolicySettings, key: str, captures: Captures, decode: Decode) -> Iterator[Check]:
        try:
            from mqttproxy.validation.cel import ExpressionError, compile_expression  # noqa: PLC0415 - only they need it
        except ImportError:
            self.complain(f"{key}.expressions", "expressions, but no CEL", "install mqttproxy[cel], which brings it")
            return
        share = 1 / len(settings.expressions)
        for index, item in enumerate(settings.expressions):
            try:
                yield compile_expression(item.expression, item.message, captures, decode, share)
            except ExpressionError as error:
                found = f"an error in {error.place}" if error.place else "an expression that cannot be used"
                self.complain(f"{key}.expressions[{index}].expression", found, str(error))

    def _plugins(
        self, settings: PolicySettings, key: str, captures: Captures, contract: "Contract | None"
    ) -> Iterator[Check]:
        from mqttproxy.validation.plugins import PluginCheck, installed  # noqa: PLC0415 - only they need it

        known = installed()
        kind = contract.kind if contract is not None else settings.format
        decode = self._decoder(settings, contract) if kind in ("json", "protobuf", "avro") else None
        for index, plugin in enumerate(settings.plugins):
            if plugin.name not in known:
                names = ", ".join(map(quoted, known)) or "none"
                hint = f"installed in the group mqttproxy.checks: {names}"
                self.complain(f"{key}.plugins[{index}].name", quoted(plugin.name), hint)
            yield PluginCheck(plugin.name, plugin.budget, captures, decode, kind == "json")

    def _decoder(self, settings: PolicySettings, contract: "Contract | None") -> Decode:
        """Return what makes the `payload` of expressions of the bytes."""
        if contract is not None and contract.kind != "json":
            return contract.document
        if contract is not None or settings.format == "json":
            return self.decode_json
        return decode_text if settings.format == "text" else decode_bytes
