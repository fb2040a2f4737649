"""Who is subscribed to what, and what one message becomes for each of them."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from mqttproxy.mqtt.packets import Message, Subscription
from mqttproxy.mqtt.topics import FilterTree

CACHED_TOPICS: Final = 10_000


class Subscriber(Protocol):
    """A device as the subscriptions see it."""

    @property
    def client_id(self) -> str:
        """Client identifier; unique among the connected."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Queue messages for this device, in order; never waits. What does not fit is dropped and counted there."""


class Entry(Struct, frozen=True):
    """One subscription of one device. `identifier` is 0 when the device gave none."""

    subscriber: Subscriber
    subscription: Subscription
    identifier: int = 0


class SubscriptionTable:
    """Every subscription of every connected device, whatever the home of the topics."""

    def __init__(self) -> None:
        self._tree: FilterTree[Entry] = FilterTree()
        self._by_client: dict[str, dict[str, Entry]] = {}
        self._matched: dict[str, Sequence[Entry]] = {}
        self.count = 0

    def subscribe(self, subscriber: Subscriber, subscription: Subscription, identifier: int = 0) -> bool:
        """Add a subscription, or replace the one with the same filter. Returns whether it is new. [MQTT-3.8.4-3]."""
        mine = self._by_client.setdefault(subscriber.client_id, {})
        old = mine.get(subscription.topic_filter)
        entry = Entry(subscriber, subscription, identifier)
        if old is not None:
            self._tree.remove(subscription.topic_filter, old)
        self._tree.add(subscription.topic_filter, entry)
        mine[subscription.topic_filter] = entry
        self._matched.clear()
        self.count += old is None
        return old is None

    def unsubscribe(self, client_id: str, topic_filter: str) -> bool:
        """Remove a subscription by its very filter; False: there was none."""
        mine = self._by_client.get(client_id, {})
        entry = mine.pop(topic_filter, None)
        if entry is None:
            return False
        if not mine:
            del self._by_client[client_id]
        self._tree.remove(topic_filter, entry)
        self._matched.clear()
        self.count -= 1
        return True

    def filters_of(self, client_id: str) -> tuple[str, ...]:
        """Return the filters that a client has subscribed to."""
        return tuple(self._by_client.get(client_id, ()))

    def entries_of(self, client_id: str) -> tuple[Entry, ...]:
        """Return the subscriptions of a client."""
        return tuple(self._by_client.get(client_id, {}).values())

    def has_subscriber(self, topic: str) -> bool:
        """Say whether anybody would get a message on this topic."""
        return bool(self._entries(topic))

    def deliver(
        self,
        messages: Iterable[Message],
        *,
        sender: str = "",
        only: frozenset[str] | None = None,
        retained: bool = False,
    ) -> int:
        """Hand messages to everyone subscribed, each device's in one call. Returns how many copies were made.

        Args:
            messages: in order.
            sender: client identifier of who published them, for No Local. [MQTT-3.8.3-3]
            only: count only these filters as subscribed; None: all of them.
            retained: they were sent because of a subscription, not because somebody published them now.

        """
        due: dict[str, tuple[Subscriber, list[Message]]] = {}
        copies = 0
        for message in messages:
            for subscriber, copy in self._copies(message, sender, only, retained):
                waiting = due.get(subscriber.client_id)
                if waiting is None:
                    due[subscriber.client_id] = waiting = (subscriber, [])
                waiting[1].append(copy)
                copies += 1
        for subscriber, batch in due.values():
            subscriber.deliver(batch)
        return copies

    def _entries(self, topic: str) -> Sequence[Entry]:
        entries = self._matched.get(topic)
        if entries is None:
            if len(self._matched) >= CACHED_TOPICS:
                self._matched.clear()
            self._matched[topic] = entries = self._tree.match(topic)
        return entries

    def _copies(
        self, message: Message, sender: str, only: frozenset[str] | None, retained: bool
    ) -> Iterable[tuple[Subscriber, Message]]:
        """One copy for each device, though several of its filters match. [MQTT-3.3.4-2] [MQTT-3.3.4-3]."""
        chosen: dict[str, list[Entry]] = {}
        for entry in self._entries(message.topic):
            client_id = entry.subscriber.client_id
            if entry.subscription.no_local and client_id == sender:
                continue
            if only is not None and entry.subscription.topic_filter not in only:
                continue
            chosen.setdefault(client_id, []).append(entry)
        for entries in chosen.values():
            yield entries[0].subscriber, copy_for(message, entries, retained=retained)


def copy_for(message: Message, entries: Sequence[Entry], *, retained: bool = False) -> Message:
    """Return the message as these subscriptions of one device get it.

    Args:
        message: as it was published.
        entries: subscriptions of one device that match it.
        retained: it is sent because of the subscription, not because somebody published it now. [MQTT-3.3.1-8]

    """
    qos = min(message.qos, max(entry.subscription.qos for entry in entries))
    retain = retained or (message.retain and any(entry.subscription.retain_as_published for entry in entries))
    properties = message.properties
    identifiers = tuple(entry.identifier for entry in entries if entry.identifier)
    if identifiers or properties.subscription_identifiers:
        properties = replace(properties, subscription_identifiers=identifiers)
    if type(message) is Message and (qos, retain) == (message.qos, message.retain) and properties is message.properties:
        return message
    return Message(message.topic, message.payload, qos, retain, properties)
