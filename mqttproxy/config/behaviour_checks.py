"""The cross-checks of `[[behaviours]]`: which keys each rule has, and what must be said once."""

from typing import Any, Final

import attrs

from mqttproxy.config.behaviours import MOST_BEHAVIOURS, BehaviourSettings
from mqttproxy.config.errors import quoted
from mqttproxy.config.mapping_checks import is_capture
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.pointers import parse_pointer
from mqttproxy.config.policy_checks import check_when
from mqttproxy.config.report import Report

LONGEST_PROPERTY: Final = 256  # characters of a user property's name

# For each rule: groups of keys of which exactly one must be there, and keys that may be.
_KEYS: Final[dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]]] = {
    "quota": ((("messages", "bytes"), ("window",)), ()),
    "silence": ((("every",),), ()),
    "duplicates": ((("window",),), ("pointer",)),
    "sequence": ((("pointer", "user_property"),), ("wrap",)),
    "skew": ((("pointer", "user_property"), ("max_skew",)), ("time",)),
}
_OWN: Final = ("messages", "bytes", "window", "every", "pointer", "user_property", "wrap", "time", "max_skew")


def check_behaviours(config: ProxyConfig, report: Report) -> None:
    """Check all of them, alone and together."""
    if len(config.behaviours) > MOST_BEHAVIOURS:
        report.add("behaviours", f"{len(config.behaviours)} rules", f"at most {MOST_BEHAVIOURS}")
    policies = {policy.name: index for index, policy in enumerate(config.policies)}
    for index, settings in enumerate(config.behaviours):
        key = f"behaviours[{index}]"
        if settings.name in policies:
            hint = f"policies[{policies[settings.name]}] has it"
            report.add(f"{key}.name", quoted(settings.name), "a name of its own", hint)
        _check_keys(settings, key, report)
        _check_values(settings, key, report)
        _check_actions(settings, key, report)
        check_when(settings.when, f"{key}.when", report)


def _check_keys(settings: BehaviourSettings, key: str, report: Report) -> None:
    wanted, possible = _KEYS[settings.rule]
    because = f'because rule is "{settings.rule}"'
    for group in wanted:
        given = [name for name in group if getattr(settings, name) is not None]
        if not given:
            report.add(f"{key}.{group[0]}", "nothing", f"{' or '.join(group)}, {because}")
        for name in given[1:]:
            report.add(f"{key}.{name}", "both", f"either {' or '.join(group)}")
    known = {*possible, *(name for group in wanted for name in group)}
    for name in _OWN:
        if name not in known and getattr(settings, name) != _default(name):
            homes = [rule for rule, (groups, more) in _KEYS.items() if name in {*more, *(n for g in groups for n in g)}]
            report.add(
                f"{key}.{name}", "a key of another rule", f"none, {because}", f"it belongs to {' and '.join(homes)}"
            )


def _default(name: str) -> Any:
    return getattr(attrs.fields(BehaviourSettings), name).default


def _check_values(settings: BehaviourSettings, key: str, report: Report) -> None:
    if settings.pointer is not None and parse_pointer(settings.pointer) is None:
        hint = "a member behind each /; ~ is written ~0, and / in a name ~1"
        report.add(f"{key}.pointer", quoted(settings.pointer), 'a JSON Pointer such as "/header/seq"', hint)
    if settings.user_property is not None and not 0 < len(settings.user_property) <= LONGEST_PROPERTY:
        report.add(f"{key}.user_property", quoted(settings.user_property), f"1 to {LONGEST_PROPERTY} characters")
    if settings.device is not None:
        for index, topic_filter in enumerate(settings.topics):
            if settings.device not in [level[1:-1] for level in topic_filter.split("/") if is_capture(level)]:
                hint = f"topics[{index}] has no {{{settings.device}}}"
                report.add(f"{key}.device", quoted(settings.device), "a named level of all topics", hint)


def _check_actions(settings: BehaviourSettings, key: str, report: Report) -> None:
    actions = settings.on_failure
    if actions is not None and not actions:
        report.add(f"{key}.on_failure", "an empty list", "at least one action", 'level = "observe" only counts')
    if settings.rule == "silence" and set(actions or ()) - {"alert"}:
        found = ", ".join(quoted(action) for action in actions or () if action != "alert")
        report.add(
            f"{key}.on_failure", found, 'only "alert", because rule is "silence"', "there is no message to act on"
        )
