"""What one device is subscribed to: at the proxy, and through it at the upstreams that are home to its topics."""

from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field

from mqttproxy.access import may_subscribe
from mqttproxy.config.model import LOCAL
from mqttproxy.mqtt.packets import Message, RetainHandling, SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.sessions.table import Entry, copy_for

if TYPE_CHECKING:
    from mqttproxy.downstream.device import Device
    from mqttproxy.downstream.premises import Premises

# How long a SUBACK waits for the brokers'. A broker that is away gets the subscription when it is back.
UPSTREAM_ANSWER: Final = 5.0

GRANTED: Final = (ReasonCode.SUCCESS, ReasonCode.GRANTED_QOS_1, ReasonCode.GRANTED_QOS_2)


@define(eq=False)
class Subscribing:
    """The subscriptions of one device."""

    _premises: "Premises"
    _device: "Device"
    _connection: ServerConnection
    _homes: dict[str, frozenset[str]] = field(factory=dict)  # filter to the upstreams that were asked for it

    async def subscribe(self, packet: Subscribe) -> None:
        """Answer a SUBSCRIBE, filter by filter, and send what is retained for it. [MQTT-3.8.4-1]."""
        identifiers = packet.properties.subscription_identifiers
        identifier = identifiers[0] if identifiers else 0
        reasons = []
        fresh: list[Subscription] = []
        for index, subscription in enumerate(packet.subscriptions):
            reason = self._check(subscription, index)
            if not reason.is_failure:
                is_new = self._premises.pipeline.table.subscribe(self._device, subscription, identifier)
                self._ask_homes(subscription)
                reason = GRANTED[subscription.qos]
                handling = subscription.retain_handling
                if handling is RetainHandling.SEND or (handling is RetainHandling.SEND_IF_NEW and is_new):
                    fresh.append(subscription)
            reasons.append(reason)
        await self._wait_for_homes(packet, reasons)
        self._connection.send(SubAck(packet.packet_id, tuple(reasons)))
        for subscription in fresh:
            self._send_retained(subscription, identifier)

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """Answer an UNSUBSCRIBE. [MQTT-3.10.4-4]."""
        reasons = []
        for topic_filter in packet.topic_filters:
            if self._premises.pipeline.table.unsubscribe(self._device.client_id, topic_filter):
                self._leave_homes(topic_filter)
                reasons.append(ReasonCode.SUCCESS)
            else:
                reasons.append(ReasonCode.NO_SUBSCRIPTION_EXISTED)
        self._connection.send(UnsubAck(packet.packet_id, tuple(reasons)))

    def forget_all(self) -> None:
        """End every subscription: the session is over."""
        table = self._premises.pipeline.table
        for topic_filter in table.filters_of(self._device.client_id):
            table.unsubscribe(self._device.client_id, topic_filter)
            self._leave_homes(topic_filter)
        del self._device  # it refers to this: a circle

    def rehome(self) -> None:
        """Ask other upstreams after a reload has changed which of them is home to which topics."""
        table = self._premises.pipeline.table
        for topic_filter in list(self._homes):
            self._leave_homes(topic_filter)
        for entry in table.entries_of(self._device.client_id):
            self._ask_homes(entry.subscription)

    def _check(self, subscription: Subscription, index: int) -> ReasonCode:
        limits = self._premises.limits
        if index >= limits.subscriptions_per_packet:
            return ReasonCode.QUOTA_EXCEEDED
        mine = self._premises.pipeline.table.filters_of(self._device.client_id)
        if len(mine) >= limits.subscriptions_per_client and subscription.topic_filter not in mine:
            return ReasonCode.QUOTA_EXCEEDED
        return may_subscribe(
            self._device.client_id,
            subscription.topic_filter,
            max_bytes=limits.topic_bytes,
            max_levels=limits.topic_levels,
        )

    def _ask_homes(self, subscription: Subscription) -> None:
        """Subscribe at every upstream that is home to a topic the filter matches; a repeated filter asks again."""
        topic_filter = subscription.topic_filter
        premises = self._premises
        homes = premises.pipeline.ruleset.routes.homes_for_filter(topic_filter) - {LOCAL}
        homes &= premises.upstreams.keys()
        before = self._homes.pop(topic_filter, frozenset())
        for name in sorted(homes):
            premises.upstreams[name].subscribe(topic_filter, subscription.qos)
        self._unsubscribe_at(before, topic_filter)  # after asking anew, so that the last reference is not given up
        if homes:
            self._homes[topic_filter] = frozenset(homes)

    def _leave_homes(self, topic_filter: str) -> None:
        self._unsubscribe_at(self._homes.pop(topic_filter, frozenset()), topic_filter)

    def _unsubscribe_at(self, homes: frozenset[str], topic_filter: str) -> None:
        for name in homes & self._premises.upstreams.keys():
            self._premises.upstreams[name].unsubscribe(topic_filter)

    async def _wait_for_homes(self, packet: Subscribe, reasons: list[ReasonCode]) -> None:
        """Wait for the brokers that are there; a filter that its only home refuses is refused to the device as well."""
        with trio.move_on_after(UPSTREAM_ANSWER):
            for index, subscription in enumerate(packet.subscriptions):
                homes = self._homes.get(subscription.topic_filter, frozenset())
                for name in homes:
                    upstream = self._premises.upstreams.get(name)
                    if upstream is None or not upstream.is_live or reasons[index].is_failure:
                        continue
                    answer = await upstream.wait_subscribed(subscription.topic_filter)
                    if answer.is_failure and len(homes) == 1:
                        reasons[index] = answer
                        self._premises.pipeline.table.unsubscribe(self._device.client_id, subscription.topic_filter)
                        self._leave_homes(subscription.topic_filter)

    def _send_retained(self, subscription: Subscription, identifier: int) -> None:
        entry = Entry(self._device, subscription, identifier)
        home_of = self._premises.pipeline.ruleset.routes.home_of
        retained: list[Message] = [
            copy_for(message, (entry,), retained=True)
            for message in self._premises.pipeline.retained.match(subscription.topic_filter)
            if home_of(message.topic) == LOCAL
        ]
        if retained:
            self._device.deliver(retained)
