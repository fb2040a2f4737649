"""What the proxy keeps for devices: sessions, subscriptions, retained messages, wills, and the `$SYS` topics.

Built here, brought back from disk before the doors open, and kept tidy while the process runs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import trio
from attrs import evolve

from mqttproxy.config.model import ProxyConfig
from mqttproxy.downstream.departed import Publisher
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.topics import matches
from mqttproxy.outside import REAL, Outside
from mqttproxy.pipeline import Pipeline
from mqttproxy.sessions import Notes, RetainedStore, Sessions, SubscriptionTable
from mqttproxy.sessions.wills import Wills
from mqttproxy.spool import Exchanges, Feeding, Spool
from mqttproxy.tables import journal_dir
from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.telemetry.systree import Kept, SysTree, Value
from mqttproxy.upstream.pool import Pool

EXPIRY_EVERY: Final = 1.0  # seconds between two looks at retained messages whose life may be over
LOOK_EVERY: Final = 1.0  # the same for devices that have fallen silent
SWEEP_EVERY: Final = 60.0  # the same for what waits for devices


class Keeping:
    """The rooms of `sessions`, joined. `attach` gives them the corridor, which is made of them."""

    def __init__(self, config: ProxyConfig, metrics: Metrics, outside: Outside = REAL) -> None:
        limits = config.limits
        self._metrics = metrics
        self._sys_interval = config.telemetry.sys_interval
        directory = journal_dir(config.proxy.data_dir)
        survives_power_loss = config.spool.durability == "fsync"
        self.journal = Journal(
            outside.make_store(directory, survives_power_loss=survives_power_loss),
            wall=outside.wall,
            to_thread=outside.to_thread,
        )
        self.notes = Notes(self.journal)
        self.spool = Spool(self.journal, config.spool)
        self.feeding = Feeding(self.spool, self.journal, outside.make_reader(directory), to_thread=outside.to_thread)
        self.table = SubscriptionTable(shared=config.sessions.shared)
        self.retained = RetainedStore(
            max_messages=limits.retained_messages, max_bytes=limits.retained_bytes, note=self.notes.retained
        )
        self.sessions = Sessions(
            table=self.table, journal=self.journal, limits=limits, wall=outside.wall, dropped=metrics.dropped_down.add
        )
        self.sys_tree = SysTree(
            metrics, deliver=self._deliver_sys, is_wanted=self.table.has_subscriber, matches=matches, kept=self._kept
        )
        self._limits = limits
        self._expired_retained = 0

    def attach(self, pipeline: Pipeline) -> None:
        """Make the wills, which are published through the corridor."""
        limits = self._limits
        self._behaving = pipeline.behaving
        self.publisher = Publisher(pipeline)
        self.wills = Wills(
            fire=self.publisher.fire,
            per_second=limits.wills_per_second,
            most=limits.wills_pending,
            most_bytes=limits.wills_bytes,
            grace=limits.will_grace,
            note=self.notes.will,
        )
        self.publisher.settled = self.wills.settled

    # What operators see.

    def refresh(self) -> None:
        """Copy the numbers into the metrics."""
        metrics, sessions, journal, wills = self._metrics, self.sessions, self.journal, self.wills
        metrics.subscriptions = self.table.count
        metrics.retained_messages, metrics.retained_bytes = self.retained.count, self.retained.size
        metrics.retained_expired = self._expired_retained
        metrics.sessions, metrics.sessions_disconnected = len(sessions), sessions.disconnected
        metrics.sessions_discarded = sessions.discarded_total
        metrics.queued_down, metrics.queued_down_bytes = sessions.ledger.queued_messages, sessions.ledger.queued_bytes
        metrics.journal_pending, metrics.journal_commits = journal.pending, journal.commits_total
        metrics.journal_failures, metrics.journal_trouble = journal.failures_total, int(journal.trouble is not None)
        self._refresh_spool()
        metrics.wills_pending, metrics.wills_bytes = wills.pending, wills.size
        metrics.wills_published, metrics.wills_cancelled = wills.fired, wills.cancelled
        metrics.wills_early = wills.early

    def _refresh_spool(self) -> None:
        metrics, spool, feeding = self._metrics, self.spool, self.feeding
        metrics.journal_lost_commits = self.journal.lost_commits
        metrics.spool_messages, metrics.spool_bytes = spool.messages, spool.size
        metrics.spool_pending, metrics.spool_committed = spool.pending, spool.committed_total
        metrics.spool_full = int(spool.why_full() is not None)
        metrics.spool_damaged, metrics.spool_missing = feeding.damaged_total, feeding.missing_total

    def with_spool(self, snapshot: DestinationSnapshot) -> DestinationSnapshot:
        """Return the numbers of a destination with what the spool has for it."""
        feed = self.spool.feeds.get(snapshot.name)
        if feed is None:
            return snapshot
        return evolve(
            snapshot,
            spooled=feed.on_disk,
            spooled_bytes=feed.size,
            lagging=feed.is_lagging,
            offered=snapshot.offered + feed.on_disk + sum(feed.dropped.values()),
            dropped=dict(Counter(snapshot.dropped) + Counter(feed.dropped)),
        )

    @property
    def spool_trouble(self) -> str | None:
        """Why the spool takes nothing more, or cannot be read; None: all is well."""
        full = self.spool.why_full()
        return self.feeding.trouble if full is None else f"the spool is full: {full}"

    def _kept(self) -> Kept:
        sessions = self.sessions
        return Kept(
            disconnected=sessions.disconnected,
            expired=sessions.discarded_total,
            messages=sessions.ledger.queued_messages,
            message_bytes=sessions.ledger.queued_bytes,
            shared_subscriptions=self.table.shared_count,
        )

    # Life.

    async def run(self, pool: Pool, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bring back what is on disk, then keep it; started when all of it is back."""
        async with trio.open_nursery() as nursery:
            await nursery.start(_journal, self.journal)
            await self._restore_spool(pool)
            await nursery.start(_feed, self.feeding)
            self._metrics.retained_dropped = self.retained.restore(self.notes.retained_at_start())
            self.sessions.restore()
            self.wills.restore(self.notes.wills_at_start())
            nursery.start_soon(self.sessions.run)
            nursery.start_soon(self.wills.run)
            nursery.start_soon(self._expire_retained)
            nursery.start_soon(self._sweep_queues)
            nursery.start_soon(self._look_for_silence)
            if self._sys_interval:
                self.sys_tree.tick(self._metrics.now())
                nursery.start_soon(self._tick)
            task_status.started()

    async def _restore_spool(self, pool: Pool) -> None:
        """Give each upstream what is meant for it: what was in flight, and what waits."""
        in_flight = await self.feeding.restore({name: upstream.account for name, upstream in pool.items()})
        self.feed(pool)
        for name, upstream in pool.items():
            exchanges = Exchanges(self.journal, self.spool.feeds[name])
            exchanges.go_on(in_flight.get(name, ()), self.feeding.left.get(name))
            upstream.adopt(exchanges)

    def feed(self, pool: Pool) -> None:
        """Feed these upstreams from now on, and no others. Raises what `Spool.feed` does."""
        settings = {name: upstream.settings for name, upstream in pool.items()}
        self.spool.quotas = {name: one.spool_bytes for name, one in settings.items() if one.spool_bytes is not None}
        self.feeding.use(pool, {name: upstream.account for name, upstream in pool.items()})
        self.spool.room_was_made()  # the settings may allow more than before

    def why_not(self, upstreams: Iterable[str]) -> str | None:
        """Say why these cannot be all of the upstreams from now on, None: they can."""
        spool = self.spool
        new = [name for name in upstreams if name not in spool.feeds]
        if len(new) <= len(spool.free_numbers):
            return None
        return (
            f"{len(new)} new names; {len(spool.feeds)} are in the spool already, with those of removed upstreams, "
            "which a restart frees once nothing waits for them"
        )

    async def _expire_retained(self) -> None:
        while True:
            now = trio.current_time()
            while self.retained.next_expiry <= now:
                self._expired_retained += self.retained.expire(now)
                await trio.lowlevel.checkpoint()
            await trio.sleep(EXPIRY_EVERY)

    async def _sweep_queues(self) -> None:
        while True:
            await trio.sleep(SWEEP_EVERY)
            await self.sessions.sweep()

    async def _look_for_silence(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY)
            self._behaving.look(trio.current_time())

    async def _tick(self) -> None:
        while True:
            await trio.sleep(self._sys_interval)
            self.sys_tree.tick(self._metrics.now())

    def _deliver_sys(self, values: Sequence[Value]) -> None:
        self.table.deliver([_message(value) for value in values])

    def sys_messages(self, topic_filter: str) -> Iterator[Message]:
        """Yield the `$SYS` values of the last tick that a filter matches, as if they were retained."""
        return map(_message, self.sys_tree.match(topic_filter))


def _message(value: Value) -> Message:
    topic, text = value
    return Message(topic, text.encode(), 0, True)


async def _journal(journal: Journal, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await journal.run(task_status=task_status)


async def _feed(feeding: Feeding, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    try:
        await feeding.run(task_status=task_status)
    finally:
        feeding.close()
