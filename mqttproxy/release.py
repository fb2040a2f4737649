"""Releasing held messages: mended, judged by the rules in force, and carried once, however often the process dies.

A command orders it; `Releases` does it, one batch after the other. What is done in which order, and what a kill in
between means, is told in `quarantine.releases`. A message goes where its route leads today: into the spool for
upstreams, whatever the route's `ack`, and to the proxy's own subscribers.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import trio
from attrs import Factory, define, field

from mqttproxy.committing import DiskFailedError
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import LOCAL
from mqttproxy.handover import Ticket
from mqttproxy.holding import blamed
from mqttproxy.journal import Journal
from mqttproxy.mending import MendingError, came_from, identity_of, judged, mended, refusal, stamped
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.pipeline import Pipeline
from mqttproxy.quarantine import releases
from mqttproxy.quarantine.releases import Again, Batch, Claimed, Outcome, Release
from mqttproxy.quarantine.rows import ReleaseRow
from mqttproxy.quarantine.store import Quarantine
from mqttproxy.recipe import CompileRecipe, Mend, compile_recipe
from mqttproxy.spool import SpoolLane
from mqttproxy.telemetry.logs import get_log
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.guard import Senders
from mqttproxy.validation import Failure, Identity, Verdict
from mqttproxy.validation.plugins import Answers

T = TypeVar("T")

BATCH: Final = 100  # messages at most that are claimed at once
BATCH_SECONDS: Final = 0.5  # of the rate that one batch takes, so that a slow release is even
LOOK_EVERY: Final = 1.0  # seconds between two looks for an order, and for room
RETRY: Final = 1.0  # seconds, while the quarantine cannot be written
RATIO_OF: Final = 20  # the failure ratio is of at least so many messages

_LOG: Final = get_log(component="release")


@define(eq=False)
class _Sender:
    """A sender of long ago, as the spool sees it: nobody waits for an acknowledgement."""

    identity: Identity
    pending: deque[Ticket] = Factory(deque)
    unacknowledged: int = 0

    def acknowledge(self, now: float) -> None:
        pass

    def promise(self, packet_id: int) -> None:
        pass

    def disconnect(self, reason: ReasonCode, words: str) -> None:
        pass


class _NoRoomError(Exception):
    """The spool takes nothing more at present."""

    def __init__(self, lane: SpoolLane) -> None:
        super().__init__("no room in the spool")
        self.lane = lane


@define(eq=False)
class _Way:
    """Where a message goes."""

    lane: SpoolLane | None  # to upstreams
    names: tuple[str, ...]  # of those, and LOCAL
    local: bool
    is_home: bool  # subscribers are served from here


@define(eq=False)
class _Done:
    """What became of a batch so far."""

    batch: Batch
    released: list[Claimed] = Factory(list)
    failed: dict[int, Again] = Factory(dict)
    upto: int = 0
    state: releases.State = "running"
    words: str = ""
    full: SpoolLane | None = None


@define(eq=False, kw_only=True)
class Releases:
    """Does what was ordered, the oldest order first. One for the process."""

    quarantine: Quarantine
    journal: Journal
    pipeline: Pipeline
    metrics: Metrics
    senders: Senders
    wall: Callable[[], float]
    compile: CompileRecipe = compile_recipe
    running: int = field(init=False, default=0)  # number of the release that is under way, 0: none
    _is_stopping: bool = field(init=False, default=False)
    _recipe: tuple[int, str, Mend | None] = field(init=False, default=(0, "", None))  # of which generation, which

    def stop(self) -> None:
        """Take up nothing more: the process is ending. What is left goes on after the next start."""
        self._is_stopping = True

    async def run(self) -> None:
        """Settle what the last process left, then release what is ordered, until stopped or cancelled."""
        await self._recover()
        while not self._is_stopping:
            number = await self._patiently(lambda connection, _: releases.next_one(connection))
            self.running = number or 0
            if number is None:
                await trio.sleep(LOOK_EVERY)
            else:
                await self._turn(number)

    async def _recover(self) -> None:
        named = {row.id for row in self.journal.take_loaded(ReleaseRow)}
        gone = await self._patiently(lambda connection, _: releases.recover(connection, named, self.wall()))
        for identifier in named:
            self.journal.remove(ReleaseRow, identifier)
        if gone:
            _LOG.info("release_recovered", released=gone)

    async def _turn(self, number: int) -> None:
        """Do one batch of a release, and wait as its rate says."""
        began = trio.current_time()
        batch = await self._patiently(partial(_claim, number, self.wall))
        if batch is None:
            self._tell_end(await self._patiently(lambda connection, _: releases.get(connection, number)))
            return
        done = await self._let_go(batch)
        if done.released:
            durable = trio.Event()
            self.journal.when_durable(durable.set)
            await durable.wait()
        outcome = Outcome(
            released=[claimed.seq for claimed in done.released],
            failed=done.failed,
            upto=done.upto,
            state=done.state,
            words=done.words,
        )
        await self._patiently(lambda connection, _: releases.settle(connection, number, outcome, self.wall()))
        for claimed in done.released:
            self.journal.remove(ReleaseRow, claimed.held.id)
        self.metrics.released += len(done.released)
        self.metrics.release_failures += len(done.failed)
        if done.state != "running":
            self._tell_end(await self._patiently(lambda connection, _: releases.get(connection, number)))
        if done.full is not None:
            with trio.move_on_after(LOOK_EVERY):
                await done.full.wait_room()
        handled = len(done.released) + len(done.failed)
        await trio.sleep_until(began + handled / batch.release.order.rate)

    def _tell_end(self, release: Release | None) -> None:
        if release is not None and release.state not in releases.AT_WORK:
            _LOG.info(
                "release_ended", number=release.number, state=release.state, released=release.released,
                failed=release.failed, reason=release.words,
            )  # fmt: skip

    async def _let_go(self, batch: Batch) -> _Done:
        done = _Done(batch, upto=batch.release.cursor)
        for claimed in batch.items:
            await trio.lowlevel.checkpoint()
            try:
                answers = await self._ask(claimed, batch.release) if self.pipeline.asking.has_plugins else None
                self._let_go_of(claimed, batch.release, answers)
                done.released.append(claimed)
            except ConfigError as error:
                done.state, done.words = "stopped", str(error)
                return done
            except MendingError as error:
                verdict = error.verdict
                told = tuple((failure.pointer, failure.keyword, failure.message) for failure in verdict.failures)
                rules = blamed(verdict)
                done.failed[claimed.seq] = Again(verdict.policy, verdict.schema, int(verdict.reason), told, rules)
            except _NoRoomError as error:
                done.full = error.lane
                return done
            done.upto = claimed.seq
            if done.failed and (words := _too_many(batch.release, done)):
                done.state, done.words = "stopped", words
                return done
        done.upto = batch.upto
        return done

    async def _ask(self, claimed: Claimed, release: Release) -> Answers:
        """Return what plug-ins say of a message. Raises as `_let_go_of`, but for what the judge says."""
        answers, refusals = Answers(), self.pipeline.refusal
        message, identity = self._mended(claimed, release), identity_of(claimed.held)
        while True:
            with suppress(MendingError):
                judged(message, identity, self.pipeline.ruleset.generation, refusals.judge_raised, answers)
            if not answers.missing:
                return answers
            await self.pipeline.asking.ask(answers)

    def _mended(self, claimed: Claimed, release: Release) -> Message:
        held, order = claimed.held, release.order
        if claimed.trouble is not None:
            raise MendingError(refusal(Failure("", "payload", claimed.trouble), reason=ReasonCode.UNSPECIFIED_ERROR))
        mend = self._mend(order.recipe)
        return mended(held, order.options, mend, age=self.wall() - held.at, now=trio.current_time())

    # One message; from here on nothing waits, so that all that is noted of it is in one commit.

    def _let_go_of(self, claimed: Claimed, release: Release, answers: Answers | None) -> None:
        held, order = claimed.held, release.order
        pipeline, refusals = self.pipeline, self.pipeline.refusal
        message = self._mended(claimed, release)
        identity = identity_of(held)
        try:
            message, verdict = judged(message, identity, pipeline.ruleset.generation, refusals.judge_raised, answers)
        except MendingError as error:
            if not refusals.dry_run:
                raise
            verdict = error.verdict
        held_at = datetime.fromtimestamp(held.at, UTC).isoformat(timespec="milliseconds")
        message = stamped(message, held, held_at)
        self._carry(message, identity, self._way(message.topic, held, order.destinations), held.id, verdict)

    def _mend(self, recipe: str | None) -> Mend | None:
        if recipe is None:
            return None
        ruleset = self.pipeline.ruleset
        generation, text, mend = self._recipe
        if (generation, text) != (ruleset.generation.number, recipe):
            mend = self.compile(recipe, ruleset.config)
            self._recipe = ruleset.generation.number, recipe, mend
        return mend

    def _way(self, topic: str, held: Any, destinations: Sequence[str] | None) -> _Way:
        """Return where a message goes: of what its route leads to what is asked for, or what would not have it."""
        plan, local = None, True
        names: tuple[str, ...] = ()
        if came_from(held) is None:
            plan = self.pipeline.plans[topic]
            if plan.special:
                words = "no route leads anywhere from this topic" if plan.drop else "nobody may publish to this topic"
                raise MendingError(refusal(Failure("", "topic", words), reason=ReasonCode.TOPIC_NAME_INVALID))
            names, local = tuple(name for name in plan.names if name != LOCAL), plan.local
        is_home = local
        wanted = destinations if held.destination is None else (held.destination,)
        if wanted is not None:
            names, local = tuple(name for name in names if name in wanted), local and LOCAL in wanted
            if not names and not local:
                words = f"its route does not lead to {' or '.join(wanted)}"
                raise MendingError(refusal(Failure("", "topic", words), reason=ReasonCode.TOPIC_NAME_INVALID))
        lane = None
        if names and plan is not None:
            lane = self.pipeline.spool_lanes.lane(names, waits=False, patience=None, may_drop=plan.may_drop)
        return _Way(lane, (*names, LOCAL) if local else names, local, is_home)

    def _carry(self, message: Message, identity: Identity, way: _Way, held_id: str, verdict: Verdict) -> None:
        pipeline = self.pipeline
        if way.lane is not None and not way.lane.has_room:
            raise _NoRoomError(way.lane)
        if way.local and message.retain and not pipeline.retained.keep(message, identity.client_id):
            words = "there is no room for another retained message"
            raise MendingError(refusal(Failure("", "topic", words), reason=ReasonCode.QUOTA_EXCEEDED))
        self.journal.add(ReleaseRow(held_id))
        if way.local:
            pipeline.local_messages += 1
            pipeline.table.deliver((message,), sender=identity.client_id, once=True)
        if way.lane is not None:
            sent = message
            if identity.client_id in pipeline.table.no_local and not way.is_home:
                sent = self.senders.signed(message, identity.client_id)
            origin = _Sender(identity)
            ticket = Ticket(origin, 0, sent.qos, len(sent.payload), trio.current_time(), 1, 1)
            way.lane.put_nowait(((sent, ticket),))
        pipeline.refusal.decided(
            "released", identity, message, verdict=verdict, destinations=way.names, quarantine_id=held_id
        )

    async def _patiently(self, work: Callable[[Any, Any], T]) -> T:
        while True:
            try:
                return await self.quarantine.use(work)
            except DiskFailedError:  # which the quarantine tells
                await trio.sleep(RETRY)


def _claim(number: int, wall: Callable[[], float], connection: Any, folder: Any) -> Batch | None:
    release = releases.get(connection, number)
    rate = BATCH if release is None else release.order.rate
    most = max(1, min(BATCH, int(rate * BATCH_SECONDS)))
    return releases.claim(connection, folder, number, most, wall())


def _too_many(release: Release, done: _Done) -> str:
    """Say that more have failed than may; empty: they have not."""
    failed = release.failed + len(done.failed)
    handled = release.released + failed + len(done.released)
    if failed <= release.order.failure_ratio * max(handled, RATIO_OF):
        return ""
    return f"{failed} of {handled} failed again, more than the failure ratio of {release.order.failure_ratio:g} allows"
