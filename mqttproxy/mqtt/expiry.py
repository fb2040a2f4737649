"""How long a message lives: the Message Expiry Interval (MQTT 5.0, 3.3.2.3.3) as a moment, so that waiting uses it up.

Who takes a message in calls `timed` once; whoever sends it calls `aged` right before, however long it waited between.
"""

from math import ceil

from msgspec.structs import replace

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Timed


def timed(message: Message, now: float) -> Message:
    """Return the message with the moment at which it is over, if it has an interval and not yet a moment.

    Args:
        message: as it came in.
        now: monotonic seconds, from the same clock in every call.

    """
    properties = message.properties
    if properties is NO_PROPERTIES or properties.message_expiry_interval is None or isinstance(message, Timed):
        return message
    expires_at = now + properties.message_expiry_interval
    return Timed(message.topic, message.payload, message.qos, message.retain, properties, expires_at)


def aged(message: Message, now: float) -> Message | None:
    """Return the message as it is to be sent now, or None: it is over. [MQTT-3.3.2-5], [MQTT-3.3.2-6].

    The interval it is sent with is what is left, in whole seconds rounded up, so never 0. An interval of 0 is over at
    once.
    """
    if not isinstance(message, Timed):
        return message
    left = message.expires_at - now
    if left <= 0:
        return None
    interval = message.properties.message_expiry_interval
    if interval is None or left > interval - 1:
        return message
    return replace(message, properties=replace(message.properties, message_expiry_interval=ceil(left)))


def resent(message: Message, now: float) -> Message:
    """Return the message as it is to be sent again: with what is left, and with one second when nothing is.

    Its delivery has begun, so it goes to its end. [MQTT-4.4.0-1].
    """
    if (current := aged(message, now)) is not None:
        return current
    if message.properties.message_expiry_interval is None:
        return message
    return replace(message, properties=replace(message.properties, message_expiry_interval=1))
