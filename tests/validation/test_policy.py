"""Several policies for one topic: which of them judge, for whom, and what becomes of a message that fails some."""

import itertools
from typing import Any

import pytest

from mqttproxy.config.model import (
    Bytes,
    Conditions,
    DefaultSettings,
    ExpressionSettings,
    PolicySettings,
    RequireSettings,
    WhenSettings,
)
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Failure, Identity, generation as rules_module, identity_of_upstream, judge
from mqttproxy.validation.gate import read
from mqttproxy.validation.policy import Captures
from mqttproxy.validation.selector import place_of
from tests.validation.schema_shelf import SENDER, generation, policy, verdict_on

FILES = {"t/1.json": {"type": "number"}, "t/2.json": {"type": "number", "maximum": 10}, "s/1.json": {"type": "string"}}
BAD, GOOD = b'"x"', b"1"


def bare(**settings: Any) -> PolicySettings:
    """Return a policy without a schema."""
    return PolicySettings(**{"name": "p", "topics": ("t",), **settings})


def device(client_id: str = "dev-1", **attributes: str) -> Identity:
    return Identity(client_id, None, "192.0.2.1", "plain", attributes)


class TestOrder:
    """All that apply judge: higher priority first, then as they stand in the file."""

    def test_a_message_must_pass_all_policies_and_is_told_all_failures(self) -> None:
        rules = generation(FILES, policy("t@1", name="a"), policy("s@1", name="b"), policy("t@2", name="c"))
        verdict = verdict_on(rules, b"[]")
        assert (verdict.policy, verdict.schema) == ("a", "t@1")
        assert [part.policy for part in verdict.parts] == ["a", "b", "c"]
        assert verdict.failures == tuple(failure for part in verdict.parts for failure in part.failures)
        assert len(verdict.failures) == 3

    def test_one_that_fails_is_as_if_it_were_alone(self) -> None:
        rules = generation(FILES, policy("t@1", name="a"), policy("t@2", name="c"))
        assert verdict_on(rules, b"11") == verdict_on(generation(FILES, policy("t@2", name="c")), b"11")

    @pytest.mark.parametrize("payload", [b"1", b"11", b'"x"', b"[", b'{"a": 1, "a": 2}', b"[" + b"1," * 20_000 + b"1]"])
    def test_schemas_that_share_what_was_read_say_what_each_says_alone(self, payload: bytes) -> None:
        all_ = [policy(schema, name=schema) for schema in ("t@1", "s@1", "t@2")]
        alone = [found for one in all_ if (found := verdict_on(generation(FILES, one), payload)).failures]
        together = verdict_on(generation(FILES, *all_), payload)
        assert list(together.parts or ((together,) if together.failures else ())) == alone

    def test_json_is_read_once_however_many_look_at_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []

        def read_and_note(payload: bytes, max_depth: int, max_items: int) -> object:
            seen.append(payload)
            return read(payload, max_depth, max_items)

        monkeypatch.setattr("mqttproxy.validation.checks.read", read_and_note)
        expression = ExpressionSettings(expression="payload > 0.0")
        rules = generation(FILES, policy("t@1", expressions=(expression,)), policy("t@2", name="q"))
        assert not verdict_on(rules, b"1.5").failures
        assert seen == [b"1.5"]

    def test_higher_priority_comes_first_and_equal_ones_as_in_the_file(self) -> None:
        names = {"a": 0, "b": 5, "c": -1, "d": 5}
        rules = generation(FILES, *(policy(name=name, priority=priority) for name, priority in names.items()))
        assert [part.policy for part in verdict_on(rules, BAD).parts] == ["b", "d", "a", "c"]
        assert verdict_on(rules, GOOD).policy == "b"

    def test_behind_a_final_policy_nobody_judges(self) -> None:
        rules = generation(
            FILES,
            policy(name="a"),
            policy("t@2", name="b", priority=1, final=True),
            policy("s@1", name="c", priority=2),
        )
        assert [part.policy for part in verdict_on(rules, b"[]").parts] == ["c", "b"]

    def test_a_final_policy_that_does_not_apply_stops_nobody(self) -> None:
        for first in (
            bare(name="f", final=True, format="raw", when=WhenSettings(client_id=("other",))),
            bare(name="f", final=True, format="raw", level="off"),
            bare(name="f", final=True, format="raw", direction="down"),
            bare(name="f", final=True, format="raw", topics=("u",)),
        ):
            assert verdict_on(generation(FILES, first, policy(name="a")), BAD).policy == "a"

    def test_a_final_policy_that_lets_all_through_makes_an_exception(self) -> None:
        exception = bare(name="f", final=True, format="raw", when=WhenSettings(client_id=("dev-*",)))
        rules = generation(FILES, exception, policy(name="a"))
        assert not judge(Message("t", BAD), device(), rules).failures
        assert judge(Message("t", BAD), device("other"), rules).policy == "a"


