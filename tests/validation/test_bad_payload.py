"""Rows F1 to F13 of the catalogue of bad input, each from the payload to the verdict (F10, Protobuf, comes later).

What holds the event loop is tested by what is *not* done: evaluations are counted by the budget before they happen.
"""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import PolicySettings, ProxyConfig, SchemaSettings
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Verdict, build_generation, judge
from mqttproxy.validation.budget import EXPLAINING, JUDGING
from mqttproxy.validation.gate import measure
from mqttproxy.validation.json_contract import JsonContract
from tests.validation.schema_shelf import SENDER, Shelf, contract, generation, policy, verdict_on

ANYTHING: dict[str, Any] = {"t/1.json": {}}
ANY_NUMBER = {"t/1.json": {"type": "object", "properties": {"v": {"type": "number", "minimum": 0, "maximum": 100}}}}


def invalid(payload: bytes, files: Any = None) -> tuple[str, ...]:
    """Return the keywords of the failures of a payload that must be held."""
    verdict = verdict_on(generation(files or ANYTHING, policy()), payload)
    assert verdict.action is Action.HOLD
    assert verdict.reason is ReasonCode.PAYLOAD_FORMAT_INVALID
    return tuple(failure.keyword for failure in verdict.failures)


RECURSIVE = {"t/1.json": {"$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"}}


@pytest.mark.parametrize("depth", [65, 600, 1025, 100_000])
@pytest.mark.parametrize("files", [ANYTHING, RECURSIVE])
def test_F1_deep_nesting_is_invalid_and_no_crash(depth: int, files: Any) -> None:
    assert invalid(b"[" * depth + b"]" * depth, files) in {("depth",), ("items",)}
    assert invalid(b'{"a":' * depth + b"1" + b"}" * depth, files) in {("depth",), ("items",)}
    assert invalid(b'{"a":' + b"[" * depth + b"]" * depth + b',"a":1}', files) in {("depth",), ("items",)}
    assert invalid(b"[" * depth, files) in {("json",), ("depth",), ("items",)}


def test_F1_nesting_up_to_the_bound_is_judged() -> None:
    assert not verdict_on(generation(RECURSIVE, policy()), b"[" * 64 + b"]" * 64).failures


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1E+999"])
def test_F2_numbers_that_are_none_are_invalid(text: str) -> None:
    assert invalid(f'{{"v":{text}}}'.encode(), ANY_NUMBER) in {("json",), ("number",)}


@pytest.mark.parametrize(
    "payload",
    [
        b'{"v":1,"v":999}',
        b'{"v":999,"v":1}',
        b'{"v":999,"\\u0076":1}',
        b'{"a":{"v":1,"v":1}}',
        b'[[{"v":":","v":1}]]',
        b'{"v":{"x":[1,2]},"v":1}',
        b'{"v":999 , "v" : 1}',
        b'{"x":"\\u003a\\u003a","v":999,"v":1}',
        b'{"x":"\\",\\"","v":999,"v":1}',
    ],
)
def test_F3_duplicate_keys_are_invalid_at_any_depth(payload: bytes) -> None:
    assert invalid(payload) == ("duplicate-key",)


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "9" * 300, "9" * 5000]
)
def test_F4_integers_beyond_64_bits_are_invalid(text: str) -> None:
    for payload in (text, f'{{"v":{text}}}', f'{{"v":[1,{{"w":{text}}}]}}'):
        assert invalid(payload.encode()) in {("integer",), ("number",)}


