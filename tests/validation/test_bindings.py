"""`[[policies.bindings]]`: one policy, and a schema for each kind of sender."""

from typing import Any

import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import BindingSettings, Conditions, ExpressionSettings, WhenSettings
from mqttproxy.mqtt.packets import Message
from mqttproxy.validation import Generation, Verdict, judge
from mqttproxy.validation.trace import Bound, trace
from tests.validation.schema_shelf import generation, policy
from tests.validation.test_policy import FILES, device
from tests.validation.transforms.steps import steps

SHELF = FILES | {
    "o/1.json": {"type": "object"},
    "p/1.proto": b'syntax = "proto3";\nmessage P { int32 a = 1; }\n',
    "p/subject.toml": b'[protobuf]\nmessage = "P"\n',
}


def binding(schema: str, **when: Any) -> BindingSettings:
    return BindingSettings(schema=schema, when=WhenSettings(**when))


def firmware(condition: str) -> dict[str, Any]:
    return {"attributes": Conditions((("firmware", (condition,)),))}


NEWER = (binding("s@1", **firmware(">=3")), binding("t@2", **firmware(">=2.1")), binding("s@1", client_id=("x*",)))


def verdict(rules: Generation, payload: bytes, client_id: str = "d", **attributes: str) -> Verdict:
    return judge(Message("t", payload), device(client_id, **attributes), rules)


@pytest.mark.parametrize(
    ("client_id", "attributes", "schema"),
    [
        ("d", {}, "t@1"),
        ("d", {"firmware": "2.0.9"}, "t@1"),
        ("d", {"firmware": "2.1"}, "t@2"),
        ("d", {"firmware": "3"}, "s@1"),
        ("x1", {"firmware": "2.1"}, "t@2"),
        ("x1", {}, "s@1"),
    ],
)
def test_the_first_that_fits_holds_and_otherwise_the_schema_of_the_policy(
    client_id: str, attributes: dict[str, str], schema: str
) -> None:
    rules = generation(SHELF, policy(bindings=NEWER))
    found = verdict(rules, b"[]", client_id, **attributes)
    assert (found.schema, found.failures[0].keyword) == (schema, "type")
    good = b'"x"' if schema == "s@1" else b"1"
    assert verdict(rules, good, client_id, **attributes).failures == ()
    assert verdict(rules, good, client_id, **attributes).schema == schema


def test_one_that_asks_for_nothing_else_is_judged_on_the_short_way() -> None:
    rules = generation(SHELF, policy(bindings=NEWER))
    seated = rules.scope_for(rules.scope_of("t"), device(firmware="2.1"))
    assert seated.contract is not None
    assert seated.contract.name == "t@2"
    assert seated is rules.scope_for(rules.scope_of("t"), device(firmware="2.2"))


def test_a_share_of_the_devices_is_the_same_whatever_schema_they_have() -> None:
    rules = generation(SHELF, policy(bindings=NEWER, percent=30.0))
    for number in range(50):
        name = f"d{number}"
        assert verdict(rules, b"[]", name).observed is verdict(rules, b"[]", name, firmware="2.1").observed


def test_all_else_of_the_policy_stays() -> None:
    asked = (ExpressionSettings(expression="payload != 5"),)
    rules = generation(
        SHELF, policy("o@1", bindings=(binding("t@2", **firmware("2")),), expressions=asked, on_failure=("refuse",))
    )
    found = verdict(rules, b"5", firmware="2")
    assert (found.action.value, [failure.keyword for failure in found.failures]) == ("refuse", ["expression"])
    assert verdict(rules, b"{}", firmware="1").failures == ()


def test_a_schema_of_another_kind_reads_its_own_payloads_and_transforms_them() -> None:
    rules = generation(
        SHELF,
        policy(
            "o@1", bindings=(binding("p@1", **firmware("2")),), transforms=steps('op = "set", path = "/a", value = 7')
        ),
    )
    changed = verdict(rules, b"\x08\x05", firmware="2").changed
    assert changed is not None
    assert changed.payload == b"\x08\x07"
    changed = verdict(rules, b'{"a":1}').changed
    assert changed is not None
    assert changed.payload == b'{"a":7}'


def test_the_way_down_has_them_too_and_no_device_to_disconnect() -> None:
    bound = policy(bindings=(binding("s@1", listener=("upstream:a",)),), direction="both", on_failure=("disconnect",))
    rules = generation(SHELF, bound)
    for one in (*rules.policies[0].bindings, *rules.down.policies[0].bindings):
        assert one.policy.failed.disconnect is (one in rules.policies[0].bindings)


def test_an_explanation_tells_which_were_looked_at_and_why_they_do_not_fit() -> None:
    rules = generation(SHELF, policy(bindings=NEWER))
    (step,) = trace(Message("t", b"[]"), device(firmware="2.1"), rules).steps
    assert step.bindings == (Bound("s@1", "attribute firmware '2.1' is not '>=3'"), Bound("t@2", ""))
    assert step.verdict is not None
    assert step.verdict.schema == "t@2"
    (step,) = trace(Message("t", b"[]"), device(), rules).steps
    assert [bound.why_not for bound in step.bindings] == [
        "the sender has no attribute firmware",
        "the sender has no attribute firmware",
        "client_id 'dev-1' is not 'x*'",
    ]


def test_which_topics_have_them_is_known() -> None:
    rules = generation(SHELF, policy(bindings=NEWER), policy(name="q", topics=("q",)))
    assert (rules.binds("t"), rules.binds("q")) == (True, False)


def test_what_is_wrong_with_each_is_told_once() -> None:
    with pytest.raises(ConfigError) as caught:
        generation(
            SHELF,
            policy(
                format="json",
                bindings=(binding("p@1", client_id=("x",)), binding("none@1", client_id=("y",))),
                expressions=(ExpressionSettings(expression="payload >"),),
            ),
        )
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == 1
    assert faults[0].startswith("proxy.toml: policies[0].bindings[1].schema: ")
    with pytest.raises(ConfigError) as caught:
        generation(
            SHELF,
            policy(
                format="json",
                bindings=(binding("p@1", client_id=("x",)),),
                expressions=(ExpressionSettings(expression="payload >"),),
            ),
        )
    keys = [fault.key for fault in caught.value.faults]
    assert keys == ["policies[0].format", "policies[0].expressions[0].expression"]
