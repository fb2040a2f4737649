"""The rules that hold before any policy: each answers with a reason code, SUCCESS where it allows."""

from typing import Final

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import check_topic_filter, split_shared

ERROR_TOPICS: Final = "$proxy/errors/"

# A client identifier may hold what a topic level may not; these are written as in a URL.
_ESCAPES: Final = str.maketrans({"%": "%25", "/": "%2F", "+": "%2B", "#": "%23"})


def error_topic(client_id: str) -> str:
    """Return the topic on which a device is told why its messages were refused; only it may subscribe to it."""
    return ERROR_TOPICS + client_id.translate(_ESCAPES)


def may_publish(topic: str) -> ReasonCode:
    """Decide on a topic name: `$` topics belong to servers. [MQTT-4.7.2-1]."""
    return ReasonCode.NOT_AUTHORIZED if topic.startswith("$") else ReasonCode.SUCCESS


def may_subscribe(
    client_id: str, topic_filter: str, *, max_bytes: int = 65_535, max_levels: int = 65_535
) -> tuple[ReasonCode, str]:
    """Decide on one filter of a SUBSCRIBE, and say why not; the bounds are those of `[limits]`."""
    try:
        check_topic_filter(topic_filter, max_bytes=max_bytes, max_levels=max_levels)
    except RemoteProtocolError as error:
        return ReasonCode.TOPIC_FILTER_INVALID, str(error)
    _, plain = split_shared(topic_filter)
    if plain.startswith("$proxy/") and plain != error_topic(client_id):
        return ReasonCode.NOT_AUTHORIZED, "what the proxy tells a device only this device may read"
    return ReasonCode.SUCCESS, ""
