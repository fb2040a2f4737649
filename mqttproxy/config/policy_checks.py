"""The cross-checks of `[[policies]]`, and of the attributes that they choose by."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from mqttproxy.config.attribute_patterns import NAME, parse_pattern
from mqttproxy.config.conditions import parse_condition
from mqttproxy.config.errors import quoted
from mqttproxy.config.mapping_checks import CAPTURE
from mqttproxy.config.model import (
    ExpressionSettings,
    Labels,
    PolicySettings,
    ProxyConfig,
    RequireSettings,
    WhenSettings,
)
from mqttproxy.config.policies import CandidateSettings
from mqttproxy.config.references import WORDS, parse_reference
from mqttproxy.config.report import Report

LONGEST_EXPRESSION: Final = 4096  # characters
WITH_SCHEMA: Final = ("protobuf", "avro")  # formats that nobody can read without one

_LISTS: Final = ("client_id", "username", "listener")
_UNSAFE: Final = frozenset("+#/\0")
_SCHEMA_HINT: Final = "names are of letters, digits, dots, hyphens and underscores"
_CONDITION_WORDS: Final = 'a glob such as "tx-*", or a comparison such as ">=2.1, <3"'


def check_policy(policy: PolicySettings, key: str, report: Report) -> None:
    """Check one policy."""
    if policy.schema is not None and parse_reference(policy.schema) is None:
        report.add(f"{key}.schema", quoted(policy.schema), WORDS, _SCHEMA_HINT)
    if not policy.on_failure:
        report.add(f"{key}.on_failure", "an empty list", "at least one action", 'level = "observe" only counts')
    if policy.direction == "down" and "disconnect" in policy.on_failure:
        hint = "its messages come from upstreams, so no device is to blame"
        report.add(f"{key}.on_failure", '"disconnect"', 'another action, because direction is "down"', hint)
    if policy.direction == "down" and policy.percent < 100:
        hint = "its messages come from upstreams, so there are no devices to choose from"
        report.add(f"{key}.percent", f"{policy.percent:g}", '100, because direction is "down"', hint)
    _check_shadow(policy.shadow, f"{key}.shadow", report)
    _check_format(policy, key, report)
    check_when(policy.when, f"{key}.when", report)
    _check_require(policy.require, f"{key}.require", report)
    _check_bindings(policy, key, report)
    _check_plugins(policy, key, report)
    for index, item in enumerate(policy.expressions):
        if not item.expression.strip():
            report.add(f"{key}.expressions[{index}].expression", quoted(item.expression), "a condition in CEL")
        if len(item.expression) > LONGEST_EXPRESSION:
            found = f"{len(item.expression)} characters"
            report.add(f"{key}.expressions[{index}].expression", found, f"at most {LONGEST_EXPRESSION}")


def _check_shadow(shadow: CandidateSettings, key: str, report: Report) -> None:
    if shadow.schema is not None and parse_reference(shadow.schema) is None:
        report.add(f"{key}.schema", quoted(shadow.schema), WORDS)
    if shadow.schema is not None and shadow.policy is not None:
        report.add(key, "both schema and policy", "one of them", "a candidate policy has a schema of its own")
    if shadow.schema is None and shadow.policy is None and shadow != CandidateSettings():
        report.add(key, "no candidate", "schema or policy")


def check_candidates(policies: Sequence[PolicySettings], report: Report) -> None:
    """Check that candidates are policies of the file which are not in force."""
    levels = {policy.name: policy.level for policy in policies}
    for index, policy in enumerate(policies):
        candidate, key = policy.shadow.policy, f"policies[{index}].shadow.policy"
        if candidate is None:
            continue
        if candidate not in levels:
            near = get_close_matches(candidate, levels, n=1)
            hint = f"did you mean {quoted(near[0])}?" if near else ""
            report.add(key, quoted(candidate), "the name of a policy", hint)
        elif candidate == policy.name:
            report.add(key, quoted(candidate), "another policy than this one")
        elif levels[candidate] != "off":
            report.add(key, quoted(candidate), 'a policy with level = "off"', "a candidate is not in force")


def _check_bindings(policy: PolicySettings, key: str, report: Report) -> None:
    for index, binding in enumerate(policy.bindings):
        place = f"{key}.bindings[{index}]"
        if parse_reference(binding.schema) is None:
            report.add(f"{place}.schema", quoted(binding.schema), WORDS, _SCHEMA_HINT)
        if binding.when == WhenSettings():
            hint = "it would fit everybody: let it be the schema of the policy"
            report.add(f"{place}.when", "nothing", "whose messages", hint)
        check_when(binding.when, f"{place}.when", report)
    if policy.bindings and policy.schema is None:
        report.add(f"{key}.schema", "nothing", "a schema for those whom no binding fits", "the policy has bindings")


def _check_plugins(policy: PolicySettings, key: str, report: Report) -> None:
    for index, plugin in enumerate(policy.plugins):
        if not plugin.name:
            report.add(f"{key}.plugins[{index}].name", quoted(plugin.name), "the name of an entry point")
    if policy.plugins and policy.direction != "up":
        hint = "plug-ins judge what devices send: what comes from upstreams cannot wait for them"
        report.add(f"{key}.direction", quoted(policy.direction), '"up", because the policy has plugins', hint)


def _check_format(policy: PolicySettings, key: str, report: Report) -> None:
    if policy.format in WITH_SCHEMA and policy.schema is None:
        report.add(f"{key}.format", quoted(policy.format), "a schema too", "without one nobody can read it")
    if policy.format in ("text", "raw", "none") and policy.schema is not None:
        hint = "a schema says what JSON, Protobuf or Avro must be"
        report.add(f"{key}.format", quoted(policy.format), "no schema beside it", hint)
    if policy.schema is None and policy.format is None and any(map(_asks_payload, policy.expressions)):
        hint = "expressions ask for the payload"
        report.add(f"{key}.format", "nothing", "what the payload is, or a schema", hint)
    if (
        policy.schema is None
        and policy.format is None
        and policy.require == RequireSettings()
        and not policy.expressions
        and not policy.plugins
    ):
        hint = 'format = "raw" lets everything through'
        report.add(key, "nothing to judge by", "schema, format, require, expressions or plugins", hint)


def _asks_payload(item: ExpressionSettings) -> bool:
    return re.search(r"\bpayload\b", item.expression) is not None


def check_when(when: WhenSettings, key: str, report: Report) -> None:
    """Check whose messages are meant."""
    for name in _LISTS:
        globs = getattr(when, name)
        if globs == ():
            report.add(f"{key}.{name}", "an empty list", "at least one text", "it would fit nobody")
        for index, glob in enumerate(globs or ()):
            if not glob:
                report.add(
                    f"{key}.{name}[{index}]", quoted(glob), "a text, in which * stands for any run of characters"
                )
    if when.attributes == ():
        report.add(f"{key}.attributes", "an empty table", "at least one attribute")
    for name, conditions in when.attributes or ():
        if not NAME.fullmatch(name):
            report.add(f"{key}.attributes", quoted(name), "a name of letters, digits and underscores")
        for condition in conditions:
            if parse_condition(condition) is None:
                report.add(f"{key}.attributes.{name}", quoted(condition), _CONDITION_WORDS)


def _check_require(require: RequireSettings, key: str, report: Report) -> None:
    if require.qos is not None and (not require.qos or not set(require.qos) <= {0, 1, 2}):
        report.add(f"{key}.qos", str(list(require.qos)), "some of 0, 1 and 2")
    for name in ("content_type", "user_properties"):
        texts = getattr(require, name)
        if texts is not None and (not texts or not all(texts)):
            report.add(f"{key}.{name}", "an empty text" if texts else "an empty list", "at least one text, none empty")
    if require.max_bytes is not None and require.max_bytes < require.min_bytes:
        report.add(f"{key}.max_bytes", str(require.max_bytes), f"at least min_bytes, which is {require.min_bytes}")


def check_admitting(config: ProxyConfig, report: Report) -> None:
    """Check what says which attributes devices have."""
    for index, entry in enumerate(config.access.attributes):
        key = f"access.attributes[{index}]"
        if isinstance(words := parse_pattern(entry.pattern), str):
            report.add(f"{key}.pattern", quoted(entry.pattern), 'a pattern such as "{model}-{firmware}-+"', words)
        wants_property = entry.source == "connect_property"
        if wants_property and not entry.property:
            report.add(f"{key}.property", "nothing", "the name of a user property", 'source is "connect_property"')
        if not wants_property and entry.property is not None:
            report.add(f"{key}.property", quoted(entry.property), 'no property, unless source is "connect_property"')
    for index, listener in enumerate(config.listeners):
        _check_labels(listener.attributes, f"listeners[{index}].attributes", report)


def _check_labels(labels: Labels, key: str, report: Report) -> None:
    for name, text in labels:
        if not NAME.fullmatch(name):
            report.add(key, quoted(name), "a name of letters, digits and underscores")
        if not text or not text.isprintable() or _UNSAFE & set(text):
            report.add(f"{key}.{name}", quoted(text), "a text without +, # and /")


def capture_fault(topic_filter: str) -> str | None:
    """Return in words what is wrong with the names in a policy's topic filter, or None."""
    captures = [level for level in topic_filter.split("/") if "{" in level or "}" in level]
    if any(not CAPTURE.fullmatch(level) for level in captures):
        return "a {name}, of letters, digits and underscores, fills its level"
    return "each {name} stands once" if len(set(captures)) < len(captures) else None
