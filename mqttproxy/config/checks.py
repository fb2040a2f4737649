"""What the types of the settings cannot say: what must be unique, exist, be in range, or fit together.

Every check looks at settings that were read already and adds what it finds to a report. None of them stops at the
first fault.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import attrs

from mqttproxy.config.access_checks import check_access
from mqttproxy.config.behaviour_checks import check_behaviours
from mqttproxy.config.errors import Fault, quoted
from mqttproxy.config.kinds import file_key, inner_tables
from mqttproxy.config.listener_checks import check_binds, check_listener
from mqttproxy.config.mapping_checks import as_filter, check_mappings
from mqttproxy.config.model import LOCAL, PolicyTopic, ProxyConfig, Quorum, RouteSettings, TopicFilter
from mqttproxy.config.policy_checks import capture_fault, check_admitting, check_candidates, check_policy
from mqttproxy.config.ranges import number_words, range_of
from mqttproxy.config.rate_checks import check_rates
from mqttproxy.config.report import Report
from mqttproxy.config.transform_checks import check_transforms
from mqttproxy.config.units import write_size
from mqttproxy.config.upstream_checks import check_upstream, check_upstreams_together
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import SHARE, check_topic_filter

LONGEST_NAME: Final = 64  # characters

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check(config: ProxyConfig, file: str, unreadable: Callable[[Path], str | None]) -> list[Fault]:
    """Return everything that is wrong with settings that were read from `file`."""
    report = Report(file, unreadable)
    for table, key, settings in _tables(config):
        _check_ranges(table, key, settings, report)
        _check_topic_filters(config, key, settings, report)
    _check_proxy(config, report)
    check_admitting(config, report)
    check_access(config, report)
    for name in ("listeners", "policies", "behaviours", "upstreams"):
        _check_names(name, getattr(config, name), report)
    for index, listener in enumerate(config.listeners):
        check_listener(listener, f"listeners[{index}]", report)
    check_binds(config, report)
    for index, policy in enumerate(config.policies):
        check_policy(policy, f"policies[{index}]", report)
    check_candidates(config.policies, report)
    check_behaviours(config, report)
    for index, upstream in enumerate(config.upstreams):
        check_upstream(upstream, f"upstreams[{index}]", report)
        check_mappings(upstream.topics, f"upstreams[{index}].topics", config.limits, report)
    check_upstreams_together(config.upstreams, report)
    check_transforms(config, report)
    check_rates(config, report)
    _check_names("limits.rates", config.limits.rates, report)
    destinations = [upstream.name for upstream in config.upstreams] + [LOCAL]
    for index, route in enumerate(config.routes):
        _check_route(route, f"routes[{index}]", destinations, report)
    return report.faults


def _tables(settings: Any, within: str = "", place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield name, key and settings of every table of the file."""
    for attribute, _, is_many in inner_tables(type(settings)):
        value = getattr(settings, attribute)
        name, key = f"{within}{attribute}", f"{place}{attribute}"
        for index, item in enumerate(value if is_many else (value,)):
            yield name, (full := f"{key}[{index}]" if is_many else key), item
            yield from _tables(item, f"{name}.", f"{full}.")


def _check_ranges(table: str, key: str, settings: Any, report: Report) -> None:
    for attribute in attrs.fields(type(settings)):
        wanted = range_of(table, attribute.name, attribute.type)
        value = getattr(settings, attribute.name)
        if wanted is not None and value is not None and value not in wanted:
            kind = attribute.type
            report.add(f"{key}.{file_key(attribute.name)}", number_words(value, kind), wanted.words(kind))


def _check_topic_filters(config: ProxyConfig, key: str, settings: Any, report: Report) -> None:
    for attribute in attrs.fields(type(settings)):
        kind = get_args(attribute.type)[0] if get_origin(attribute.type) is tuple else None
        if kind not in (TopicFilter, PolicyTopic):
            continue
        filters: tuple[str, ...] = getattr(settings, attribute.name)
        if not filters:
            report.add(f"{key}.{attribute.name}", "an empty list", "at least one topic filter")
        for index, topic_filter in enumerate(filters):
            words = capture_fault(topic_filter) if kind is PolicyTopic else None
            plain = as_filter(topic_filter) if kind is PolicyTopic else topic_filter
            if words := words or _filter_fault(plain, config):
                report.add(f"{key}.{attribute.name}[{index}]", quoted(topic_filter), "a valid topic filter", words)


def _filter_fault(topic_filter: str, config: ProxyConfig) -> str | None:
    if topic_filter.startswith(SHARE):
        return "a shared subscription is for subscribers only"
    limits = config.limits
    try:
        check_topic_filter(topic_filter, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels)
    except RemoteProtocolError as error:
        return str(error)
    return None


def _check_proxy(config: ProxyConfig, report: Report) -> None:
    if not _ID.fullmatch(config.proxy.id):
        expected = "1 to 64 letters, digits, dots, hyphens and underscores"
        report.add("proxy.id", quoted(config.proxy.id), expected)
    limits = config.limits
    for name in ("payload_size", "packet_size_before_connect"):
        if getattr(limits, name) > limits.packet_size:
            expected = f"at most limits.packet_size, which is {write_size(limits.packet_size)}"
            report.add(f"limits.{name}", write_size(getattr(limits, name)), expected)
    if not config.topics.on_failure:
        report.add("topics.on_failure", "an empty list", "at least one action")


def _check_names(table: str, items: Sequence[Any], report: Report) -> None:
    """Check that names can be shown anywhere, and that each is there once."""
    first: dict[str, int] = {}
    for index, name in enumerate(item.name for item in items):
        key = f"{table}[{index}].name"
        if not (name.isprintable() and name.strip() == name and 0 < len(name) <= LONGEST_NAME):
            report.add(key, quoted(name), f"1 to {LONGEST_NAME} printable characters")
        if (other := first.setdefault(name, index)) != index:
            report.add(key, quoted(name), "a name of its own", f"{table}[{other}] has it")


def _check_route(route: RouteSettings, key: str, destinations: Sequence[str], report: Report) -> None:
    if not route.to:
        report.add(f"{key}.to", "an empty list", "at least one destination")
    known = _known_words(destinations)
    for index, name in enumerate(route.to):
        if name not in destinations:
            report.add(f"{key}.to[{index}]", quoted(name), known)
        elif name in route.to[:index]:
            report.add(f"{key}.to[{index}]", quoted(name), "each destination once")
    if isinstance(route.ack, Quorum) and route.ack.destinations > len(route.to):
        hint = 'there are no more destinations in "to"'
        report.add(f"{key}.ack", f"a quorum of {route.ack.destinations}", f"at most {len(route.to)}", hint)
    if route.home is None or route.home == LOCAL:
        return
    if route.home not in destinations:
        report.add(f"{key}.home", quoted(route.home), known)
    elif route.home not in route.to:
        hint = "else nobody who subscribes gets what is published here"
        report.add(f"{key}.home", quoted(route.home), f'one of the destinations in "to", or "{LOCAL}"', hint)


def _known_words(destinations: Iterable[str]) -> str:
    return "one of " + ", ".join(map(quoted, destinations))
