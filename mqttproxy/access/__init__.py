"""Who may connect, publish and subscribe."""

from mqttproxy.access.rules import ERROR_TOPICS, error_topic, may_connect, may_publish, may_subscribe

__all__ = ["ERROR_TOPICS", "error_topic", "may_connect", "may_publish", "may_subscribe"]
