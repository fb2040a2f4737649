"""`mqttproxy apply NEW --config FILE [--confirm-within 5m]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from mqttproxy.cli.output import complain, tell
from mqttproxy.cli.running import NotRunningError, ask_running, tell_outcome
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import decode, read_file
from mqttproxy.config.units import DURATION_WORDS, parse_duration


def _seconds(_type: object, tokens: Sequence[Token]) -> float:
    seconds = parse_duration(tokens[0].value)
    if not seconds:
        raise ValueError(f"{tokens[0].value!r} is not {DURATION_WORDS.partition(', or')[0]}")
    return seconds


def apply(
    new: Path,
    /,
    *,
    config: Path = Path("proxy.toml"),
    confirm_within: Annotated[float | None, Parameter(converter=_seconds)] = None,
    json: bool = False,
) -> int:
    """Put a file in force in the proxy that runs on another one, and in the place of that one.

    The exit code is 0 if it is in force, 1 if nothing has changed.

    Args:
        new: the file to put in force. Its paths are relative to the folder of the other one.
        config: the configuration that the proxy was started with.
        confirm_within: go back by itself after so long, as in `5m`, unless `mqttproxy confirm` comes in time.
        json: print the answer as it came, for programs.

    """
    try:
        text = decode(read_file(new), str(new))
        answer = ask_running(config, "apply", text=text, called=str(new), confirm_within=confirm_within)
    except ConfigError as error:
        return tell(error)
    except NotRunningError as error:
        complain(str(error))
        return 1
    return tell_outcome(answer, "applied", json_wanted=json)
