"""Every level with every action, and what `judge` promises of itself."""

import itertools
from typing import Any

import pytest

from mqttproxy.config.model import DefaultSettings, TopicFilter, TopicSettings
from mqttproxy.mqtt.packets import Message, Properties, Publish, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Failure, Verdict, generation as rules_module, identity_of_upstream, judge
from tests.validation.schema_shelf import SENDER, generation, policy, verdict_on

NUMBER = {"t/1.json": {"type": "number"}}
BAD, GOOD = b'"x"', b"1"


def test_a_good_message_gets_the_shared_verdict_of_its_policy() -> None:
    rules = generation(NUMBER, policy())
    assert verdict_on(rules, GOOD) == Verdict(action=Action.FORWARD, policy="p", schema="t@1")
    assert verdict_on(rules, GOOD) is verdict_on(rules, b"2")


def test_a_bad_message_is_explained() -> None:
    assert verdict_on(generation(NUMBER, policy()), BAD) == Verdict(
        action=Action.HOLD,
        policy="p",
        schema="t@1",
        failures=(Failure("", "type", "'x' is not of type \"number\""),),
        reason=ReasonCode.PAYLOAD_FORMAT_INVALID,
    )


@pytest.mark.parametrize(
    ("on_failure", "action"),
    [
        (("hold",), Action.HOLD),
        (("refuse",), Action.REFUSE),
        (("mark",), Action.FORWARD),
        (("alert",), Action.REFUSE),
        (("disconnect",), Action.REFUSE),
        (("alert", "disconnect"), Action.REFUSE),
        (("mark", "hold"), Action.HOLD),
        (("mark", "refuse"), Action.REFUSE),
        (("refuse", "hold"), Action.HOLD),
        (("mark", "alert"), Action.FORWARD),
    ],
)
def test_a_failed_message_is_carried_only_where_the_policy_says_mark(on_failure: Any, action: Action) -> None:
    verdict = verdict_on(generation(NUMBER, policy(on_failure=on_failure)), BAD)
    assert verdict.action is action
    assert verdict.mark is (action is Action.FORWARD)
    assert verdict.alert is ("alert" in on_failure)
    assert verdict.disconnect is ("disconnect" in on_failure)
    assert verdict.failures
    assert not verdict.observed


ACTIONS = ("mark", "hold", "alert", "refuse", "disconnect")


@pytest.mark.parametrize("on_failure", [c for n in (1, 2, 5) for c in itertools.combinations(ACTIONS, n)])
def test_observing_reports_and_forwards_whatever_the_actions_are(on_failure: Any) -> None:
    verdict = verdict_on(generation(NUMBER, policy(level="observe", on_failure=on_failure)), BAD)
    assert verdict.action is Action.FORWARD
    assert verdict.observed
    assert verdict.failures
    assert verdict.alert is ("alert" in on_failure)
    assert not verdict.mark
    assert not verdict.disconnect


def test_a_policy_that_is_off_forwards_without_judging() -> None:
    verdict = verdict_on(generation(NUMBER, policy(level="off")), b"{")
    assert verdict == Verdict(action=Action.FORWARD, policy="p")


def test_a_policy_that_is_off_hides_no_other_and_covers_its_topics_all_the_same() -> None:
    rules = generation(NUMBER, policy(level="off", final=True), policy(name="q", topics=("#",)))
    assert verdict_on(rules, BAD).policy == "q"
    refusing = generation(NUMBER, policy(level="off"), default=DefaultSettings(action="refuse"))
    assert not verdict_on(refusing, BAD).failures
    assert verdict_on(refusing, BAD, "u").failures


def test_the_first_of_the_policies_in_the_file_names_a_good_verdict() -> None:
    files = {**NUMBER, "s/1.json": {"type": ["string", "number"]}}
    general = policy("s@1", name="general", topics=("a/#",))
    special = policy("t@1", name="special", topics=("a/b", "+/c"))
    assert verdict_on(generation(files, general, special), GOOD, "a/b").policy == "general"
    assert verdict_on(generation(files, special, general), GOOD, "a/b").policy == "special"
    assert verdict_on(generation(files, special, general), GOOD, "a/c").policy == "special"
    assert verdict_on(generation(files, special, general), GOOD, "a").policy == "general"


@pytest.mark.parametrize(
    ("action", "expected"), [("forward", Action.FORWARD), ("refuse", Action.REFUSE), ("hold", Action.HOLD)]
)
def test_topics_without_a_policy_get_the_default(action: Any, expected: Action) -> None:
    verdict = verdict_on(generation(NUMBER, policy(), default=DefaultSettings(action=action)), b"\xff", "other")
    assert verdict.action is expected
    if action == "forward":
        assert verdict == Verdict(action=Action.FORWARD)
    else:
        assert verdict.failures == (Failure("", "policy", "no policy covers this topic"),)
        assert verdict.reason is ReasonCode.TOPIC_NAME_INVALID


