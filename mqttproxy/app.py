"""Where the rooms meet: one process, from its configuration to its end.

`run_proxy` builds the rooms, opens the doors, says `ready`, and waits for signals: SIGTERM or SIGINT drains and ends,
a second one ends at once, SIGHUP reloads. An error in a room that is not a device's is a bug, and ends the process.
"""

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import trio
from attrs import evolve

from mqttproxy import __version__, database
from mqttproxy.access.gate import Gate
from mqttproxy.asking import Asking
from mqttproxy.clock import SteadyWall
from mqttproxy.committing import Committer
from mqttproxy.config.load import config_of, read_file
from mqttproxy.config.model import LOCAL, ProxyConfig
from mqttproxy.downstream.door import Door
from mqttproxy.downstream.flapping import Flapping
from mqttproxy.downstream.premises import Premises
from mqttproxy.handover import Lane
from mqttproxy.keeping import Keeping
from mqttproxy.measuring import Measuring
from mqttproxy.outside import REAL, Outside
from mqttproxy.passport import Passports
from mqttproxy.pipeline import Pipeline
from mqttproxy.process import take_machine, tidy_memory
from mqttproxy.quarantine.database import quarantine_dir
from mqttproxy.quarantine.lock import lock_data_dir
from mqttproxy.quarantine.store import Quarantine
from mqttproxy.recording import Circumstances, make_recording
from mqttproxy.refusal import Refusal
from mqttproxy.release import Releases
from mqttproxy.reload import check_schemas, digest_of, remember_schemas
from mqttproxy.ruleset import Ruleset
from mqttproxy.spool import TooManyDestinationsError
from mqttproxy.sqlite import NewerDatabaseError
from mqttproxy.steering import Banning, Cause, Control, Records, Resumed, Steering, resume, watch
from mqttproxy.telemetry.audit import AuditTrail
from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.health import Gates, Health
from mqttproxy.telemetry.logs import RateLimited, configure_logging, get_log
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.telemetry.server import serve
from mqttproxy.transport.poller import run_poller
from mqttproxy.upstream.callbacks import Callbacks
from mqttproxy.upstream.errors import leaves
from mqttproxy.upstream.guard import Senders
from mqttproxy.upstream.pool import Pool
from mqttproxy.upstream.status import as_json

HEALTH_EVERY: Final = 1.0  # seconds between two looks at what reports its health only when asked
# Of the grace: for devices' acknowledgements, then for what upstreams still hold; the rest is for closing links.
DEVICES_SHARE: Final = 0.7
UPSTREAMS_SHARE: Final = 0.8


