"""Two configurations compared, in words and as values."""

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from mqttproxy.config.difference import compare, flipped, written
from mqttproxy.config.load import parse_config
from mqttproxy.config.model import Bytes, ProxyConfig, Quorum, Seconds

POLICY = '[[policies]]\nname = "{0}"\ntopics = ["{0}/#"]\nschema = "{0}@1"\n'
UPSTREAM = '[[upstreams]]\nname = "{0}"\nurl = "mqtt://{0}"\n'

RATE = '[[limits.rates]]\nname = "r"\nper = "client"\nwhat = "messages"\nwindows = "10:1"\n'


def parse(text: str) -> ProxyConfig:
    return parse_config(text, "proxy.toml", Path("/"), unreadable=lambda _: None)


def words(old: str, new: str) -> list[str]:
    return [str(change) for change in compare(parse(old), parse(new)).changes]


def test_nothing_is_different_from_itself() -> None:
    config = parse(POLICY.format("a") + UPSTREAM.format("x"))
    assert not compare(config, config)
    assert compare(config, config).as_json()["changes"] == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            POLICY.format("a"),
            POLICY.format("a") + 'level = "observe"\n',
            'policies[a].level: "enforce" -> "observe": loosens, what fails it is carried on',
        ),
        (POLICY.format("a"), "", "policies[a]: removed: loosens, what it stopped is not stopped any more"),
        ("", UPSTREAM.format("x"), "upstreams[x]: added"),
        ("", RATE, "limits.rates[r]: added: tightens, one more limit; waits for a restart"),
        (RATE, "", "limits.rates[r]: removed: loosens, one limit less; waits for a restart"),
        (
            RATE,
            RATE.replace("10:1", "9:1"),
            'limits.rates[r].windows: "10:1" -> "9:1": may loosen or tighten; waits for a restart',
        ),
        (
            "",
            '[limits]\npacket_size = "2MiB"\n',
            'limits.packet_size: "1MiB" -> "2MiB": loosens, a limit is raised; waits for a restart',
        ),
        (
            POLICY.format("a"),
            POLICY.format("a").replace("a@1", "a@2"),
            'policies[a].schema: "a@1" -> "a@2": may loosen or tighten',
        ),
        (
            UPSTREAM.format("x") + 'username = "u"\npassword = "old"\n',
            UPSTREAM.format("x") + 'username = "u"\npassword = "new"\n',
            "upstreams[x].password: something that is not shown -> something that is not shown",
        ),
        (
            UPSTREAM.format("x") + '[[upstreams.topics]]\nlocal = "a/#"\nremote = "b/#"\n',
            UPSTREAM.format("x") + '[[upstreams.topics]]\nlocal = "a/#"\nremote = "c/#"\n',
            'upstreams[x].topics[a/#].remote: "b/#" -> "c/#"',
        ),
        (
            UPSTREAM.format("x") + '[[routes]]\ntopics = ["#"]\nto = ["x"]\n',
            UPSTREAM.format("x") + '[[routes]]\ntopics = ["#"]\nto = ["x", "local"]\n',
            'routes[#].to: ["x"] -> ["x", "local"]',
        ),
    ],
)
def test_each_change_is_a_line_with_its_key(old: str, new: str, told: str) -> None:
    assert words(old, new) == [told]


def test_the_order_of_policies_is_a_change_of_its_own() -> None:
    a, b = POLICY.format("a"), POLICY.format("b")
    assert words(a + b, b + a) == ["policies: reordered: may loosen or tighten"]
    assert words(UPSTREAM.format("x") + UPSTREAM.format("y"), UPSTREAM.format("y") + UPSTREAM.format("x")) == []


def test_so_is_the_order_of_bindings() -> None:
    head = '[[policies]]\nname = "a"\ntopics = ["t"]\nschema = "t@1"\n'
    one, other = (
        f'[[policies.bindings]]\nschema = "t@{number}"\nwhen = {{ client_id = ["{number}"] }}\n' for number in (2, 3)
    )
    assert words(head + one + other, head + other + one) == ["policies[a].bindings: reordered: may loosen or tighten"]
    assert words(head + one, head + one + other) == ["policies[a].bindings[t@3]: added: may loosen or tighten"]
    assert words(head + one, head + one.replace('["2"]', '["x"]')) == [
        'policies[a].bindings[t@2].when.client_id: ["2"] -> ["x"]: may loosen or tighten'
    ]


def test_tables_that_are_told_apart_by_nothing_are_numbered() -> None:
    route = '[[routes]]\ntopics = ["#"]\nto = ["x"]\n'
    assert words(UPSTREAM.format("x") + route, UPSTREAM.format("x") + route * 2) == ["routes[# #2]: added"]


def test_who_is_touched_is_told_for_programs() -> None:
    difference = compare(parse(POLICY.format("a")), parse(UPSTREAM.format("x") + "[limits]\nconnections = 5\n"))
    document = difference.as_json()
    assert document["touched"] == {"listeners": [], "policies": ["a"], "upstreams": ["x"], "routes": []}
    assert (document["loosens"], document["tightens"]) == (1, 1)
    assert document["needs_restart"] == ["limits.connections"]
    assert difference.may_loosen


PARTS = st.lists(
    st.sampled_from(
        [
            POLICY.format("a"),
            POLICY.format("b") + 'level = "observe"\n',
            POLICY.format("c") + 'on_failure = ["mark"]\n',
            UPSTREAM.format("x"),
            UPSTREAM.format("y") + 'password = "p"\nusername = "u"\n',
        ]
    ),
    unique=True,
)
HEADS = st.sampled_from(["", "[access]\nallow_anonymous = true\n", "[limits]\nconnections = 5\n"])
CONFIGS = st.builds(lambda head, parts: parse(head + "".join(parts)), HEADS, PARTS)


@given(CONFIGS, CONFIGS)
def test_the_other_way_round_is_the_same_flipped(old: ProxyConfig, new: ProxyConfig) -> None:
    there = {evolve(flipped(change), why="") for change in compare(old, new).changes}
    back = {evolve(change, why="") for change in compare(new, old).changes}
    assert there == back
    assert bool(there) == (old != new) or {change.what for change in back} <= {"reordered"}


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, None, "nothing"),
        (True, bool, "true"),
        (90.0, Seconds, '"90s"'),
        (90.0, Seconds | None, '"90s"'),
        (65536, Bytes, '"64KiB"'),
        (7, int, "7"),
        (Quorum(2), None, "{ quorum = 2 }"),
        (("a", "b"), None, '["a", "b"]'),
        (Path("/x"), None, '"/x"'),
        ("mqtt://u:secret@host", str, '"mqtt://***@host"'),
    ],
)
def test_values_are_written_as_the_file_has_them(value: object, kind: object, text: str) -> None:
    assert written(value, kind) == text