@pytest.mark.parametrize(
    ("on_failure", "action"),
    [(("hold",), Action.HOLD), (("refuse",), Action.REFUSE), (("alert", "disconnect"), Action.REFUSE)],
)
def test_topics_that_are_not_allowed_come_before_any_policy(on_failure: Any, action: Action) -> None:
    topics = TopicSettings(allowed=(TopicFilter("sensors/+/t"), TopicFilter("u/#")), on_failure=on_failure)
    rules = generation(NUMBER, policy(topics=("#",), level="off"), topics=topics)
    verdict = verdict_on(rules, GOOD, "actors/1/t")
    assert verdict.action is action
    assert verdict.reason is ReasonCode.TOPIC_NAME_INVALID
    assert [failure.keyword for failure in verdict.failures] == ["topic"]
    assert verdict.alert is verdict.disconnect is ("alert" in on_failure)
    for topic in ("sensors/1/t", "u", "u/v/w"):
        assert not verdict_on(rules, GOOD, topic).failures


def test_dollar_topics_need_a_filter_of_their_own() -> None:
    assert verdict_on(generation(NUMBER), GOOD, "$app/x").failures
    topics = TopicSettings(allowed=(TopicFilter("#"), TopicFilter("$app/#")))
    assert not verdict_on(generation(NUMBER, topics=topics), GOOD, "$app/x").failures
    assert verdict_on(generation(NUMBER, policy(topics=("#",)), topics=topics), BAD, "$app/x").policy is None


def test_wills_and_publishes_are_judged_like_any_message() -> None:
    rules = generation(NUMBER, policy())
    for kind in (Message, Publish, Will):
        assert judge(kind("t", BAD), SENDER, rules).failures


def test_the_same_message_always_gets_the_same_verdict() -> None:
    rules = generation(NUMBER, policy())
    message = Message("t", BAD)
    first = judge(message, SENDER, rules)
    for _ in range(3):
        verdict_on(rules, b"{", "elsewhere")
        assert judge(message, SENDER, rules) == first


def test_the_memory_of_topics_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "CACHED_TOPICS", 10)
    rules = generation(NUMBER, policy(topics=("a/+",)))
    for number in range(100):
        assert verdict_on(rules, BAD, f"a/{number}").failures
        assert not verdict_on(rules, BAD, f"b/{number}").failures
        assert len(rules.scopes) <= 10


def test_a_hot_topic_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = generation(NUMBER, policy())
    verdict_on(rules, GOOD)
    monkeypatch.setattr(type(rules), "scope_of", None)
    assert not verdict_on(rules, GOOD).failures


class TestDirections:
    """Policies for what devices send, for what upstreams send to them, and for both."""

    @pytest.mark.parametrize(
        ("direction", "up", "down"),
        [
            ("up", Action.HOLD, Action.FORWARD),
            ("down", Action.FORWARD, Action.HOLD),
            ("both", Action.HOLD, Action.HOLD),
        ],
    )
    def test_a_policy_judges_the_messages_of_its_direction(self, direction: Any, up: Action, down: Action) -> None:
        rules = generation(NUMBER, policy(direction=direction))
        assert verdict_on(rules, BAD).action is up
        assert verdict_on(rules.down, BAD).action is down
        assert not verdict_on(rules.down, GOOD).failures

    def test_all_policies_of_the_direction_apply(self) -> None:
        first = policy(name="first", direction="down", on_failure=("refuse",))
        rules = generation(NUMBER, first, policy(name="second", direction="both"))
        assert verdict_on(rules, BAD).policy == "second"
        assert not verdict_on(rules, BAD).parts
        assert [part.policy for part in verdict_on(rules.down, BAD).parts] == ["first", "second"]

    @pytest.mark.parametrize(
        "settings",
        [
            {"default": DefaultSettings(action="hold")},
            {"topics": TopicSettings(allowed=(TopicFilter("none"),))},
        ],
    )
    def test_default_action_and_allowed_topics_are_for_devices_only(self, settings: Any) -> None:
        rules = generation(NUMBER, policy(topics=("other",), direction="both"), **settings)
        assert verdict_on(rules, GOOD).action is Action.HOLD
        assert verdict_on(rules.down, GOOD) == Verdict(action=Action.FORWARD)

    def test_topics_of_the_upstreams_server_can_have_a_policy(self) -> None:
        rules = generation(NUMBER, policy(topics=("$SYS/#",), direction="down"))
        message = Message("$SYS/load", BAD)
        assert judge(message, SENDER, rules.down).action is Action.HOLD

    def test_nobody_is_disconnected_for_what_an_upstream_sends(self) -> None:
        rules = generation(NUMBER, policy(direction="both", on_failure=("disconnect",)))
        assert verdict_on(rules, BAD).disconnect
        down = verdict_on(rules.down, BAD)
        assert (down.action, down.disconnect) == (Action.REFUSE, False)

    def test_broken_text_is_refused_in_both_directions(self) -> None:
        rules = generation(NUMBER)
        message = Message("t", b"\xff", properties=Properties(payload_format_indicator=1))
        for direction in (rules, rules.down):
            verdict = judge(message, SENDER, direction)
            assert (verdict.action, verdict.reason) == (Action.REFUSE, ReasonCode.PAYLOAD_FORMAT_INVALID)

    def test_an_upstream_as_a_sender_has_no_client_identifier(self) -> None:
        identity = identity_of_upstream("b")
        assert (identity.client_id, identity.username) == ("", None)
        assert (identity.address, identity.listener) == ("b", "upstream:b")
