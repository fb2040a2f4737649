"""The rules that say what loosens."""

from typing import Any

import pytest
from attrs import fields, has
from hypothesis import given, strategies as st

from mqttproxy.config.loosening import CARRYING, DECIDING, OTHER_WAY, RULES, Effect, covers, effect_of, effect_of_item
from mqttproxy.config.model import Address, ListenerSettings, PolicySettings, ProxyConfig, Quorum, table_class
from mqttproxy.mqtt.topics import matches


@pytest.mark.parametrize(
    ("table", "key", "before", "after", "effect"),
    [
        ("access", "allow_anonymous", False, True, "loosens"),
        ("policies", "level", "enforce", "observe", "loosens"),
        ("policies", "level", "observe", "off", "loosens"),
        ("policies", "level", "off", "enforce", "tightens"),
        ("policies", "on_failure", ("hold",), ("mark",), "loosens"),
        ("policies", "on_failure", ("refuse",), ("hold",), "loosens"),
        ("policies", "on_failure", ("hold",), ("hold", "disconnect"), "tightens"),
        ("policies", "on_failure", ("hold",), ("hold", "alert"), "neither"),
        ("policies", "topics", ("a/#",), ("a/b",), "loosens"),
        ("policies", "topics", ("a/b",), ("a/+", "c"), "tightens"),
        ("policies", "topics", ("a",), ("b",), "either"),
        ("policies", "direction", "up", "both", "tightens"),
        ("policies", "direction", "up", "down", "either"),
        ("policies", "schema", "a@1", "a@2", "either"),
        ("policies", "percent", 100.0, 10.0, "loosens"),
        ("policies", "strategy", "all", "any", "loosens"),
        ("policies", "format", "json", None, "either"),
        ("policies.when", "client_id", None, ("a*",), "loosens"),
        ("policies.when", "client_id", ("a*",), ("a*", "b*"), "tightens"),
        ("policies.when", "client_id", ("a*",), ("b*",), "either"),
        ("policies.require", "qos", (1,), (1, 2), "loosens"),
        ("policies.require", "qos", None, (1,), "tightens"),
        ("policies.require", "retain", True, False, "either"),
        ("policies.require", "user_properties", ("a",), ("a", "b"), "tightens"),
        ("policies.require", "user_properties", None, ("a",), "tightens"),
        ("policies.require", "max_bytes", None, 5, "tightens"),
        ("policies.require", "min_bytes", 5, 0, "loosens"),
        ("topics", "allowed", ("a/#",), ("#",), "loosens"),
        ("default", "action", "hold", "forward", "loosens"),
        ("limits", "connections", 5, 6, "loosens"),
        ("limits", "flapping_ban", 5.0, 6.0, "tightens"),
        ("limits", "flapping_connects", 5, 0, "loosens"),
        ("limits", "queue_when_full", "drop_newest", "drop_oldest", "neither"),
        ("listeners", "client_certificate", "required", "none", "loosens"),
        ("listeners", "transport", "tls", "tcp", "loosens"),
        ("listeners.proxy_protocol", "from_", ("10.0.0.1",), ("10.0.0.1", "10.0.0.2"), "loosens"),
        ("listeners.proxy_protocol", "from_", (), ("10.0.0.1",), "either"),
        ("listeners", "bind", "127.0.0.1:1883", "0.0.0.0:1883", "loosens"),
        ("listeners", "bind", "127.0.0.1:1883", "127.0.0.1:1884", "neither"),
        ("upstreams", "insecure_skip_verify", False, True, "loosens"),
        ("upstreams", "url", "mqtts://a", "mqtt://a", "loosens"),
        ("upstreams", "keep_alive", 1.0, 2.0, "neither"),
        ("upstreams", "spool_bytes", 5, None, "loosens"),
        ("routes", "ack", "all", "spool", "loosens"),
        ("routes", "ack", Quorum(2), Quorum(3), "tightens"),
        ("routes", "when_full", "wait", "drop_oldest", "loosens"),
        ("telemetry", "metrics_bind", None, "0.0.0.0:9100", "loosens"),
        ("telemetry", "log_level", "info", "debug", "neither"),
        ("a table of the future", "key", 1, 2, "either"),
        ("limits", "connections", 5, "many", "either"),
    ],
)
def test_effects(table: str, key: str, before: Any, after: Any, effect: Effect) -> None:
    assert effect_of(table, key, before, after)[0] == effect
    assert effect_of(table, key, after, before)[0] == OTHER_WAY[effect]


def test_what_loosens_is_said_in_words() -> None:
    assert effect_of("policies", "level", "enforce", "off") == ("loosens", "what fails it is carried on")


def test_a_table_that_comes_or_goes() -> None:
    policy = PolicySettings(name="p", topics=(), schema="s@1")
    listener = ListenerSettings(name="l", bind=Address("127.0.0.1:1883"))
    assert effect_of_item("policies", policy, added=False)[0] == "loosens"
    assert effect_of_item("policies", policy, added=True)[0] == "tightens"
    observing = PolicySettings(name="p", topics=(), schema="s@1", level="observe")
    assert effect_of_item("policies", observing, added=False)[0] == "neither"
    assert effect_of_item("listeners", listener, added=True)[0] == "loosens"
    closed = ListenerSettings(name="l", bind=Address("127.0.0.1:1883"), enabled=False)
    assert effect_of_item("listeners", closed, added=True)[0] == "neither"
    assert effect_of_item("routes", object(), added=True)[0] == "neither"
    assert effect_of_item("a table of the future", object(), added=True)[0] == "either"


def test_rules_and_tables_are_of_the_model() -> None:
    tables: dict[str, Any] = {table.name: table_class(table.type) or table.type for table in fields(ProxyConfig)}
    for name, kind in list(tables.items()):
        inner = {f"{name}.{field.name}": table_class(field.type) or field.type for field in fields(kind)}
        tables |= {name: kind for name, kind in inner.items() if has(kind)}
    top = {name for name in tables if "." not in name}
    assert top - DECIDING - CARRYING <= {"limits", "transforms"}, "say of new tables what they decide"
    for table, key in RULES:
        assert key == "*" or key in {field.name for field in fields(tables[table])}, (table, key)


LEVELS = st.lists(st.sampled_from(["a", "b", "+", ""]), min_size=1, max_size=3)
FILTERS = st.builds(lambda levels, rest: "/".join(levels) + rest, LEVELS, st.sampled_from(["", "/#"]))
NAMES = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=4).map("/".join)


@given(FILTERS, FILTERS, NAMES)
def test_what_is_covered_matches_nothing_more(general: str, special: str, name: str) -> None:
    if covers(general, special) and matches(special, name):
        assert matches(general, name)


@pytest.mark.parametrize(
    ("general", "special", "does"),
    [
        ("#", "a/b", True),
        ("#", "$SYS/a", False),
        ("+/b", "a/b", True),
        ("a/#", "a", True),
        ("a/#", "a/+/#", True),
        ("a/+", "a/#", False),
        ("a/{line}", "a/b", True),
        ("a/b", "a/+", False),
        ("a", "a/b", False),
    ],
)
def test_covering(general: str, special: str, does: bool) -> None:
    assert covers(general, special) is does
