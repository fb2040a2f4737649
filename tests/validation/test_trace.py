"""What is explained is what happens."""

from typing import Any

from hypothesis import given, settings, strategies as st

from mqttproxy.config.model import (
    BindingSettings,
    Bytes,
    Conditions,
    DefaultSettings,
    RequireSettings,
    TopicFilter,
    TopicSettings,
    WhenSettings,
)
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.validation import Generation, Identity, identity_of_upstream, judge
from mqttproxy.validation.trace import trace
from tests.validation.schema_shelf import generation, policy
from tests.validation.test_policy import FILES, bare, device
from tests.validation.transforms.steps import steps

FILTERS = st.sampled_from(["a", "a/b", "a/{x}", "+/b", "#", "a/#", "{x}/{y}", "$SYS/#", "b"])
TOPICS = st.sampled_from(["a", "a/b", "a/c", "b/b", "b", "$SYS/x", "/", "c/d/e"])
WHENS = st.sampled_from(
    [
        WhenSettings(),
        WhenSettings(),
        WhenSettings(client_id=("d1", "e*")),
        WhenSettings(username=("*",)),
        WhenSettings(listener=("upstream:*", "plain")),
        WhenSettings(attributes=Conditions((("fw", (">=2",)),))),
    ]
)
CHECKS: list[dict[str, Any]] = [
    {"schema": "t@1"},
    {"schema": "t@2"},
    {"schema": "s@1", "require": RequireSettings(qos=(0, 1))},
    {
        "schema": "s@1",
        "bindings": (
            BindingSettings(schema="t@1", when=WhenSettings(attributes=Conditions((("fw", (">=2",)),)))),
            BindingSettings(schema="t@2", when=WhenSettings(client_id=("d1", "f*"))),
        ),
    },
    {"format": "json"},
    {"format": "text"},
    {"format": "none"},
    {"format": "raw"},
    {"require": RequireSettings(max_bytes=Bytes(2), retain=False)},
]
TRANSFORMS = [
    (),
    (),
    steps('op = "set", path = "", value = 7'),
    steps('op = "cast", path = "", type = "integer"'),
    steps('op = "set_topic", to = "a/c"'),
    steps('op = "copy_topic", from = "{2}", to = ""', 'op = "set_topic", to = "b"'),
]
IDENTITIES = [
    device("d1"),
    Identity("e2", "u", "192.0.2.1", "tls", {"fw": "2.1"}),
    Identity("f3", None, "192.0.2.1", "plain", {"fw": "1"}),
    Identity("", None, "", "retained"),
    identity_of_upstream("a"),
]
PAYLOADS = st.sampled_from([b"", b"1", b"11", b'"x"', b"\xff", b"{", b'{"a":1,"a":2}', b"[]"])
PROPERTIES = st.sampled_from([NO_PROPERTIES, Properties(payload_format_indicator=1), Properties(content_type="x")])
MESSAGES = st.builds(Message, TOPICS, PAYLOADS, st.integers(0, 2), st.booleans(), PROPERTIES)


@st.composite
def generations(draw: st.DrawFn) -> Generation:
    policies = []
    for number in range(draw(st.integers(0, 5))):
        chosen: dict[str, Any] = {
            "name": f"p{number}",
            "topics": tuple(draw(st.lists(FILTERS, min_size=1, max_size=2, unique=True))),
            "priority": draw(st.integers(-1, 1)),
            "final": draw(st.sampled_from([False, False, False, True])),
            "level": draw(st.sampled_from(["enforce", "enforce", "observe", "off"])),
            "percent": draw(st.sampled_from([0.0, 50.0, 100.0])),
            "direction": draw(st.sampled_from(["up", "both", "down"])),
            "strategy": draw(st.sampled_from(["all", "any"])),
            "on_failure": tuple(draw(st.lists(st.sampled_from(["mark", "hold", "alert", "refuse"]), min_size=1))),
            "when": draw(WHENS),
            "transforms": draw(st.sampled_from(TRANSFORMS)),
        }
        policies.append(bare(**chosen, **draw(st.sampled_from(CHECKS))))
    return generation(
        FILES,
        *policies,
        default=DefaultSettings(action=draw(st.sampled_from(["forward", "refuse", "hold"]))),
        topics=TopicSettings(
            allowed=tuple(TopicFilter(one) for one in draw(st.sampled_from([["#"], ["a/#", "$SYS/#"]])))
        ),
    )


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_what_is_explained_is_what_happens(data: st.DataObject) -> None:
    """A hundred configurations, ten messages for each, from five senders, up and down: 10,000 in all."""
    rules = data.draw(generations())
    for message in data.draw(st.lists(MESSAGES, min_size=10, max_size=10)):
        for identity in IDENTITIES:
            for direction in (rules, rules.down):
                told = trace(message, identity, direction)
                assert told.verdict == judge(message, identity, direction)
                assert [step.policy for step in told.steps] == [policy.name for policy in direction.policies]


def told(rules: Generation, identity: Identity | None = None, payload: bytes = b'"x"', topic: str = "t") -> list[str]:
    steps = trace(Message(topic, payload), identity or device(), rules).steps
    return [f"{step.policy}: {step.outcome}: {step.why}" for step in steps]


def test_each_policy_is_told_in_order_with_the_reason_why_it_was_asked_or_not() -> None:
    rules = generation(
        FILES,
        policy(name="low", priority=-1),
        policy(name="here"),
        policy("s@1", name="text", level="observe"),
        policy(name="other", topics=("u",)),
        policy(name="down", direction="down"),
        policy(name="off", level="off"),
        policy(name="who", when=WhenSettings(client_id=("x",))),
        policy(name="share", percent=50),
        policy(name="last", final=True),
    )
    assert told(rules) == [
        "here: failed: level is enforce",
        "text: passed: level is observe",
        "other: not asked: no topic filter of it matches",
        "down: not asked: it is for messages down",
        "off: off: level is off",
        "who: not asked: client_id 'dev-1' is not 'x'",
        f"share: failed: {SHARE}",
        "last: failed: level is enforce",
        "low: not asked: behind last, which is final",
    ]


SHARE = "enforced for 50 % of devices; this one stands at 98.54, not within them"


def test_captures_and_what_each_found_are_told() -> None:
    rules = generation(FILES, policy(name="a", topics=("{x}/{y}",)), policy("s@1", name="b", topics=("+/q",)))
    steps = trace(Message("p/q", b"[]"), device(), rules).steps
    assert [step.captures for step in steps] == [{"x": "p", "y": "q"}, {}]
    assert [step.verdict and step.verdict.schema for step in steps] == ["t@1", "s@1"]
    assert all(step.enforced for step in steps)


def test_what_decides_without_policies_is_named() -> None:
    rules = generation(
        FILES,
        policy(level="off"),
        topics=TopicSettings(allowed=(TopicFilter("t"), TopicFilter("u"))),
        default=DefaultSettings(action="hold"),
    )
    broken = Message("t", b"\xff", properties=Properties(payload_format_indicator=1))
    cases = {
        "topics.allowed": Message("v", b""),
        "default.action": Message("u", b""),
        "level of the policy": Message("t", b""),
        "payload format indicator": broken,
    }
    for rule, message in cases.items():
        assert trace(message, device(), rules).rule == rule
    assert trace(Message("t", b"1"), device(), generation(FILES, policy())).rule == ""
