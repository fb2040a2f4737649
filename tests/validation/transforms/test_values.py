"""`cast`, `unit`, `mask` of single values."""

import hmac
import math
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, strategies as st

from mqttproxy.config.measures import MEASURES, conversion, units_like
from mqttproxy.validation.transforms.values import converted
from tests.validation.transforms.steps import KEY, applied, fault

FLOATS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)


@pytest.mark.parametrize(
    ("value", "kind", "result"),
    [
        ("x", "string", "x"),
        (1, "string", "1"),
        (1.5, "string", "1.5"),
        (True, "string", "true"),
        ("21.5", "number", 21.5),
        ("-3", "number", -3),
        ("1e3", "number", 1000.0),
        (4, "number", 4),
        (True, "number", 1),
        ("21", "integer", 21),
        ("21.0", "integer", 21),
        (21.0, "integer", 21),
        (False, "integer", 0),
        ("true", "boolean", True),
        ("0", "boolean", False),
        (1, "boolean", True),
        (0.0, "boolean", False),
        (True, "boolean", True),
    ],
)
def test_a_cast_changes_the_type_and_loses_nothing(value: Any, kind: str, result: Any) -> None:
    found = applied({"v": value}, f'op = "cast", path = "/v", type = "{kind}"')["v"]
    assert (found, type(found)) == (result, type(result))


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        (None, "string", "null is no single value"),
        ({}, "string", "an object of 0 is no single value"),
        ("abc", "number", "'abc' is no number"),
        ("", "number", "'' is no number"),
        (" 1", "number", "' 1' is no number"),
        ("0x10", "number", "'0x10' is no number"),
        ("1_0", "number", "'1_0' is no number"),
        ("\u0661", "number", "'\u0661' is no number"),
        ("NaN", "number", "'NaN' is no number"),
        ("1e999", "number", "'1e999' is no number"),
        ("9" * 30, "number", f"'{'9' * 30}' is no number"),
        (None, "number", "null is no number"),
        ([], "integer", "an array of 0 is no number"),
        (1.5, "integer", "1.5 is not whole"),
        ("1e30", "integer", "'1e30' does not fit in 64 bits"),
        (2, "boolean", "2 is neither true nor false"),
        ("yes", "boolean", "'yes' is neither true nor false"),
        (None, "boolean", "null is neither true nor false"),
    ],
)
def test_a_cast_that_would_lose_something_fails(value: Any, kind: str, why: str) -> None:
    assert fault({"v": value}, f'op = "cast", path = "/v", type = "{kind}"') == ("/v", why)


def test_each_item_is_cast_and_the_one_that_cannot_be_is_named() -> None:
    step = 'op = "cast", path = "/v/*", type = "number"'
    assert applied({"v": ["1", "2.5"]}, step) == {"v": [1, 2.5]}
    assert fault({"v": ["1", "x"]}, step) == ("/v/1", "'x' is no number")
    assert applied("5", 'op = "cast", path = "", type = "integer"') == 5


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        (32, "F", "C", 0.0),
        (98.6, "F", "C", 37.0),
        (-40, "C", "F", -40.0),
        (0, "C", "K", 273.15),
        (212, "F", "K", 373.15),
        (1, "psi", "bar", 0.06894757293168362),
        (14.7, "psi", "kPa", 101.35293220957491),
        (1, "bar", "psi", 14.50377377302092),
        (1013.25, "hPa", "atm", 1.0),
        (1, "mi", "km", 1.609344),
        (1, "in", "mm", 25.4),
        (1, "gal", "l", 3.785411784),
        (1, "lb", "kg", 0.45359237),
        (60, "mph", "km/h", 96.56064),
        (1, "kn", "km/h", 1.852),
        (1, "kWh", "MJ", 3.6),
        (1, "gal/min", "l/min", 3.785411784),
        (60, "rpm", "Hz", 1.0),
        (50, "%", "1", 0.5),
        (1500, "ms", "s", 1.5),
        (1, "d", "h", 24.0),
        (1, "KiB", "B", 1024.0),
    ],
)
def test_units_are_converted_exactly(value: float, source: str, target: str, result: float) -> None:
    found = applied({"v": value}, f'op = "unit", path = "/v", from = "{source}", to = "{target}"')["v"]
    assert (found, type(found)) == (result, float)


