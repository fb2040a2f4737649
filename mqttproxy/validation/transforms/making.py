"""From the settings of policies to their changes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mqttproxy.config.masking import key_of
from mqttproxy.config.model import PolicySettings, ProxyConfig
from mqttproxy.validation.transforms.carrying import Codec, json_codec
from mqttproxy.validation.transforms.changing import Change
from mqttproxy.validation.transforms.transform import compile_steps

if TYPE_CHECKING:  # 10 MB that only schemas need
    from mqttproxy.validation.contract import Contract


def has_change(policy: PolicySettings) -> bool:
    """Tell whether a policy changes messages."""
    return bool(policy.transforms) or policy.carry_as == "json"


class ChangeMaker:
    """Makes the changes of one configuration.

    Raises:
        ConfigError: the key of `[masking]` cannot be read.

    """

    def __init__(self, config: ProxyConfig, contracts: "Mapping[str, Contract]") -> None:
        self._config = config
        self._contracts = contracts
        self._key = key_of(config)
        self._json = json_codec(config.payload)

    def of(self, policy: PolicySettings) -> Change | None:
        """Return what a policy makes of messages, None: nothing."""
        if not has_change(policy):
            return None
        limits = self._config.limits
        reads = self._reader(policy)
        writes = self._json if policy.carry_as == "json" else reads
        transform = compile_steps(policy.transforms, self._key, limits)
        return Change(transform, reads, writes, becomes_json=writes is not reads, max_bytes=limits.payload_size)

    def _reader(self, policy: PolicySettings) -> Codec:
        contract: Any = self._contracts.get(policy.schema) if policy.schema is not None else None
        return contract if hasattr(contract, "encode") and hasattr(contract, "document") else self._json
