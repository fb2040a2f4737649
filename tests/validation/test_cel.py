"""Conditions in CEL: what they know, that errors fail closed, and that nothing they cost can hold the proxy."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import ExpressionSettings, PayloadSettings
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.validation import Action, Identity, identity_of_upstream, judge
from mqttproxy.validation.budget import JUDGING
from mqttproxy.validation.cel import ExpressionCheck, ExpressionError, compile_expression
from mqttproxy.validation.checks import Case, Decode, decode_bytes, decode_text, json_decoder
from mqttproxy.validation.policy import Captures
from tests.validation.schema_shelf import generation, policy, verdict_on

IDENTITY = Identity("tx9", None, "192.0.2.1", "tls", {"firmware": "2.1"})
DECODE = json_decoder(PayloadSettings())
TOPIC = "sensor/tx9/temperature"


def compiled(text: str, decode: Decode = DECODE, words: str | None = None) -> ExpressionCheck:
    return compile_expression(text, words, Captures(("sensor/{device}/{kind}",)), decode, 1.0)


def told(
    text: str, payload: object = None, *, decode: Decode = DECODE, properties: Properties = NO_PROPERTIES, qos: int = 0
) -> list[str]:
    data = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    case = Case(Message(TOPIC, data, qos, properties=properties), IDENTITY)
    return [f"{failure.keyword}: {failure.message}" for failure in compiled(text, decode).failures(case)]


RICH = Properties(
    content_type="a/b",
    response_topic="r",
    correlation_data=b"c",
    payload_format_indicator=1,
    message_expiry_interval=60,
    user_properties=(("unit", "C"), ("a b", "1"), ("twice", "1"), ("twice", "2")),
)


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("payload.celsius > -40.0", {"celsius": 21}),
        ("payload.celsius > -40", {"celsius": 21.5}),
        ("payload.list.all(x, x > 0) && payload.list[0] == 1", {"list": [1, 2]}),
        ("!has(payload.unit) || payload.unit in ['C', 'F']", {}),
        ("payload.name.matches('^[a-z]+$')", {"name": "abc"}),
        ("payload == null", None),
        ("payload['a b'] == true", {"a b": True}),
        ("topic == 'sensor/tx9/temperature'", None),
        ("captures.device == identity.client_id && captures['kind'] == 'temperature'", None),
        ("identity.username == null && identity.listener == 'tls' && identity.address.startsWith('192.')", None),
        ("identity.attributes.firmware == '2.1'", None),
        ("!('site' in identity.attributes)", None),
        ("properties.qos == 0 && !properties.retain && properties.user == {}", None),
        ("!has(properties.content_type) && !has(properties.expiry)", None),
    ],
)
def test_a_condition_that_is_true_is_good(text: str, payload: object) -> None:
    assert told(text, payload) == []


@pytest.mark.parametrize(
    "text",
    [
        "properties.content_type == 'a/b' && properties.response_topic == 'r'",
        "properties.correlation_data == b'c' && properties.payload_format_indicator == 1 && properties.expiry <= 60",
        "properties.user.unit == 'C' && properties.user['a b'] == '1'",
        "properties.user.twice == ['1', '2']",
    ],
)
def test_conditions_know_the_properties_of_a_message(text: str) -> None:
    assert told(text, properties=RICH) == []


def test_payloads_are_what_their_format_says() -> None:
    assert told("payload == 'grün'", "grün".encode(), decode=decode_text) == []
    assert told("payload == b'\\xff' && size(payload) == 1", b"\xff", decode=decode_bytes) == []


@pytest.mark.parametrize(
    ("text", "payload", "words"),
    [
        ("payload.x > 1", {"x": 1}, "not true: payload.x > 1"),
        ("payload.x > 1", {}, 'not true: payload.x > 1 (it cannot be told: Key not found in map : "x")'),
        (
            "payload.x > 1",
            {"x": "2"},
            "not true: payload.x > 1 (it cannot be told: No matching overloads found : _>_(string, int64))",
        ),
        ("1 / payload.x > 0", {"x": 0}, "not true: 1 / payload.x > 0 (it cannot be told: divide by zero)"),
    ],
)
def test_what_is_false_or_cannot_be_told_fails(text: str, payload: object, words: str) -> None:
    assert told(text, payload) == [f"expression: {words}"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abx", max_size=2), inner, max_size=3),
        max_leaves=8,
    )
)
@settings(deadline=None)
def test_any_document_is_good_only_if_the_condition_holds(document: Any) -> None:
    """Errors come back from the engine as values that Python takes for true."""
    holds = isinstance(document, dict) and type(document.get("x")) in {int, float} and document["x"] > 1
    try:
        payload = orjson.dumps(document)
    except orjson.JSONEncodeError:
        return
    assert (told("payload.x > 1", payload) == []) is holds


def test_the_words_of_the_settings_are_told() -> None:
    check = compiled("payload.x > 1", words="x must be\n more than one")
    case = Case(Message(TOPIC, b'{"x": 0}'), IDENTITY)
    assert [failure.message for failure in check.failures(case)] == ["x must be more than one"]


def test_a_payload_that_cannot_be_read_is_told_as_such() -> None:
    assert [words.partition(":")[0] for words in told("payload.x > 1", b'{"x":1,"x":2}')] == ["duplicate-key"]


def test_a_payload_that_is_not_asked_for_need_not_be_readable() -> None:
    assert told("topic != 'payload'", b"{") == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("payload.x >", "line 1, column 12", "Syntax error"),
        ("payload.x > 1 &&\n  nosuch", "line 2, column 3", "undeclared reference to 'nosuch'"),
        ("topic > 1", "line 1, column 7", "found no matching overload"),
        ("payload.x", "", "it gives dyn, not true or false"),
        ("topic", "", "it gives string, not true or false"),
        ("captures.devise == 'x'", "line 1, column 10", "not every topic filter has {devise}; those that all have: "),
        ("topic.matches(payload.x)", "", "must stand there as a text"),
        ("matches(topic, captures.kind)", "", "must stand there as a text"),
        ("(" * 3000 + "true" + ")" * 3000, "", ""),
    ],
)
def test_an_expression_that_is_none_is_told_with_its_place(text: str, place: str, words: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        compiled(text)
    assert place in raised.value.place
    assert words.lower() in str(raised.value).lower()


def test_a_fault_names_file_key_and_column() -> None:
    expressions = (ExpressionSettings(expression="true"), ExpressionSettings(expression="payload.x >"))
    with pytest.raises(ConfigError) as raised:
        generation({"t/1.json": {}}, policy(), policy(name="q", expressions=expressions))
    (fault,) = raised.value.faults
    assert str(fault).startswith(
        "proxy.toml: policies[1].expressions[1].expression: found an error in line 1, column 12"
    )


def test_without_the_library_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mqttproxy.validation.cel", None)
    with pytest.raises(
        ConfigError, match=r"policies\[0\].expressions: found expressions, but no CEL; install mqttproxy"
    ):
        generation({"t/1.json": {}}, policy(expressions=(ExpressionSettings(expression="true"),)))


def test_expressions_are_judged_beside_the_schema() -> None:
    expressions = (ExpressionSettings(expression="payload < 10"), ExpressionSettings(expression="topic != 't'"))
    rules = generation({"t/1.json": {"type": "number"}}, policy(expressions=expressions, topics=("+",)))
    assert verdict_on(rules, b"1", "u").failures == ()
    assert [failure.keyword for failure in verdict_on(rules, b"11").failures] == ["expression", "expression"]
    assert [failure.keyword for failure in verdict_on(rules, b"[", "u").failures] == ["json"]
    assert judge(Message("t", b"1"), identity_of_upstream("a"), rules.down).action is Action.FORWARD


# Each would hold the proxy for long with the largest payload that is let in: lists of lists, texts of many bytes.
DEAR = [
    "payload.all(a, payload.all(b, payload.all(c, a + b + c >= 0)))",
    "payload.map(a, a + 1).size() > 1",
    "payload.all(a, a in payload)",
    "payload.all(a, payload.exists(b, payload == payload))",
    "payload.all(a, (topic + topic + topic + topic + topic + topic).size() > 1)",
    "payload.filter(a, payload.filter(b, b == a).size() > 0).size() > 1",
    "payload.all(a, string(a).matches('(.?){50}x{50}') || true)",
    "payload.all(a, string(payload) != '')",
    "payload == payload && payload == payload && payload == payload",
]
PAYLOADS = [
    orjson.dumps(list(range(9_000))),
    orjson.dumps(list(range(500))),
    orjson.dumps(["x" * 25] * 9_000),
    orjson.dumps(["x" * 100_000] * 2),
    orjson.dumps([[1] * 90] * 90),
    orjson.dumps([{"a": 1}] * 4_000),
]


@pytest.mark.parametrize("text", DEAR)
def test_what_might_hold_the_proxy_is_not_evaluated(text: str) -> None:
    """Processor time, because the machines of tests are shared."""
    check = compiled(text)
    for payload in PAYLOADS:
        case = Case(Message(f"sensor/{'t' * 1000}/x", payload), IDENTITY)
        case.document(DECODE)
        began = time.process_time()
        check.failures(case)
        assert time.process_time() - began < 4 * JUDGING / 1e9, payload[:30]


@pytest.mark.parametrize(
    "text", ["payload.all(r, r.celsius > -40.0)", "payload[0].celsius > -40.0", "payload.exists(r, r.unit == 'C')"]
)
def test_what_is_cheap_is_evaluated_for_a_thousand_readings(text: str) -> None:
    assert told(text, [{"celsius": 1.5, "unit": "C"}] * 1_000) == []


def test_several_expressions_share_the_budget() -> None:
    one = ExpressionSettings(expression="payload.all(r, r > -1)")
    payload = orjson.dumps(list(range(3_000)))
    alone = verdict_on(generation({"t/1.json": {}}, policy(expressions=(one,))), payload)
    many = verdict_on(generation({"t/1.json": {}}, policy(expressions=(one,) * 5)), payload)
    assert alone.failures == ()
    assert {failure.keyword for failure in many.failures} == {"cost"}
