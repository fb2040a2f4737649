"""What commands that read recorded messages have in common."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, tell
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.units import DURATION_WORDS, parse_duration
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import check_topic_filter

FAULTY: Final = 2  # exit code
NOTHING: Final = "nothing was recorded; messages are recorded while [recorder] is on"


class UsageError(Exception):
    """The command was used wrongly; in words."""


@contextmanager
def told(config: Path) -> Iterator[None]:
    """Tell why a command cannot do it; it then ends with `FAULTY`."""
    try:
        yield
    except BrokenPipeError:  # of whom it is told to, not of what is read
        raise
    except ConfigError as error:
        tell(error)
    except UsageError as error:
        complain(printable(str(error)))
    except FileNotFoundError:
        complain(f"{config}: {NOTHING}")
    except (OSError, sqlite3.Error) as error:
        complain(printable(f"{config}: {error}"))


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
