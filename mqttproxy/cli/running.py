"""How commands find and ask the proxy that runs on a configuration file, though that file may be broken by now."""

import getpass
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final

from mqttproxy.cli.output import complain, say
from mqttproxy.config.model import ProxySettings
from mqttproxy.transport.local import CONTROL, ask_local
from mqttproxy.transport.stream import TransportError

JSON = dict[str, Any]

_DATA_DIR: Final = re.compile(r"""^\s*(?:proxy\.)?data_dir\s*=\s*["']([^"'\n]*)["']""", re.MULTILINE)


class NotRunningError(Exception):
    """No proxy answers; in words."""


def data_dir_of(file: Path) -> Path:
    """Return the data folder that a file names, as far as it can be read."""
    found: object = None
    try:
        text = file.read_bytes().decode(errors="replace")
    except OSError:
        text = ""
    try:
        found = tomllib.loads(text).get("proxy", {}).get("data_dir")
    except (ValueError, AttributeError):  # it is broken, which the proxy shall hear of
        found = match[1] if (match := _DATA_DIR.search(text)) else None
    name = found if isinstance(found, str) else str(ProxySettings().data_dir)
    return file.absolute().parent / name


def ask_running(file: Path, command: str, **more: Any) -> JSON:
    """Ask the proxy that runs on a file.

    Raises:
        NotRunningError: none answers.

    """
    data_dir = data_dir_of(file)
    request = json.dumps({"command": command, "user": user_name(), **more}).encode()
    try:
        answer = json.loads(ask_local(data_dir, CONTROL, request))
    except (TransportError, ValueError) as error:
        raise NotRunningError(f"{file}: no proxy answers in {data_dir}: {error}") from error
    if not isinstance(answer, dict) or "done" not in answer:
        raise NotRunningError(f"{file}: what answers in {data_dir} is no mqttproxy of this version")
    return answer


def user_name() -> str:
    """Return who asks, empty if that is nobody with a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return ""


def tell_outcome(answer: JSON, done: str, *, json_wanted: bool) -> int:
    """Print what came of a change, and return the exit code."""
    if json_wanted:
        say(json.dumps(answer, indent=2))
    elif answer.get("done"):
        say(f"{done}: generation {answer['generation']} is in force")
        for line in _details(answer):
            say(line)
    else:
        for fault in answer.get("faults", ()):
            complain(str(fault))
        if "generation" in answer:
            complain(f"nothing has changed: generation {answer['generation']} stays in force")
    return 0 if answer.get("done") else 1


def _details(answer: JSON) -> list[str]:
    lines = []
    for kind in ("listeners", "upstreams"):
        for what, names in answer.get(kind, {}).items():
            lines.append(f"  {kind} {what}: {', '.join(names)}")
    if answer.get("needs_restart"):
        lines.append(f"  waits for a restart: {', '.join(answer['needs_restart'])}")
    if (trial := answer.get("on_trial")) is not None:
        lines.append(f"  on trial for {trial['seconds_left']:.0f} s more: it is rolled back unless it is confirmed")
    elif answer.get("file_differs"):
        lines.append(f"  note: {answer['file']} is not what is in force")
    return lines
