"""What policies make of messages that are carried on, through the judge."""

from typing import Any

import pytest
from attrs import field, frozen

from mqttproxy.config.model import PolicySettings, TopicFilter, TopicSettings
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Verdict, judge
from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.policy import Captures
from mqttproxy.validation.transforms import compile_steps
from mqttproxy.validation.transforms.changing import Change, changed
from mqttproxy.validation.verdict import Failure
from tests.validation.schema_shelf import SENDER, generation, policy
from tests.validation.test_policy import device
from tests.validation.transforms.steps import steps
from tests.validation.transforms.test_carrying import CARRIER

FILES = {
    "in/1.json": {"type": "object", "properties": {"f": {"type": "number"}}, "required": ["f"]},
    "out/1.json": {"type": "object", "properties": {"c": {"type": "number", "maximum": 50}}, "required": ["c"]},
}
CONVERT = ('op = "rename", from = "/f", to = "/c"', 'op = "unit", path = "/c", from = "F", to = "C"')
GOOD = b'{"f":212}'


def changing(*written: str, **settings: Any) -> PolicySettings:
    """Return a policy with steps."""
    return policy(**{"schema": "in@1", "transforms": steps(*written), **settings})


def verdict_on(*policies: PolicySettings, payload: bytes = GOOD, topic: str = "t", who: Any = SENDER) -> Verdict:
    return judge(Message(topic, payload, 1), who, generation(FILES, *policies))


def carried(verdict: Verdict) -> tuple[str, bytes]:
    assert verdict.changed is not None
    return verdict.changed.topic, verdict.changed.payload


def test_a_message_that_passes_is_carried_on_transformed() -> None:
    verdict = verdict_on(changing(*CONVERT))
    assert (verdict.action, verdict.failures, verdict.policy) == (Action.FORWARD, (), "p")
    assert carried(verdict) == ("t", b'{"c":100.0}')


def test_one_that_is_held_or_refused_is_not() -> None:
    for action in ("hold", "refuse"):
        verdict = verdict_on(changing(*CONVERT, on_failure=(action,)), payload=b'{"f":"x"}')
        assert verdict.changed is None
        assert verdict.action is not Action.FORWARD


def test_one_that_is_marked_is_transformed_too_or_held() -> None:
    of = changing('op = "mask", path = "/name", how = "drop"', on_failure=("mark",))
    verdict = verdict_on(of, payload=b'{"name":"Bob"}')
    assert (verdict.action, verdict.mark, [failure.keyword for failure in verdict.failures]) == (
        Action.FORWARD,
        True,
        ["required"],
    )
    assert carried(verdict) == ("t", b"{}")
    verdict = verdict_on(of, payload=b'{"n":1}')
    assert (verdict.action, verdict.mark, verdict.changed) == (Action.HOLD, False, None)
    assert [failure.keyword for failure in verdict.failures] == ["required", "transform"]
    verdict = verdict_on(of, payload=b"not JSON")
    assert (verdict.action, verdict.changed) == (Action.HOLD, None)


def test_a_transform_that_cannot_be_done_fails_the_message_as_its_policy_says() -> None:
    verdict = verdict_on(changing('op = "remove", path = "/x"', on_failure=("refuse", "alert"), name="q"))
    assert (verdict.action, verdict.policy, verdict.alert, verdict.changed) == (Action.REFUSE, "q", True, None)
    assert verdict.failures == (Failure("/x", "transform", "nothing is there"),)
    assert verdict.reason is ReasonCode.PAYLOAD_FORMAT_INVALID


def test_every_policy_judges_the_message_as_it_came_and_their_steps_run_in_their_order() -> None:
    first = changing('op = "rename", from = "/f", to = "/g"', name="a")
    second = changing('op = "rename", from = "/g", to = "/h"', name="b", topics=("{word}",))
    third = changing('op = "copy_topic", from = "{word}", to = "/word"', name="c", topics=("{word}",))
    verdict = verdict_on(first, second, third)
    assert carried(verdict) == ("t", b'{"h":212,"word":"t"}')
    assert verdict_on(second, first).failures == (Failure("/g", "transform", "nothing is there"),)


def test_a_policy_that_fails_keeps_the_steps_of_others_from_running() -> None:
    other = policy("out@1", name="b")
    verdict = verdict_on(changing(*CONVERT), other)
    assert (verdict.action, verdict.changed, verdict.policy) == (Action.HOLD, None, "b")


def test_those_that_only_observe_change_nothing() -> None:
    assert verdict_on(changing(*CONVERT, level="observe")).changed is None
    assert verdict_on(changing(*CONVERT, level="off")).changed is None
    observing = policy("out@1", name="b", level="observe")
    verdict = verdict_on(changing(*CONVERT), observing)
    assert verdict.observed
    assert carried(verdict) == ("t", b'{"c":100.0}')


def test_a_share_of_devices_is_the_same_for_checks_and_steps() -> None:
    of = changing(*CONVERT, percent=50.0)
    rules = generation(FILES, of)
    for number in range(50):
        who = device(f"d{number}")
        good = judge(Message("t", GOOD), who, rules)
        bad = judge(Message("t", b"{}"), who, rules)
        assert (good.changed is None) == bad.observed


