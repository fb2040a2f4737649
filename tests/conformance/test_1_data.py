"""Chapter 1.5: how data is represented."""

import pytest

from tests.bad_input.wire import V5, V311, frame, text, unsubscribe
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, Prop, Will, connect, prop, publish, subscribe
from tests.conformance.statements import holds_5, holds_311

ILL_FORMED = {
    "surrogate": b"a\xed\xa0\x80",
    "last surrogate": b"\xed\xbf\xbf",
    "overlong": b"\xc0\x80",
    "lone byte": b"\xff",
    "cut short": b"a\xe2\x82",
}
BOM = "\ufeff"


def places(version: int, string: bytes) -> dict[str, bytes]:
    """Return packets of an open connection that hold a string at each place."""
    found = {
        "topic name": publish(version, string, b"x"),
        "filter": subscribe(version, (string, 0)),
        "filter to leave": unsubscribe(version, string),
    }
    if version == V5:
        found |= {
            "content type": publish(version, "t", fields=[prop(Prop.CONTENT_TYPE, string)]),
            "response topic": publish(version, "t", fields=[prop(Prop.RESPONSE_TOPIC, string)]),
            "reason string": frame(0xE0, b"\x00" + bytes([len(string) + 3]) + prop(Prop.REASON_STRING, string)),
        }
    return found


@BOTH
@pytest.mark.parametrize("string", ILL_FORMED.values(), ids=ILL_FORMED)
@holds_5("1.5.4-1", "3.3.2-1", "3.3.2-13", "3.3.2-19", "3.8.3-1", "3.10.3-1", "4.13.1-1")
@holds_311("1.5.3-1", "3.3.2-1", "3.8.3-1", "3.10.3-1", "4.8.0-1")
def test_a_string_that_is_not_utf_8_ends_the_connection(server: Server, version: int, string: bytes) -> None:
    for place, data in places(version, string).items():
        device = server.join(version)
        device.send(data)
        heard = device.rest()
        assert [packet.reason for packet in heard] == ([0x81] if version == V5 else []), place


@BOTH
@holds_5("1.5.4-2", "4.7.3-2")
@holds_311("1.5.3-2", "4.7.3-2")
def test_a_string_with_a_null_character_ends_the_connection(server: Server, version: int) -> None:
    for place, data in places(version, b"a\x00b").items():
        device = server.join(version)
        device.send(data)
        heard = device.rest()
        assert [packet.reason for packet in heard] == ([0x81] if version == V5 else []), place


@BOTH
@pytest.mark.parametrize("string", [*ILL_FORMED.values(), b"a\x00b"], ids=[*ILL_FORMED, "null"])
@holds_5("1.5.4-1", "1.5.4-2", "3.1.3-4", "3.1.3-11", "3.1.3-12", "3.1.4-1")
@holds_311("1.5.3-1", "1.5.3-2", "3.1.3-4", "3.1.3-10", "3.1.3-11", "3.1.4-1")
def test_a_connect_with_a_string_that_is_not_utf_8_is_refused(server: Server, version: int, string: bytes) -> None:
    wrong = {
        "client identifier": (connect(version, string), (0x81, 0x85), (2,)),
        "will topic": (connect(version, "c", will=Will(string)), (0x81,), ()),
        "user name": (connect(version, "c", username=string), (0x81,), ()),
    }
    for place, (data, told_5, told_311) in wrong.items():
        heard = server.refused(data, version)
        told = told_5 if version == V5 else told_311
        assert [packet.kind for packet in heard] == [Kind.CONNACK] * bool(told), place
        assert all(packet.reason in told for packet in heard), place


@BOTH
@holds_5("1.5.4-3", "4.7.3-4")
@holds_311("1.5.3-3", "4.7.3-4")
def test_a_byte_order_mark_is_a_character_like_others(server: Server, version: int) -> None:
    topic = server.new_topic()
    marked, plain = server.subscriber(BOM + topic, version), server.subscriber(topic, version)
    sender = server.join(version)
    sender.publish(BOM + topic, b"marked")
    sender.publish(topic, b"plain")
    assert [(one.topic, one.payload) for one in marked.fence()] == [(BOM + topic, b"marked")]
    assert [(one.topic, one.payload) for one in plain.fence()] == [(topic, b"plain")]


@BOTH
@holds_5("1.5.5-1", "4.13.1-1")
@holds_311("4.8.0-1")
def test_a_remaining_length_with_a_byte_too_many_ends_the_connection(server: Server, version: int) -> None:
    for data in (b"\x30\x83\x00\x00\x01t" + b"\x00" * (version == V5), b"\xc0\x80\x00", b"\xc0\x80\x80\x80\x80\x00"):
        device = server.join(version)
        device.send(data)
        assert [packet.reason for packet in device.rest()] == ([0x81] if version == V5 else [])


@holds_5("1.5.5-1", "4.13.1-1")
def test_a_property_length_or_identifier_with_a_byte_too_many_ends_the_connection(server: Server) -> None:
    wrong = (
        frame(0x30, text("t") + b"\x80\x00"),
        frame(0x82, b"\x00\x01\x03\x0b\x81\x00" + text("t") + b"\x00"),
    )
    for data in wrong:
        device = server.join()
        device.send(data)
        assert [packet.reason for packet in device.rest()] == [0x81]


@pytest.mark.parametrize("half", ["name", "value"])
@pytest.mark.parametrize("string", [*ILL_FORMED.values(), b"a\x00b"], ids=[*ILL_FORMED, "null"])
@holds_5("1.5.7-1")
def test_both_halves_of_a_user_property_must_be_utf_8(server: Server, half: str, string: bytes) -> None:
    name, value = (string, b"v") if half == "name" else (b"n", string)
    pair = bytes([Prop.USER_PROPERTY]) + text(name) + text(value)
    device = server.join()
    device.send(publish(V5, "t", fields=[pair]))
    assert [packet.reason for packet in device.rest()] == [0x81]


@BOTH
@holds_5("1.5.4-1")
@holds_311("1.5.3-1")
def test_strings_of_every_length_of_character_pass_unchanged(server: Server, version: int) -> None:
    topic = server.new_topic() + "/é/€/𝄞/\U0010fffd"
    reader = server.subscriber(topic, version)
    server.join(V311).publish(topic, b"1")
    server.join(V5).publish(topic, b"2")
    assert [one.topic for one in reader.messages(2)] == [topic, topic]
