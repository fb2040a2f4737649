from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.config.load import parse_config
from mqttproxy.config.model import ProxyConfig
from mqttproxy.explain import Backtest, backtest
from mqttproxy.mqtt.packets import Properties
from mqttproxy.recorder import Recorded
from mqttproxy.validation import Generation, build_generation
from tests.fake_rooms import Shelf
from tests.plugins import pretend
from tests.recorder.examples import NOW, make

FILES: dict[str, Any] = {"number/1.json": {"type": "number"}, "number/2.json": {"type": "integer", "minimum": 0}}
POLICY = '[[policies]]\nname = "numbers"\ntopics = ["n/#"]\nschema = "number@{}"\n'


def rules(text: str) -> tuple[ProxyConfig, Generation]:
    config = parse_config(text, "proxy.toml", Path("/"), unreadable=lambda _: None)
    return config, build_generation(1, config, Shelf(FILES))


def compare(recorded: Iterable[Recorded], now: str = POLICY.format(1), then: str = POLICY.format(2)) -> Backtest:
    config, generation = rules(now)
    return backtest(recorded, config, generation, rules(then)[1])


def on(payload: bytes, number: int = 1, **told: Any) -> Recorded:
    return make(number, topic="n/1", payload=payload, **told)


def test_each_message_is_judged_by_both() -> None:
    result = compare(
        [on(b"1"), on(b"1.5", 2, attributes={"fw": "2"}), on(b'"x"', 3, action="held", failures=(("", "type", ""),))]
    )
    assert result.comparison.total.as_document() == {
        "both_pass": 1, "would_break": 1, "would_heal": 0, "both_fail": 1,
    }  # fmt: skip
    (sample,) = result.comparison.samples("would_break")
    assert (sample.id, sample.device, sample.topic, sample.outcome.policies) == ("gw.1.2", "d", "n/1", ("numbers",))
    assert list(result.comparison.tables["attribute"].rows) == ["fw = 2"]
    assert (result.messages, result.masked, result.hidden, result.otherwise) == (3, 0, 0, 0)


def test_a_policy_that_begins_to_enforce_would_break_what_it_only_observed() -> None:
    observed = POLICY.format(1) + 'level = "observe"\n'
    bad = on(b'"x"', action="observed", failures=(("", "type", ""),))
    assert compare([bad], observed, POLICY.format(1)).comparison.total.would_break == 1
    assert compare([bad], POLICY.format(1), observed).comparison.total.would_heal == 1


def test_the_sender_is_the_one_of_then() -> None:
    new = POLICY.format(2) + '[policies.when]\nattributes = { fw = ">=2" }\n'
    result = compare([on(b"1.5", attributes={"fw": "1"}), on(b"1.5", attributes={"fw": "2"})], then=new)
    assert (result.comparison.total.both_pass, result.comparison.total.would_break) == (1, 1)


def test_what_only_proxies_may_say_of_a_message_is_not_judged() -> None:
    new = '[[policies]]\nname = "marked"\ntopics = ["n/#"]\n[policies.require]\nuser_properties = ["mp-policy"]\n'
    lie = on(b"1", properties=Properties(user_properties=(("mp-policy", "x"),)))
    assert compare([lie], then=new).comparison.total.would_break == 1


def test_masked_messages_are_counted_and_those_masked_as_a_whole_are_not_judged() -> None:
    result = compare([on(b"1", masked="partly"), on(b"*** 5 bytes", 2, masked="wholly")])
    assert (result.messages, result.comparison.total.messages) == (2, 1)
    assert (result.masked, result.hidden) == (1, 1)


def test_messages_that_were_judged_otherwise_when_they_came_are_counted() -> None:
    held: dict[str, Any] = {"action": "held", "failures": (("", "quota", ""),)}
    observed: dict[str, Any] = {"action": "observed", "failures": (("", "type", ""),)}
    assert compare([on(b"1", **held), on(b"1"), on(b"1", **observed)]).otherwise == 1


def test_the_time_that_they_are_from_is_told() -> None:
    result = compare([on(b"1", at=NOW + 5), on(b"1", at=NOW), on(b"1", at=NOW + 2)])
    assert (result.first, result.last) == (NOW, NOW + 5)


def test_plug_in_checks_are_not_asked_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "anybody")
    new = POLICY.format(1) + '[[policies.plugins]]\nname = "anybody"\n'
    result = compare([on(b"1")], then=new)
    assert (result.comparison.total.both_pass, result.without_plugins) == (1, True)
    assert not compare([on(b"1")]).without_plugins
