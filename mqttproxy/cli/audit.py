"""`mqttproxy audit verify`: is the trail as it was written?"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter, Token

from mqttproxy.cli.output import complain, say
from mqttproxy.cli.running import data_dir_of
from mqttproxy.telemetry.auditchain import Report, verify as verify_files
from mqttproxy.telemetry.auditfiles import trail_files

audit_app: Final = App(name="audit", help="Look whether the audit trail is as it was written.")
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def _hash(_type: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    for token in tokens:
        if not _HASH.fullmatch(token.value):
            raise ValueError(f"{token.value!r} is no hash of a line: 64 digits, 0 to f")
    return tuple(token.value for token in tokens)


@audit_app.command(name="verify")
def verify(
    *,
    config: Path = Path("proxy.toml"),
    directory: Path | None = None,
    head: Annotated[tuple[str, ...], Parameter(converter=_hash)] = (),
    json: bool = False,
) -> int:
    """Check that each line follows from the line before it, over all files. May be used while the proxy runs.

    The exit code is 0 if nothing was changed, removed or put in, 1 if something was. A line that a kill or a power
    failure has torn is told, and is no fault.

    Args:
        config: the configuration, whose data folder has the trail.
        directory: the folder of the trail itself, instead.
        head: a hash that was kept elsewhere, from /status or the log; a line must have it. May be given many times.
        json: for programs.

    """
    folder = directory or data_dir_of(config) / "audit"
    try:
        report = verify_files(trail_files(folder), head)
    except OSError as error:
        complain(f"{error.filename or folder}: {(error.strerror or str(error)).lower()}")
        return 1
    if json:
        say(_as_json(report))
    else:
        _tell(report, folder)
    return 0 if report.ok else 1


def _as_json(report: Report) -> str:
    return json.dumps(report.as_json(), indent=2)


def _tell(report: Report, folder: Path) -> None:
    for fault in report.faults:
        complain(f"{folder}/{fault}" if fault.file else f"{folder}: {fault.words}")
    for note in report.notes:
        say(f"note: {note}")
    if report.unlinked:
        say(f"note: {report.unlinked} lines are from a version that did not link them")
    verdict = "every line follows from the one before it" if report.ok else "not as it was written"
    say(f"{report.lines} lines in {report.files} files: {verdict}")
    say(f"head: {report.head}")
