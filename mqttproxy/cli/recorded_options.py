"""What commands that read recorded messages have in common."""

import time
from collections.abc import Sequence
from typing import Final

from mqttproxy.config.units import DURATION_WORDS, parse_duration
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import check_topic_filter

NOTHING: Final = "nothing was recorded; messages are recorded while [recorder] is on"


class UsageError(Exception):
    """The command was used wrongly; in words."""


def begin_of(since: str) -> float:
    """Return the moment so long ago, in seconds since 1970.

    Raises:
        UsageError: it is no duration.

    """
    seconds = parse_duration(since)
    if seconds is None:
        raise UsageError(f"--since: {since!r} is not {DURATION_WORDS}")
    return time.time() - seconds


def check_topics(topics: Sequence[str]) -> None:
    """Look at topic filters.

    Raises:
        UsageError: one is none.

    """
    for topic in topics:
        try:
            check_topic_filter(topic, max_bytes=65_535, max_levels=65_535)
        except (RemoteProtocolError, UnicodeEncodeError) as error:
            raise UsageError(f"--topic: {topic!r}: {error}") from error
