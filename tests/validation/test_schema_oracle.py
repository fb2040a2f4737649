"""jsonschema is the oracle: on generated schemas and instances both say the same. It never sees device data otherwise.

Left out, because the two are known to differ and jsonschema-rs is the one that is right or the safer one:
- `format`: jsonschema takes it as a note unless told otherwise, we check it.
- `pattern` beyond plain letters: jsonschema uses Python's `re`, whose `$` matches before a newline and whose `\\d`
  takes all digits of Unicode; ECMA 262, which JSON Schema names, does neither.
- `multipleOf` of fractions: jsonschema divides floats, jsonschema-rs computes exactly (0.3 is a multiple of 0.1).
- places of failures below a member whose name is empty: jsonschema-rs leaves that name out of the pointer; and of what
  `items: false` does not allow: jsonschema names the array, jsonschema-rs the item.
- integers beyond 64 bits and other payloads that the gate refuses: they never reach a schema.
"""

from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from referencing import Registry

from mqttproxy.validation.words import pointer
from tests.validation.instances import instances_of
from tests.validation.schema_shelf import contract

DRAFTS = {
    "http://json-schema.org/draft-04/schema#": jsonschema.Draft4Validator,
    "http://json-schema.org/draft-06/schema#": jsonschema.Draft6Validator,
    "http://json-schema.org/draft-07/schema#": jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
}
NAMES = st.sampled_from(["a", "b", "c", "é", "a/b", "~"])
NUMBERS = st.integers(-5, 5) | st.sampled_from([0.5, -1.0, 2.0, 1e18, -3.25])
SCALARS = st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "a", "abc", "ä", "1"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
SIZES = st.integers(0, 3)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return schemas that every draft understands, some with inner ones."""
    several = st.lists(inner, min_size=1, max_size=3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3, unique_by=orjson.dumps),
        "minimum": NUMBERS,
        "maximum": NUMBERS,
        "multipleOf": st.integers(1, 4),
        "minLength": SIZES,
        "maxLength": SIZES,
        "pattern": st.sampled_from(["a", "^a", "b$", "^[a-c]+$"]),
        "minItems": SIZES,
        "maxItems": SIZES,
        "uniqueItems": st.booleans(),
        "items": inner,
        "minProperties": SIZES,
        "maxProperties": SIZES,
        "required": st.lists(NAMES, min_size=1, max_size=2, unique=True),
        "properties": st.dictionaries(NAMES, inner, max_size=3),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^b", "."]), inner, max_size=2),
        "additionalProperties": inner | st.booleans(),
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
    }
    return st.lists(st.sampled_from(sorted(keywords)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: keywords[name] for name in chosen})
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.just({}), schemas, max_leaves=5)
NEWER = st.fixed_dictionaries(
    {},
    optional={
        "const": VALUES,
        "contains": SCHEMAS,
        "propertyNames": st.fixed_dictionaries({}, optional={"maxLength": SIZES, "pattern": st.just("a")}),
        "exclusiveMinimum": NUMBERS,
        "if": SCHEMAS,
        "then": SCHEMAS,
        "else": SCHEMAS,
    },
)
NEWEST = st.fixed_dictionaries(
    {},
    optional={
        "prefixItems": st.lists(SCHEMAS, min_size=1, max_size=2),
        "items": SCHEMAS | st.booleans(),
        "contains": SCHEMAS,
        "minContains": SIZES,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
        "dependentSchemas": st.dictionaries(NAMES, SCHEMAS, max_size=2),
        "unevaluatedProperties": SCHEMAS | st.booleans(),
        "unevaluatedItems": SCHEMAS | st.booleans(),
        "anyOf": st.lists(SCHEMAS, min_size=1, max_size=2),
        "properties": st.dictionaries(NAMES, SCHEMAS, max_size=2),
    },
)


def agree(dialect: str, schema: dict[str, Any], instance: Any, *, about_places: bool = False) -> None:
    schema = {"$schema": dialect, **schema}
    oracle: Any = DRAFTS[dialect](schema, registry=Registry())
    ours = contract(schema).failures(orjson.dumps(instance))
    assert not [failure for failure in ours if failure.keyword == "cost"]
    expected = {pointer(error.absolute_path) for error in oracle.iter_errors(instance)}
    assert bool(ours) == bool(expected), (schema, instance, ours, expected)
    if about_places:
        assert {failure.pointer for failure in ours} == expected, (schema, instance, ours, expected)


@pytest.mark.parametrize("dialect", DRAFTS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_validators_agree_on_any_schema_and_any_value(dialect: str, data: st.DataObject) -> None:
    schema = data.draw(SCHEMAS)
    if "draft-04" not in dialect:
        schema = {**schema, **data.draw(NEWER)}
    if "2020" in dialect:
        schema = {**schema, **data.draw(NEWEST)}
    for instance in data.draw(st.lists(VALUES, min_size=1, max_size=4)):
        agree(dialect, schema, instance)


def near(schema: Any) -> st.SearchStrategy[Any]:
    """Return values that go a long way with a schema, so that not everything fails at the door."""
    if not isinstance(schema, dict):
        return VALUES
    for keyword in ("allOf", "anyOf", "oneOf"):
        if keyword in schema:
            return st.sampled_from(schema[keyword]).flatmap(near)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" in schema or "required" in schema:
        known = schema.get("properties", {})
        must = {name: near(known.get(name)) for name in schema.get("required", ())}
        may = {name: near(inner) for name, inner in known.items() if name not in must}
        return st.fixed_dictionaries(must, optional=may)
    if "items" in schema or "uniqueItems" in schema:
        return st.lists(near(schema.get("items")), min_size=schema.get("minItems", 0), max_size=4)
    return VALUES


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_validators_agree_on_values_made_for_the_schema(data: st.DataObject) -> None:
    schema = data.draw(SCHEMAS)
    for instance in data.draw(st.lists(near(schema), min_size=1, max_size=4)):
        agree("http://json-schema.org/draft-07/schema#", schema, instance, about_places=True)


# The document itself counts: what `from_schema` makes of it is right for it, and near misses are one value away.
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_validators_agree_on_instances_that_another_library_makes_for_the_schema(data: st.DataObject) -> None:
    schema = data.draw(SCHEMAS)
    instances = instances_of(schema)
    assume(not instances.is_empty)
    for instance in data.draw(st.lists(instances, min_size=1, max_size=4)):
        if not readable(instance):
            continue
        agree("https://json-schema.org/draft/2020-12/schema", schema, instance)
        miss = data.draw(VALUES)
        if isinstance(instance, dict) and instance:
            agree("https://json-schema.org/draft/2020-12/schema", schema, {**instance, next(iter(instance)): miss})
        elif isinstance(instance, list):
            agree("https://json-schema.org/draft/2020-12/schema", schema, [*instance, miss])


def readable(instance: Any) -> bool:
    """Return whether an instance passes the gate: the two judge the same then."""
    try:
        return not contract(True).failures(orjson.dumps(instance))
    except TypeError:
        return False
