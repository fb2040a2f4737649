"""Who may connect, publish and subscribe."""

from mqttproxy.access.attributes import UnsafeAttributeError, attributes_of
from mqttproxy.access.rules import ERROR_TOPICS, error_topic, may_connect, may_publish, may_subscribe
from mqttproxy.access.wills import connack_reason, judge_will

__all__ = [
    "ERROR_TOPICS",
    "UnsafeAttributeError",
    "attributes_of",
    "connack_reason",
    "error_topic",
    "judge_will",
    "may_connect",
    "may_publish",
    "may_subscribe",
]
