"""The way back of a message: what brokers send, judged, and handed to the devices that are subscribed to it."""

from collections.abc import Container, Sequence
from functools import partial
from typing import Final, cast

from attrs import Factory, define

from mqttproxy.config.model import LOCAL
from mqttproxy.handover import Commits
from mqttproxy.mqtt.expiry import timed
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Publish, Timed
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.refusal import Refusal
from mqttproxy.sessions import Subscriber, SubscriptionTable
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.callbacks import Arrival, Done
from mqttproxy.upstream.guard import Senders
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import Action, Generation, Identity, Rules, Verdict, identity_of_upstream, judge
from mqttproxy.validation.plugins import ASKED_BEFORE

RETAINED: Final = Identity("", None, "", "retained")  # who sent it is not kept
ELSEWHERE: Final = "elsewhere"  # the topic has another home, from which devices get the message


@define(eq=False)
class _Answer:
    """What a broker is told of one read, once everything that must happen first has happened."""

    done: Done
    open: int = 1
    refused: dict[int, ReasonCode] = Factory(dict)

    def close(self) -> None:
        self.open -= 1
        if not self.open:
            self.done(self.refused or None)

    def close_one(self, index: int, reason: ReasonCode) -> None:
        if reason.is_failure:
            self.refused[index] = reason
        self.close()


@define(eq=False)
class _Batch:
    """Live messages one after the other for the same subscriptions."""

    sender: str = ""
    only: Container[str] | None = None
    as_published: Container[str] | None = None
    messages: list[Message] = Factory(list)

    def is_for(self, sender: str, arrival: Arrival) -> bool:
        return self.sender == sender and self.only == arrival.filters and self.as_published == arrival.as_published


@define(eq=False)
class Arrivals:
    """Takes what upstreams send. One for the process."""

    table: SubscriptionTable
    refusal: Refusal
    metrics: Metrics
    journal: Commits
    senders: Senders
    audits_all: bool = False  # plain deliveries get an audit line too

    def carry(
        self, upstream: str, arrivals: Sequence[Arrival], done: Done, *, routes: RouteTable, rules: Rules, now: float
    ) -> None:
        """Judge and deliver everything that one read of a link held.

        The broker is told once the sessions that outlive their connections have it on disk, and once what is held is
        in the quarantine.

        Args:
            upstream: who sent it.
            arrivals: in order.
            done: called once, now or later.
            routes: in force.
            rules: for this direction.
            now: monotonic seconds.

        """
        identity = identity_of_upstream(upstream)
        answer = _Answer(done)
        before = self.journal.noted
        batch = _Batch()
        self.metrics.received_down += len(arrivals)
        for index, arrival in enumerate(arrivals):
            if routes.home_of(arrival.publish.topic) != upstream:  # or somebody would get it twice
                self.metrics.refused_down.add(ELSEWHERE)
                continue
            publish, sender = arrival.publish, ""
            if publish.properties.user_properties:
                publish, sender = self.senders.unsigned(publish)
            message = self._judged(publish, identity, rules, partial(answer.close_one, index), answer)
            if message is None:
                continue
            message = _living(message, routes.max_age_of(message.topic), now)
            self.metrics.carried_down += 1
            if self.audits_all:
                self.refusal.decided("forwarded", identity, message, destinations=(LOCAL,))
            if arrival.retained_for is not None:
                for session in cast("Sequence[Subscriber]", arrival.retained_for):  # they are as the door gave them
                    self.table.deliver_retained(message, session.client_id, arrival.filters, sender=sender)
                continue
            if not batch.is_for(sender, arrival):
                self._deliver(batch)
                batch = _Batch(sender, arrival.filters, arrival.as_published)
            batch.messages.append(message)
        self._deliver(batch)
        if self.journal.noted != before:
            answer.open += 1
            self.journal.when_durable(answer.close)
        answer.close()

    def _judged(
        self, publish: Publish, identity: Identity, rules: Rules, settle: "partial[None]", answer: _Answer
    ) -> Message | None:
        """Return the message if it may go on; what else becomes of it is told to `answer`."""
        try:
            verdict = judge(publish, identity, rules)
        except Exception as error:  # noqa: BLE001 # a bug of ours: this message fails closed (promise P7), told
            verdict = self.refusal.judge_raised(error)
        message = publish if verdict.changed is None else verdict.changed
        if not verdict.failures:
            return message
        return self._failed(message, identity, verdict, settle, answer)

    def _failed(
        self, publish: Message, identity: Identity, verdict: Verdict, settle: "partial[None]", answer: _Answer
    ) -> Message | None:
        answer.open += 1
        message = self.refusal.failed_down(publish, identity, verdict, settle)
        if message is not None:
            answer.open -= 1
        return message

    def may_still_go(self, message: Message, generation: Generation) -> bool:
        """Say whether a retained message would be carried today: its policy may be another one than when it came."""
        topic = message.topic
        if self.refusal.dry_run or topic[:1] == "$" or generation.transforms(topic) or generation.binds(topic):
            return True  # what was transformed is no longer what its policies ask for; nor is another sender's schema
        try:
            verdict = judge(message, RETAINED, generation, ASKED_BEFORE)
        except Exception as error:  # noqa: BLE001 # as for a message that comes
            verdict = self.refusal.judge_raised(error)
        return verdict.observed or verdict.action is Action.FORWARD

    def _deliver(self, batch: _Batch) -> None:
        if batch.messages:
            self.table.deliver(batch.messages, sender=batch.sender, only=batch.only, as_published=batch.as_published)


def _living(message: Message, max_age: float | None, now: float) -> Message:
    """Return the message with the moment at which it is over: by its own interval, or too old for devices."""
    if message.properties is not NO_PROPERTIES:
        message = timed(message, now)
    if max_age is None:
        return message
    over = now + max_age
    if isinstance(message, Timed):
        over = min(over, message.expires_at)
    return Timed(message.topic, message.payload, message.qos, message.retain, message.properties, over)
