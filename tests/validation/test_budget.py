"""What schemas are estimated to cost: never less than what is done, and finite for what is harmless."""

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from mqttproxy.validation.budget import JUDGING, explaining
from mqttproxy.validation.gate import measure
from mqttproxy.validation.nodes import NEVER, Node, Step, inner_schemas, settled, tables
from tests.validation.schema_shelf import contract
from tests.validation.test_schema_oracle import SCHEMAS, VALUES


def chain(*nodes: Node) -> None:
    for upper, lower in itertools.pairwise(nodes):
        upper.same.append(lower)


def node() -> Node:
    return Node("", (), {})


def test_schemas_that_judge_the_same_value_come_first() -> None:
    a, b, c = node(), node(), node()
    chain(a, b, c)
    assert settled([a, b, c]) == ([c, b, a], [])
    assert settled([c, a]) == ([c, b, a], [])


def test_circles_are_found() -> None:
    a, b, c = node(), node(), node()
    chain(a, b, c, b)
    assert settled([a])[1] == [c]


def test_a_long_chain_of_references_needs_no_stack() -> None:
    nodes = [node() for _ in range(5_000)]
    chain(*nodes)
    assert settled(nodes)[0] == nodes[::-1]


def work(schema: Any, depth: int) -> float:
    """Return how many evaluations there can be for one value at a depth."""
    rules = contract(schema)
    order, _ = settled(rules.explanations)
    table = tables(order, lambda _: type(rules.node.judging())(1.0, 0.0, 0.0))[rules.node]
    return table[depth].own if depth < len(table) else 0.0


def test_evaluations_are_counted_for_each_depth() -> None:
    schema: Any = {"anyOf": [{}, {"items": {}}], "items": {"allOf": [{}, {}]}}
    assert [work(schema, depth) for depth in range(3)] == [3, 4, 0]


def test_members_of_different_names_do_not_add_up() -> None:
    schema: Any = {"properties": {str(number): {} for number in range(500)}, "patternProperties": {"^1": {}}}
    assert work(schema, 1) == 2


def test_recursion_through_one_branch_stays_small_and_through_two_doubles() -> None:
    assert work({"items": {"$ref": "#"}}, 60) == 2
    assert work({"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}, 50) > 2.0**50


def test_places_of_inner_schemas_are_told_with_what_they_judge() -> None:
    schema = {
        "items": {"a": 1},
        "properties": {"x": {"b": 1}, "y": True},
        "anyOf": [{"c": 1}, False],
        "$defs": {"z": {"d": 1}},
        "enum": [{"type": "string"}],
    }
    assert list(inner_schemas(schema, reference_alone=False)) == [
        (Step.BELOW, ("items",), {"a": 1}),
        (Step.NAMED, ("properties", "x"), {"b": 1}),
        (Step.SAME, ("anyOf", 0), {"c": 1}),
        (Step.SAME, ("anyOf", 1), NEVER),
        (Step.APART, ("$defs", "z"), {"d": 1}),
    ]
    alone = list(inner_schemas({"$ref": "#", **schema}, reference_alone=True))
    assert alone == [(Step.APART, ("$defs", "z"), {"d": 1})]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"t": {"type": "number"}}, "required": ["t"]},
        {"type": "array", "items": {"type": "object", "properties": {f"p{n}": {"type": "number"} for n in range(50)}}},
        {"properties": {"at": {"format": "date-time"}, "v": {"multipleOf": 0.5}}},
    ],
)
def test_plain_schemas_judge_plain_payloads_without_counting(schema: Any) -> None:
    assert contract(schema).plan.free_bytes > 4_000


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, VALUES)
def test_a_payload_of_free_size_never_exceeds_the_budget(schema: Any, value: Any) -> None:
    rules = contract(schema)
    payload = orjson.dumps(value)
    cost = rules.plan.judging(measure(value, 64, 10_000), len(payload))
    assert cost <= JUDGING or len(payload) > rules.plan.free_bytes


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, VALUES)
def test_there_are_never_more_failures_than_the_estimate_says(schema: Any, value: Any) -> None:
    rules = contract(schema)
    failures = sum(1 for _ in rules.validator.iter_errors(value))
    found = measure(value, 64, 10_000)
    cost = explaining(rules.explanations[rules.node], found, len(orjson.dumps(value)), names_matter=False)
    assert failures * 5_000 <= cost