ACTIONS = ("mark", "hold", "refuse", "disconnect")


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ACTIONS, repeat=2)))
def test_the_strictest_action_that_keeps_the_message_carries(first: str, second: str) -> None:
    rules = generation(FILES, policy(name="a", on_failure=(first,)), policy("t@2", name="b", on_failure=(second,)))
    verdict = verdict_on(rules, BAD)
    both = {first, second}
    expected = Action.HOLD if "hold" in both else Action.REFUSE if both & {"refuse", "disconnect"} else Action.FORWARD
    assert verdict.action is expected
    assert verdict.mark is (expected is Action.FORWARD)
    assert verdict.disconnect is ("disconnect" in both)
    assert verdict.policy == "a"


class TestObserving:
    """What a policy that only observes finds never changes what becomes of a message."""

    def test_it_adds_nothing_to_what_a_device_is_told(self) -> None:
        enforced = policy(name="a", on_failure=("refuse",))
        watching = policy("s@1", name="b", level="observe", priority=1, on_failure=("hold", "disconnect", "alert"))
        verdict = verdict_on(generation(FILES, enforced, watching), b"[]")
        alone = verdict_on(generation(FILES, enforced), b"[]")
        assert (verdict.action, verdict.failures, verdict.policy) == (alone.action, alone.failures, "a")
        assert not verdict.disconnect
        assert verdict.alert
        assert [(part.policy, part.observed) for part in verdict.parts] == [("b", True), ("a", False)]
        assert [part.policy for part in verdict.told] == ["a"]

    def test_where_all_observe_it_is_carried_and_told_of_all(self) -> None:
        rules = generation(FILES, policy(name="a", level="observe"), policy("t@2", name="b", level="observe"))
        verdict = verdict_on(rules, BAD)
        assert (verdict.action, verdict.observed, verdict.mark) == (Action.FORWARD, True, False)
        assert [part.policy for part in verdict.told] == ["a", "b"]
        assert len(verdict.failures) == 2

    def test_a_good_message_of_an_enforced_policy_that_another_observes_is_observed(self) -> None:
        verdict = verdict_on(generation(FILES, policy(name="a"), policy("s@1", name="b", level="observe")), GOOD)
        assert (verdict.action, verdict.observed, verdict.policy) == (Action.FORWARD, True, "b")


class TestSenders:
    """Selectors and shares."""

    def test_firmwares_have_their_own_versions_of_a_schema(self) -> None:
        old = policy("t@1", name="old", when=WhenSettings(attributes=Conditions((("firmware", ("<2.1",)),))))
        new = policy("t@2", name="new", when=WhenSettings(attributes=Conditions((("firmware", (">=2.1",)),))))
        rules = generation(FILES, old, new, default=DefaultSettings(action="refuse"))
        message = Message("t", b"11")
        assert not judge(message, device(firmware="2.0.9"), rules).failures
        assert judge(message, device(firmware="2.10"), rules).policy == "new"
        for unknown in (device(), device(firmware="nightly")):
            assert judge(message, unknown, rules).reason is ReasonCode.TOPIC_NAME_INVALID

    def test_the_same_identity_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rules = generation(FILES, policy(when=WhenSettings(client_id=("dev-*",))))
        assert judge(Message("t", BAD), SENDER, rules).failures
        monkeypatch.setattr(type(rules), "_seat", None)
        assert judge(Message("t", BAD), SENDER, rules).failures
        assert not judge(Message("t", GOOD), SENDER, rules).failures

    def test_the_memory_of_identities_is_bounded_and_never_mistakes_one_for_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rules_module, "CACHED_IDENTITIES", 5)
        rules = generation(FILES, policy(when=WhenSettings(client_id=("*-1", "*-2"))))
        for number in range(200):  # each is gone at once, so that its place in memory is used again
            name = f"dev-{number % 7}"
            assert bool(judge(Message("t", BAD), device(name), rules).failures) is (name in {"dev-1", "dev-2"})
            assert len(rules._chosen) <= 5

    def test_a_share_of_the_devices_feels_the_policy_and_the_others_are_observed(self) -> None:
        rules = generation(FILES, policy(percent=30))
        held = 0
        for number in range(500):
            verdicts = {judge(Message("t", BAD), device(f"d{number}"), rules).observed for _ in range(2)}
            assert verdicts == {place_of("p", f"d{number}") >= 30}
            held += verdicts == {False}
        assert 100 < held < 200

    @pytest.mark.parametrize(("percent", "observed"), [(0, True), (100, False)])
    def test_none_and_all_need_not_ask_who(self, percent: float, observed: bool) -> None:
        rules = generation(FILES, policy(percent=percent))
        assert rules.scope_of("t").contract is not None
        assert verdict_on(rules, BAD).observed is observed

    def test_a_share_of_devices_is_none_of_the_upstreams(self) -> None:
        rules = generation(FILES, policy(percent=99.9, direction="both"))
        assert judge(Message("t", BAD), identity_of_upstream("a"), rules.down).observed

    def test_an_upstream_can_be_chosen_by_the_way_it_comes_in(self) -> None:
        rules = generation(FILES, policy(direction="down", when=WhenSettings(listener=("upstream:b",))))
        assert judge(Message("t", BAD), identity_of_upstream("b"), rules.down).failures
        assert not judge(Message("t", BAD), identity_of_upstream("a"), rules.down).failures


