"""What the commands on held messages have in common: which messages, of which proxy, and how it is asked and told."""

import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from attrs import frozen
from cyclopts import Parameter, Token

from mqttproxy.cli.output import complain, tell
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.units import DURATION_WORDS, parse_duration
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import SHARE, check_topic_filter
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.database import DATABASE, quarantine_dir
from mqttproxy.quarantine.filters import Filters


def _moment(_type: object, tokens: Sequence[Token]) -> float:
    return moment(tokens[0].value, time.time())


def moment(text: str, now: float) -> float:
    """Return the seconds since 1970 that are meant by a duration before `now`, or by an ISO time.

    Raises:
        ValueError: it is neither.

    """
    if (seconds := parse_duration(text)) is not None:
        return now - seconds
    try:
        return datetime.fromisoformat(text).timestamp()  # without an offset: this machine's time zone
    except (ValueError, OverflowError, OSError):
        pass
    raise ValueError(f"{text!r} is neither {DURATION_WORDS.partition(', or')[0]} nor a time such as 2026-11-21T08:00Z")


def _topic_filter(_type: object, tokens: Sequence[Token]) -> str:
    text = tokens[0].value
    if text.startswith(SHARE):
        raise ValueError("a shared subscription is not a filter for held messages")
    try:
        check_topic_filter(text)
    except (RemoteProtocolError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
    return text


def _reason(_type: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    try:
        return ReasonCode[text.upper().replace("-", "_")].value
    except KeyError:
        pass
    try:
        return int(text, 0)
    except ValueError:
        names = "payload_format_invalid, or a number such as 0x99"
        raise ValueError(f"{text!r} is no reason code: give its name, such as {names}") from None


NOT_RELEASED: Final = ("held", "releasing")

Moment = Annotated[float | None, Parameter(converter=_moment)]
Config = Annotated[Path, Parameter(name="--config")]
Switch = Annotated[bool, Parameter(negative=())]
Unmasked = Annotated[bool, Parameter(name="--unmasked", negative=())]


@Parameter(name="*")
@frozen(kw_only=True)
class FilterOptions:
    """Which messages: all that fit every filter given."""

    since: Moment = None
    """Held at this time or later: `1h` ago, or an ISO time."""

    until: Moment = None
    """Held before this time."""

    topic: Annotated[str | None, Parameter(converter=_topic_filter)] = None
    """MQTT topic filter, such as `sensor/+/temperature`."""

    client: str | None = None
    """Client identifier."""

    user: str | None = None
    """User name."""

    policy: str | None = None
    """Name of the policy that failed."""

    schema: str | None = None
    """Schema version, such as `temperature@1`."""

    reason: Annotated[int | None, Parameter(converter=_reason)] = None
    """Reason code that the device was given: its name or its number."""

    issue: str | None = None
    """Issue that one of the failures belongs to, as `issues` shows it."""

    keyword: str | None = None
    """Keyword of a failure, such as `required`."""

    pointer: str | None = None
    """JSON Pointer of a failure, `*` for any place in an array: `/readings/*/value`."""

    failure: str | None = None
    """Part of a failure's pointer, keyword or message."""

    state: Annotated[tuple[Literal["held", "releasing", "released"], ...], Parameter(negative=())] = ()
    """Only messages in these states; by default those that were not released."""

    def filters(self, states: tuple[str, ...] = NOT_RELEASED, ids: tuple[str, ...] = ()) -> Filters:
        """Return them as the quarantine wants them. `states` count if none was given; of `ids` any will do."""
        return Filters(
            since=self.since,
            until=self.until,
            topic=self.topic,
            client_id=self.client,
            user=self.user,
            policy=self.policy,
            schema=self.schema,
            reason=self.reason,
            issue=None if self.issue is None else self.issue.lower(),
            keyword=self.keyword,
            pointer=self.pointer,
            failure=self.failure,
            ids=ids,
            states=self.state or states,
        )


ALL: Final = FilterOptions()
FILE: Final = Path("proxy.toml")


def look(config: Path, work: Callable[[Archive], int], *, none: int, writable: bool = False) -> int:
    """Do the work on the quarantine of a configuration; return its exit code, or `none` when nothing was ever held."""
    try:
        directory = quarantine_dir(load_config(config).proxy.data_dir)
    except ConfigError as error:
        return tell(error)
    try:
        if not (directory / DATABASE).exists():
            complain(f"{directory}: nothing was held here yet")
            return none
        with Archive(directory, writable=writable) as archive:
            return work(archive)
    except ConfigError as error:
        return tell(error)
    except BrokenPipeError:
        raise
    except (sqlite3.Error, OSError) as error:
        complain(f"{directory}: {error}")
        return 1


def agreed(question: str) -> bool:
    """Ask a person, and return whether the answer is yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def messages_of(count: int) -> str:
    """Return how many messages that is, in words."""
    return f"{count} message{'' if count == 1 else 's'}"
