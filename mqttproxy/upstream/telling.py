"""What is said to a broker, as far as it can bear it: SUBSCRIBE and UNSUBSCRIBE for what is wanted, and how large."""

from collections.abc import Iterable

from mqttproxy.mqtt.client import ClientConnection, ServerTerms
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.packets import Message, ProtocolVersion, Publish, Subscription
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import SHARE, split_shared
from mqttproxy.upstream.callbacks import Refusal
from mqttproxy.upstream.interest import Asking, Interest
from mqttproxy.upstream.naming import Naming
from mqttproxy.upstream.outbox import Item


def tell(conn: ClientConnection, interest: Interest, naming: Naming, now: float) -> None:
    """Write what the broker has not been told yet. What it must not be asked for is answered for it."""
    for asking in interest.askings():
        want = asking.want
        if want is None:
            packet_id = conn.unsubscribe([asking.topic_filter])
        elif (reason := _unavailable(asking.topic_filter, conn.server)) is not None:
            want.answer(asking.number, reason)
            continue
        else:
            packet_id = conn.subscribe([_subscription(asking, want.qos)], asking.identifier)
            naming.asked(asking, conn.server, now)
        if packet_id:
            interest.sent(packet_id, asking)
        elif want is not None:
            want.answer(asking.number, ReasonCode.PACKET_TOO_LARGE)


def _subscription(asking: Asking, qos: int) -> Subscription:
    # What is shared brings nothing stored, so that the flag on what it brings is always the publisher's.
    as_published = asking.topic_filter.startswith(SHARE)
    return Subscription(
        asking.topic_filter, qos, retain_as_published=as_published, retain_handling=asking.retain_handling
    )


def _unavailable(topic_filter: str, terms: ServerTerms) -> ReasonCode | None:
    """Return why this broker must not be asked for a filter: asking would cost every device the link."""
    if not terms.shared_subscriptions and split_shared(topic_filter)[0] is not None:
        return ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if not terms.wildcard_subscriptions and ("#" in topic_filter or "+" in topic_filter):
        return ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
    return None


def is_too_large(message: Message, terms: ServerTerms, version: ProtocolVersion) -> bool:
    """Say whether the broker takes no packet as large as this message's."""
    qos = min(message.qos, terms.maximum_qos)
    packet = Publish(message.topic, message.payload, qos, False, message.properties, 1 if qos else 0)
    return terms.maximum_packet_size is not None and len(encode(packet, version)) > terms.maximum_packet_size


def too_large(items: Iterable[Item], conn: ClientConnection) -> list[Refusal]:
    """Return the refusals of what the broker does not take because of its size."""
    return [
        (token, message, ReasonCode.PACKET_TOO_LARGE)
        for message, token in items
        if is_too_large(message, conn.server, conn.version)
    ]
