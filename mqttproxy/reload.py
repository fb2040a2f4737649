"""A new generation: built whole beside the old one, then swapped in between two batches; or the reason why not.

Schemas are checked as by `mqttproxy check`, in a process of its own, at start and at reload: what finds good words for
their authors needs memory that must not stay, and a schema may be hostile. What it let pass is compiled here.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import attrs
import trio
from attrs import evolve, frozen

from mqttproxy.access import make_acl
from mqttproxy.access.building import make_chains
from mqttproxy.config.at_start import needs_restart
from mqttproxy.config.case_files import case_files
from mqttproxy.config.errors import ConfigError, Fault, Told
from mqttproxy.config.load import config_of, read_file
from mqttproxy.config.masking import key_of
from mqttproxy.config.model import MOST_DESTINATIONS, ProxyConfig
from mqttproxy.config.references import schema_references
from mqttproxy.config.units import write_duration
from mqttproxy.downstream.door import Door
from mqttproxy.downstream.entrances import CannotOpenError, ListenerChanges
from mqttproxy.downstream.rights import close_later, recheck_soon
from mqttproxy.keeping import Keeping
from mqttproxy.outside import REAL, Outside
from mqttproxy.pipeline import Pipeline
from mqttproxy.quarantine.store import Quarantine
from mqttproxy.ruleset import Ruleset
from mqttproxy.shaping import shapes_of
from mqttproxy.telemetry.audit import AuditTrail
from mqttproxy.telemetry.logs import Log
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.pool import Changes, Pool
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from mqttproxy.validation.files import SchemaFolder, schema_folder
from mqttproxy.validation.transforms import make_masker

CHECK_BEGINS: Final = 20.0  # seconds that the process which checks may take besides the schemas


class Running(Protocol):
    """The process as a reload sees it (`app.Proxy`)."""

    path: Path
    config: ProxyConfig
    started_with: ProxyConfig
    digest: str
    log: Log
    metrics: Metrics
    pool: Pool
    keeping: Keeping
    pipeline: Pipeline
    quarantine: Quarantine
    audit: AuditTrail
    door: Door
    outside: Outside

    def use_upstreams(self) -> None:
        """Give each upstream of the pool its lane."""


@frozen
class Source:
    """A file with a configuration. `place`: where it stands, or is to stand; `called`: its name in faults."""

    file: Path
    place: Path
    called: str

    @classmethod
    def at(cls, path: Path) -> "Source":
        """Return the file that stands where it is."""
        return cls(path, path, str(path))


@frozen
class Built:
    """A generation that is complete, and was not put in force yet. `digest`: SHA-256 of its file."""

    config: ProxyConfig
    ruleset: Ruleset
    digest: str


@frozen
class Outcome:
    """What came of it: a new generation, or faults, and nothing has changed."""

    generation: int  # in force now
    faults: tuple[str, ...] = ()
    upstreams: Changes | None = None
    listeners: ListenerChanges | None = None
    needs_restart: tuple[str, ...] = ()  # keys that were changed since the start, and are read only there

    @property
    def done(self) -> bool:
        """Whether the new generation is in force."""
        return not self.faults


Agree = Callable[[], Awaitable[None]]


async def nobody_else() -> None:
    """Stand for a reload that nobody must agree to."""


def digest_of(data: bytes) -> str:
    """Return by what a text is known again."""
    return sha256(data).hexdigest()


async def check_schemas(
    path: Path, config: ProxyConfig, outside: Outside = REAL, *, place: Path | None = None, called: str = ""
) -> None:
    """Have the schemas that policies name checked, and the cases that policies must pass tried.

    Args:
        path: of the file; the other process reads it for itself.
        config: what it says.
        place: where the file is to stand, if not where it does.
        called: its name in faults, if not its path.
        outside: has processes.

    Raises:
        ConfigError: a schema cannot be used, or a case fails, all faults at once; or they could not be checked in time.
        OSError: there are no processes left, or no memory.

    """
    schemas = {reference for _, reference in schema_references(config)}
    steps = len(schemas) + bool(case_files(config.tests.directory))
    if not steps:
        return
    arguments = [str(path), *(() if place in (None, path) else (str(place),))]
    seconds = CHECK_BEGINS + config.schemas.check_time * steps
    try:
        done = await outside.run_apart("mqttproxy.cli.check", *arguments, seconds=seconds)
    except trio.TooSlowError as error:
        found = f"schemas whose check had not ended after {write_duration(seconds)}"
        each = f"at most {write_duration(config.schemas.check_time)} for each"
        raise ConfigError([Fault(called or str(path), "schemas.check_time", found, each)]) from error
    lines = done.stderr.decode(errors="backslashreplace").splitlines()
    if done.returncode == 1 and lines:
        raise ConfigError(Told("", "", line) for line in lines)
    if done.returncode != 0:
        last = lines[-1] if lines else "without a word"
        raise ConfigError(
            [Told("", "", f"{called or path}: the check of schemas ended with {done.returncode}: {last}")]
        )


def make_ruleset(config: ProxyConfig, number: int, schemas: SchemaFolder | None = None) -> Ruleset:
    """Compile a configuration, whose schemas were checked, into what judges and routes messages.

    Args:
        config: checked.
        number: of the generation.
        schemas: the folder that the configuration names; it takes note of what is used, see `remember_schemas`.

    Raises:
        ConfigError: a schema cannot be used, although it was checked: its file has changed since.

    """
    folder = schemas or schema_folder(config)
    generation = build_generation(number, config, folder, checked=True)
    key = key_of(config)
    return Ruleset(
        config,
        generation,
        RouteTable(config),
        shapes_of(config, key),
        make_masker(config, key),
        make_acl(config.access),
        make_chains(config),
        folder,
    )


def remember_schemas(schemas: SchemaFolder | None, log: Log) -> None:
    """Write down the content hashes of schemas that are in force now, so that they cannot change any more."""
    if schemas is None:
        return
    try:
        schemas.remember()
    except (OSError, ValueError) as error:
        log.warning("content hashes of schemas not written", file=str(schemas.memory), error=str(error))


def _check_upstreams(running: Running, config: ProxyConfig) -> None:
    why = running.keeping.why_not(upstream.name for upstream in config.upstreams)
    if why is not None:
        raise ConfigError([Fault(str(running.path), "upstreams", why, f"at most {MOST_DESTINATIONS} with these")])


async def build(source: Source, number: int, outside: Outside = REAL) -> Built:
    """Read a configuration, check all of it, and compile it, beside the one in force.

    Whatever else must hold of a generation before it may be put in force is checked here.

    Raises:
        ConfigError, OSError: it cannot be used.

    """
    data = read_file(source.file, source.called)
    config = config_of(data, source.called, source.place)
    await check_schemas(source.file, config, outside, place=source.place, called=source.called)
    ruleset: Ruleset = await outside.to_thread(
        partial(make_ruleset, config, number), abandon_on_cancel=False, limiter=trio.CapacityLimiter(1)
    )
    await trio.lowlevel.checkpoint_if_cancelled()  # nobody interrupts the thread: the process may be ending by now
    return Built(config, ruleset, digest_of(data))


async def swap(running: Running, built: Built, called: str, agree: Agree = nobody_else) -> Outcome:
    """Put in force what was built. Listeners are opened first; when `agree` has returned nothing can fail any more.

    Raises:
        ConfigError, OSError: a listener cannot be opened, or whatever `agree` raises. Nothing has changed.

    """
    config, ruleset = built.config, built.ruleset
    _check_upstreams(running, config)
    try:
        ways = await running.door.prepare(config.listeners)
    except CannotOpenError as error:
        raise ConfigError([Fault(called, f"listeners[{error.position}].{error.key}", str(error))]) from error
    try:
        await agree()
        changes = running.pool.apply(config.upstreams)
    except BaseException:
        ways.discard()
        raise
    # From here on nothing waits and nothing fails: no message is judged by a mixture of two generations.
    before, running.config, running.digest = running.config, config, built.digest
    running.use_upstreams()
    running.keeping.spool.settings = evolve(config.spool, durability=running.started_with.spool.durability)
    running.keeping.feed(running.pool)
    running.pipeline.use(ruleset, running.pipeline.lanes)
    running.quarantine.apply(config.quarantine)
    audit = config.audit
    running.audit.apply(rotate_bytes=audit.rotate_bytes, keep_files=audit.keep_files, with_payload=audit.payload)
    premises = running.door.premises
    premises.access = config.access
    close_later(premises, premises.gate.use(ruleset.chains, config.access))
    listeners = running.door.use(ways, grace=config.proxy.drain_grace)
    if before.routes != config.routes or before.upstreams != config.upstreams:
        premises.rehome_soon()
    recheck_soon(premises, admissions=True)
    running.outside.configure_logging(config.telemetry.log_level, config.telemetry.log_format)
    running.metrics.generation = number = ruleset.generation.number
    running.metrics.reloads += 1
    # It is in force; what follows only writes down which schemas may not change any more.
    await running.outside.to_thread(
        partial(remember_schemas, ruleset.schemas, running.log),
        abandon_on_cancel=False,
        limiter=trio.CapacityLimiter(1),
    )
    return Outcome(number, (), changes, listeners, needs_restart(running.started_with, config))


async def put_in_force(running: Running, source: Source | None = None, agree: Agree = nobody_else) -> Outcome:
    """Read the file, or another one, and use it. On any fault nothing changes, and the reason is logged and counted.

    Args:
        running: the process.
        source: None: the file that it was started with.
        agree: called when all is ready and nothing has changed yet; what it raises refuses the reload.

    """
    source = source or Source.at(running.path)
    number = running.pipeline.ruleset.generation.number + 1
    try:
        built = await build(source, number, running.outside)
        outcome = await swap(running, built, source.called, agree)
    except (ConfigError, OSError) as error:
        return refused(running, error)
    tell(running, outcome)
    return outcome


def tell(running: Running, outcome: Outcome) -> None:
    """Log that a generation was put in force."""
    upstreams = {} if outcome.upstreams is None else attrs.asdict(outcome.upstreams)
    doors = {} if outcome.listeners is None else attrs.asdict(outcome.listeners)
    running.log.info(
        "reloaded",
        generation=outcome.generation,
        **upstreams,
        listeners={what: names for what, names in doors.items() if names},
        needs_restart=list(outcome.needs_restart),
    )


def refused(running: Running, error: Exception) -> Outcome:
    """Log and count why nothing has changed."""
    faults = [str(fault) for fault in error.faults] if isinstance(error, ConfigError) else [str(error)]
    running.metrics.reload_failures += 1
    running.log.error("reload refused, the configuration in force stays", faults=faults)
    return Outcome(running.pipeline.ruleset.generation.number, tuple(faults))
