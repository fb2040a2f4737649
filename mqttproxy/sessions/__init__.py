"""Sessions: subscriptions, retained messages, wills, and what waits for devices; what of it must last is on disk."""

from mqttproxy.sessions.notes import Notes
from mqttproxy.sessions.queue import DeviceQueue
from mqttproxy.sessions.retained import RetainedStore
from mqttproxy.sessions.session import Attached, Session
from mqttproxy.sessions.sessions import Sessions, SessionsFull
from mqttproxy.sessions.table import Subscriber, SubscriptionTable

__all__ = [
    "Attached",
    "DeviceQueue",
    "Notes",
    "RetainedStore",
    "Session",
    "Sessions",
    "SessionsFull",
    "Subscriber",
    "SubscriptionTable",
]
