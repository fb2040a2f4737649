"""A transform that cannot be done says so as the judge does."""

from mqttproxy.validation import Failure
from mqttproxy.validation.transforms import TransformError


def test_an_error_is_a_failure_with_pointer_and_keyword() -> None:
    error = TransformError("/a", "nothing is there")
    assert error.failures == (Failure("/a", "transform", "nothing is there"),)
    assert str(error) == "nothing is there at /a"
    assert str(TransformError("", "too large")) == "too large"


def test_what_does_not_print_is_escaped_and_long_words_are_cut() -> None:
    (failure,) = TransformError("/\0" + "x" * 1000, "\n" + "y" * 1000).failures
    assert failure.pointer.startswith("/\\u0000x")
    assert failure.message.startswith("\\u000ay")
    assert len(failure.pointer) < 300
    assert len(failure.message) < 300
