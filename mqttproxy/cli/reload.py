"""`mqttproxy reload FILE`, `mqttproxy confirm FILE` and `mqttproxy rollback FILE`: asks the proxy that runs on it."""

from pathlib import Path

from mqttproxy.cli.output import complain
from mqttproxy.cli.running import NotRunningError, ask_running, tell_outcome


def reload(file: Path, /, *, json: bool = False) -> int:
    """Have the proxy that runs on a file read it again, and tell what came of it.

    The exit code is 0 if the file is in force, 1 if it is not: it has faults, or no proxy answers.

    Args:
        file: the configuration that the proxy was started with.
        json: print the answer as it came, for programs.

    """
    return _ask(file, "reload", "reloaded", json_wanted=json)


def confirm(file: Path, /, *, json: bool = False) -> int:
    """Keep what was applied with `--confirm-within`: it becomes the file.

    Args:
        file: the configuration that the proxy was started with.
        json: print the answer as it came, for programs.

    """
    return _ask(file, "confirm", "confirmed", json_wanted=json)


def rollback(file: Path, /, *, json: bool = False) -> int:
    """Take back what was applied with `--confirm-within`, now.

    Args:
        file: the configuration that the proxy was started with.
        json: print the answer as it came, for programs.

    """
    return _ask(file, "rollback", "rolled back", json_wanted=json)


def _ask(file: Path, command: str, done: str, *, json_wanted: bool) -> int:
    try:
        answer = ask_running(file, command)
    except NotRunningError as error:
        complain(str(error))
        return 1
    return tell_outcome(answer, done, json_wanted=json_wanted)
