"""`mqttproxy ban add|list|remove FILE` and `mqttproxy refused FILE`: who is not let in, asked of the running proxy."""

import json as json_module
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import App, Parameter, Token

from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say
from mqttproxy.cli.running import NotRunningError, ask_running
from mqttproxy.config.units import DURATION_WORDS, parse_duration

ban_app: Final = App(name="ban", help="Keep clients, users or networks out of a running proxy, and see who is.")
_WRONG: Final = 2  # exit code of what was used wrongly


def _seconds(_type: object, tokens: Sequence[Token]) -> float:
    seconds = parse_duration(tokens[0].value)
    if not seconds:
        raise ValueError(f"{tokens[0].value!r} is not {DURATION_WORDS.partition(', or')[0]}")
    return seconds


@ban_app.command(name="add")
def add(
    file: Path,
    /,
    *,
    reason: str,
    client: str | None = None,
    username: str | None = None,
    address: str | None = None,
    duration: Annotated[float | None, Parameter(name="--for", converter=_seconds)] = None,
    json: bool = False,
) -> int:
    """Let somebody in no more, and end the connections that he has.

    The exit code is 0 if the ban is in force and written, 1 if not, 2 if it is not said who.

    Args:
        file: the configuration that the proxy was started with.
        reason: why; devices of MQTT 5 are told.
        client: a client identifier. One of these three must be given.
        username: a user name.
        address: an IP address, or a network as in `192.0.2.0/24`.
        duration: for how long, as in `1h`; without it, until it is removed.
        json: print the answer as it came, for programs.

    """
    who = _who(client, username, address)
    if who is None:
        return _WRONG
    answer = _ask(file, do="add", kind=who[0], value=who[1], reason=reason, seconds=duration)
    if answer is None:
        return 1
    if json:
        say(json_module.dumps(answer, indent=2))
    elif answer["done"]:
        say(f"banned: {_line(answer['ban'])}")
        say(f"  connections ended: {answer['ended']}")
    return 0 if answer["done"] else 1


@ban_app.command(name="remove")
def remove(
    file: Path,
    /,
    *,
    client: str | None = None,
    username: str | None = None,
    address: str | None = None,
    json: bool = False,
) -> int:
    """Let somebody in again, also a client that was banned because it connected too often.

    The exit code is 0 if he may come, 1 if not: he was not banned, or it could not be written.

    Args:
        file: the configuration that the proxy was started with.
        client: a client identifier. One of these three must be given.
        username: a user name.
        address: an IP address or a network, as it was banned.
        json: print the answer as it came, for programs.

    """
    who = _who(client, username, address)
    if who is None:
        return _WRONG
    answer = _ask(file, do="remove", kind=who[0], value=who[1])
    if answer is None:
        return 1
    if json:
        say(json_module.dumps(answer, indent=2))
    elif answer["done"]:
        say(printable(f"may come again: {answer['kind']} {answer['value']}"))
    return 0 if answer["done"] else 1


@ban_app.command(name="list")
def list_bans(file: Path, /, *, json: bool = False) -> int:
    """Tell who is banned, why, until when and by whom; bans for connecting too often are among them.

    Args:
        file: the configuration that the proxy was started with.
        json: print the answer as it came, for programs.

    """
    return _tell(_ask(file, do="list"), "bans", _line, json_wanted=json)


def refused(file: Path, /, *, json: bool = False) -> int:
    """Tell which devices were refused in the last three days, and why, the newest first; since the proxy started.

    Args:
        file: the configuration that the proxy was started with.
        json: print the answer as it came, for programs.

    """
    return _tell(_ask(file, do="refused"), "refused", _refused_line, json_wanted=json)


def _who(client: str | None, username: str | None, address: str | None) -> tuple[str, str] | None:
    given = [
        (kind, value)
        for kind, value in (("client", client), ("username", username), ("address", address))
        if value is not None
    ]
    if len(given) != 1:
        complain("say who: exactly one of --client, --username, --address")
        return None
    return given[0]


def _ask(file: Path, **asked: Any) -> dict[str, Any] | None:
    try:
        answer = ask_running(file, "ban", **asked)
    except NotRunningError as error:
        complain(str(error))
        return None
    for fault in answer.get("faults", ()):
        complain(printable(str(fault)))
    return answer


def _tell(answer: dict[str, Any] | None, key: str, line: Any, *, json_wanted: bool) -> int:
    if answer is None or key not in answer:
        return 1
    if json_wanted:
        say(json_module.dumps(answer, indent=2))
        return 0
    for text in _lines(answer[key], line):
        say(text)
    if left := answer.get("left_out"):
        say(f"and {left} more")
    return 0


def _lines(rows: Sequence[Mapping[str, Any]], line: Any) -> Iterator[str]:
    if not rows:
        yield "nobody"
    for row in rows:
        yield line(row)


def _line(ban: Mapping[str, Any]) -> str:
    until = "for ever" if ban["until"] is None else f"until {_time(ban['until'])}"
    text = f"{ban['kind']} {ban['value']}, {until}: {ban['reason']} ({ban['author']}, {_time(ban['since'])})"
    return printable(text)


def _refused_line(row: Mapping[str, Any]) -> str:
    user = "" if row["username"] is None else f", user {row['username']}"
    who = f"{row['client_id'] or 'a client without identifier'}{user}, from {row['address']} by {row['listener']}"
    why = f"{row['reason']}: {row['rule']}: {row['words']}"
    return printable(f"{_time(row['last'])}  {who}: {why} ({row['times']} times)")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
