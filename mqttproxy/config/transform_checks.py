"""The cross-checks of the steps of `transforms`, of `[[masks]]` and of `[masking]`."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from mqttproxy.config.errors import quoted
from mqttproxy.config.mapping_checks import is_capture, pattern_fault
from mqttproxy.config.measures import MEASURES, units_like
from mqttproxy.config.model import LimitSettings, PolicySettings, ProxyConfig
from mqttproxy.config.pointers import ALL, parts_of, shared
from mqttproxy.config.ranges import Range
from mqttproxy.config.report import Report
from mqttproxy.config.templates import Capture, Level, Value, parse_template
from mqttproxy.config.transforms import (
    MOST_STEPS,
    CopyTopic,
    DestinationTransforms,
    How,
    Mask,
    MaskSettings,
    Move,
    Remove,
    Rename,
    SetTopic,
    Step,
    Unit,
)

SHORTEST_KEY: Final = 16  # bytes
_LENGTHS: Final[dict[str, Range]] = {"hash": Range(8, 64), "truncate": Range(0, 1000)}
_DIGITS: Final = Range(0, 20)
_BELOW: Final = "a pointer to something in the document"


def check_transforms(config: ProxyConfig, report: Report) -> None:
    """Check everything that changes or hides what messages hold."""
    _check_key(config, report)
    has_key = _has_key(config)
    for index, upstream in enumerate(config.upstreams):
        for place, entry in enumerate(upstream.transforms):
            prefix = f"upstreams[{index}].transforms[{place}]."
            check_entry(entry, prefix, has_key=has_key, limits=config.limits, report=report)
    for index, policy in enumerate(config.policies):
        _check_policy(policy, f"policies[{index}]", has_key=has_key, report=report)
    for index, mask in enumerate(config.masks):
        _check_mask(mask, f"masks[{index}]", has_key=has_key, report=report)


def check_steps(steps: Sequence[Step], key: str, patterns: Sequence[str], *, has_key: bool, report: Report) -> None:
    """Check a list of steps.

    Args:
        steps: as they were read, each good by itself.
        key: of the list.
        patterns: the topics it is for; what a step says of captures must hold for all of them.
        has_key: `[masking]` has a key.
        report: takes what is wrong.

    """
    if not steps:
        report.add(key, "an empty list", "at least one step")
    if len(steps) > MOST_STEPS:
        report.add(key, f"{len(steps)} steps", f"at most {MOST_STEPS}")
    for index, step in enumerate(steps):
        check = _CHECKS.get(type(step))
        if check is not None:
            check(step, f"{key}[{index}]", report)
        if isinstance(step, Mask):
            _check_how(step.how, step.length, f"{key}[{index}]", has_key=has_key, report=report)
        if isinstance(step, CopyTopic | SetTopic):
            _check_template(step, f"{key}[{index}]", patterns, report)
    topics = [index for index, step in enumerate(steps) if isinstance(step, SetTopic)]
    for index in topics[1:]:
        report.add(f"{key}[{index}].op", '"set_topic"', "one such step", f"{key}[{topics[0]}] sets the topic already")


def _check_key(config: ProxyConfig, report: Report) -> None:
    masking = config.masking
    if masking.key is not None and masking.key_file is not None:
        report.add("masking.key_file", "both key and key_file", "one of them")
    if masking.key is not None and len(masking.key.encode()) < SHORTEST_KEY:
        report.add("masking.key", f"{len(masking.key.encode())} bytes", f"at least {SHORTEST_KEY} bytes")
    report.add_unreadable("masking.key_file", masking.key_file)


def _has_key(config: ProxyConfig) -> bool:
    return config.masking.key is not None or config.masking.key_file is not None


def check_entry(
    entry: DestinationTransforms, prefix: str, *, has_key: bool, limits: LimitSettings, report: Report
) -> None:
    """Check topics and steps. `prefix` begins their keys."""
    if not entry.topics:
        report.add(f"{prefix}topics", "an empty list", "at least one topic filter")
    good = []
    for index, pattern in enumerate(entry.topics):
        if words := pattern_fault(pattern, limits, wildcards=True):
            report.add(f"{prefix}topics[{index}]", quoted(pattern), 'a topic filter such as "plant/{line}/+"', words)
        else:
            good.append(pattern)
    check_steps(entry.steps, f"{prefix}steps", good, has_key=has_key, report=report)


def _check_policy(policy: PolicySettings, key: str, *, has_key: bool, report: Report) -> None:
    if policy.transforms:
        check_steps(policy.transforms, f"{key}.transforms", policy.topics, has_key=has_key, report=report)
    for index, step in enumerate(policy.transforms):
        if isinstance(step, SetTopic) and policy.direction != "up":
            hint = "devices that subscribed asked for the topic that the message has"
            expected = f"another step, because direction is {quoted(policy.direction)}"
            report.add(f"{key}.transforms[{index}].op", '"set_topic"', expected, hint)
    if policy.carry_as == "json" and policy.schema is None:
        report.add(f"{key}.carry_as", '"json"', "a schema too", "without one nobody can read anything but JSON")


def _check_mask(mask: MaskSettings, key: str, *, has_key: bool, report: Report) -> None:
    if not mask.paths:
        report.add(f"{key}.paths", "an empty list", "at least one JSON Pointer")
    for index, path in enumerate(mask.paths):
        if path == "":
            report.add(f"{key}.paths[{index}]", '""', _BELOW)
    _check_how(mask.how, mask.length, key, has_key=has_key, report=report)


def _check_how(how: How, length: int | None, key: str, *, has_key: bool, report: Report) -> None:
    if how == "hash" and not has_key:
        report.add(f"{key}.how", '"hash"', "a key in [masking]", "it has neither key nor key_file")
    if how == "truncate" and length is None:
        report.add(f"{key}.length", "nothing", "how many characters stay")
    if length is None:
        return
    if how == "drop":
        report.add(f"{key}.length", str(length), "none, because nothing stays")
    elif length not in _LENGTHS[how]:
        report.add(f"{key}.length", str(length), _LENGTHS[how].words(int))


def _check_remove(step: Remove | Mask, key: str, report: Report) -> None:
    if step.path == "" and (isinstance(step, Remove) or step.how == "drop"):
        report.add(f"{key}.path", '""', _BELOW, "the whole of it cannot go")


def _check_rename(step: Rename, key: str, report: Report) -> None:
    source, target = parts_of(step.from_), parts_of(step.to)
    if not source or source[-1] == ALL:
        report.add(f"{key}.from", quoted(step.from_), "a pointer to a member of an object")
    elif source[:-1] != target[:-1] or not target or target[-1] == ALL or source == target:
        parent = step.from_.rpartition("/")[0]
        report.add(f"{key}.to", quoted(step.to), f"{quoted(f'{parent}/…')} with another name", "move goes elsewhere")


def _check_move(step: Move, key: str, report: Report) -> None:
    source, target = parts_of(step.from_), parts_of(step.to)
    if not source or source[-1] == ALL:
        report.add(f"{key}.from", quoted(step.from_), "a pointer to one value in the document")
    elif shared(source) != shared(target):
        common = "".join(f"/{part}" for part in shared(source))
        expected = f"{quoted(common)} and more, as in from" if common else "no *, because from has none"
        report.add(f"{key}.to", quoted(step.to), expected)
    elif not target or target[: len(source)] == source:
        report.add(f"{key}.to", quoted(step.to), "another place", "nothing can go into itself")


def _check_unit(step: Unit, key: str, report: Report) -> None:
    for name in ("from_", "to"):
        unit = getattr(step, name)
        if unit not in MEASURES:
            other = step.to if name == "from_" else step.from_
            known = ", ".join(units_like(other))
            report.add(f"{key}.{name.removesuffix('_')}", quoted(unit), f"one of {known}")
    if step.from_ in MEASURES and step.to in MEASURES:
        source, target = MEASURES[step.from_].kind, MEASURES[step.to].kind
        if source != target:
            found = f"{quoted(step.to)}, a unit of {target}"
            report.add(f"{key}.to", found, f"one of {', '.join(units_like(step.from_))}")
    if step.digits is not None and step.digits not in _DIGITS:
        report.add(f"{key}.digits", str(step.digits), _DIGITS.words(int))


def _check_template(step: CopyTopic | SetTopic, key: str, patterns: Sequence[str], report: Report) -> None:
    name, text = ("from", step.from_) if isinstance(step, CopyTopic) else ("to", step.to)
    for part in parse_template(text) or ():
        if isinstance(part, Value) and isinstance(step, CopyTopic):
            report.add(f"{key}.{name}", quoted(text), "parts of the topic only", "move takes values of the payload")
        if isinstance(part, Capture) and (pattern := _without(part, patterns)) is not None:
            known = ", ".join(sorted(_captures(pattern))) or "none"
            hint = f"{quoted(pattern)} has {known}"
            report.add(f"{key}.{name}", quoted(text), "names that all topic patterns have", hint)
        if isinstance(part, Level) and part.number == 0 and isinstance(step, SetTopic) and text == "{0}":
            report.add(f"{key}.{name}", quoted(text), "another topic")
        if isinstance(part, str) and isinstance(step, SetTopic) and ("+" in part or "#" in part):
            report.add(f"{key}.{name}", quoted(text), "a topic name", "topic names have no wildcards")
    if isinstance(step, SetTopic) and text.startswith("$"):
        report.add(f"{key}.{name}", quoted(text), "a topic name", "topics that begin with $ are the server's")


def _without(capture: Capture, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in patterns if f"{{{capture.name}}}" not in _captures(pattern)), None)


def _captures(pattern: str) -> frozenset[str]:
    return frozenset(level for level in pattern.split("/") if is_capture(level))


_CHECKS: Final[dict[type[Step], Callable[[Any, str, Report], None]]] = {
    Remove: _check_remove,
    Mask: _check_remove,
    Rename: _check_rename,
    Move: _check_move,
    Unit: _check_unit,
}
