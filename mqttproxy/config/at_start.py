"""Which settings are read once, when the process starts. Changing them waits for a restart, and is told."""

from collections.abc import Mapping
from typing import Final

import attrs
from attrs import evolve

from mqttproxy.config.model import ProxyConfig

# Tables that are read at start, with those of their keys that a reload puts in force all the same.
AT_START: Final[Mapping[str, frozenset[str]]] = {
    "proxy": frozenset({"watch"}),
    "limits": frozenset(),
    "sessions": frozenset(),
    "telemetry": frozenset({"log_level", "log_format"}),
}
# Single keys of tables that a reload else puts in force.
ALONE: Final = frozenset({("spool", "durability")})

_DEFAULTS: Final = ProxyConfig()


def is_at_start(table: str, key: str) -> bool:
    """Tell whether a setting is read at start only; that of a table within a table is as the outer one says."""
    if "." in table:
        return is_at_start(*table.split(".", 2)[:2])
    return (table, key) in ALONE or (table in AT_START and key not in AT_START[table])


def needs_restart(started_with: ProxyConfig, config: ProxyConfig) -> tuple[str, ...]:
    """Return the keys whose values wait for a restart."""
    return tuple(
        f"{table}.{key}"
        for table, key in _keys()
        if getattr(getattr(started_with, table), key) != getattr(getattr(config, table), key)
    )


def keep_at_start(config: ProxyConfig, started_with: ProxyConfig) -> ProxyConfig:
    """Return a configuration as it is in force in a process that was started with another one."""
    tables: dict[str, dict[str, object]] = {}
    for table, key in _keys():
        tables.setdefault(table, {})[key] = getattr(getattr(started_with, table), key)
    return evolve(config, **{table: evolve(getattr(config, table), **keys) for table, keys in tables.items()})


def _keys() -> list[tuple[str, str]]:
    return [
        (table.name, attribute.name)
        for table in attrs.fields(ProxyConfig)
        if table.name in {*AT_START, *(name for name, _ in ALONE)}
        for attribute in attrs.fields(type(getattr(_DEFAULTS, table.name)))
        if is_at_start(table.name, attribute.name)
    ]
