"""Each kind of check but schemas and expressions, alone."""

from typing import Any

import pytest

from mqttproxy.config.model import Bytes, Count, PayloadSettings, RequireSettings, Seconds
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.validation.checks import (
    Case,
    Check,
    EmptyCheck,
    JsonCheck,
    RequireCheck,
    TextCheck,
    decode_bytes,
    decode_text,
    json_decoder,
)  # fmt: skip
from mqttproxy.validation.gate import PayloadError
from tests.validation.schema_shelf import SENDER

DECODE = json_decoder(PayloadSettings(json_items=Count(100)))


def told(check: Check, payload: bytes = b"1", qos: int = 1, *, retain: bool = False, **properties: Any) -> list[str]:
    message = Message("t", payload, qos, retain, Properties(**properties))
    return [f"{failure.keyword}: {failure.message}" for failure in check.failures(Case(message, SENDER))]


@pytest.mark.parametrize("payload", [b"1", b'{"a": [1, 2]}', b'"x"', b"null"])
def test_json_is_what_everybody_reads_in_the_same_way(payload: bytes) -> None:
    assert told(JsonCheck(DECODE), payload) == []


@pytest.mark.parametrize(
    ("payload", "keyword"),
    [
        (b"", "json"),
        (b"{", "json"),
        (b'{"a": 1, "a": 2}', "duplicate-key"),
        (b"NaN", "json"),
        (b'"\\ud800"', "surrogate"),
        (b"\xff", "utf-8"),
        (b"[" + b"1," * 100 + b"1]", "items"),
        (b"[" + b"1," * 20_000 + b"1]", "items"),
        (b"[" * 70 + b"]" * 70, "depth"),
    ],
)
def test_json_that_can_be_misread_fails_without_a_schema_too(payload: bytes, keyword: str) -> None:
    assert [words.partition(":")[0] for words in told(JsonCheck(DECODE), payload)] == [keyword]


def test_text_is_utf_8() -> None:
    assert told(TextCheck(), "grün\0".encode()) == []
    assert told(TextCheck(), b"ab\xe9") == ["utf-8: byte 0xe9 at offset 2 is not UTF-8"]


def test_no_payload_is_no_payload() -> None:
    assert told(EmptyCheck(), b"") == []
    assert told(EmptyCheck(), b"\0") == ["format: a payload of 1 bytes, where none is allowed"]


@pytest.mark.parametrize(
    ("settings", "message", "words"),
    [
        ({"qos": (2, 1)}, {"qos": 0}, ["qos: QoS 0, where only 1 or 2 is allowed"]),
        ({"retain": False}, {"retain": True}, ["retain: retained, which is not allowed"]),
        ({"retain": True}, {}, ["retain: not retained, where messages must be"]),
        ({"min_bytes": 2}, {}, ["size: a payload of 1 bytes, fewer than 2"]),
        ({"max_bytes": 2}, {"payload": b"123"}, ["size: a payload of 3 bytes, more than 2"]),
        ({"content_type": ("a/*",)}, {}, ["content-type: without a content type, where one must be told"]),
        ({"content_type": ("a/*",)}, {"content_type": "b/a"}, ["content-type: the content type 'b/a' is not allowed"]),
        (
            {"user_properties": ("a", "b")},
            {"user_properties": (("b", "1"),)},
            ["user-property: without the user property 'a', which must be there"],
        ),
        ({"max_expiry": 60.0}, {}, ["expiry: never expires, where 1m is the longest"]),
        ({"max_expiry": 60.0}, {"message_expiry_interval": 61}, ["expiry: expires after 61s, where 1m is the longest"]),
        (
            {"qos": (1,), "max_bytes": 1, "user_properties": ("a",)},
            {"qos": 2, "payload": b"12"},
            [
                "qos: QoS 2, where only 1 is allowed",
                "size: a payload of 2 bytes, more than 1",
                "user-property: without the user property 'a', which must be there",
            ],
        ),
    ],
)
def test_what_a_message_must_be_beside_its_payload(settings: Any, message: Any, words: list[str]) -> None:
    assert told(RequireCheck(RequireSettings(**settings)), **message) == words


def test_a_message_that_has_all_that_is_required_is_good() -> None:
    settings = RequireSettings(
        qos=(0, 1),
        retain=False,
        content_type=("x", "a/?"),
        user_properties=("a",),
        max_expiry=Seconds(60.0),
        min_bytes=1,
        max_bytes=Bytes(1),
    )
    properties: Any = {"content_type": "a/b", "user_properties": (("a", ""),), "message_expiry_interval": 60}
    assert told(RequireCheck(settings), **properties) == []


def test_several_checks_decode_a_payload_once() -> None:
    calls: list[bytes] = []

    def decode(payload: bytes) -> object:
        calls.append(payload)
        return DECODE(payload)

    for payload, fails in ((b"[1]", False), (b"[", True)):
        case = Case(Message("t", payload), SENDER)
        assert [bool(JsonCheck(decode).failures(case)) for _ in range(3)] == [fails] * 3
    assert calls == [b"[1]", b"["]


def test_bytes_are_any() -> None:
    assert decode_bytes(b"\xff") == b"\xff"
    with pytest.raises(PayloadError):
        decode_text(b"\xff")
