"""`copy_topic` and `set_topic`: from the topic into the payload, and back."""

from typing import Any

import pytest

from mqttproxy.validation.transforms import Context, compile_steps
from tests.validation.transforms.steps import CONTEXT, applied, fault, steps, transform


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{line}", "7"),
        ("{1}", "plant"),
        ("{3}", "temperature"),
        ("{0}", "plant/7/temperature"),
        ("line-{line}/{1}", "line-7/plant"),
        ("fixed", "fixed"),
    ],
)
def test_parts_of_the_topic_are_copied_into_the_payload(source: str, text: str) -> None:
    assert applied({}, f'op = "copy_topic", from = "{source}", to = "/at"') == {"at": text}


def test_a_copy_may_keep_what_is_there() -> None:
    step = 'op = "copy_topic", from = "{line}", to = "/a/*/line"'
    document = {"a": [{}, {"line": 1}]}
    assert applied(document, step) == {"a": [{"line": "7"}, {"line": "7"}]}
    assert applied(document, f'{step}, if_present = "keep"') == {"a": [{"line": "7"}, {"line": 1}]}
    assert applied(1, 'op = "copy_topic", from = "{line}", to = ""') == "7"


def test_a_level_or_a_place_that_is_not_there_fails_or_is_skipped() -> None:
    step = 'op = "copy_topic", from = "{4}", to = "/at"'
    assert fault({}, step) == ("", "nothing is there: the topic 'plant/7/temperature' has no level 4")
    assert applied({}, f'{step}, if_missing = "skip"') == {}
    step = 'op = "copy_topic", from = "{1}", to = "/a/b"'
    assert fault({"a": 1}, step) == ("/a/b", "nothing is there")
    assert applied({"a": 1}, f'{step}, if_missing = "skip"') == {"a": 1}


def topic_of(document: Any, step: str) -> str:
    return transform(f'op = "set_topic", {step}').run(document, CONTEXT).topic


@pytest.mark.parametrize(
    ("to", "topic"),
    [
        ("{3}/{line}", "temperature/7"),
        ("acme/{/site}/{/n}/{/f}/{/ok}", "acme/Ulm/5/1.5/true"),
        ("x-{/deep/0}/{0}", "x-y/plant/7/temperature"),
    ],
)
def test_a_topic_is_made_of_parts_of_the_topic_and_of_the_payload(to: str, topic: str) -> None:
    document = {"site": "Ulm", "n": 5, "f": 1.5, "ok": True, "deep": ["y"]}
    assert topic_of(document, f'to = "{to}"') == topic


def test_a_topic_is_made_of_what_the_steps_before_have_made() -> None:
    result = transform('op = "rename", from = "/a", to = "/b"', 'op = "set_topic", to = "x/{/b}"').run(
        {"a": 1}, CONTEXT
    )
    assert (result.topic, result.document) == ("x/1", {"b": 1})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "'' is empty or has one of / + #, so no part of a topic"),
        ("a/b", "'a/b' is empty or has one of / + #, so no part of a topic"),
        ("#", "'#' is empty or has one of / + #, so no part of a topic"),
        ("+", "'+' is empty or has one of / + #, so no part of a topic"),
        (None, "null cannot be part of a topic"),
        ([], "an array of 0 cannot be part of a topic"),
    ],
)
def test_a_value_cannot_lead_a_message_elsewhere(value: Any, why: str) -> None:
    assert fault({"v": value}, 'op = "set_topic", to = "x/{/v}"') == ("/v", why)


def test_what_is_no_topic_name_fails() -> None:
    assert fault({"v": "\0"}, 'op = "set_topic", to = "x/{/v}"') == (
        "",
        r"no topic can be made: the topic name holds '\x00'",
    )
    assert fault({"v": "$SYS"}, 'op = "set_topic", to = "{/v}/x"') == ("", "the topic would begin with $")
    long = compile_steps(steps('op = "set_topic", to = "{/v}"'))
    with pytest.raises(Exception, match="more than 1024"):
        long.apply({"v": "x" * 2000}, CONTEXT)


def test_a_missing_part_fails_or_leaves_the_topic() -> None:
    assert fault({}, 'op = "set_topic", to = "x/{/v}"') == ("/v", "nothing is there")
    assert topic_of({}, 'to = "x/{/v}", if_missing = "skip"') == CONTEXT.topic
    assert topic_of({}, 'to = "x/{9}", if_missing = "skip"') == CONTEXT.topic


def test_a_message_without_a_payload_still_gets_its_topic() -> None:
    both = transform('op = "remove", path = "/a"', 'op = "set_topic", to = "x/{line}"')
    assert both.topic_alone(CONTEXT) == "x/7"
    assert transform('op = "remove", path = "/a"').topic_alone(Context("t")) is None
