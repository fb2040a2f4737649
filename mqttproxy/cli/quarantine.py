"""`mqttproxy quarantine list | show | export | purge`."""

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TextIO

from attrs import frozen
from cyclopts import App, Parameter, Token
from cyclopts.validators import Number

from mqttproxy.cli.held_output import as_line, describe, printable, tabulate
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.units import DURATION_WORDS, parse_duration
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import SHARE, check_topic_filter
from mqttproxy.quarantine.archive import Archive, Filters
from mqttproxy.quarantine.database import DATABASE, quarantine_dir
from mqttproxy.quarantine.model import Record

quarantine_app: Final = App(
    name="quarantine",
    help="Look at the messages that were held, and why; export or purge them. Times in tables are UTC.",
)


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


Moment = Annotated[float | None, Parameter(converter=_moment)]
Config = Annotated[Path, Parameter(name="--config")]
Switch = Annotated[bool, Parameter(negative=())]


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

    policy: str | None = None
    """Name of the policy that failed."""

    failure: str | None = None
    """Part of a failure's pointer, keyword or message."""

    def filters(self) -> Filters:
        """Return them as the quarantine wants them."""
        return Filters(
            since=self.since,
            until=self.until,
            topic=self.topic,
            client_id=self.client,
            policy=self.policy,
            failure=self.failure,
        )


_ALL: Final = FilterOptions()
_FILE: Final = Path("proxy.toml")


@quarantine_app.command(name="list")
def list_(
    *,
    config: Config = _FILE,
    options: FilterOptions = _ALL,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 50,
    json: Switch = False,
) -> int:
    """List held messages, the newest first.

    Args:
        config: the configuration of the proxy, which tells where its data is.
        options: which messages.
        limit: at most so many.
        json: one JSON object a line, for programs.

    """

    def work(archive: Archive) -> int:
        records = list(archive.search(options.filters(), limit=limit + 1))
        for record in records[:limit] if json else ():
            say(as_line(record))
        if not json:
            tabulate(records[:limit], sys.stdout)
            if len(records) > limit:
                say(f"the newest {limit} are shown: --limit shows more")
        return 0

    return _look(config, work, none=0)


@quarantine_app.command
def show(identifier: str, /, *, config: Config = _FILE, raw: Switch = False, json: Switch = False) -> int:
    """Show everything about one held message.

    Args:
        identifier: as `list` shows it.
        config: the configuration of the proxy.
        raw: write only the payload, its original bytes.
        json: write one JSON object, as `export` does.

    """
    if raw and json:
        complain("use either --raw or --json")
        return 2

    def work(archive: Archive) -> int:
        record = archive.get(identifier.upper())
        payload = None if record is None else archive.payload(record)
        if record is None or payload is None:
            complain(f"{printable(identifier)}: no such message is held")
            return 1
        if raw:
            sys.stdout.buffer.write(payload)
            sys.stdout.buffer.flush()
        else:
            say(as_line(record, payload) if json else describe(record, payload))
        return 0

    return _look(config, work, none=1)


@quarantine_app.command
def export(*, config: Config = _FILE, options: FilterOptions = _ALL, output: Path | None = None) -> int:
    """Write held messages with their payloads as JSON lines, the oldest first.

    Args:
        config: the configuration of the proxy.
        options: which messages.
        output: the file to write, readable for its owner only; by default standard output.

    """

    def work(archive: Archive) -> int:
        if output is None:
            return _export(archive, options.filters(), sys.stdout)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o600)  # it may have been there with another mode
            return _export(archive, options.filters(), file)

    return _look(config, work, none=0)


@quarantine_app.command
def purge(
    *,
    config: Config = _FILE,
    options: FilterOptions = _ALL,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    yes: Switch = False,
    json: Switch = False,
) -> int:
    """Remove held messages for good. The proxy may be running.

    Args:
        config: the configuration of the proxy.
        options: which messages; at least one filter, or --all.
        everything: remove all messages.
        yes: do not ask.
        json: tell the number as a JSON object.

    """
    if everything == (options != _ALL):
        complain("give filters for what to remove, or --all" + (", not both" if everything else ""))
        return 2

    def work(archive: Archive) -> int:
        total = archive.total(options.filters())
        if total.messages and not (yes or _agreed(f"remove {_messages(total.messages)} for good?")):
            complain("nothing was removed")
            return 1
        removed = archive.purge(options.filters()) if total.messages else 0
        say(f'{{"removed": {removed}}}' if json else f"{_messages(removed)} removed")
        return 0

    return _look(config, work, none=0, writable=True)


def _look(config: Path, work: Callable[[Archive], int], *, none: int, writable: bool = False) -> int:
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
    except BrokenPipeError:
        raise
    except (sqlite3.Error, OSError) as error:
        complain(f"{directory}: {error}")
        return 1


def _export(archive: Archive, filters: Filters, file: TextIO) -> int:
    count = 0
    missing: list[Record] = []
    for record in archive.search(filters, oldest_first=True):
        try:
            payload = archive.payload(record)
        except OSError as error:
            complain(f"{record.id}: the payload cannot be read: {error}")
            missing.append(record)
            continue
        if payload is not None:
            file.write(as_line(record, payload) + "\n")
            count += 1
    file.flush()
    complain(f"{_messages(count)} exported")
    return 1 if missing else 0


def _agreed(question: str) -> bool:
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _messages(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'}"