def test_digits_round_half_to_even() -> None:
    step = 'op = "unit", path = "/v", from = "C", to = "C", digits = 1'
    assert [applied({"v": value}, step)["v"] for value in (0.25, 0.35, -0.04, 1e30)] == [0.2, 0.4, 0.0, 1e30]
    assert (
        applied({"v": 2**63 - 1}, 'op = "unit", path = "/v", from = "m", to = "mm", digits = 20')["v"]
        == 9.223372036854775807e21
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("20", "'20' is no number"),
        (True, "true is no number"),
        (None, "null is no number"),
        (1e308, "1e+308 is out of range in the other unit"),
    ],
)
def test_what_has_no_unit_fails(value: Any, why: str) -> None:
    assert fault({"v": value}, 'op = "unit", path = "/v", from = "MPa", to = "Pa"') == ("/v", why)


@given(value=FLOATS, source=st.sampled_from(sorted(MEASURES)), data=st.data())
def test_there_and_back_is_where_it_began(value: float, source: str, data: st.DataObject) -> None:
    target = data.draw(st.sampled_from(units_like(source)))
    there = converted(conversion(source, target), None, value)
    back = converted(conversion(target, source), None, there)
    # The number between the two is a float: its last place, in the first unit, is what may be lost. Offsets make it
    # large beside a small value.
    scale = max(abs(value), 500.0 if MEASURES[source].kind == "temperature" else 0.0)
    assert math.isclose(back, value, rel_tol=1e-15, abs_tol=scale * 4e-16 + 1e-300)


@pytest.mark.parametrize("value", ["Bob", "", "ä", 7, 1.5, None, True, {"b": 1, "a": 2}, [1]])
def test_a_hash_is_the_keyed_one_of_text_or_json(value: Any) -> None:
    plain = value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    expected = hmac.new(KEY, plain, "sha256").hexdigest()
    assert applied({"v": value}, 'op = "mask", path = "/v", how = "hash"') == {"v": expected[:16]}
    assert applied({"v": value}, 'op = "mask", path = "/v", how = "hash", length = 64') == {"v": expected}


def test_truncate_keeps_the_beginning_of_a_text_and_fails_on_all_else() -> None:
    step = 'op = "mask", path = "/v", how = "truncate", length = 2'
    assert applied({"v": "Robert"}, step) == {"v": "Ro"}
    assert applied({"v": "R"}, step) == {"v": "R"}
    assert applied({"v": "Robert"}, step.replace("2", "0")) == {"v": ""}
    assert fault({"v": 12}, step) == ("/v", "12 is no text that can be cut short")


def test_drop_removes() -> None:
    assert applied({"v": [1, 2]}, 'op = "mask", path = "/v/*", how = "drop"') == {"v": []}
    assert fault({}, 'op = "mask", path = "/v", how = "drop"') == ("/v", "nothing is there")
    assert applied({}, 'op = "mask", path = "/v", how = "drop", if_missing = "skip"') == {}


@given(st.text(min_size=4), st.sampled_from(["drop", "hash"]))
def test_a_mask_never_leaves_the_value(secret: str, how: str) -> None:
    assume(not all(character in "0123456789abcdef" for character in secret))
    document = {"who": {"name": secret, "n": 1}, "list": [{"name": secret}, {"name": secret}]}
    steps = [f'op = "mask", path = "{path}", how = "{how}"' for path in ("/who/name", "/list/*/name")]
    assert orjson.dumps(secret)[1:-1] not in orjson.dumps(applied(document, *steps)).replace(b"name", b"").replace(
        b"list", b""
    )
