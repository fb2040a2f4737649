"""What one message becomes for each subscription that it matches."""

from collections.abc import Sequence
from math import inf
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from mqttproxy.mqtt.packets import Message, Subscription, Timed


class Subscriber(Protocol):
    """A session as the subscriptions see it."""

    @property
    def client_id(self) -> str:
        """Client identifier; unique among the sessions."""

    @property
    def is_connected(self) -> bool:
        """Whether its device is there now."""

    def has_room_for(self, messages: Sequence[Message]) -> bool:
        """Say whether all of them would fit."""

    def hold(self) -> None:
        """Withhold what is written to this device from now on until all that is noted is on disk."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Queue messages for this device, in order; never waits. What does not fit is dropped and counted there."""


class Entry(Struct, frozen=True, eq=False, gc=False):
    """One subscription of one session. `identifier` is 0 when the device gave none.

    The garbage collector does not look through a million of them: the table drops each when its session unsubscribes.
    """

    subscriber: Subscriber
    subscription: Subscription
    identifier: int = 0


def client_id_of(entry: Entry) -> str:
    """Return the client identifier of the session that has subscribed."""
    return entry.subscriber.client_id


class SharedMessage(Timed, frozen=True, gc=False):
    """A message as a member of a group gets it: `shared_filter` is `$share/group/filter`. Not Timed: never over."""

    shared_filter: str = ""


def copy_for(message: Message, entries: Sequence[Entry], *, retained: bool = False) -> Message:
    """Return the message as these subscriptions of one session get it.

    Args:
        message: as it was published.
        entries: subscriptions of one session that match it, none of them shared.
        retained: it is sent because of the subscription, not because somebody published it now. [MQTT-3.3.1-8]

    """
    return copy_with(message, *options_for(message, entries, retained))


def options_for(message: Message, entries: Sequence[Entry], retained: bool) -> tuple[int, bool, tuple[int, ...]]:
    """Return QoS, retain flag and subscription identifiers of the copy."""
    if len(entries) == 1:
        [entry] = entries
        subscription = entry.subscription
        return (
            min(message.qos, subscription.qos),
            retained or (message.retain and subscription.retain_as_published),
            (entry.identifier,) if entry.identifier else (),
        )
    return (
        min(message.qos, max(entry.subscription.qos for entry in entries)),
        retained or (message.retain and any(entry.subscription.retain_as_published for entry in entries)),
        tuple(entry.identifier for entry in entries if entry.identifier),
    )


def copy_with(message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> Message:
    """Return the message with other options; itself, if it has them."""
    properties = message.properties
    if identifiers or properties.subscription_identifiers:
        properties = replace(properties, subscription_identifiers=identifiers)
    kind = type(message)
    if (
        (kind is Message or kind is Timed)
        and (qos, retain) == (message.qos, message.retain)
        and properties is message.properties
    ):
        return message
    if isinstance(message, Timed):
        return Timed(message.topic, message.payload, qos, retain, properties, message.expires_at)
    return Message(message.topic, message.payload, qos, retain, properties)


def shared_copy_for(message: Message, entry: Entry) -> SharedMessage:
    """Return the message as a member of a group gets it."""
    copy = copy_for(message, (entry,))
    return SharedMessage(
        copy.topic,
        copy.payload,
        copy.qos,
        copy.retain,
        copy.properties,
        copy.expires_at if isinstance(copy, Timed) else inf,
        entry.subscription.topic_filter,
    )