class TestStrategy:
    """All checks of a policy, or any."""

    def test_all_failures_of_all_checks_are_told_each_once(self) -> None:
        rules = generation(FILES, policy(require=RequireSettings(qos=(1,), max_bytes=Bytes(1))))
        verdict = verdict_on(rules, BAD)
        assert [failure.keyword for failure in verdict.failures] == ["qos", "size", "type"]
        assert verdict.reason is ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR

    def test_any_good_check_is_enough(self) -> None:
        rules = generation(FILES, policy(strategy="any", require=RequireSettings(content_type=("text/*",))))
        assert not verdict_on(rules, GOOD).failures
        assert not verdict_on(rules, BAD, content_type="text/plain").failures
        assert [failure.keyword for failure in verdict_on(rules, BAD).failures] == ["content-type", "type"]

    def test_failures_of_payloads_are_answered_with_payload_format_invalid(self) -> None:
        rules = generation(FILES, bare(format="none"))
        assert verdict_on(rules, b"x").reason is ReasonCode.PAYLOAD_FORMAT_INVALID
        assert verdict_on(rules, b"x").failures == (
            Failure("", "format", "a payload of 1 bytes, where none is allowed"),
        )


class TestFormats:
    """What the payload indicator says is checked by those who read text, or before them."""

    @pytest.mark.parametrize("settings", [{"format": "raw"}, {"require": RequireSettings(qos=(0,))}])
    def test_broken_text_is_refused_where_no_policy_reads_text(self, settings: Any) -> None:
        rules = generation(FILES, bare(level="observe", **settings))
        verdict = judge(Message("t", b"\xff", properties=Properties(payload_format_indicator=1)), SENDER, rules)
        assert (verdict.action, verdict.policy) == (Action.REFUSE, None)

    @pytest.mark.parametrize("settings", [{"format": "text"}, {"format": "json"}])
    def test_a_policy_that_reads_text_says_itself_what_becomes_of_it(self, settings: Any) -> None:
        rules = generation(FILES, bare(**settings))
        verdict = judge(Message("t", b"\xff", properties=Properties(payload_format_indicator=1)), SENDER, rules)
        assert (verdict.action, verdict.policy) == (Action.HOLD, "p")

    def test_a_policy_that_need_not_read_text_does_not_hide_that_it_is_broken(self) -> None:
        rules = generation(FILES, bare(format="json", strategy="any", require=RequireSettings(qos=(0,))))
        verdict = judge(Message("t", b"\xff", properties=Properties(payload_format_indicator=1)), SENDER, rules)
        assert verdict.failures


def test_topics_share_what_is_known_of_them() -> None:
    rules = generation(FILES, policy(name="a", topics=("a/+",)), policy("t@2", name="b", topics=("a/#",)))
    assert rules.scope_of("a/1") is rules.scope_of("a/2")
    assert rules.scope_of("a/1/2") is not rules.scope_of("a/2")


def test_one_schema_is_judged_without_looking_at_anything_else() -> None:
    for settings in ({}, {"level": "observe"}, {"strategy": "any"}, {"format": "json"}, {"priority": 3, "final": True}):
        assert generation(FILES, policy(**settings)).scope_of("t").contract is not None


def test_names_stand_for_levels_of_the_first_filter_that_matches() -> None:
    captures = Captures(("sensor/{device}/+", "{area}/{device}/#"))
    assert captures.filters == ("sensor/+/+", "+/+/#")
    assert captures.names == {"device"}
    assert captures.of("sensor/7/t") == {"device": "7"}
    assert captures.of("plant/7") == {"area": "plant", "device": "7"}
    assert Captures(("a/#",)).of("a/b") == {}
    assert Captures(("{a}/{b}",)).of("/") == {"a": "", "b": ""}
