"""A new generation: built whole beside the old one, then swapped in between two batches; or the reason why not."""

from pathlib import Path
from typing import Final, Protocol

import attrs
import trio

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.model import ProxyConfig
from mqttproxy.downstream.door import Door
from mqttproxy.pipeline import Pipeline, Ruleset
from mqttproxy.quarantine.store import Quarantine
from mqttproxy.telemetry.logs import Log, configure_logging
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.pool import Pool
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from mqttproxy.validation.files import SchemaFolder

# Sections that are read once, at start. Changing them is told, and waits for a restart.
AT_START: Final = ("proxy", "listeners", "limits", "audit", "telemetry")


class Running(Protocol):
    """The process as a reload sees it (`app.Proxy`)."""

    path: Path
    config: ProxyConfig
    log: Log
    metrics: Metrics
    pool: Pool
    pipeline: Pipeline
    quarantine: Quarantine
    door: Door

    def use_upstreams(self) -> None:
        """Give each upstream of the pool its lane."""


def make_ruleset(config: ProxyConfig, number: int) -> Ruleset:
    """Compile a configuration into what judges and routes messages.

    Raises:
        ConfigError: a schema cannot be used; all faults at once.

    """
    generation = build_generation(number, config, SchemaFolder(config.schemas.directory))
    return Ruleset(config, generation, RouteTable(config))


async def put_in_force(running: Running) -> bool:
    """Read the file again and use it. On any fault nothing changes, and the reason is logged and counted."""
    number = running.pipeline.ruleset.generation.number + 1
    try:
        config = load_config(running.path)
        ruleset = await trio.to_thread.run_sync(make_ruleset, config, number)
        changes = running.pool.apply(config.upstreams)
    except (ConfigError, OSError) as error:
        faults = [str(fault) for fault in error.faults] if isinstance(error, ConfigError) else [str(error)]
        running.metrics.reload_failures += 1
        running.log.error(  # noqa: TRY400 # a fault of the file, told in words: a traceback would say nothing more
            "reload refused, the configuration in force stays", faults=faults
        )
        return False
    # From here on nothing waits and nothing fails: no message is judged by a mixture of two generations.
    before, running.config = running.config, config
    running.use_upstreams()
    running.pipeline.use(ruleset, running.pipeline.lanes)
    running.quarantine.apply(config.quarantine)
    premises = running.door.premises
    premises.access = config.access
    if before.routes != config.routes or before.upstreams != config.upstreams:
        for device in list(premises.devices.values()):
            device.rehome()
    configure_logging(config.telemetry.log_level, config.telemetry.log_format)
    running.metrics.generation = number
    running.metrics.reloads += 1
    needs_restart = [name for name in AT_START if getattr(before, name) != getattr(config, name)]
    running.log.info("reloaded", generation=number, **attrs.asdict(changes), needs_restart=needs_restart)
    return True
