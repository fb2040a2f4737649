"""Recorded messages as the judge sees them."""

from mqttproxy.mqtt.packets import Message
from mqttproxy.recorder import Recorded
from mqttproxy.validation import Identity


def identity_of(recorded: Recorded) -> Identity:
    """Return the sender as it was known then."""
    told = recorded.told
    return Identity(told.client_id, told.username, told.address, told.listener, told.attributes)


def message_of(recorded: Recorded) -> Message:
    """Return the message as it came, but for masks."""
    told = recorded.told
    return Message(recorded.topic, recorded.payload, told.qos, told.retain, told.properties)
