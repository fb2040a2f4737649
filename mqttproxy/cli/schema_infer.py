"""`mqttproxy schema infer --topic FILTER --since 1h`: a JSON Schema proposed from recorded messages."""

import json as jsonlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from attrs import Factory, define
from cyclopts import Parameter

from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say
from mqttproxy.cli.recorded_options import FAULTY, UsageError, begin_of, check_topics, told
from mqttproxy.config.load import load_config
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.pointers import parts_of
from mqttproxy.mqtt.topics import overlaps
from mqttproxy.recorder.reading import Playback
from mqttproxy.validation.gate import PayloadError, read
from mqttproxy.validation.inference import Place, Profile, Proposal, propose
from mqttproxy.validation.inference.proposing import SURE

_FILE: Final = Path("proxy.toml")
_GOOD: Final = ("forwarded", "observed")


@define
class _Looked:
    """What was looked at, and what was not."""

    profile: Profile = Factory(Profile)
    devices: set[str] = Factory(set)
    failed: int = 0  # held, refused or marked: they are not what the topic should be
    unreadable: int = 0  # no JSON
    masked: int = 0  # of those that were looked at
    hidden: int = 0  # masked as a whole


def infer(
    *,
    topic: str,
    config: Annotated[Path, Parameter(name="--config")] = _FILE,
    since: str = "1h",
    out: Path | None = None,
    sure: float = SURE,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Propose a JSON Schema from the recorded messages of some topics, and say how sure it is.

    The schema goes to stdout and what is to be known of it to stderr; with `--out` the schema goes to the file.
    Messages that were held, refused or marked are not looked at. The exit code is 0, or 2 if there is nothing to
    propose.

    Args:
        topic: a topic filter.
        config: the configuration of the proxy.
        since: how far back, such as 1h.
        out: a new file for the schema.
        sure: lower bound, from 0 to 1, of the share of messages of which something must hold to be asked for.
        json: one JSON object with both, for programs.

    """
    with told(config):
        begin = begin_of(since)
        check_topics((topic,))
        _check(sure, out)
        settings = load_config(config)
        looked = _look(settings, topic, begin)
        if not looked.profile.count:
            raise UsageError(f"nothing to propose from: {'; '.join(_about(looked)) or 'no message was recorded'}")
        return _write(looked, settings, topic, sure, out, json_wanted=json)
    return FAULTY


def _check(sure: float, out: Path | None) -> None:
    if not 0 <= sure <= 1:
        raise UsageError(f"--sure: {sure} is not from 0 to 1")
    if out is not None and out.exists():
        raise UsageError(f"--out: {out} is there already")


def _look(config: ProxyConfig, topic: str, begin: float) -> _Looked:
    looked = _Looked()
    with Playback(config.proxy.data_dir) as playback:
        for one in playback.since(begin, (topic,)):
            if one.told.action not in _GOOD:
                looked.failed += 1
            elif one.told.masked == "wholly":
                looked.hidden += 1
            else:
                try:
                    document = read(one.payload, config.payload.json_depth, config.payload.json_items)
                except PayloadError:
                    looked.unreadable += 1
                    continue
                looked.masked += one.told.masked == "partly"
                looked.devices.add(one.told.client_id)
                looked.profile.add(document, one.told.client_id)
    return looked


def _write(
    looked: _Looked, config: ProxyConfig, topic: str, sure: float, out: Path | None, *, json_wanted: bool
) -> int:
    masks = [parts_of(path) for mask in config.masks if _covers(mask.topics, topic) for path in mask.paths]
    proposal = propose(looked.profile, sure=sure, left_open=masks)
    words = f"proposed from {looked.profile.count} messages of {len(looked.devices)} devices on {topic}"
    schema = {"$schema": proposal.schema.pop("$schema"), "$comment": words, **proposal.schema}
    text = jsonlib.dumps(schema, indent=2)
    if out is not None:
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except OSError as error:
            complain(printable(f"{out}: {error.strerror or error}"))
            return FAULTY
    if json_wanted:
        say(jsonlib.dumps({"schema": schema, **_facts(looked, proposal)}, indent=2))
        return 0
    report = say if out is not None else complain
    for line in (words, *_about(looked), "", *_table(proposal.places)):
        report(printable(line))
    if out is None:
        say(text)
    return 0


def _covers(topics: Sequence[str], topic: str) -> bool:
    return any(overlaps(of_mask, topic) for of_mask in topics)


def _about(looked: _Looked) -> Iterator[str]:
    counts = (
        (looked.failed, "were held, refused or marked, and are not looked at"),
        (looked.unreadable, "are not the JSON that everybody reads in the same way"),
        (looked.hidden, "are masked as a whole"),
        (looked.masked, "have masked values: these places are left open"),
    )
    yield from (f"{count} messages {words}" for count, words in counts if count)
    if looked.profile.count and len(looked.devices) == 1:
        yield "all of one device: others may send something else"


def _table(places: Sequence[Place]) -> Iterator[str]:
    yield f"{'place':<32}{'there':>8}{'at least':>10}{'devices':>9}  what was seen"
    for place in places:
        types = ", ".join(f"{name} {count}" if len(place.types) > 1 else name for name, count in place.types.items())
        required = "required, " if place.required else ""
        found = "; ".join((types, *place.found))
        share = f"{place.share:.1%}" if place.share < 1 else "always"
        sure = f"{share:>8}{place.at_least:>10.1%}{place.devices:>9}"
        yield f"{place.pointer or '(payload)':<32}{sure}  {required}{found}"


def _facts(looked: _Looked, proposal: Proposal) -> dict[str, Any]:
    return {
        "messages": looked.profile.count,
        "devices": len(looked.devices),
        "failed": looked.failed,
        "unreadable": looked.unreadable,
        "masked": looked.masked,
        "hidden": looked.hidden,
        "places": [
            {
                "pointer": place.pointer,
                "count": place.count,
                "share": place.share,
                "at_least": place.at_least,
                "required": place.required,
                "devices": place.devices,
                "types": dict(place.types),
                "found": list(place.found),
            }
            for place in proposal.places
        ],
    }
