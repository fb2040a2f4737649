"""Who may connect, publish and subscribe."""

from mqttproxy.access.acl import Acl, make_acl
from mqttproxy.access.attributes import UnsafeAttributeError, attributes_of
from mqttproxy.access.chain import NO_CHAINS, Chains
from mqttproxy.access.rules import ERROR_TOPICS, error_topic, may_publish, may_subscribe
from mqttproxy.access.wills import DENIED, NOT_ALLOWED, connack_reason, judge_will, may_have_will, refused

__all__ = [
    "DENIED",
    "ERROR_TOPICS",
    "NOT_ALLOWED",
    "NO_CHAINS",
    "Acl",
    "Chains",
    "UnsafeAttributeError",
    "attributes_of",
    "connack_reason",
    "error_topic",
    "judge_will",
    "make_acl",
    "may_have_will",
    "may_publish",
    "may_subscribe",
    "refused",
]
