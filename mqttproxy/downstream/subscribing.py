"""What one connected device subscribes to: here, and through us at the upstreams that are home to its topics."""

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field

from mqttproxy.access import may_subscribe
from mqttproxy.config.model import LOCAL
from mqttproxy.downstream.homes import UpstreamLink
from mqttproxy.downstream.refusing import RefusedFilter, refuse_filters
from mqttproxy.downstream.rights import may_subscribe_to
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Message,
    RetainHandling,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.mqtt.topics import split_shared
from mqttproxy.sessions import Session
from mqttproxy.sessions.table import Entry, copy_for
from mqttproxy.transport.stream import Spawn
from mqttproxy.validation import Identity

if TYPE_CHECKING:
    from mqttproxy.downstream.premises import Premises

# Retained messages looked at before others have their turn, and queued for a device at most at once.
RETAINED_AT_ONCE: Final = 100

GRANTED: Final = (ReasonCode.SUCCESS, ReasonCode.GRANTED_QOS_1, ReasonCode.GRANTED_QOS_2)


@define(eq=False)
class Subscribing:
    """The subscriptions of one device."""

    _premises: "Premises"
    _session: Session
    _connection: ServerConnection
    _identity: Identity
    # What of the retained messages for its subscriptions is still to come, and for which of them.
    _retained: deque[tuple[Entry, Iterator[Message]]] = field(factory=deque)
    _has_room: trio.Event | None = None  # it waits for the queue to become shorter
    _is_sending: bool = False
    spawn: Spawn | None = None  # in the device's own nursery

    async def subscribe(self, packet: Subscribe) -> None:
        """Answer a SUBSCRIBE, filter by filter, and begin to send what is retained for it. [MQTT-3.8.4-1].

        Raises:
            RemoteProtocolError: No Local on a shared subscription. [MQTT-3.8.3-4]

        """
        if any(one.no_local and split_shared(one.topic_filter)[0] is not None for one in packet.subscriptions):
            raise RemoteProtocolError("No Local on a shared subscription")
        identifiers = packet.properties.subscription_identifiers
        identifier = identifiers[0] if identifiers else 0
        premises, session = self._premises, self._session
        reasons = []
        fresh: list[int] = []  # places of those that want what is retained
        refused: dict[int, RefusedFilter] = {}  # by place
        for index, subscription in enumerate(packet.subscriptions):
            why_not = self._check(subscription, index)
            if why_not is not None:
                refused[index], reason = why_not, why_not.reason
            else:
                is_new = premises.pipeline.table.subscribe(session, subscription, identifier)
                premises.sessions.subscribed(session, subscription, identifier, is_new=is_new)
                wants_retained = _wants_retained(subscription, is_new=is_new)
                premises.homes.ask(session.client_id, subscription, retained_for=session if wants_retained else None)
                if wants_retained:
                    fresh.append(index)
                reason = GRANTED[subscription.qos]
            reasons.append(reason)
        await self._wait_for_homes(packet, reasons, refused)
        properties = NO_PROPERTIES
        if refused:
            properties = refuse_filters(premises, self._identity, [refused[index] for index in sorted(refused)])
        self._connection.send(SubAck(packet.packet_id, tuple(reasons), properties))
        for subscription in [packet.subscriptions[index] for index in fresh if not reasons[index].is_failure]:
            entry = Entry(session, subscription, identifier)
            topic_filter = subscription.topic_filter
            kept = chain(premises.pipeline.retained.match(topic_filter), premises.sys_messages(topic_filter))
            self._retained.append((entry, kept))
        left = RETAINED_AT_ONCE
        while self._retained and left > 0 and self._is_short():
            left -= 1 + self._send_slice()
        if self._retained and not self._is_sending and self.spawn is not None:
            self._is_sending = True
            self.spawn(self._send_retained)

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """Answer an UNSUBSCRIBE. [MQTT-3.10.4-4]."""
        reasons = [
            ReasonCode.SUCCESS if self._forget(topic_filter) else ReasonCode.NO_SUBSCRIPTION_EXISTED
            for topic_filter in packet.topic_filters
        ]
        self._connection.send(UnsubAck(packet.packet_id, tuple(reasons)))

    def _forget(self, topic_filter: str) -> bool:
        premises, session = self._premises, self._session
        if not premises.pipeline.table.unsubscribe(session.client_id, topic_filter):
            return False
        premises.sessions.unsubscribed(session, topic_filter)
        premises.homes.leave(session.client_id, topic_filter)
        self._retained = deque(feed for feed in self._retained if feed[0].subscription.topic_filter != topic_filter)
        return True

    def _check(self, subscription: Subscription, index: int) -> RefusedFilter | None:
        limits, topic_filter = self._premises.limits, subscription.topic_filter
        if index >= limits.subscriptions_per_packet:
            words = f"more than {limits.subscriptions_per_packet} filters in one packet"
            return RefusedFilter(topic_filter, ReasonCode.QUOTA_EXCEEDED, "limits.subscriptions_per_packet", words)
        table, client_id = self._premises.pipeline.table, self._session.client_id
        if table.count_of(client_id) >= limits.subscriptions_per_client and not table.has(client_id, topic_filter):
            words = f"more than {limits.subscriptions_per_client} subscriptions of one device"
            return RefusedFilter(topic_filter, ReasonCode.QUOTA_EXCEEDED, "limits.subscriptions_per_client", words)
        reason, words = may_subscribe(
            client_id, topic_filter, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels
        )
        if reason.is_failure:
            return RefusedFilter(topic_filter, reason, "topic rules", words)
        if not may_subscribe_to(self._premises.pipeline.ruleset.acl, self._identity, subscription):
            self._premises.metrics.access_denied.add("subscribe")
            words = "the access rules do not let this device subscribe to it"
            return RefusedFilter(topic_filter, ReasonCode.NOT_AUTHORIZED, "access.rules", words)
        return None

    async def _wait_for_homes(
        self, packet: Subscribe, reasons: list[ReasonCode], refused: dict[int, RefusedFilter]
    ) -> None:
        """Wait for the brokers that are there; a filter that its only home refuses is refused to the device as well."""
        with trio.move_on_after(self._premises.limits.subscribe_wait):
            for index, subscription in enumerate(packet.subscriptions):
                homes = self._premises.homes.of(self._session.client_id, subscription.topic_filter)
                for upstream in homes:
                    if not upstream.is_live or reasons[index].is_failure:
                        continue
                    answer = await upstream.wait_subscribed(subscription.topic_filter)
                    if answer.is_failure and len(homes) == 1:
                        reasons[index] = answer
                        words = "the broker that is home to its topics refuses it"
                        refused[index] = RefusedFilter(
                            subscription.topic_filter, answer, self._rule_of(upstream), words
                        )
                        self._forget(subscription.topic_filter)

    def _rule_of(self, upstream: UpstreamLink) -> str:
        names = (name for name, one in self._premises.upstreams.items() if one is upstream)
        return f"upstream {next(names, '')}".rstrip()

    # Retained messages: a filter may match a million of them, so they come in slices, each when the one before has
    # left the queue.

    async def _send_retained(self) -> None:
        try:
            while self._retained:
                if self._is_short():
                    self._send_slice()
                    await trio.lowlevel.checkpoint()
                else:
                    self._has_room = trio.Event()
                    await self._has_room.wait()
        finally:
            self._is_sending = False

    def queue_moved(self) -> None:
        """Hear that messages have left the device's queue."""
        if self._has_room is not None and self._is_short():
            self._has_room.set()
            self._has_room = None

    def _is_short(self) -> bool:
        """Whether another slice surely finds room in the queue."""
        queue, limits = self._session.queue, self._premises.limits
        return len(queue) < self._slice and queue.size <= limits.queue_bytes // 4

    @property
    def _slice(self) -> int:
        return max(1, min(RETAINED_AT_ONCE, self._premises.limits.queue_messages // 2))

    def _send_slice(self) -> int:
        """Queue some of what is retained for the oldest subscription that has any; returns how many were looked at."""
        entry, retained = self._retained[0]
        premises = self._premises
        home_of, client_id = premises.pipeline.ruleset.routes.home_of, self._session.client_id
        sender_of, no_local = premises.pipeline.retained.sender_of, entry.subscription.no_local
        found: list[Message] = []
        size = looked_at = 0
        for message in islice(retained, self._slice):
            looked_at += 1
            # Again, as rules and routes may have changed since the message came or the subscription was made.
            if home_of(message.topic) != LOCAL or may_subscribe(client_id, message.topic)[0].is_failure:
                continue
            if no_local and sender_of(message.topic) == client_id:  # [MQTT-3.8.3-3]
                continue
            if not premises.pipeline.may_still_go(message):
                premises.metrics.dropped_down.add("policy")
                continue
            found.append(copy_for(message, (entry,), retained=True))
            size += len(message.payload)
            if size > premises.limits.queue_bytes // 4:
                break
        else:
            if looked_at < self._slice:
                self._retained.popleft()
        if found:
            self._session.deliver(found)
        return looked_at


def _wants_retained(subscription: Subscription, *, is_new: bool) -> bool:
    if split_shared(subscription.topic_filter)[0] is not None:  # which member would get them?
        return False
    handling = subscription.retain_handling
    return handling is RetainHandling.SEND or (handling is RetainHandling.SEND_IF_NEW and is_new)
