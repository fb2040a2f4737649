"""The cross-checks of `[[upstreams.topics]]`: that every mapping leads back to where it came from."""

import re
from collections.abc import Sequence
from typing import Final

from mqttproxy.config.errors import quoted
from mqttproxy.config.model import LimitSettings, TopicMapping
from mqttproxy.config.report import Report
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import check_topic_filter, overlaps

CAPTURE: Final = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_SIDES: Final = ("local", "remote")
_PATTERN_WORDS: Final = 'a topic pattern such as "plant/{line}/#"'


def as_filter(pattern: str) -> str:
    """Return the topic filter that matches what a pattern stands for."""
    return "/".join("+" if is_capture(level) else level for level in pattern.split("/"))


def is_capture(level: str) -> bool:
    """Tell whether a level of a pattern stands for any one level."""
    return level[:1] == "{"


def check_mappings(mappings: Sequence[TopicMapping], key: str, limits: LimitSettings, report: Report) -> None:
    """Check the mappings of one upstream, alone and together."""
    good: list[tuple[int, TopicMapping]] = []
    for index, mapping in enumerate(mappings):
        faults = len(report.faults)
        for side in _SIDES:
            pattern = getattr(mapping, side)
            if words := pattern_fault(pattern, limits):
                report.add(f"{key}[{index}].{side}", quoted(pattern), _PATTERN_WORDS, words)
        if len(report.faults) == faults:
            _check_captures(mapping, f"{key}[{index}]", report)
        if len(report.faults) == faults:
            _check_overlaps(mapping, index, good, key, report)
            good.append((index, mapping))


def pattern_fault(pattern: str, limits: LimitSettings, *, wildcards: bool = False) -> str | None:
    """Return in words what is wrong with a pattern. `wildcards`: it only finds topics, so it may have `+` and `$`."""
    levels = pattern.split("/")
    if pattern[:1] == "$" and not wildcards:
        return "topics that begin with $ keep their names everywhere"
    if "+" in levels and not wildcards:
        return "write {name} for a level that may be any"
    captures = [level for level in levels if "{" in level or "}" in level]
    if any(not CAPTURE.fullmatch(level) for level in captures):
        return "a {name}, of letters, digits and underscores, fills its level"
    if len(set(captures)) < len(captures):
        return "each {name} stands once"
    try:
        check_topic_filter(as_filter(pattern), max_bytes=limits.topic_bytes, max_levels=limits.topic_levels)
    except RemoteProtocolError as error:
        return str(error)
    return None


def _check_captures(mapping: TopicMapping, key: str, report: Report) -> None:
    local, remote = (
        {level for level in getattr(mapping, side).split("/") if is_capture(level) or level == "#"} for side in _SIDES
    )
    if local != remote:
        missing = ", ".join(sorted(local ^ remote))
        expected = f"the same names as in {quoted(mapping.local)}, and # on both sides or none"
        report.add(f"{key}.remote", quoted(mapping.remote), expected, f"only one side has {missing}")


def _check_overlaps(
    mapping: TopicMapping, index: int, others: Sequence[tuple[int, TopicMapping]], key: str, report: Report
) -> None:
    for side in _SIDES:
        pattern = getattr(mapping, side)
        for other_index, other in others:
            theirs = getattr(other, side)
            if overlaps(as_filter(pattern), as_filter(theirs)):
                hint = f"{key}[{other_index}].{side} is {quoted(theirs)}, and some topics match both"
                report.add(f"{key}[{index}].{side}", quoted(pattern), "topics that no other entry has", hint)