class Proxy:
    """All rooms of one process, joined."""

    def __init__(
        self, path: Path, config: ProxyConfig, ruleset: Ruleset, *, dry_run: bool, outside: Outside = REAL
    ) -> None:
        self.path = path
        self.config = self.started_with = config
        self.digest = ""  # of the file that holds it
        self.ends_soon = False
        self.outside = outside = evolve(outside, wall=SteadyWall(outside.wall, outside.now))
        self.log = get_log()
        self.metrics = Metrics(node=config.proxy.id, version=__version__, now=outside.now)
        self.banning = Banning(self)
        self.steering = Steering(self, Records(config.proxy.data_dir))
        self._hangup = trio.Event()
        self.health = Health(wall=outside.wall, now=outside.now)
        audit = config.audit
        self.audit = AuditTrail(
            config.proxy.data_dir / "audit",
            rotate_bytes=audit.rotate_bytes,
            keep_files=audit.keep_files,
            with_payload=audit.payload,
            health=self.health,
            now=outside.wall,
            to_thread=outside.to_thread,
            make_files=outside.make_audit_files,
        )
        self.quarantine = Quarantine(
            quarantine_dir(config.proxy.data_dir),
            config.quarantine,
            self._committed,
            now=outside.wall,
            to_thread=outside.to_thread,
            make_writer=outside.make_writer,
            draw=outside.draw,
        )
        self.keeping = Keeping(config, self.metrics, outside)
        alerts = RateLimited(log=self.log, now=outside.now)
        self.refusal = Refusal(
            table=self.keeping.table,
            quarantine=self.quarantine,
            spool=self.keeping.spool,
            metrics=self.metrics,
            audit=self.audit,
            alerts=alerts,
            new_id=self.quarantine.new_id,
            wall=outside.wall,
            dry_run=dry_run,
        )
        limits = config.limits
        senders = Senders(outside.draw)
        self.pipeline = Pipeline(
            ruleset=ruleset,
            lanes={},
            table=self.keeping.table,
            retained=self.keeping.retained,
            refusal=self.refusal,
            metrics=self.metrics,
            journal=self.keeping.journal,
            spool=self.keeping.spool,
            senders=senders,
            asking=Asking(self.metrics, alerts, limits.plugin_queue, outside.chance),
        )
        self.pipeline.recording = self.recording = make_recording(
            ruleset,
            self.metrics,
            Circumstances(config.proxy.id, lambda: self.keeping.spool.epoch, outside.wall, outside.chance, dry_run),
            now=outside.now,
            to_thread=outside.to_thread,
        )
        self.releases = Releases(
            quarantine=self.quarantine,
            journal=self.keeping.journal,
            pipeline=self.pipeline,
            metrics=self.metrics,
            senders=senders,
            wall=outside.wall,
        )
        self.pipeline.shadowing.chance = outside.chance
        self.keeping.attach(self.pipeline)
        self.pool = Pool(
            proxy_id=config.proxy.id,
            callbacks=Callbacks(
                settled=self.pipeline.settling.settled,
                refused=self.refusal.refused_by,
                dropped=self.pipeline.settling.dropped,
                received=self.pipeline.carry_down,
                shape_of=self.pipeline.shape_of,
                identify=Passports(config.proxy.id, lambda: self.keeping.spool.epoch).identify,
            ),
            drain_grace=config.proxy.drain_grace,
            dial=outside.dial,
            chance=outside.chance,
        )
        self.pool.apply(config.upstreams)
        self.use_upstreams()
        self.door = Door(
            Premises(
                limits=limits,
                access=config.access,
                pipeline=self.pipeline,
                upstreams=self.pool,
                sessions=self.keeping.sessions,
                wills=self.keeping.wills,
                publisher=self.keeping.publisher,
                flapping=Flapping.by(limits),
                metrics=self.metrics,
                log=self.log,
                alerts=alerts,
                new_client_id=lambda: f"auto-{UUID(bytes=outside.draw(16), version=4).hex}",
                sys_messages=self.keeping.sys_messages,
                server_reference=config.proxy.server_reference,
                gate=Gate(outside.wall),
            ),
            outside.listen,
        )
        self.metrics.generation = ruleset.generation.number
        self.metrics.destinations = self._destinations
        self.metrics.refresh.append(self._refresh)

    def _committed(self, tokens: Sequence[object]) -> None:
        self.refusal.committed(tokens)  # which is made after the quarantine

    def use_upstreams(self) -> None:
        """Give each upstream of the pool its lane, keeping those that have one."""
        kept = {id(lane.destination): lane for lane in self.pipeline.lanes.values()}
        self.pipeline.lanes = {name: kept.get(id(upstream)) or Lane(upstream) for name, upstream in self.pool.items()}

    # What operators see.
    def _destinations(self) -> Iterable[DestinationSnapshot]:
        for snapshot in self.pool.snapshots():
            waiting = self.pipeline.lanes[snapshot.name].waiting
            told = evolve(snapshot, waiting=waiting, offered=snapshot.offered + waiting)
            yield self.keeping.with_spool(told)
        handed = self.pipeline.local_messages
        yield DestinationSnapshot(name=LOCAL, kind="local", connected=True, offered=handed, delivered=handed)

    def _refresh(self) -> None:
        metrics = self.metrics
        self.keeping.refresh()
        metrics.spool_waiting = self.pipeline.spool_lanes.waiting
        metrics.quarantine_bytes, metrics.quarantine_messages = self.quarantine.size_bytes, self.quarantine.messages
        metrics.quarantine_expired = self.quarantine.expired_total
        metrics.quarantine_trouble = int(self.quarantine.trouble is not None)
        metrics.quarantine_issues = self.quarantine.issues
        metrics.quarantine_issues_forgotten = self.quarantine.issues_forgotten
        metrics.release_running = self.releases.running
        metrics.audit_lines, metrics.audit_dropped = self.audit.lines, self.audit.dropped
        metrics.audit_trouble = int(self.audit.trouble is not None)

    def look_at_health(self) -> None:
        """Report for the rooms that do not report by themselves."""
        troubles = (
            ("quarantine", self.quarantine.trouble),
            ("journal", self.keeping.journal.trouble),
            ("spool", self.keeping.spool_trouble),
        )
        for name, trouble in troubles:
            self.health.report(name, trouble is None, trouble or "")
        if (recorder := self.recording.recorder).trouble or recorder.is_enabled:
            self.health.report("recorder", recorder.trouble is None, recorder.trouble or "", gates="nothing")
        statuses = self.pool.statuses()
        for status in statuses:
            works, details = status.connected and status.paused is None, as_json(status, trio.current_time())
            self.health.report(f"upstream:{status.name}", works, status.ill, gates="nothing", details=details)
        if statuses:
            live = any(status.connected for status in statuses)
            # While all that is acknowledged is on disk, messages can be taken without any upstream.
            gates: Gates = "nothing" if all(route.ack == "spool" for route in self.config.routes) else "ready"
            self.health.report("upstreams", live, "" if live else "no upstream is connected", gates=gates)

    def status(self) -> dict[str, object]:
        """Return the document of /status: the node, whether it is ready, and each destination."""
        self.look_at_health()
        ready, document = self.health.ready()
        now = trio.current_time()
        return {
            "version": __version__,
            "node": self.config.proxy.id,
            "ready": ready,
            "reasons": self.health.reasons(),
            "uptime": document["uptime_seconds"],
            "configuration": self.steering.status(),
            "audit": {"lines": self.audit.lines, "head": self.audit.head},
            "listeners": {listener.settings.name: str(listener) for listener in self.door.listeners},
            "destinations": [
                as_json(status, now) | {"spooled": self.keeping.spool.feeds[status.name].on_disk}
                for status in self.pool.statuses()
            ],
        }

    async def _watch_health(self) -> None:
        while True:
            self.look_at_health()
            await trio.sleep(HEALTH_EVERY)

    # Life.
    async def run(self) -> None:
        """Open everything, serve until a signal says otherwise, close in order."""
        self.health.report("listeners", False, "starting")
        async with trio.open_nursery() as background:
            poller = await background.start(run_poller)
            self.pipeline.at_end_of_turn = poller.at_end_of_turn
            await self.open_rooms(background)
            bind = self.config.telemetry.metrics_bind
            metrics_at = await background.start(serve, bind, self.metrics, self.health, self.status) if bind else None
            await self.door.open(self.config.listeners)
            async with trio.open_nursery() as serving:
                serving.start_soon(self.door.run)
                await serving.start(self._obey_signals, serving.cancel_scope)
                self.health.report("listeners", True)
                self._say_ready(metrics_at)
            background.cancel_scope.cancel()
        self.log.info("stopped", audit_head=self.audit.head)

    async def open_rooms(self, background: trio.Nursery) -> None:
        """Start everything behind the door in this nursery; what was kept is back then. A simulation begins here."""
        await background.start(self.banning.run)
        await background.start(self.audit.run)
        await background.start(_started, self.quarantine)
        await background.start(self.keeping.run, self.pool)
        await background.start(_started, self.recording.recorder)
        # Before links come up: what waits at a broker is for kept sessions, and `Interest` tells what it came for
        # by whether all of their subscriptions have been asked for again.
        await self.door.premises.rehome()
        await background.start(self.pool.run)
        await background.start(self.pipeline.asking.run)
        background.start_soon(self.releases.run)
        background.start_soon(self.pipeline.shadowing.run)
        background.start_soon(self._watch_health)
        background.start_soon(Measuring(self).run)

    def _say_ready(self, metrics_at: str | None) -> None:
        tidy_memory()
        self.log.info(
            "ready",
            version=__version__,
            listeners={listener.settings.name: str(listener) for listener in self.door.listeners},
            upstreams=list(self.pool) or "none: the proxy is a broker by itself",
            metrics=metrics_at,
            dry_run=self.refusal.dry_run,
        )

    async def _obey_signals(
        self, serving: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                stopping = False
                steering = trio.CancelScope()
                await nursery.start(self._be_steered, steering)
                task_status.started()
                async for number in signals:
                    if number == signal.SIGHUP:
                        self._hangup.set()
                    elif stopping:
                        self.log.warning("stopping at once")
                        os._exit(1)  # what was acknowledged is where its route's `ack` says; the rest is the devices'
                    else:
                        stopping = self.ends_soon = True
                        steering.cancel()
                        self.log.info("draining", signal=signal.Signals(number).name)
                        nursery.start_soon(self.drain, serving)

    async def _be_steered(
        self, scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        # Apart from the signals: a reload may take seconds, and SIGTERM must not wait for it.
        with scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(Control(self, self.steering).run)
                nursery.start_soon(self._reload_when_told)
                nursery.start_soon(self.steering.end_trials)
                nursery.start_soon(self.steering.watch_file)
                nursery.start_soon(watch, self, self.steering)
                task_status.started()

    async def _reload_when_told(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup = trio.Event()
            await self.steering.reload(Cause("signal", "SIGHUP"))

    def go_on(self, resumed: Resumed) -> None:
        """Begin with what was resumed, which is what this was made with."""
        self.digest = resumed.digest
        self.steering.begin(resumed.trial, resumed.line)

    async def drain(self, serving: trio.CancelScope) -> None:
        """Take nothing more, finish what was taken within the grace period, end by cancelling `serving`."""
        self.health.report("listeners", False, "draining")
        self.keeping.wills.defer()
        self.releases.stop()
        now, grace = trio.current_time(), self.config.proxy.drain_grace
        await self.door.drain(now + grace * DEVICES_SHARE)
        self.keeping.feeding.stop()  # what is on disk waits for the next process; what is on its way arrives
        if not await self.pool.drain(now + grace * UPSTREAMS_SHARE):
            left = {snapshot.name: snapshot.queued + snapshot.in_flight for snapshot in self.pool.snapshots()}
            self.log.warning("not everything was carried", left=left)
        serving.cancel()


async def _started(room: Committer, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await room.run(task_status=task_status)


async def run_proxy(path: Path, dry_run: bool) -> int:
    """Run the proxy that a file describes; returns the exit code.

    Raises:
        ConfigError: the file, or a schema it names, is faulty.

    """
    take_machine()
    data = read_file(path)
    config = config_of(data, str(path), path)
    configure_logging(config.telemetry.log_level, config.telemetry.log_format)
    log = get_log()
    await check_schemas(path, config)
    faults: list[str] = []
    try:
        with lock_data_dir(config.proxy.data_dir):
            database.take_over_former(config.proxy.data_dir)
            await database.make_tables(config.proxy.data_dir)
            resumed = await resume(path, config, digest_of(data), Records(config.proxy.data_dir))
            remember_schemas(resumed.ruleset.schemas, log)
            proxy = Proxy(path, resumed.config, resumed.ruleset, dry_run=dry_run)
            proxy.go_on(resumed)
            await proxy.run()
    # An address in use, a folder that cannot be written.
    except* (OSError, NewerDatabaseError, TooManyDestinationsError) as group:
        faults = [str(error) for error in leaves(group)]
    for fault in faults:
        log.error("cannot start", error=fault)
    return 1 if faults else 0
