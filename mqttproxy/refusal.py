"""The life of a message that failed: held, refused, marked or dropped; always explained (promise P10), never lost.

`pipeline` asks `failed` for every message with a failed verdict. What is held is acknowledged in `committed`, after the
quarantine's commit, and never before.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import orjson
import trio
from attrs import define, field
from msgspec.structs import replace

from mqttproxy.access import NOT_ALLOWED, error_topic
from mqttproxy.config.model import LOCAL
from mqttproxy.handover import Plan, Ticket, release
from mqttproxy.holding import HeldDown, HeldTicket, Hold, Waiting, blamed, upstream_verdict
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.owners import owner_of
from mqttproxy.sessions import SubscriptionTable
from mqttproxy.spool import Entry, Spool
from mqttproxy.telemetry.audit import Action as AuditAction, AuditTrail
from mqttproxy.telemetry.logs import RateLimited
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.callbacks import Poison, Refusal as UpstreamRefusal, Unshaped
from mqttproxy.validation import Action, Failure, Identity, Verdict
from mqttproxy.validation.answers import answer_properties, error_document, mark_properties, reason_string
from mqttproxy.validation.transforms import NO_MASKS, Masker

# Messages refused by upstreams that may wait for the quarantine; beyond it devices are not read, or brokers that refuse
# everything while the disk is full would fill the memory.
MOST_OF_UPSTREAMS: Final = 1000
# Why a message is not carried although nobody has judged it badly.
_WHY: Final = {
    ReasonCode.NOT_AUTHORIZED: "topics that begin with $ are the server's",
    ReasonCode.TOPIC_NAME_INVALID: "no route leads anywhere from this topic",
    ReasonCode.QUOTA_EXCEEDED: "there is no room for another retained message",
}


@define(eq=False, kw_only=True)
class Refusal:
    """Everything that happens to messages which are not simply carried. One for the process."""

    table: SubscriptionTable
    quarantine: Hold
    spool: Spool
    metrics: Metrics
    audit: AuditTrail
    alerts: RateLimited
    new_id: Callable[[], str]
    wall: Callable[[], float] = time.time
    dry_run: bool = False
    generation: int = 0  # number of the ruleset in force, for the audit trail
    masker: Masker = NO_MASKS  # of the ruleset in force: what is told to anybody but the device
    _of_upstreams: deque[Waiting] = field(init=False, factory=deque)
    _down: deque[tuple[Held, HeldDown]] = field(init=False, factory=deque)

    def use(self, generation: int, masker: Masker) -> None:
        """Tell from now on by another ruleset."""
        self.generation, self.masker = generation, masker
        self.audit.veil = None if masker is NO_MASKS else masker.veil

    def failed(self, publish: Message, ticket: Ticket, verdict: Verdict, plan: Plan) -> Message | Waiting | None:
        """Do what a failed verdict says.

        Args:
            publish: the message.
            ticket: its ticket; one of its own for QoS 0.
            verdict: with failures.
            plan: of its topic.

        Returns:
            The message, if it is carried all the same; what must wait, if the quarantine is full; or None.

        """
        metrics, origin = self.metrics, ticket.origin
        self._note(verdict, publish.topic)
        if self.dry_run or verdict.observed:
            metrics.observed += 1
            self.decided("observed", origin.identity, publish, verdict=verdict, destinations=plan.names)
            return publish
        if verdict.action is Action.HOLD:
            return self._hold(publish, ticket, verdict)
        carried = None
        if verdict.action is Action.FORWARD:
            metrics.marked += 1
            self.decided("marked", origin.identity, publish, verdict=verdict, destinations=plan.names)
            carried = replace(publish, properties=mark_properties(publish, verdict))
        else:
            metrics.refused.add(verdict.reason.name.lower())
            self.decided("refused", origin.identity, publish, verdict=verdict)
            self._tell_device(origin.identity, publish, verdict, action="refused", quarantine_id=None)
            ticket.reason, ticket.properties, ticket.done = verdict.reason, answer_properties(verdict), True
        if verdict.disconnect:
            # Acknowledged first, or the device would send the message again over each new connection.
            origin.acknowledge(trio.current_time())
            origin.disconnect(verdict.reason, reason_string(verdict))
        return carried

    def failed_down(
        self, message: Message, identity: Identity, verdict: Verdict, answer: Callable[[ReasonCode], None]
    ) -> Message | None:
        """Do what a failed verdict says with a message from an upstream.

        Args:
            message: under its local name.
            identity: of the upstream.
            verdict: with failures.
            answer: acknowledges it to the upstream, with a reason; called once, now or after the commit of a held
                message, and not at all if the message is returned.

        Returns:
            The message, if it is delivered all the same, for the caller to acknowledge; or None.

        """
        metrics = self.metrics
        self._note(verdict, message.topic)
        if self.dry_run or verdict.observed:
            metrics.observed += 1
            self.decided("observed", identity, message, verdict=verdict, destinations=(LOCAL,))
            return message
        if verdict.action is Action.FORWARD:
            metrics.marked += 1
            self.decided("marked", identity, message, verdict=verdict, destinations=(LOCAL,))
            return replace(message, properties=mark_properties(message, verdict))
        if verdict.action is Action.REFUSE:
            metrics.refused_down.add(verdict.reason.name.lower())
            self.decided("refused", identity, message, verdict=verdict)
            answer(verdict.reason)
        elif not message.qos and len(self._down) >= MOST_OF_UPSTREAMS:
            # More of QoS 1 and 2 cannot come before they are acknowledged: our Receive Maximum holds them back.
            metrics.refused_down.add("quarantine_full")
            self.decided("dropped", identity, message, verdict=verdict)
            answer(ReasonCode.SUCCESS)
        else:
            metrics.waiting_down += 1
            held = self._held(identity, message, verdict)
            self._down.append((held, HeldDown(answer, identity, verdict, message, held.id)))
            self._hold_waiting()
        return None

    def _note(self, verdict: Verdict, topic: str) -> None:
        for part in verdict.parts or (verdict,):
            self.metrics.policy_failures.add(part.policy or "topics")
            if part.alert:
                words = reason_string(self.masker.verdict(part, topic))
                self.alerts.warning(f"alert:{part.policy}", "policy_alert", policy=part.policy, failure=words)

    def judge_raised(self, error: Exception) -> Verdict:
        """Return the verdict on a message that the judge could not judge, because of a bug: held, never let through."""
        self.alerts.error("judge_raised", "judge_raised", exc_info=error)
        words = "could not be judged, because of an error in the proxy"
        return Verdict(
            action=Action.HOLD,
            failures=(Failure("", "internal", words),),
            reason=ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
        )

    def not_carried(self, message: Message, ticket: Ticket, reason: ReasonCode, *, drop: bool, why: str = "") -> None:
        """Refuse a message for another reason than its contract, or drop it because it has no route."""
        identity = ticket.origin.identity
        word = "no_route" if drop else reason.name.lower()
        (self.metrics.dropped if drop else self.metrics.refused).add(word)
        self.decided("dropped" if drop else "refused", identity, message, reason=word)
        ticket.reason, ticket.done = reason, True
        if not drop:
            verdict = Verdict(
                action=Action.REFUSE, failures=(Failure("", "topic", why or _WHY.get(reason, word)),), reason=reason
            )
            ticket.properties = answer_properties(verdict)
            self._tell_device(identity, message, verdict, action="refused", quarantine_id=None)

    def not_allowed(self, message: Message, ticket: Ticket) -> None:
        """Refuse a message that the access rules do not let its sender publish, in a dry run too."""
        self.metrics.access_denied.add("publish")
        self.not_carried(message, ticket, ReasonCode.NOT_AUTHORIZED, drop=False, why=NOT_ALLOWED)

    def looped(self, message: Message, ticket: Ticket) -> None:
        """Drop a message that was here before; it is acknowledged, or the bridge that sent it would send it again."""
        self.metrics.dropped.add("loop")
        self.decided("dropped", ticket.origin.identity, message, reason="loop")
        ticket.done = True

    def _hold(self, message: Message, ticket: Ticket, verdict: Verdict) -> Waiting | None:
        held = self._held(ticket.origin.identity, message, verdict)
        token = HeldTicket(ticket, verdict, message, held.id, ticket.origin.identity)
        self.metrics.waiting += 1
        try:
            self.quarantine.hold_nowait(held, token)
        except trio.WouldBlock:
            return held, token
        return None

    async def wait_and_hold(self, waiting: Sequence[Waiting]) -> None:
        """Put into the quarantine what found it full, in order."""
        left = list(reversed(waiting))
        try:
            while left:
                try:
                    self.quarantine.hold_nowait(*left[-1])
                except trio.WouldBlock:
                    await self.quarantine.wait_room()
                else:
                    left.pop()
        finally:
            self.give_up(len(left))  # the device is gone: it was not acknowledged and will send them again

    def give_up(self, count: int) -> None:
        """Drop messages that waited for the quarantine, because nobody waits for them any more."""
        if count:
            self.metrics.waiting -= count
            self.metrics.dropped.add("connection_lost", count)

    def committed(self, tokens: Iterable[object]) -> None:
        """Hear that held messages are on disk: only now are they acknowledged (promise P1)."""
        tokens = list(tokens)
        kept = [token for token in tokens if isinstance(token, HeldTicket)]
        for token in kept:
            ticket, verdict, identity = token.ticket, token.verdict, token.identity
            self.decided("held", identity, token.message, verdict=verdict, quarantine_id=token.quarantine_id)
            self._tell_device(identity, token.message, verdict, action="held", quarantine_id=token.quarantine_id)
            token.after()
            if token.judged:
                self.metrics.waiting -= 1
                self.metrics.held += 1
            if ticket is None:
                continue
            if token.judged:
                ticket.done = True
            elif ticket.done or not ticket.refuse():
                continue  # the device was acknowledged before, or another destination may still do
            ticket.reason, ticket.properties = verdict.reason, answer_properties(verdict)
        tickets = [token.ticket for token in kept if token.ticket is not None]
        release([ticket for ticket in tickets if ticket.done])
        for token in kept:
            if token.verdict.disconnect and token.ticket is not None:
                token.ticket.origin.disconnect(token.verdict.reason, reason_string(token.verdict))
        for down in tokens:
            if isinstance(down, HeldDown):
                self.metrics.waiting_down -= 1
                self.metrics.held_down += 1
                self.decided(
                    "held", down.identity, down.message, verdict=down.verdict, quarantine_id=down.quarantine_id
                )
                down.answer(ReasonCode.SUCCESS)
        self._hold_waiting()

    def refused_by(self, destination: str, refusals: Iterable[UpstreamRefusal]) -> None:
        """Hear that an upstream will not have some messages: they are kept in the quarantine, then acknowledged."""
        removed = False
        for token, message, why in refusals:
            if isinstance(token, Entry) and why is ReasonCode.ADMINISTRATIVE_ACTION:
                removed = True  # it is gone, not the message: that stays in the spool
                if token.ticket is not None and token.ticket.give_up():
                    release([token.ticket])
            elif isinstance(token, Ticket | Entry):
                self._of_upstreams.append(self._refused(destination, token, message, why))
        if removed:
            self.spool.feeds[destination].rewind()
        self._hold_waiting()
        if self.is_overfull:  # what is sent meanwhile would only be refused as well
            for feed in self.spool.feeds.values():
                feed.pause()

    def _refused(
        self, destination: str, token: Ticket | Entry, message: Message, why: "ReasonCode | Poison | Unshaped"
    ) -> Waiting:
        verdict = upstream_verdict(destination, why)
        if isinstance(token, Ticket):
            identity = token.origin.identity
            held = self._held(identity, message, verdict, destination)
            return held, HeldTicket(token, verdict, message, held.id, identity, judged=False)
        who = token.who
        if isinstance(who, Identity):
            identity = who
        else:  # it came back from disk
            identity = Identity(who.client_id, who.username, who.address, who.listener, who.attributes)
        held = self._held(identity, message, verdict, destination)
        after = partial(self._settle_entry, destination, token)
        return held, HeldTicket(token.ticket, verdict, message, held.id, identity, judged=False, after=after)

    def _settle_entry(self, destination: str, entry: Entry) -> None:
        """Let the spool go of a message that is in the quarantine now."""
        self.spool.settled(destination, (entry,))

    @property
    def is_overfull(self) -> bool:
        """Too much that upstreams refused waits for the quarantine: nothing more should be taken from devices."""
        return len(self._of_upstreams) >= MOST_OF_UPSTREAMS

    async def wait_relieved(self) -> None:
        """Return when devices may be read again."""
        while self.is_overfull:
            await self.quarantine.wait_room()
            self._hold_waiting()

    def _hold_waiting(self) -> None:
        # What finds the quarantine full tries again after its next commit.
        for waiting in (self._of_upstreams, self._down):
            while waiting:
                try:
                    self.quarantine.hold_nowait(*waiting[0])
                except trio.WouldBlock:
                    return
                waiting.popleft()
        if not self.is_overfull:
            for feed in self.spool.feeds.values():
                if feed.is_paused:
                    feed.go_on()

    def _held(self, identity: Identity, message: Message, verdict: Verdict, destination: str | None = None) -> Held:
        payload = message.payload
        if self.masker.stored:
            payload, verdict = self.masker.payload(payload, message.topic), self.masker.verdict(verdict, message.topic)
        return Held(
            id=self.new_id(),
            at=self.wall(),
            client_id=identity.client_id,
            username=identity.username,
            address=identity.address,
            listener=identity.listener,
            topic=message.topic,
            payload=payload,
            attributes=identity.attributes,
            blamed=blamed(verdict),
            qos=message.qos,
            retain=message.retain,
            properties=message.properties,
            policy=verdict.policy,
            schema=verdict.schema,
            reason=int(verdict.reason),
            failures=tuple((failure.pointer, failure.keyword, failure.message) for failure in verdict.failures),
            destination=destination,
            owner=owner_of(
                identity.username,
                identity.address,
                identity.listener,
                is_authenticated=identity.is_authenticated,
            ),
        )

    def _tell_device(
        self, identity: Identity, message: Message, verdict: Verdict, *, action: str, quarantine_id: str | None
    ) -> None:
        """Publish the error document on the topic that only this device can subscribe to."""
        topic = error_topic(identity.client_id)
        if self.table.has_subscriber(topic):
            at = datetime.fromtimestamp(self.wall(), UTC).isoformat(timespec="milliseconds")
            document = error_document(message, verdict, action=action, at=at, quarantine_id=quarantine_id)
            self.table.deliver((Message(topic, orjson.dumps(document), 1),))

    def decided(
        self,
        action: AuditAction,
        identity: Identity,
        message: Message,
        *,
        verdict: Verdict | None = None,
        reason: str = "",
        destinations: Sequence[str] = (),
        quarantine_id: str | None = None,
    ) -> None:
        """Write an audit line."""
        self.audit.decision(
            action=action,
            reason=verdict.reason.name.lower() if verdict is not None and verdict.failures else reason,
            client_id=identity.client_id,
            username=identity.username,
            address=identity.address,
            listener=identity.listener,
            topic=message.topic,
            qos=message.qos,
            retain=message.retain,
            payload=message.payload,
            policy=verdict.policy if verdict is not None else None,
            schema=verdict.schema if verdict is not None else None,
            failures=verdict.failures if verdict is not None else (),
            destinations=destinations,
            generation=self.generation,
            dry_run=self.dry_run,
            quarantine_id=quarantine_id,
            parts=verdict.parts if verdict is not None else (),
        )
