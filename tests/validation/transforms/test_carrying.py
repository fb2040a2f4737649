"""Transforms at work on messages."""

import pytest

from mqttproxy.config.model import Count, LimitSettings, PayloadSettings
from mqttproxy.mqtt.packets import Message, Properties, Timed
from mqttproxy.validation.transforms import TopicCarrier, TransformError
from mqttproxy.validation.transforms.carrying import CACHED_TOPICS, Carrier, json_codec, pattern_of
from tests.validation.transforms.steps import transform

CARRIER = Carrier(json_codec(PayloadSettings()), LimitSettings().payload_size)


def carrier(*entries: tuple[list[str], list[str]], by: Carrier = CARRIER) -> TopicCarrier:
    return TopicCarrier([(topics, transform(*written)) for topics, written in entries], by)


def why(of: TopicCarrier, message: Message) -> tuple[str, str]:
    with pytest.raises(TransformError) as raised:
        of.carry(message)
    (failure,) = raised.value.failures
    return failure.pointer, failure.message


def test_a_message_on_another_topic_is_itself() -> None:
    of = carrier((["a/#"], ['op = "set", path = "/x", value = 1']))
    message = Message("b", b"not JSON", 1)
    assert of.carry(message) is message
    assert of.carry(Message("a", b"{}")).payload == b'{"x":1}'


def test_all_tables_that_match_apply_in_order_and_the_payload_is_read_once() -> None:
    of = carrier(
        (["plant/{line}/t"], ['op = "copy_topic", from = "{line}", to = "/line"']),
        (["other"], ['op = "set", path = "/x", value = 1']),
        (["#"], ['op = "rename", from = "/line", to = "/plant_line"', 'op = "set_topic", to = "x/{2}"']),
        (["plant/+/{kind}", "#"], ['op = "copy_topic", from = "{kind}/{0}", to = "/kind"']),
    )
    carried = of.carry(Message("plant/7/t", b"{}"))
    assert carried.payload == b'{"plant_line":"7","kind":"t/plant/7/t"}'
    assert carried.topic == "x/7"


def test_all_but_topic_and_payload_stays() -> None:
    of = carrier((["#"], ['op = "set", path = "/x", value = 1']))
    properties = Properties(content_type="application/json", user_properties=(("a", "b"),))
    message = Timed("t", b"{}", 2, True, properties, 5.0)
    assert of.carry(message) == Timed("t", b'{"x":1}', 2, True, properties, 5.0)


@pytest.mark.parametrize(
    ("payload", "pointer", "words"),
    [
        (b"{", "", "the payload cannot be read: not JSON"),
        (b'{"a":1,"a":2}', "/a", "the payload cannot be read: the key 'a' stands 2 times"),
        (b"\xff", "", "the payload cannot be read: byte 0xff at offset 0 is not UTF-8"),
        (b"[[[[1]]]]", "", "the payload cannot be read: nested deeper than 3 levels"),
        (b"[1,2,3,4,5,6]", "", "the payload cannot be read: more than 5 values"),
        (b"[" + b"[]," * 9000 + b"[]]", "", "the payload cannot be read: more than 5 values"),
    ],
)
def test_a_payload_that_everybody_might_read_otherwise_is_not_carried(payload: bytes, pointer: str, words: str) -> None:
    by = Carrier(json_codec(PayloadSettings(json_depth=Count(3), json_items=Count(5))), 1000)
    of = carrier((["#"], ['op = "set", path = "/x", value = 1']), by=by)
    found_pointer, found = why(of, Message("t", payload))
    assert (found_pointer, found.startswith(words)) == (pointer, True), found


def test_a_result_that_is_too_large_or_too_deep_is_not_carried() -> None:
    by = Carrier(json_codec(PayloadSettings()), 20)
    of = carrier((["#"], ['op = "set", path = "/x", value = "12345"']), by=by)
    assert of.carry(Message("t", b"{}")).payload == b'{"x":"12345"}'
    assert why(of, Message("t", b'{"yyyyy":1}')) == ("", "the result has 23 bytes, more than 20")


def test_a_result_that_is_too_deep_is_not_carried() -> None:
    deep = "/x" * 60
    moves = [
        f'op = "move", from = "/{one}", to = "/{other}{deep}"' for one, other in zip("abcde", "bcdef", strict=True)
    ]
    pointer, words = why(carrier((["#"], moves)), Message("t", b'{"a":1}'))
    assert (pointer, words[:29]) == ("", "the result cannot be written:")


def test_an_empty_payload_stays_empty_and_may_still_get_another_topic() -> None:
    of = carrier((["#"], ['op = "remove", path = "/x"']))
    message = Message("t", b"", 1, True)
    assert of.carry(message) is message
    of = carrier((["{a}/b"], ['op = "remove", path = "/x"', 'op = "set_topic", to = "c/{a}"']))
    assert of.carry(Message("t/b", b"", 1, True)) == Message("c/t", b"", 1, True)


def test_patterns_capture_levels() -> None:
    pattern = pattern_of("a/{x}/+/{y}/#")
    assert pattern.topic_filter == "a/+/+/+/#"
    assert pattern.captured("a/1/2/3/4") == {"x": "1", "y": "3"}


def test_no_more_topics_are_remembered_than_the_bound() -> None:
    of = carrier((["a"], ['op = "set", path = "/x", value = 1']))
    for number in range(CACHED_TOPICS + 1):
        of.carry(Message(str(number), b""))
    assert len(of._known) == 1