@pytest.mark.parametrize("text", ["\\ud800", "\\udfff", "\\ud800x", "\\udc00\\ud800", "\\ud800\\u0061"])
def test_F5_lone_surrogates_are_invalid_in_values_and_names(text: str) -> None:
    assert invalid(f'{{"v":"{text}"}}'.encode()) == ("surrogate",)
    assert invalid(f'{{"{text}":1}}'.encode()) == ("surrogate",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig"])
def test_F6_other_encodings_and_byte_order_marks_are_invalid(encoding: str) -> None:
    assert invalid('{"v":1}'.encode(encoding)) in {("utf-8",), ("json",)}


def test_F6_latin_1_is_told_with_byte_and_offset() -> None:
    (failure,) = verdict_on(generation(ANYTHING, policy()), b'{"unit":"\xb0C"}').failures
    assert (failure.keyword, failure.message) == ("utf-8", "byte 0xb0 at offset 9 is not UTF-8")


@pytest.mark.parametrize("expression", ["^(a+)+$", "^(a|aa)+$", "(.*a){20}", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_F7_expressions_that_backtrack_elsewhere_take_linear_time(expression: str) -> None:
    assert contract({"type": "string", "pattern": expression}).failures(orjson.dumps("a" * 5_000 + "!")) is not None


@pytest.mark.parametrize("expression", [r"(?=a)b", r"(a)\1", r"(?<!x)y", "(", "[a-z]{1000}{1000}"])
def test_F7_an_expression_of_no_linear_time_is_refused_at_load_with_its_place(expression: str) -> None:
    schema = {"properties": {"a/b": {"pattern": expression}}}
    with pytest.raises(ConfigError) as caught:
        contract(schema)
    (fault,) = caught.value.faults
    assert fault.file == "schemas/t/1.json"
    assert fault.key == "/properties/a~1b/pattern"
    assert "linear time" in str(fault)


def test_F7_linear_but_slow_is_bounded_by_the_size_of_the_payload() -> None:
    heavy = contract({"pattern": r"(\w{1,30}0){8}[23]"})
    light = contract({"pattern": "^[a-z]+$"})
    assert heavy.plan.free_bytes < light.plan.free_bytes
    payload = orjson.dumps("0" * 2 * heavy.plan.free_bytes)
    assert [failure.keyword for failure in heavy.failures(payload)] == ["cost"]
    document = orjson.loads(payload)
    assert heavy.failures_of_document(document, len(payload)) == heavy.failures(payload)  # read by another policy


REF: dict[str, Any] = {"$ref": "#/$defs/n"}


def recursive(node: dict[str, Any]) -> dict[str, Any]:
    return {"$defs": {"n": node}, **REF}


def nested(depth: int, leaf: Any = 1) -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


class Counted:
    """Stands for a validator, and counts what would have been explained."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.explained = 0

    def is_valid(self, instance: Any) -> Any:
        return self.real.is_valid(instance)

    def iter_errors(self, instance: Any) -> Any:
        self.explained += 1
        return self.real.iter_errors(instance)


def work(rules: JsonContract, document: Any) -> tuple[tuple[str, ...], int]:
    """Return the keywords of the failures, and how often the whole document was explained."""
    counted = Counted(rules.validator)
    rules.validator = counted  # type: ignore[assignment] # it stands for one
    return tuple(failure.keyword for failure in rules.failures(orjson.dumps(document))), counted.explained


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
def test_F8_recursion_through_several_branches_is_judged_but_not_followed_for_words(keyword: str) -> None:
    branches = [{"type": "array", "items": REF}, {"type": "array", "items": REF, "maxItems": 5}]
    schema = recursive({keyword: branches})
    assert work(contract(schema), nested(3))[1] == 1
    keywords, explained = work(contract(schema), nested(60))
    assert explained == 0
    assert keywords[0] == ("type" if keyword == "allOf" else "schema")  # of `allOf` it is clear which part fails
    assert len(keywords) < 10


def test_F8_unique_items_of_many_objects_is_no_quadratic_work() -> None:
    items: list[Any] = [{"a": number} for number in range(3_000)]
    assert work(contract({"uniqueItems": True}), items) == ((), 0)
    assert work(contract({"uniqueItems": True}), [*items, {"a": 0}])[0] == ("uniqueItems",)


def test_F8_what_is_judged_for_each_value_counts_against_the_budget() -> None:
    rules = contract({"items": {"enum": [{"k": number} for number in range(1000)]}})
    assert work(rules, [{"k": 5000}] * 4_000) == (("cost",), 0)
    assert rules.failures(orjson.dumps([{"k": 5}] * 3)) == ()


def test_F8_wrong_names_do_not_copy_their_object_once_for_each() -> None:
    rules = contract({"propertyNames": {"maxLength": 1}})
    keywords, explained = work(rules, {f"name{number}": 1 for number in range(5_000)})
    assert (keywords, explained) == (("schema",), 0)
    assert work(rules, {"name": 1})[0] == ("propertyNames",)


def test_F8_huge_numbers_are_dearer_to_divide() -> None:
    rules = contract({"items": {"multipleOf": 0.01}})
    assert work(rules, [12.34] * 9_000) == ((), 0)
    assert work(rules, [1e308] * 9_000) == (("cost",), 0)


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({"anyOf": [{"type": "string", "minLength": number} for number in range(100)]}, list(range(9_000))),
        ({"items": {"oneOf": [{"const": f"t{number}"} for number in range(50)]}}, [1] * 9_000),
        (recursive({"uniqueItems": True, "items": REF}), nested(60, list(range(9_000)))),
        (recursive({"items": REF, "contains": REF, "not": {"const": 1}}), nested(60)),
    ],
)
def test_F8_nothing_over_budget_is_begun(schema: Any, document: Any) -> None:
    rules = contract(schema)
    payload = orjson.dumps(document)
    found = measure(document, 64, 10_000)
    keywords, explained = work(rules, document)
    assert keywords
    if rules.plan.judging(found, len(payload)) > JUDGING:
        assert keywords == ("cost",)
    assert explained == 0
    assert EXPLAINING <= 20_000_000.0


@pytest.mark.parametrize(
    "reference",
    [
        "http://example.com/s.json",
        "https://example.com/s.json#/definitions/x",
        "file:///etc/passwd",
        "ftp://example.com/s.json",
        "//example.com/s.json",
        "/etc/passwd",
        "../../etc/passwd",
        "../../../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "..\\..\\etc\\passwd",
        "2.json",
        "#/definitions/missing",
        "#missing",
        "http://[",
        "urn:example:x",
        "http://json-schema.org/draft-07/schema#",
    ],
)
def test_F9_references_lead_nowhere_but_into_the_folder(reference: str) -> None:
    shelf = Shelf({"t/1.json": {"properties": {"a": {"$ref": reference}}}})
    with pytest.raises(ConfigError) as caught:
        generation(shelf, policy())
    (fault,) = caught.value.faults
    assert (fault.file, fault.key) == ("schemas/t/1.json", "/properties/a/$ref")
    assert set(shelf.asked) <= {"t/1.json", "t/2.json"}


@pytest.mark.parametrize(
    "dialect", ["http://example.com/meta", "file:///etc/passwd", "http://json-schema.org/draft-03/schema#", 7, ""]
)
def test_F9_a_foreign_dialect_is_not_fetched(dialect: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        contract({"$schema": dialect})
    (fault,) = caught.value.faults
    assert fault.key == "/$schema"
    assert "draft/2020-12" in str(fault)


def on_disk(folder: Path) -> Verdict:
    config = ProxyConfig(
        schemas=SchemaSettings(directory=folder),
        policies=(PolicySettings(name="p", topics=("t",), schema="t@1"),),  # type: ignore[arg-type] # a valid filter
    )
    return judge(Message("t", b'"x"'), SENDER, build_generation(1, config))


def test_F9_a_symbolic_link_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"type":"number"}')
    folder = tmp_path / "schemas"
    (folder / "t").mkdir(parents=True)
    (folder / "t" / "1.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ConfigError, match="outside"):
        on_disk(folder)
    (folder / "t" / "1.json").unlink()
    (folder / "t" / "1.json").symlink_to("2.json")
    (folder / "t" / "2.json").write_text('{"type":"number"}')
    assert on_disk(folder).failures


def test_F9_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    os.mkfifo(tmp_path / "t" / "1.json")
    with pytest.raises(ConfigError, match="not a file"):
        on_disk(tmp_path)


@pytest.mark.parametrize("level", ["off", None])
def test_F11_a_payload_said_to_be_text_must_be_text_on_every_topic(level: Any) -> None:
    rules = generation(ANYTHING, *([policy(level=level)] if level else []))
    verdict = verdict_on(rules, b"\xff", payload_format_indicator=1)
    assert verdict.action is Action.REFUSE
    assert verdict.reason is ReasonCode.PAYLOAD_FORMAT_INVALID
    assert [failure.keyword for failure in verdict.failures] == ["utf-8"]
    for indicator in (None, 0):
        assert not verdict_on(rules, b"\xff", payload_format_indicator=indicator).failures
    assert not verdict_on(rules, "°".encode(), payload_format_indicator=1).failures


def test_F11_under_a_policy_its_actions_apply() -> None:
    for indicator in (None, 0, 1):
        verdict = verdict_on(generation(ANYTHING, policy()), b'"\xff"', payload_format_indicator=indicator)
        assert (verdict.action, verdict.policy) == (Action.HOLD, "p")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"type":"nonsense"}', b'{"type":1,"type":2}', b"\xff"])
def test_F12_a_schema_that_is_missing_or_broken_stops_the_start_and_the_reload(content: bytes | None) -> None:
    files = {} if content is None else {"t/1.json": content}
    with pytest.raises(ConfigError) as caught:
        generation(files, policy())
    assert "schemas/t/1.json" in str(caught.value)


def test_F12_even_when_its_policy_is_off() -> None:
    with pytest.raises(ConfigError):
        generation({}, policy(level="off"))


def test_F13_content_type_and_other_properties_choose_no_other_schema() -> None:
    rules = generation({"t/1.json": {"type": "number"}}, policy())
    for properties in (
        Properties(content_type="application/octet-stream"),
        Properties(content_type="text/plain", payload_format_indicator=0),
        Properties(user_properties=(("schema", "other@1"),), response_topic="u", topic_alias=1),
    ):
        assert judge(Message("t", b'"x"', properties=properties), SENDER, rules).failures


def test_F13_topics_are_compared_as_they_are() -> None:
    rules = generation({"t/1.json": {"type": "number"}}, policy(topics=("t/x",)))
    assert verdict_on(rules, b'"x"', "t/x").failures
    for other in ("t/X", "t/x/", "/t/x", "t//x"):
        assert not verdict_on(rules, b'"x"', other).failures


def test_words_quote_little_of_a_payload() -> None:
    secret = "s" * 5_000
    known = {"a": {"type": "number"}, "b": {"const": 1}, "c": {"not": {}}}
    document = {"a": secret, "b": secret, "c": [secret], secret: 1}
    failures = contract({"properties": known, "additionalProperties": False}).failures(orjson.dumps(document))
    assert len(failures) == 4
    assert all(failure.message.count("s") < 80 for failure in failures)
