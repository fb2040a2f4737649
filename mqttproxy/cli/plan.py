"""`mqttproxy plan NEW --config FILE`: what would change, in words. Nothing does."""

import json
from pathlib import Path
from typing import Any, Final

from mqttproxy.cli.output import complain, say, tell
from mqttproxy.cli.running import NotRunningError, ask_running
from mqttproxy.config.difference import compare
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import config_of, decode, load_config, read_file

NOTHING: Final = 0
CHANGES: Final = 3
LOOSENS: Final = 4

_HEADINGS: Final = (
    ("loosens", "loosens"),
    ("either", "may loosen or tighten"),
    ("tightens", "tightens"),
    ("neither", "changes otherwise"),
)


def plan(new: Path, /, *, config: Path = Path("proxy.toml"), json: bool = False) -> int:
    """Tell what putting a file in force would change: what loosens, what tightens, who would feel it.

    A proxy that runs is asked what it has in force; else the two files are compared. The exit code is 0 if nothing
    would change, 3 if something would, 4 if something is or may be loosened, 1 if the new file is faulty.

    Args:
        new: the file. Its paths are relative to the folder of the other one.
        config: the configuration that it would replace.
        json: for programs.

    """
    try:
        text = decode(read_file(new), str(new))
        try:
            answer = ask_running(config, "plan", text=text, called=str(new))
        except NotRunningError:
            answer = _from_files(text, new, config)
    except ConfigError as error:
        return tell(error)
    if not answer["done"]:
        for fault in answer["faults"]:
            complain(fault)
        return 1
    _tell(answer, config, json_wanted=json)
    difference = answer["difference"]
    if not difference["changes"]:
        return NOTHING
    return LOOSENS if difference["loosens"] or difference["either"] else CHANGES


def _from_files(text: str, new: Path, config: Path) -> dict[str, Any]:
    from mqttproxy.validation import build_generation  # noqa: PLC0415 - not when the proxy does it

    wanted = config_of(text.encode(), str(new), config)
    build_generation(0, wanted)
    return {"done": True, "difference": compare(load_config(config), wanted).as_json()}


def _tell(answer: dict[str, Any], config: Path, *, json_wanted: bool) -> None:
    if json_wanted:
        say(json.dumps(answer, indent=2))
        return
    running = "generation" in answer
    say(f"compared with {'generation ' + str(answer['generation']) + ', in force' if running else str(config)}")
    changes = answer["difference"]["changes"]
    for effect, heading in _HEADINGS:
        told = [change["words"] for change in changes if change["effect"] == effect]
        if told:
            say(f"{heading}:")
        for words in told:
            say(f"  {words}")
    if not changes:
        say("nothing changes")
    if running:
        _tell_touched(answer["touched"])
    else:
        say("no proxy runs on it, so nobody is connected")


def _tell_touched(touched: dict[str, Any]) -> None:
    for name, listener in touched["listeners"].items():
        say(f"listener {name}: sends away {listener['devices_sent_away']} devices")
    for name, upstream in touched["upstreams"].items():
        what = "is removed" if upstream["removed"] else "changes"
        say(f"upstream {name}: {what}, {upstream['messages_waiting']} messages wait for it")
    if touched["sessions_moved"]:
        say(f"{touched['sessions_moved']} sessions have subscriptions that are served from elsewhere then")
