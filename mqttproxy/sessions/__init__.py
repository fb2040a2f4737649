"""Subscriptions, retained messages and the queues towards devices.

In memory, for as long as a connection lasts: persistent sessions, shared subscriptions and wills come next.
"""

from mqttproxy.sessions.queue import DeviceQueue
from mqttproxy.sessions.retained import RetainedStore
from mqttproxy.sessions.table import Subscriber, SubscriptionTable
from mqttproxy.sessions.wills import PendingWill, Wills

__all__ = ["DeviceQueue", "PendingWill", "RetainedStore", "Subscriber", "SubscriptionTable", "Wills"]
