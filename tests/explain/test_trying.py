"""Cases against what would happen, and what of the rules they exercise."""

from pathlib import Path
from typing import Any

import pytest

from mqttproxy.config.case_files import LoadedCase, load_cases
from mqttproxy.config.cases import CaseSettings, ExpectSettings, GivenSettings
from mqttproxy.config.load import load_config
from mqttproxy.explain import Coverage, Premises, run
from mqttproxy.explain.trying import explain_case
from mqttproxy.mqtt.packets import Properties
from mqttproxy.validation import build_generation
from tests.config.documents import parse
from tests.fake_rooms import Shelf
from tests.house import NUMBERS, POLICY


def premises(text: str = POLICY) -> Premises:
    config = parse(text)
    return Premises(config, build_generation(1, config, Shelf(NUMBERS)))


def case(payload: bytes = b'"x"', /, *, given: dict[str, Any] | None = None, **expect: Any) -> LoadedCase:
    settings = CaseSettings(
        name="it",
        given=GivenSettings(**{"topic": "n/1", **(given or {})}),
        expect=ExpectSettings(**{"verdict": "hold", **expect}),
    )
    return LoadedCase("tests/a.toml", "cases[0]", settings, payload)


def problems(one: LoadedCase, text: str = POLICY) -> list[str]:
    ((tried,), _) = run([one], premises(text))
    return [f"{problem.key}: {problem.found} / {problem.expected}" for problem in tried.problems]


def missing(text: str, *cases: LoadedCase) -> list[str]:
    _, coverage = run(cases, premises(text))
    return list(coverage.missing())


@pytest.mark.parametrize(
    "one",
    [
        case(),
        case(policy="numbers", pointers=("",), keywords=("type",), destinations=()),
        case(b"1", verdict="forward", policy="numbers", pointers=(), destinations=("local",)),
        case(verdict="forward", given={"topic": "o"}),
        case(verdict="refuse", given={"topic": "$o"}),
    ],
)
def test_what_is_expected_and_happens_is_no_problem(one: LoadedCase) -> None:
    assert problems(one) == []


WHY = "hold (policy numbers, schema number@1: 'x' is not of type \"number\")"


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (case(verdict="refuse"), [f"cases[0].expect.verdict: {WHY} / refuse"]),
        (case(policy="other"), ['cases[0].expect.policy: "numbers" / "other"']),
        (case(pointers=("/a",)), ['cases[0].expect.pointers: [""] / ["/a"]']),
        (case(keywords=()), ['cases[0].expect.keywords: ["type"] / []']),
        (case(destinations=("local",)), ['cases[0].expect.destinations: [] / ["local"]']),
        (
            case(b"1", destinations=("a",), policy="b"),
            [
                "cases[0].expect.verdict: forward / hold",
                'cases[0].expect.policy: "numbers" / "b"',
                'cases[0].expect.destinations: ["local"] / ["a"]',
            ],
        ),
        (
            case(given={"topic": "o"}, policy="b"),
            ["cases[0].expect.verdict: forward / hold", 'cases[0].expect.policy: none / "b"'],
        ),
    ],
)
def test_what_is_different_is_told_key_by_key(one: LoadedCase, told: list[str]) -> None:
    assert problems(one) == told


def test_a_device_that_is_not_let_in_fails_its_case() -> None:
    text = POLICY + '[[access.attributes]]\npattern = "{model}-+"\n'
    (told,) = problems(case(given={"client_id": "a+b-1"}), text)
    assert told.startswith("cases[0].given: the device is not let in (0x85")


def test_an_observed_failure_tells_what_was_noticed() -> None:
    text = POLICY + 'level = "observe"\n'
    assert problems(case(verdict="observed"), text) == []
    assert problems(case(), text) == [
        "cases[0].expect.verdict: observed (policy numbers, schema number@1: 'x' is not of type \"number\") / hold"
    ]


def test_a_case_becomes_the_message_that_it_describes() -> None:
    given = {
        "qos": 2,
        "retain": True,
        "content_type": "a/b",
        "expiry": 60.0,
        "correlation_data": "é",
        "user_properties": (("k", "v"), ("l", "w")),
        "attributes": (("fw", "2"),),
    }
    explanation = explain_case(case(given=given), premises())
    message = explanation.message
    assert (message.qos, message.retain, message.payload) == (2, True, b'"x"')
    assert message.properties == Properties(
        content_type="a/b",
        message_expiry_interval=60,
        correlation_data="é".encode(),
        user_properties=(("k", "v"), ("l", "w")),
    )
    assert explanation.identity.attributes == {"fw": "2"}


BAD, GOOD = case(), case(b"1", verdict="forward")
TWO_CHECKS = POLICY + "[policies.require]\nqos = [1]\n"


