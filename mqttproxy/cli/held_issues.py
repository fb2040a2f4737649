"""`mqttproxy quarantine issues | mute | resolve | reopen`: failures that are alike, and what people decide on them."""

import json as json_module
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TextIO

from attrs import asdict
from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqttproxy.cli.held_options import FILE, Config, Switch, look
from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.fingerprint import DEVICES_KEPT
from mqttproxy.quarantine.issues import Issue, State

_WIDTH: Final = 160  # of a table that does not go to a terminal
UNDECIDED: Final[tuple[State, ...]] = ("open", "regressed")


def issues(
    identifier: str | None = None,
    /,
    *,
    config: Config = FILE,
    state: Annotated[tuple[State, ...], Parameter(negative=())] = (),
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    policy: str | None = None,
    json: Switch = False,
) -> int:
    """List issues: failures with the same policy, schema version, pointer and keyword. The last seen come first.

    Args:
        identifier: tell all about this one, with its devices.
        config: the configuration of the proxy, which tells where its data is.
        state: only those in these states; by default open and regressed ones.
        everything: those in every state.
        policy: only those of this policy.
        json: one JSON object a line, for programs.

    """

    def work(archive: Archive) -> int:
        if identifier is not None:
            return _tell(archive, identifier.lower(), json=json)
        found = archive.issues(() if everything else state or UNDECIDED, policy)
        for issue in found if json else ():
            say(json_module.dumps(_document(issue)))
        if not json:
            _tabulate(found, sys.stdout)
        return 0

    return look(config, work, none=0 if identifier is None else 1)


def mute(*identifiers: str, config: Config = FILE, json: Switch = False) -> int:
    """Say that issues are known and need not be looked at; they stay muted however often they are seen.

    Args:
        identifiers: as `issues` shows them.
        config: the configuration of the proxy.
        json: one JSON object a line, for programs.

    """
    return _decide(identifiers, "muted", config, json=json)


def resolve(*identifiers: str, config: Config = FILE, json: Switch = False) -> int:
    """Say that what caused issues is mended: one that is seen again becomes regressed.

    Args:
        identifiers: as `issues` shows them.
        config: the configuration of the proxy.
        json: one JSON object a line, for programs.

    """
    return _decide(identifiers, "resolved", config, json=json)


def reopen(*identifiers: str, config: Config = FILE, json: Switch = False) -> int:
    """Take back what was decided on issues.

    Args:
        identifiers: as `issues` shows them.
        config: the configuration of the proxy.
        json: one JSON object a line, for programs.

    """
    return _decide(identifiers, "open", config, json=json)


def _decide(identifiers: Sequence[str], state: State, config: Config, *, json: bool) -> int:
    if not identifiers:
        complain("give the identifiers of issues")
        return 2

    def work(archive: Archive) -> int:
        missing = False
        for given in identifiers:
            identifier = given.lower()
            if not archive.set_state(identifier, state, time.time()):
                complain(f"{printable(given)}: no such issue")
                missing = True
            else:
                say(json_module.dumps({"id": identifier, "state": state}) if json else f"{identifier} is {state}")
        return int(missing)

    return look(config, work, none=1, writable=True)


def _tell(archive: Archive, identifier: str, *, json: bool) -> int:
    issue = archive.issue(identifier)
    if issue is None:
        complain(f"{printable(identifier)}: no such issue")
        return 1
    devices = archive.devices(identifier)
    if json:
        say(json_module.dumps({**_document(issue), "device_names": devices}))
        return 0
    facts = [
        ("id", issue.id),
        ("state", f"{issue.state} since {_time(issue.state_at)}"),
        ("policy", issue.policy or ""),
        ("schema", issue.schema or ""),
        ("pointer", issue.pointer or "whole payload"),
        ("keyword", issue.keyword),
        ("first seen", _time(issue.first_seen)),
        ("last seen", _time(issue.last_seen)),
        ("messages", str(issue.count)),
        ("sample", issue.sample),
        ("devices", _devices(issue)),
    ]
    for name, value in facts:
        say(f"{name + ':':<12}{printable(value)}".rstrip())
    for device in devices:
        say(f"  {printable(device)}")
    return 0


def _tabulate(found: Sequence[Issue], file: TextIO) -> None:
    console = Console(file=file, width=None if file.isatty() else _WIDTH, highlight=False)
    if not found:
        console.print("no such issues")
        return
    names = ("id", "state", "policy", "schema", "pointer", "keyword", "messages", "devices", "first seen", "last seen")
    table = Table(*names, box=box.SIMPLE_HEAD)
    for issue in found:
        facts = (issue.id, issue.state, issue.policy or "", issue.schema or "", issue.pointer or "whole", issue.keyword)
        times = (_time(issue.first_seen), _time(issue.last_seen))
        cells = (*facts, str(issue.count), _devices(issue), *times)
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
    console.print(table)


def _devices(issue: Issue) -> str:
    return f"{issue.devices} or more" if issue.devices >= DEVICES_KEPT else str(issue.devices)


def _document(issue: Issue) -> dict[str, Any]:
    return {**asdict(issue), "devices_complete": issue.devices < DEVICES_KEPT}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
