"""The life of a message: from the device's packet to its destinations, to the quarantine, or back with a reason.

`carry_up` is the walk of a PUBLISH, for everything that one read of a socket held; `carry_down` is the way back. Both
are plain functions: nothing between the read and the outboxes waits. What does not fit comes back as a `Backlog`, and
the device waits for it before it reads on. What fails its contract goes through `refusal`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import trio

from mqttproxy.access import DENIED
from mqttproxy.arrivals import Arrivals
from mqttproxy.asking import Asking
from mqttproxy.behaving import Behaving
from mqttproxy.groups import Backlog, Gathering, Group, Plans
from mqttproxy.handover import Commits, Item, Lane, Origin, Plan, SpoolLanes, Ticket, release
from mqttproxy.holding import Waiting
from mqttproxy.mqtt.expiry import timed
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.recording import Notes, Recording
from mqttproxy.refusal import Refusal
from mqttproxy.ruleset import Ruleset
from mqttproxy.sessions import RetainedStore, SubscriptionTable
from mqttproxy.settling import Settling
from mqttproxy.shadowing import Shadowing
from mqttproxy.spool import Spool, SpoolLane
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.callbacks import Arrival, Done, Shape
from mqttproxy.upstream.guard import LOOP, Senders, admit
from mqttproxy.validation import Action, Verdict, judge
from mqttproxy.validation.behaviour import Watch
from mqttproxy.validation.plugins import Answers


class Pipeline:
    """The corridor that joins the rooms. One for the process; a reload gives it a new ruleset."""

    def __init__(
        self,
        *,
        ruleset: Ruleset,
        lanes: Mapping[str, Lane],
        table: SubscriptionTable,
        retained: RetainedStore,
        refusal: Refusal,
        metrics: Metrics,
        journal: Commits,
        spool: Spool,
        senders: Senders | None = None,
        asking: Asking | None = None,
    ) -> None:
        self.spool = spool
        self.settling = Settling(spool)
        self.spool_lanes = SpoolLanes(spool)
        self.table = table
        self.retained = retained
        self._journal = journal
        self._senders = senders or Senders()
        self._arrivals = Arrivals(table, refusal, metrics, journal, self._senders)
        self.refusal = refusal
        self.recording: Recording | None = None
        self.asking = asking or Asking(metrics, refusal.alerts, ruleset.config.limits.plugin_queue)
        self.behaving = Behaving(refusal, Watch(ruleset.config.limits.behaviour_devices))
        self.shadowing = Shadowing(refusal)
        self._metrics = metrics
        self.local_messages = 0  # given to local subscribers, however many there were
        self.at_end_of_turn: Callable[[Callable[[], None]], bool] = lambda _: False  # the poller's, where there is one
        self._gathered: list[tuple[Gathering, Sequence[Publish]]] = []  # a device once
        self.use(ruleset, lanes)

    def use(self, ruleset: Ruleset, lanes: Mapping[str, Lane]) -> None:
        """Put a ruleset in force, between two batches: no message sees a mixture of two."""
        self.ruleset = ruleset
        self.lanes = lanes
        self.refusal.use(ruleset.generation.number, ruleset.masker)
        self.behaving.use(ruleset.config)
        self.shadowing.use(ruleset)
        self.asking.use(ruleset)
        if self.recording is not None:
            self.recording.use(ruleset)
        self.plans = Plans(ruleset, lambda: self.lanes, self.spool_lanes)
        self.audits_all = self._arrivals.audits_all = ruleset.config.audit.decisions == "all"

    def carry_up(self, origin: Origin, publishes: Sequence[Publish], now: float) -> Backlog | None:
        """Judge and route everything that one read held.

        Args:
            origin: the device; a ticket for each QoS 1 and 2 message is appended to its `pending`.
            publishes: in arrival order, at least one.
            now: monotonic seconds, when they were read.

        Returns:
            None, or what must be waited for with `clear` before the device's socket is read again.

        """
        return self._carry(((origin, publishes),), now, self.asking.take(origin)).get(origin)

    def gather(self, origin: Gathering, publishes: Sequence[Publish]) -> bool:
        """Carry what one read held together with all that others bring in this turn of the poller.

        A thousand devices with one message each are one batch, like one device with a thousand. What must be waited
        for is told through `origin.hold_up`.

        Returns:
            False: no turn is on; use `carry_up`.

        """
        if not self._gathered and not self.at_end_of_turn(self.carry_gathered):
            return False
        self._gathered.append((origin, publishes))
        origin.is_gathered = True
        return True

    def carry_gathered(self) -> None:
        """Carry now what was gathered so far."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        for origin, _ in gathered:
            origin.is_gathered = False
        backlogs = self._carry(gathered, trio.current_time())
        if backlogs:
            for origin, _ in gathered:
                if backlog := backlogs.get(origin):
                    origin.hold_up(backlog)

    def _carry(  # noqa: C901, PLR0912, PLR0915 - one loop for speed
        self, reads: Sequence[tuple[Origin, Sequence[Publish]]], now: float, answers: Answers | None = None
    ) -> dict[Origin, Backlog]:
        """Judge and route; what goes the same way is one group, whichever devices it came from."""
        metrics, generation, plans, behaving = self._metrics, self.ruleset.generation, self.plans, self.behaving
        acl = self.ruleset.acl
        received, no_local = metrics.received_by_qos, self.table.no_local
        backlogs: dict[Origin, Backlog] = {}
        group = Group()
        items = group.items
        count = failed = 0
        notes = self.recording.notes(now) if self.recording is not None else None
        began = time.perf_counter()
        for origin, publishes in reads:
            identity, pending = origin.identity, origin.pending
            holds: list[Waiting] = []
            signs = identity.client_id in no_local
            more = signs or notes is not None
            rights = None if acl is None else acl.rights_of(identity)
            group.owners.append((len(items), origin))
            for publish in publishes:
                message: Message = publish
                is_loop = False
                if publish.properties is not NO_PROPERTIES:
                    message, is_loop = self._admitted(publish, now)
                try:
                    allowed = rights is None or rights.allow(message)
                    verdict = judge(message, identity, generation, answers) if allowed else DENIED
                except Exception as error:  # noqa: BLE001 # a bug of ours: this message fails closed (promise P7), told
                    verdict = self.refusal.judge_raised(error)
                changed = verdict.changed
                if behaving.has_rules and not is_loop and verdict is not DENIED:
                    verdict = behaving.judge(verdict, publish, identity, now)
                if changed is not None and verdict.action is Action.FORWARD:  # else it is kept as it came
                    message = changed
                    if rights is not None and not rights.allow(changed):
                        verdict = DENIED
                plan = plans[message.topic]
                qos = publish.qos
                received[qos] += 1
                ticket = None
                if qos:
                    size = len(publish.payload)
                    origin.unacknowledged += size
                    ticket = Ticket(origin, publish.packet_id, qos, size, now, plan.needed, plan.width, plan.may_drop)
                    pending.append(ticket)
                if is_loop or verdict.failures or plan.special or (publish.retain and plan.local):
                    failed += bool(verdict.failures)
                    spare = ticket or Ticket(origin, 0, 0, len(publish.payload), now, 0, 0)
                    carried = None if is_loop else self._exception(message, spare, verdict, plan, holds)
                    if is_loop:
                        self.refusal.looped(message, spare)
                    elif notes is not None and carried is None:
                        notes.add(publish, identity, verdict, plan, is_carried=False)
                    if carried is None:
                        continue
                    message = carried
                if more:
                    if notes is not None:
                        notes.add(publish, identity, verdict, plan, is_carried=True)
                    if signs and plan.lanes and not plan.local:
                        message = self._senders.signed(message, identity.client_id)
                if plan is not group.plan:
                    self._dispatch(group, backlogs, notes)
                    group = Group(plan, origin)
                    items = group.items
                items.append((message, ticket))
            count += len(publishes)
            if holds:
                backlogs.setdefault(origin, Backlog()).holds += holds
        metrics.validation_seconds.observe((time.perf_counter() - began) / count, count)
        metrics.invalid += failed
        metrics.valid += count - failed
        self._dispatch(group, backlogs, notes)
        if notes is not None:
            notes.end()
        if self.shadowing.has_candidates:
            self.shadowing.offer(reads)
        self._finish(reads, backlogs, now)
        return backlogs

    def _admitted(self, publish: Publish, now: float) -> tuple[Message, bool]:
        """Return the message as it may be judged, and whether it has gone round."""
        if publish.properties.user_properties:
            settings = self.ruleset.config.proxy
            admitted = admit(publish, settings.id, settings.hop_limit)
            if admitted is LOOP:
                return publish, True
            publish = admitted
        return timed(publish, now), False

    def _finish(self, reads: Iterable[tuple[Origin, object]], backlogs: dict[Origin, Backlog], now: float) -> None:
        """Acknowledge what is done already; hold up everybody while upstreams refuse more than can be kept."""
        is_overfull = self.refusal.is_overfull
        for origin, _ in reads:
            if is_overfull:
                backlogs.setdefault(origin, Backlog())
            pending = origin.pending
            if pending and pending[0].done:
                origin.acknowledge(now)

    def _dispatch(self, group: Group, backlogs: dict[Origin, Backlog], notes: Notes | None) -> None:
        """Offer one group to all its destinations at once; none of them can hold up another."""
        plan, items = group.plan, group.items
        if plan is None:
            return
        self._metrics.routed += len(items)
        if plan.local:
            self._deliver(group, plan)
        before = self.spool.number
        waits = self._place(group, plan, backlogs)
        if notes is not None:
            notes.numbered(items, plan, before, self.spool.number)
        if not plan.needed:  # and so there is no way through the spool
            for _, ticket in items:
                if isinstance(ticket, Ticket) and not ticket.needed and id(ticket) not in waits:
                    ticket.done = True
        if self.audits_all:
            self._audit(group, plan)

    def _deliver(self, group: Group, plan: Plan) -> None:
        """Give a group to local subscribers; what persistent sessions must keep is acknowledged after its commit."""
        items = group.items
        self.local_messages += len(items)
        before = self._journal.noted
        for origin, part in group.by_owner(items):
            self.table.deliver([message for message, _ in part], sender=origin.identity.client_id)
        if plan.awaits_commit and self._journal.noted != before:
            self._await_commit([ticket for _, ticket in items if isinstance(ticket, Ticket)], plan)

    def _await_commit(self, tickets: Sequence[Ticket], plan: Plan) -> None:
        for ticket in tickets:
            ticket.await_one_more(instead=plan.needed < plan.width)
            if ticket.qos == 2 and not plan.width:  # nobody else must have it first, and the spool does not promise
                ticket.origin.promise(ticket.packet_id)
        if tickets:
            self._journal.when_durable(partial(self.settling.spooled, tickets))

    def _place(self, group: Group, plan: Plan, backlogs: dict[Origin, Backlog]) -> set[int]:
        """Offer a group to the spool and to each lane; returns the identities of the tickets that wait."""
        waits: set[int] = set()
        items = group.items
        if plan.spool is not None:
            kept = [item for item in items if item[1] is not None]
            if kept:
                rest, dropped = plan.spool.place(kept, plan.when_full)
                self._must_wait(group, plan.spool, rest, waits, backlogs)
                for _ in range(plan.width if dropped else 0):  # for each that will not answer
                    self.settling.give_up(dropped)
            if len(kept) == len(items):
                return waits
            group = group.of_qos_0()
        if plan.lanes:
            self._number(group)
        for lane in plan.lanes:
            rest, dropped = lane.place(group.items, plan.when_full)
            self._must_wait(group, lane, rest, waits, backlogs)
            self.settling.give_up(dropped)
        return waits

    def _number(self, group: Group) -> None:
        """Give each message that goes past the spool its number."""
        number = self.spool.number
        self.spool.number += len(group.items)
        numbered: list[Item] = []
        for item in group.items:
            number += 1
            if isinstance(item[1], Ticket):
                item[1].number = number
            numbered.append(item if item[1] is not None else (item[0], number))
        group.items = numbered

    def _must_wait(
        self,
        group: Group,
        lane: Lane | SpoolLane,
        rest: Sequence[Item],
        waits: set[int],
        backlogs: dict[Origin, Backlog],
    ) -> None:
        if rest:
            for origin, part in group.by_owner(rest):
                backlogs.setdefault(origin, Backlog()).lanes.append((lane, part))
            waits.update(id(ticket) for _, ticket in rest)

    def _audit(self, group: Group, plan: Plan) -> None:
        for origin, part in group.by_owner(group.items):
            for message, _ in part:
                self.refusal.decided("forwarded", origin.identity, message, destinations=plan.names)

    async def clear(self, backlog: Backlog) -> None:
        """Wait until a backlog has its places: each destination by itself, so that none waits for another."""
        # A message that no destination need acknowledge is acknowledged once all of them have taken it.
        missing = Counter(
            id(ticket)
            for _, items in backlog.lanes
            for _, ticket in items
            if isinstance(ticket, Ticket) and not ticket.needed
        )
        # One read may have left several parts for the same destination, with other topics between: one after the other.
        lanes: dict[Lane | SpoolLane, list[Item]] = {}
        for lane, items in backlog.lanes:
            lanes.setdefault(lane, []).extend(items)
        async with trio.open_nursery() as nursery:
            for lane, items in lanes.items():
                nursery.start_soon(self._wait_for_lane, lane, items, missing)
            if backlog.holds:
                nursery.start_soon(self.refusal.wait_and_hold, backlog.holds)
            nursery.start_soon(self.refusal.wait_relieved)

    def give_up(self, backlog: Backlog) -> None:
        """Drop a backlog that nobody can wait for, counted."""
        for lane, items in backlog.lanes:
            lane.give_up(len(items))
        self.refusal.give_up(len(backlog.holds))

    async def _wait_for_lane(self, lane: Lane | SpoolLane, items: Sequence[Item], missing: Counter[int]) -> None:
        await lane.wait_and_place(items)
        taken = [ticket for _, ticket in items if isinstance(ticket, Ticket) and id(ticket) in missing]
        missing.subtract(map(id, taken))
        release([ticket for ticket in taken if not missing[id(ticket)]])

    def _exception(
        self, publish: Message, ticket: Ticket, verdict: Verdict, plan: Plan, holds: list[Waiting]
    ) -> Message | None:
        """Deal with a message that failed, that nobody may publish, that has no route, or that is to be retained.

        Returns the message if it is carried. What found the quarantine full is added to `holds`.
        """
        if verdict is DENIED:
            self.refusal.not_allowed(publish, ticket)
            return None
        if plan.special:
            self.refusal.not_carried(publish, ticket, plan.refusal, drop=plan.drop)
            return None
        message: Message = publish
        if verdict.failures:
            carried = self.refusal.failed(publish, ticket, verdict, plan)
            if not isinstance(carried, Message):
                if carried is not None:
                    holds.append(carried)
                return None
            message = carried
        if message.retain and plan.local:
            before = self._journal.noted
            if not self.retained.keep(message, ticket.origin.identity.client_id):
                self.refusal.not_carried(message, ticket, ReasonCode.QUOTA_EXCEEDED, drop=False)
                return None
            if plan.awaits_commit and ticket.qos and self._journal.noted != before:
                self._await_commit((ticket,), plan)
        return message

    def may_still_go(self, message: Message) -> bool:
        """Say whether a retained message would be carried today: its policy may be another one than when it came."""
        return self._arrivals.may_still_go(message, self.ruleset.generation)

    def shape_of(self, upstream: str) -> Shape | None:
        """Return what makes the messages that an upstream gets, None: they go as they are."""
        return self.ruleset.shapes.get(upstream)

    def carry_down(self, upstream: str, arrivals: Sequence[Arrival], done: Done) -> None:
        """Judge what a broker sent, and hand it to the subscribed devices."""
        routes, rules = self.ruleset.routes, self.ruleset.generation.down
        self._arrivals.carry(upstream, arrivals, done, routes=routes, rules=rules, now=trio.current_time())
        if self.shadowing.has_candidates:
            judged = [one.publish for one in arrivals if routes.home_of(one.publish.topic) == upstream]
            self.shadowing.offer_down(upstream, judged)