def test_a_message_with_another_topic_is_judged_there_as_it_has_become() -> None:
    there = policy("out@1", name="there", topics=("x/{n}",))
    mover = changing(*CONVERT, 'op = "set_topic", to = "x/1"', name="here")
    verdict = verdict_on(mover, there, payload=b'{"f":50}')
    assert (verdict.policy, carried(verdict)) == ("there", ("x/1", b'{"c":10.0}'))
    verdict = verdict_on(mover, there)
    assert (verdict.action, verdict.policy, verdict.changed) == (Action.HOLD, "there", None)
    assert verdict.failures[0].pointer == "/c"


def test_the_policies_there_transform_it_too_but_bring_it_nowhere_else() -> None:
    mover = changing(*CONVERT, 'op = "set_topic", to = "x"', name="here")
    there = changing('op = "set", path = "/at", value = "x"', schema="out@1", name="there", topics=("x",))
    assert carried(verdict_on(mover, there, payload=b'{"f":50}')) == ("x", b'{"c":10.0,"at":"x"}')
    back = changing('op = "set_topic", to = "t"', schema="out@1", name="there", topics=("x",))
    verdict = verdict_on(mover, back, payload=b'{"f":50}')
    assert (verdict.action, verdict.policy, verdict.changed) == (Action.HOLD, "there", None)
    assert verdict.failures[0].message == "policies have made the topic 'x', and cannot make another one of it"
    broken = changing('op = "remove", path = "/z"', schema="out@1", name="there", topics=("x",))
    verdict = verdict_on(mover, broken, payload=b'{"f":50}')
    assert (verdict.action, verdict.failures[0].pointer) == (Action.HOLD, "/z")


def test_what_failed_here_without_consequences_is_told_beside_what_failed_there() -> None:
    mover = changing(*CONVERT, 'op = "set_topic", to = "x"', name="here")
    watching = policy("out@1", name="watching", level="observe")
    there = policy("out@1", name="there", topics=("x",))
    verdict = verdict_on(mover, watching, there)
    assert [part.policy for part in verdict.parts] == ["watching", "there"]
    assert (verdict.action, verdict.observed, verdict.changed) == (Action.HOLD, False, None)
    verdict = verdict_on(mover, watching, there, payload=b'{"f":50}')
    assert (verdict.action, verdict.observed) == (Action.FORWARD, True)
    assert carried(verdict) == ("x", b'{"c":10.0}')


def test_a_topic_where_devices_may_not_publish_is_none_for_policies_either() -> None:
    rules = generation(FILES, changing('op = "set_topic", to = "x"'), topics=TopicSettings(allowed=(TopicFilter("t"),)))
    verdict = judge(Message("t", GOOD), SENDER, rules)
    assert (verdict.action, verdict.failures[0].keyword) == (Action.HOLD, "topic")


def test_only_topics_with_changes_have_any() -> None:
    rules = generation(FILES, changing(*CONVERT), policy("in@1", name="b", topics=("u",)))
    assert (rules.transforms("t"), rules.transforms("u"), rules.transforms("v")) == (True, False, False)


@frozen
class Letters:
    """A codec of another kind: a letter for the member of that name."""

    def document(self, payload: bytes) -> Any:
        if payload == b"bad":
            raise PayloadError(Failure("/a", "letters", "no letter"))
        return {payload.decode(): 1}

    def encode(self, document: Any) -> bytes:
        if len(document) != 1:
            raise PayloadError(Failure("", "letters", "one letter"))
        return str(next(iter(document))).encode()


@frozen(eq=False)
class Changer:
    """What `changed` needs of a policy."""

    change: Change
    captures: Captures = field(factory=lambda: Captures(("t",)))


def changer(*written: str, to_json: bool) -> Any:
    writes = CARRIER.codec if to_json else Letters()
    return Changer(
        Change(compile_steps(steps(*written)) if written else compile_steps(()), Letters(), writes, to_json, 100)
    )


def test_other_formats_are_carried_on_as_json_or_as_they_came() -> None:
    rename = 'op = "rename", from = "/a", to = "/b"'
    properties = Properties(content_type="x/letters", payload_format_indicator=0)
    message = Message("t", b"a", 1, False, properties)
    as_json = changed(message, [changer(rename, to_json=True)])
    assert as_json.payload == b'{"b":1}'
    assert (as_json.properties.content_type, as_json.properties.payload_format_indicator) == ("application/json", 1)
    assert changed(message, [changer(rename, to_json=False)]) == Message("t", b"b", 1, False, properties)
    assert changed(Message("t", b"a"), [changer(to_json=True)]) == Message("t", b'{"a":1}')


@pytest.mark.parametrize(
    ("payload", "step", "pointer", "words"),
    [
        (b"bad", 'op = "remove", path = "/a"', "/a", "the payload cannot be read: no letter"),
        (b"a", 'op = "remove", path = "/a"', "", "the result cannot be written: one letter"),
        (b"a", 'op = "remove", path = "/b"', "/b", "nothing is there"),
    ],
)
def test_what_cannot_be_read_or_written_fails(payload: bytes, step: str, pointer: str, words: str) -> None:
    with pytest.raises(Exception, match=words) as raised:
        changed(Message("t", payload), [changer(step, to_json=False)])
    assert getattr(raised.value, "failures", ()) == (Failure(pointer, "transform", words),)


def test_an_empty_payload_stays_empty() -> None:
    message = Message("t", b"", 1, True)
    assert changed(message, [changer('op = "remove", path = "/a"', to_json=True)]) is message
    assert changed(message, [changer('op = "set_topic", to = "x"', to_json=True)]) == Message("x", b"", 1, True)
