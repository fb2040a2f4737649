"""A new generation: built whole beside the old one, then swapped in between two batches; or the reason why not.

Schemas are checked by `mqttproxy check` in a process of its own, at start and at reload: what finds good words for
their authors needs memory that must not stay, and a schema may be hostile. What it let pass is compiled here.
"""

from functools import partial
from pathlib import Path
from typing import Final, Protocol

import attrs
import trio
from attrs import evolve

from mqttproxy.config.case_files import case_files
from mqttproxy.config.errors import ConfigError, Fault, Told
from mqttproxy.config.load import load_config
from mqttproxy.config.model import MOST_DESTINATIONS, ProxyConfig
from mqttproxy.config.units import write_duration
from mqttproxy.downstream.door import Door
from mqttproxy.keeping import Keeping
from mqttproxy.outside import REAL, Outside
from mqttproxy.pipeline import Pipeline, Ruleset
from mqttproxy.quarantine.store import Quarantine
from mqttproxy.telemetry.logs import Log
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.pool import Pool
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from mqttproxy.validation.files import SchemaFolder

# Sections that are read once, at start. Changing them is told, and waits for a restart.
AT_START: Final = ("proxy", "listeners", "limits", "sessions", "audit", "telemetry")

CHECK_BEGINS: Final = 10.0  # seconds that the process which checks may take besides the schemas


class Running(Protocol):
    """The process as a reload sees it (`app.Proxy`)."""

    path: Path
    config: ProxyConfig
    log: Log
    metrics: Metrics
    pool: Pool
    keeping: Keeping
    pipeline: Pipeline
    quarantine: Quarantine
    door: Door
    outside: Outside

    def use_upstreams(self) -> None:
        """Give each upstream of the pool its lane."""


async def check_schemas(path: Path, config: ProxyConfig, outside: Outside = REAL) -> None:
    """Have the schemas that policies name checked, and the cases that policies must pass tried.

    Args:
        path: of the file; the other process reads it for itself.
        config: what it says.
        outside: has processes.

    Raises:
        ConfigError: a schema cannot be used, or a case fails, all faults at once; or they could not be checked in time.
        OSError: there are no processes left, or no memory.

    """
    schemas = {policy.schema for policy in config.policies if policy.schema is not None}
    steps = len(schemas) + bool(case_files(config.tests.directory))
    if not steps:
        return
    seconds = CHECK_BEGINS + config.schemas.check_time * steps
    try:
        done = await outside.run_apart("mqttproxy", "check", "--", str(path), seconds=seconds)
    except trio.TooSlowError as error:
        found = f"schemas whose check had not ended after {write_duration(seconds)}"
        each = f"at most {write_duration(config.schemas.check_time)} for each"
        raise ConfigError([Fault(str(path), "schemas.check_time", found, each)]) from error
    lines = done.stderr.decode(errors="backslashreplace").splitlines()
    if done.returncode == 1 and lines:
        raise ConfigError(Told("", "", line) for line in lines)
    if done.returncode != 0:
        last = lines[-1] if lines else "without a word"
        raise ConfigError([Told("", "", f"{path}: the check of schemas ended with {done.returncode}: {last}")])


def make_ruleset(config: ProxyConfig, number: int) -> Ruleset:
    """Compile a configuration, whose schemas were checked, into what judges and routes messages.

    Raises:
        ConfigError: a schema cannot be used, although it was checked: its file has changed since.

    """
    generation = build_generation(number, config, SchemaFolder(config.schemas.directory), checked=True)
    return Ruleset(config, generation, RouteTable(config))


def _check_upstreams(running: Running, config: ProxyConfig) -> None:
    why = running.keeping.why_not(upstream.name for upstream in config.upstreams)
    if why is not None:
        raise ConfigError([Fault(str(running.path), "upstreams", why, f"at most {MOST_DESTINATIONS} with these")])


async def put_in_force(running: Running) -> bool:
    """Read the file again and use it. On any fault nothing changes, and the reason is logged and counted."""
    number = running.pipeline.ruleset.generation.number + 1
    try:
        config = load_config(running.path)
        await check_schemas(running.path, config, running.outside)
        limiter = trio.CapacityLimiter(1)
        ruleset: Ruleset = await running.outside.to_thread(
            partial(make_ruleset, config, number), abandon_on_cancel=False, limiter=limiter
        )
        await trio.lowlevel.checkpoint_if_cancelled()  # nobody interrupts the thread: the process may be ending by now
        _check_upstreams(running, config)
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
    running.keeping.spool.settings = evolve(config.spool, durability=before.spool.durability)
    running.keeping.feed(running.pool)
    running.pipeline.use(ruleset, running.pipeline.lanes)
    running.quarantine.apply(config.quarantine)
    premises = running.door.premises
    premises.access = config.access
    if before.routes != config.routes or before.upstreams != config.upstreams:
        premises.rehome_soon()
    running.outside.configure_logging(config.telemetry.log_level, config.telemetry.log_format)
    running.metrics.generation = number
    running.metrics.reloads += 1
    needs_restart = [name for name in AT_START if getattr(before, name) != getattr(config, name)]
    running.log.info("reloaded", generation=number, **attrs.asdict(changes), needs_restart=needs_restart)
    return True
