"""What is explained is what happens in the pipeline: verdict, destinations and answer.

With 10,000 messages the judge alone: `tests/validation/test_trace.py`.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock

from mqttproxy.config.cases import Fate
from mqttproxy.config.model import LOCAL, ProxyConfig
from mqttproxy.explain import Explanation, Premises, explain, sender
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import build_generation, identity_of_upstream
from tests.config.documents import parse
from tests.fake_rooms import Shelf
from tests.house import NUMBERS, POLICY, open_house, route, upstream

ACTIONS: dict[str, Fate] = {
    "forwarded": "forward",
    "marked": "mark",
    "observed": "observed",
    "held": "hold",
    "refused": "refuse",
    "dropped": "drop",
}
EXAMPLES, MESSAGES, BATCH = 25, 100, 50
TWO = upstream("a") + upstream("b")
ROUTES = (
    "",
    route("a", topics="n/#") + route("local", topics="m/#"),
    route("a", "b", topics="n/#", more='ack = "memory"') + route("b", "local", topics="+/#", more='home = "local"'),
    route("b", more='ack = "all"\nhome = "local"'),
)
CHECKS = (
    'schema = "number@1"',
    'format = "json"',
    'format = "text"',
    'format = "none"',
    "[policies.require]\nretain = false\nmax_bytes = 2",
    "schema = 'number@1'\n[policies.when]\nattributes = { fw = '>=2' }",
    "format = 'json'\n[policies.when]\nclient_id = ['e*']",
)
PROPERTIES = (
    NO_PROPERTIES,
    NO_PROPERTIES,
    Properties(payload_format_indicator=1),
    Properties(content_type="x", user_properties=(("k", "v"),)),
    Properties(user_properties=(("mqttproxy-hops", "1"), ("mqttproxy-origin", "other"))),
    Properties(user_properties=(("mqttproxy-hops", "2"),)),
)


def configuration(chance: Random) -> str:
    policies = []
    for number in range(chance.randint(0, 5)):
        failure = chance.sample(["hold", "refuse", "mark", "alert"], chance.randint(1, 2))
        policies.append(
            f'[[policies]]\nname = "p{number}"\ntopics = ["{chance.choice(["n/#", "m/+", "#", "+/{id}"])}"]\n'
            f"priority = {chance.randint(-1, 1)}\nfinal = {chance.choice(['false', 'false', 'true'])}\n"
            f'level = "{chance.choice(["enforce", "enforce", "observe", "off"])}"\n'
            f"percent = {chance.choice([0, 50, 100, 100])}\non_failure = {failure}\n{chance.choice(CHECKS)}\n"
        )
    default = chance.choice(["forward", "forward", "refuse", "hold"])
    return (
        '[[access.attributes]]\npattern = "{model}-{fw}"\n'
        f"[topics]\nallowed = {chance.choice([['#'], ['n/#', 'm/#']])}\n"
        f'[default]\naction = "{default}"\nunrouted = "{chance.choice(["refuse", "drop"])}"\n'
        f'[audit]\ndecisions = "all"\n{TWO}{"".join(policies)}{chance.choice(ROUTES)}'
    )


def messages(chance: Random) -> list[Message]:
    """Return messages with a topic each, by which they are known again."""
    return [
        Message(
            f"{chance.choice(['n', 'n', 'm', 'o', '$x'])}/{number}",
            chance.choice([b"", b"1", b"11.5", b'"x"', b"\xff", b"{", b'{"a":1,"a":2}']),
            chance.choice([0, 1, 1, 2]),
            chance.random() < 0.2,
            chance.choice(PROPERTIES),
        )
        for number in range(MESSAGES)
    ]


async def compare(seed: int) -> None:
    chance = Random(seed)  # no secret
    text, client_id = configuration(chance), chance.choice(["tx-2.1", "tx-1", "e"])
    async with open_house(text) as house:
        ruleset = house.pipeline.ruleset
        premises = Premises(ruleset.config, ruleset.generation)
        device = await house.connect(client_id)
        explained: dict[str, Explanation] = {}
        sent = messages(chance)
        identity = house.inside(client_id).identity
        known = sender(ruleset.config, client_id=client_id)
        assert (known.client_id, known.attributes) == (identity.client_id, identity.attributes)
        for start in range(0, MESSAGES, BATCH):
            batch = sent[start : start + BATCH]
            device.publish(*batch)
            await house.settle()
            house.quarantine.commit()
            for destination in house.upstreams.values():
                if destination.taken:
                    destination.settle()
            await house.settle()
            explained |= {message.topic: explain(message, identity, premises) for message in batch}
        lines = [line for line in house.audit_lines() if line["event"] == "decision"]
        check_fates(explained, lines)
        answers = [explained[message.topic].reason for message in sent if message.qos]
        assert [reason for _, reason in sorted(device.settled)] == answers


def check_fates(explained: dict[str, Explanation], lines: Sequence[dict[str, Any]]) -> None:
    decided: dict[str, dict[str, Any]] = {}
    for line in lines:  # one that failed and is carried has a plain line too
        if decided.setdefault(line["topic"], line)["action"] == "forwarded":
            decided[line["topic"]] = line
    assert decided.keys() == explained.keys()
    for topic, told in explained.items():
        line = decided[topic]
        assert told.fate == ACTIONS[line["action"]], (topic, line)
        if told.is_carried:
            assert {one.name for one in told.destinations} == set(line["destinations"])
        if not told.why and told.fate != "forward":
            verdict = told.trace.verdict
            assert (verdict.policy, verdict.schema) == (line["policy"], line["schema"])
            assert [failure.keyword for failure in verdict.failures] == [one["keyword"] for one in line["failures"]]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_explained_is_what_the_pipeline_does_with_2_500_messages(seed: int) -> None:
    trio.run(compare, seed, clock=MockClock(autojump_threshold=0))


def premises_of(text: str) -> Premises:
    config: ProxyConfig = parse(text)
    return Premises(config, build_generation(1, config, Shelf(NUMBERS)))


def told(text: str, message: Message, client_id: str = "d") -> Explanation:
    premises = premises_of(text)
    return explain(message, sender(premises.config, client_id=client_id), premises)


@pytest.mark.parametrize(
    ("more", "ack"),
    [
        ("", "once it is on disk"),
        ('ack = "memory"', "at once: a crash loses what was not yet carried"),
        ('ack = "all"', "once it is on disk and a and b have acknowledged it"),
        ('ack = "any"', "once it is on disk and one of a, b has acknowledged it"),
        ('ack = "any"\nhome = "local"', "once it is on disk"),
        (
            'ack = { quorum = 1 }\non_ack_timeout = "accept"\nack_timeout = "5s"',
            "once it is on disk and 1 of a, b have acknowledged it, or is on disk for 5s",
        ),
    ],
)
def test_when_a_device_is_acknowledged_is_told(more: str, ack: str) -> None:
    text = TWO + route("a", "b", more=more)
    assert told(text, Message("t", b"", 1)).ack == ack
    assert told(text, Message("t", b"")).ack == "never: QoS 0 has no acknowledgement"


def test_each_upstream_is_told_with_its_own_name_of_the_topic() -> None:
    renamed = '[[upstreams.topics]]\nlocal = "plant/{line}"\nremote = "eu/{line}"\n'
    destinations = told(upstream("a", renamed) + upstream("b"), Message("plant/7", b"")).destinations
    assert [(one.name, one.topic) for one in destinations] == [("a", "eu/7"), ("b", "plant/7")]
    (first, _) = told(upstream("a", renamed) + upstream("b"), Message("eu/7", b"")).destinations
    assert first.topic is None


def test_the_device_of_a_message_that_is_not_carried_is_told_where_it_can_read_why() -> None:
    explanation = told(POLICY, Message("n/1", b'"x"', 1), "a/b")
    assert (explanation.fate, explanation.is_carried) == ("hold", False)
    assert explanation.error_topic == "$proxy/errors/a%2Fb"
    assert explanation.reason is ReasonCode.PAYLOAD_FORMAT_INVALID
    assert explanation.words.startswith("policy numbers, schema number@1: 'x' is not of type")
    assert explanation.ack == "after the commit of the quarantine"


def test_messages_of_upstreams_are_explained_by_the_way_down() -> None:
    premises = premises_of(TWO + POLICY.replace("schema", 'direction = "down"\nschema') + route("a", "b"))
    a, b = identity_of_upstream("a"), identity_of_upstream("b")
    good, bad = Message("n/1", b"1", 1), Message("n/1", b'"x"', 1)
    assert [one.name for one in explain(good, a, premises, "down").destinations] == [LOCAL]
    held = explain(bad, a, premises, "down")
    assert (held.fate, held.reason, held.error_topic) == ("hold", ReasonCode.SUCCESS, None)
    elsewhere = explain(good, b, premises, "down")
    assert (elsewhere.fate, elsewhere.why) == ("drop", "subscriptions to this topic are served by a")


def test_what_policies_bring_to_another_topic_is_routed_there() -> None:
    text = TWO + (
        '[[policies]]\nname = "p"\ntopics = ["n/+"]\nformat = "json"\ntransforms = [{ op = "set_topic", to = "m/1" }]\n'
    )
    config = parse(text + route("a", topics="n/#") + route("b", topics="m/#"))
    premises = Premises(config, build_generation(1, config, Shelf({})))
    told = explain(Message("n/1", b"1", 1), sender(config, client_id="d"), premises)
    assert [(one.name, one.topic, one.payload) for one in told.destinations] == [("b", "m/1", b"1")]
    told = explain(Message("n/1", b"{", 1), sender(config, client_id="d"), premises)
    assert (told.fate, told.destinations) == ("hold", ())


def test_an_upstream_whose_transforms_cannot_be_done_is_told_with_why() -> None:
    text = upstream("a") + '[[upstreams.transforms]]\ntopics = ["#"]\nsteps = [{ op = "remove", path = "/a" }]\n'
    config = parse(text + route("a"))
    premises = Premises(config, build_generation(1, config, Shelf({})))
    (good,) = explain(Message("t", b'{"a":1}', 1), sender(config, client_id="d"), premises).destinations
    (bad,) = explain(Message("t", b"{}", 1), sender(config, client_id="d"), premises).destinations
    assert (good.topic, good.payload, good.why_not) == ("t", b"{}", "")
    assert (bad.topic, bad.payload) == (None, None)
    assert bad.why_not.startswith("its transforms cannot be done: ")
