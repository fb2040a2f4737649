"""Nothing bypasses the judge (promise P6): every way in with every kind of rule.

A way in is a function that brings one message, and tells whether it went on. Each rule is tried with one that breaks
it and with one that does not, so that no way in is safe only because it lets nothing through.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import orjson
import pytest
from attrs import frozen
from trio.testing import MockClock

from mqttproxy.downstream.departed import pending_will
from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.packets import Message, Properties, Publish, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Identity, identity_of_upstream, judge
from tests.house import House, open_house

HEAD: Final = '[[policies]]\nname = "p"\ntopics = ["n/{device}"]\ndirection = "both"\non_failure = ["refuse"]\n'
IDENTITY: Final = Identity("tx9-2.1-1", "u", "192.0.2.1", "plain", {"firmware": "2.1"})
ATTRIBUTES: Final = '[[access.attributes]]\npattern = "+-{firmware}-+"\n'


@frozen
class Rule:
    """Settings of one policy, and a message of each kind. `asks_who`: it depends on the device."""

    settings: str
    bad: Message
    good: Message
    asks_who: bool = False


def message(payload: bytes, **properties: object) -> Message:
    return Message("n/1", payload, 1, True, Properties(**properties))  # type: ignore[arg-type]


NUMBER: Final = 'schema = "number@1"\n'
RULES: Final = {
    "schema": Rule(NUMBER, message(b'"x"'), message(b"1")),
    "json": Rule('format = "json"\n', message(b'{"a":1,"a":2}'), message(b"{}")),
    "text": Rule('format = "text"\n', message(b"\xff"), message(b"a")),
    "none": Rule('format = "none"\n', message(b"x"), message(b"")),
    "size": Rule("[policies.require]\nmax_bytes = 2\n", message(b"123"), message(b"12")),
    "qos": Rule("[policies.require]\nqos = [1]\n", Message("n/1", b"", 2, True), message(b"")),
    "retain": Rule("[policies.require]\nretain = true\n", Message("n/1", b"", 1), message(b"")),
    "content type": Rule(
        '[policies.require]\ncontent_type = ["a/*"]\n', message(b""), message(b"", content_type="a/b")
    ),
    "user property": Rule(
        '[policies.require]\nuser_properties = ["a"]\n', message(b""), message(b"", user_properties=(("a", ""),))
    ),
    "expression": Rule(
        'format = "json"\n[[policies.expressions]]\nexpression = "payload > 1 && captures.device == \'1\'"\n',
        message(b"1"),
        message(b"2"),
    ),
    "broken text": Rule('format = "raw"\n', message(b"\xff", payload_format_indicator=1), message(b"\xff")),
    "second policy": Rule(
        'format = "raw"\n[[policies]]\nname = "q"\ntopics = ["#"]\ndirection = "both"\non_failure = ["refuse"]\n'
        + NUMBER,
        message(b'"x"'),
        message(b"1"),
    ),
    "client": Rule(NUMBER + '[policies.when]\nclient_id = ["tx9*"]\n', message(b'"x"'), message(b"1"), asks_who=True),
    "attribute": Rule(
        NUMBER + '[policies.when]\nattributes = { firmware = ">=2" }\n', message(b'"x"'), message(b"1"), asks_who=True
    ),
    "share": Rule(NUMBER + "percent = 99.99\n", message(b'"x"'), message(b"1"), asks_who=True),
}


async def published(house: House, given: Message) -> bool:
    witness = await house.connect("witness")
    witness.subscribe("n/#")
    device = await house.connect("tx9-2.1-1", username="u")
    await house.settle()
    device.publish(given)
    await house.settle()
    return bool(witness.received)


async def of_a_gathered_turn(house: House, given: Message) -> bool:
    """Carried together with what another device sends in the same turn."""
    witness = await house.connect("witness")
    witness.subscribe("n/#")
    device, other = await house.connect("tx9-2.1-1"), await house.connect("other")
    await house.settle()
    other.publish(Message("elsewhere", b"", 0))
    device.publish(given)
    await house.settle()
    return bool(witness.received)


async def will_of_a_connect(house: House, given: Message) -> bool:
    will = Will(given.topic, given.payload, given.qos, given.retain, given.properties)
    device = house.device("tx9-2.1-1", will=will)
    await house.settle()
    assert device.connack is not None
    return device.connack.reason is ReasonCode.SUCCESS


async def will_that_fires(house: House, given: Message) -> bool:
    witness = await house.connect("witness")
    witness.subscribe("n/#")
    await house.settle()
    will = Will(given.topic, given.payload, given.qos, given.retain, given.properties)
    house.premises.publisher.fire([pending_will(IDENTITY, will, 0.0)])
    await house.settle()
    return bool(witness.received)


async def retained_at_delivery(house: House, given: Message) -> bool:
    return house.pipeline.may_still_go(given)


async def from_a_broker(house: House, given: Message) -> bool:
    publish = Publish(given.topic, given.payload, given.qos, given.retain, given.properties)
    verdict = judge(publish, identity_of_upstream("a"), house.pipeline.ruleset.generation.down)
    return not verdict.failures or verdict.observed or verdict.action is Action.FORWARD


Way = Callable[[House, Message], Awaitable[bool]]
WAYS: Final[tuple[Way, ...]] = (
    published, of_a_gathered_turn, will_of_a_connect, will_that_fires, retained_at_delivery, from_a_broker,
)  # fmt: skip
NOBODY_SENT_IT: Final = (retained_at_delivery, from_a_broker)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("rule", RULES)
async def test_every_way_in_leads_past_every_rule(rule: str, way: Way, autojump_clock: MockClock) -> None:
    given = RULES[rule]
    settings = ATTRIBUTES + HEAD + given.settings
    expected = given.asks_who and way in NOBODY_SENT_IT  # what asks for a device does not judge what none has sent
    async with open_house(settings, turns=way is of_a_gathered_turn) as house:
        assert await way(house, given.bad) is expected
    async with open_house(settings, turns=way is of_a_gathered_turn) as house:
        assert await way(house, given.good)


async def test_a_device_whose_attributes_are_unsafe_is_not_let_in(autojump_clock: MockClock) -> None:
    async with open_house(ATTRIBUTES) as house:
        device = house.device("tx9-a/b-1")
        await house.settle()
        assert device.connack is not None
        assert device.connack.reason is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        assert house.metrics.connections_refused == {"unsafe_attribute": 1}


async def test_what_several_policies_found_is_told_to_all_who_must_know(autojump_clock: MockClock) -> None:
    second = HEAD.replace('"p"', '"q"').replace('["refuse"]', '["alert"]') + 'schema = "number@2"\n'
    third = HEAD.replace('"p"', '"r"') + 'schema = "number@2"\nlevel = "observe"\n'
    files = {f"number/{version}.json": {"type": "number"} for version in (1, 2)}
    async with open_house(HEAD + NUMBER + second + third, files=files) as house:
        device = await house.connect(IDENTITY.client_id)
        device.subscribe(f"$proxy/errors/{IDENTITY.client_id}")
        await house.settle()
        device.publish(Message("n/1", b'"x"', 1))
        await house.settle()
        (event,) = device.of(Settled)
        assert event.properties.user_properties == (
            ("policy", "p"), ("schema", "number@1"), ("pointer", ""),
            ("policy", "q"), ("schema", "number@2"), ("pointer", ""),
        )  # fmt: skip
        assert event.properties.reason_string.startswith("policy p, schema number@1: 'x' is not of type")
        (document,) = [orjson.loads(payload) for topic, payload in device.received if topic.startswith("$proxy/")]
        assert (document["policy"], document["policies"], len(document["failures"])) == ("p", ["p", "q"], 2)
        (line,) = house.audit_lines()
        assert (line["policy"], len(line["failures"])) == ("p", 2)
        assert [(part["policy"], part["observed"], len(part["failures"])) for part in line["policies"]] == [
            ("p", False, 1), ("q", False, 1), ("r", True, 1),
        ]  # fmt: skip
        assert house.metrics.policy_failures == {"p": 1, "q": 1, "r": 1}
        assert [line["policy"] for line in house.log.lines] == ["q"]
