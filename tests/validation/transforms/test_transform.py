"""A list of steps at work."""

import pytest

from mqttproxy.validation.transforms import Context, TransformError, compile_steps
from tests.validation.transforms.steps import CONTEXT, applied, steps, transform


def test_steps_are_done_in_their_order() -> None:
    document = {"temp_f": "98.6"}
    made = applied(
        document,
        'op = "rename", from = "/temp_f", to = "/temperature"',
        'op = "cast", path = "/temperature", type = "number"',
        'op = "unit", path = "/temperature", from = "F", to = "C", digits = 1',
        'op = "set", path = "/unit", value = "C"',
        'op = "copy_topic", from = "{line}", to = "/line"',
    )
    assert made == {"temperature": 37.0, "unit": "C", "line": "7"}
    assert document == {"temp_f": "98.6"}


def test_nothing_is_done_by_no_steps() -> None:
    document = {"a": 1}
    assert compile_steps(()).apply(document, Context("t")) is document


def test_the_first_step_that_cannot_be_done_ends_it() -> None:
    made = transform('op = "set", path = "/a", value = 1', 'op = "remove", path = "/b"')
    with pytest.raises(TransformError, match="nothing is there at /b"):
        made.apply({}, CONTEXT)


def test_one_transform_serves_all_messages() -> None:
    made = compile_steps(steps('op = "set_topic", to = "x/{line}"'))
    assert made.run({}, Context("a/1", {"line": "1"})).topic == "x/1"
    assert made.run({}, Context("a/2", {"line": "2"})).topic == "x/2"