class TestCoverage:
    def test_rules_that_were_all_exercised_leave_nothing_to_say(self) -> None:
        assert missing(POLICY, BAD, GOOD) == []

    def test_policies_that_nobody_asks_passes_or_fails_are_told(self) -> None:
        assert missing(POLICY) == ['policy "numbers": no case asks it']
        assert missing(POLICY, BAD) == ['policy "numbers": no case passes it']
        assert missing(POLICY, GOOD) == ['policy "numbers": no case fails it']

    def test_a_check_that_never_found_anything_is_told(self) -> None:
        good = case(b"1", given={"qos": 1}, verdict="forward")
        bad = case(given={"qos": 1})
        assert missing(TWO_CHECKS, good, bad) == ['policy "numbers": no case fails its require']
        assert missing(TWO_CHECKS, good, bad, case(b"1")) == []

    def test_both_sides_of_a_share_are_wanted(self) -> None:
        text = POLICY + "percent = 50\n"
        sides = {premises(text).generation.policies[0].enforces(explain_case(one, premises(text)).identity): one
                 for one in (case(given={"client_id": f"d{number}"}) for number in range(20))}  # fmt: skip
        assert missing(text, sides[True], GOOD) != missing(text, sides[False])
        assert 'policy "numbers": no case has a device for which it is enforced' in missing(text, sides[False])
        assert 'policy "numbers": no case has a device for which it only observes' in missing(text, sides[True])

    def test_an_observed_policy_need_not_be_enforced_and_one_that_is_off_need_only_be_there(self) -> None:
        assert missing(POLICY + 'level = "observe"\n', BAD, GOOD) == []
        assert missing(POLICY + 'level = "off"\n', GOOD) == []

    def test_rules_beside_policies_are_told(self) -> None:
        text = POLICY + '[topics]\nallowed = ["n/#", "o"]\n[default]\naction = "hold"\n'
        assert missing(text, BAD, GOOD) == [
            "topics.allowed: no case is on a topic that it does not name",
            "default.action: no case is on a topic without a policy",
        ]
        assert missing(text, BAD, GOOD, case(given={"topic": "x"}), case(given={"topic": "o"})) == []

    def test_each_binding_wants_a_device(self) -> None:
        text = POLICY + '[[policies.bindings]]\nschema = "number@1"\nwhen = { client_id = ["x"] }\n'
        assert missing(text, BAD, GOOD) == ['policy "numbers": no case has a device for its binding to schema number@1']
        assert missing(text, BAD, GOOD, case(given={"client_id": "x"})) == []

    def test_every_policy_stands_there_with_its_checks(self) -> None:
        coverage = Coverage(premises(TWO_CHECKS))
        assert coverage.policies["numbers"].checks == [("require", 0), ("schema number@1", 0)]
        text = '[[policies]]\nname = "e"\ntopics = ["n/#"]\nformat = "json"\n'
        text += '[[policies.expressions]]\nexpression = "true"\n'
        assert Coverage(premises(text)).policies["e"].checks == [("format json", 0), ('expression "true"', 0)]


TRANSFORMED = """
[[policies]]
name = "shaped"
topics = ["n/#", "m"]
format = "json"
transforms = [{ op = "set", path = "/b", value = 1.0 }]
[[upstreams]]
name = "a"
url = "mqtt://127.0.0.1"
[[upstreams]]
name = "b"
url = "mqtt://127.0.0.1"
[[upstreams.transforms]]
topics = ["n/#"]
steps = [{ op = "remove", path = "/a" }]
[[routes]]
topics = ["#"]
to = ["a", "b"]
home = "local"
"""


class TestPayloads:
    """What destinations get, after the transforms of policies and their own."""

    def problems(self, sent: bytes, text: str = TRANSFORMED, **expect: Any) -> list[tuple[str, str, str]]:
        tried, _ = run([case(sent, **{"verdict": "forward", **expect})], premises(text))
        return [
            (problem.key.removeprefix("cases[0].expect."), problem.found, problem.expected)
            for problem in tried[0].problems
        ]

    def test_those_that_are_as_expected_are_no_problem(self) -> None:
        both = {"a": 2, "b": True}
        text = TRANSFORMED.replace("value = 1.0", "value = true")
        assert self.problems(b'{"a":2}', text, payload=both, payloads={"b": {"b": True}}) == []
        assert self.problems(b'{"a":2}', text, payload='{"a":2,"b":true}', payloads={"b": '{"b":true}'}) == []

    def test_one_that_is_not_is_told_with_what_was_found(self) -> None:
        assert self.problems(b'{"a":2}', payload={"a": 2, "b": 1}) == [("payload", '{"b":1.0}', '{"a":2,"b":1}')]
        assert self.problems(b'{"a":2}', payloads={"b": {"b": True}}) == [("payloads.b", '{"b":1.0}', '{"b":true}')]
        assert self.problems(b'{"a":2}', payloads={"b": '{"b": 1.0}'}) == [("payloads.b", '{"b":1.0}', '{"b": 1.0}')]

    def test_where_nothing_is_carried_there_is_no_payload(self) -> None:
        nothing = "no payload: nothing is carried there"
        assert self.problems(b"{", verdict="hold", payload=1) == [("payload", nothing, "1")]
        assert self.problems(b"2", verdict="hold", payloads={"a": 1}) == [("payloads.a", nothing, "1")]
        held_for_b = self.problems(b'{"c":2}', payloads={"b": {"b": 1}})
        assert held_for_b == [("payloads.b", nothing, '{"b":1}')]

    def test_what_is_not_text_is_told_in_hexadecimal(self) -> None:
        text = TRANSFORMED.replace('topics = ["n/#", "m"]', 'topics = ["other"]').replace('["n/#"]', '["other"]')
        assert self.problems(b"\xff\x00", text, payload=1) == [("payload", "hex ff 00", "1")]


def test_the_example_of_the_quick_start_passes_and_covers_all() -> None:
    config = load_config(Path(__file__).parents[2] / "examples/quickstart/proxy.toml")
    tried, coverage = run(load_cases(config), Premises(config, build_generation(1, config)))
    assert len(tried) == 3
    assert not [one.problems for one in tried if one.problems]
    assert list(coverage.missing()) == []
