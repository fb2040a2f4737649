"""What is shown of payloads."""

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from mqttproxy.validation import Failure
from mqttproxy.validation.transforms import NO_MASKS, Masker, make_masker
from mqttproxy.validation.transforms.masker import SILENT
from tests.config.documents import parse
from tests.validation.transforms.steps import KEY
from tests.validation.transforms.test_draft import JSON

KEYED = '[masking]\nkey = "a key of sixteen"\n'


def masker(*masks: str, more: str = "") -> Masker:
    text = KEYED + more + "".join(f"[[masks]]\n{mask}\n" for mask in masks)
    return make_masker(parse(text), KEY)


def test_values_are_dropped_hashed_and_cut() -> None:
    of = masker(
        'paths = ["/user/name", "/people/*/phone"]',
        'paths = ["/user/id"]\nhow = "hash"',
        'paths = ["/user/mail"]\nhow = "truncate"\nlength = 2',
    )
    document = {"user": {"name": "Bob", "id": 7, "mail": "bob@x"}, "people": [{"phone": 1}, {"x": 2}], "v": 1}
    before = copy.deepcopy(document)
    shown = of.mask(document, "t")
    hashed = shown["user"].pop("id")
    assert (len(hashed), hashed != "7") == (16, True)
    assert shown == {"user": {"mail": "bo"}, "people": [{}, {"x": 2}], "v": 1}
    assert document == before


def test_a_value_that_cannot_be_cut_is_hidden() -> None:
    of = masker('paths = ["/a", "/b"]\nhow = "truncate"\nlength = 2')
    assert of.mask({"a": 123456, "b": {"c": "secret"}}, "t") == {"a": "***", "b": "***"}


def test_masks_are_for_their_topics() -> None:
    of = masker('topics = ["a/+"]\npaths = ["/x"]', 'topics = ["a/b", "c"]\npaths = ["/y"]')
    document = {"x": 1, "y": 2}
    assert of.mask(document, "a/b") == {}
    assert of.mask(document, "c") == {"x": 1}
    assert of.mask(document, "d") is document


def test_a_payload_is_masked_as_json() -> None:
    of = masker('topics = ["a"]\npaths = ["/x"]')
    assert of.payload(b'{"x": "secret", "y": 1}', "a") == b'{"y":1}'
    assert of.payload(b'{"x": "secret"}', "b") == b'{"x": "secret"}'
    assert of.payload(b"", "a") == b""


@pytest.mark.parametrize(
    "payload", [b'{"x": "secret"', b'{"x":"secret","x":1}', b"secret", b'\xff"secret"', b"[" * 500 + b"]" * 500]
)
def test_what_cannot_be_read_is_not_shown(payload: bytes) -> None:
    of = masker('paths = ["/x"]')
    assert of.payload(payload, "a") == f"*** {len(payload)} bytes that cannot be masked".encode()


def test_what_takes_too_long_to_look_through_is_not_shown() -> None:
    of = masker(*['paths = ["/*/*"]\nhow = "truncate"\nlength = 3'] * 3)
    assert of.mask([["x"] * 9000], "a") == "***"


@pytest.mark.parametrize(
    ("pointer", "is_told"),
    [
        ("", True),
        ("/people", True),
        ("/people/0", True),
        ("/people/0/phone", False),
        ("/people/0/phone/1", False),
        ("/people/0/phones", True),
        ("/people/\\u0000", False),
        ("/people/…", False),
        ("no pointer", False),
    ],
)
def test_words_about_a_masked_value_are_not_told(pointer: str, is_told: bool) -> None:
    of = masker('topics = ["a"]\npaths = ["/people/*/phone"]')
    failure = Failure(pointer, "type", "'0123' is not a number")
    assert of.failures([failure], "a") == (failure if is_told else Failure(pointer, "type", SILENT),)
    assert of.failures([failure], "b") == (failure,)


def test_without_masks_all_is_shown() -> None:
    document = {"x": 1}
    assert make_masker(parse("")) is NO_MASKS
    assert NO_MASKS.mask(document, "a") is document
    assert NO_MASKS.payload(b"\xff", "a") == b"\xff"
    assert not NO_MASKS.stored
    assert masker('paths = ["/x"]', more="stored = true\n").stored


@given(
    document=JSON,
    how=st.sampled_from(["drop", "hash", "truncate"]),
    parts=st.lists(st.sampled_from(["a", "*", "0"]), min_size=1, max_size=3),
)
def test_a_mask_never_raises_and_never_leaves_the_value(document: Any, how: str, parts: list[str]) -> None:
    planted_text = "this is a secret that nobody may see"
    of = masker(f'paths = ["/{"/".join(parts)}"]\nhow = "{how}"' + ("\nlength = 4" if how == "truncate" else ""))
    planted = planted_in(copy.deepcopy(document), parts, planted_text)
    payload = orjson.dumps(planted)
    assert planted_text.encode() not in of.payload(payload, "t")
    assert orjson.dumps(planted) == payload


def planted_in(document: Any, parts: list[str], secret: str) -> Any:
    """Return a document with a secret in each place that the path leads to."""
    if not parts:
        return [secret, {"deep": secret}] if isinstance(document, list) else secret
    keys: list[Any] = []
    if isinstance(document, dict):
        keys = list(document) if parts[0] == "*" else [parts[0]]
    elif isinstance(document, list):
        keys = list(range(len(document))) if parts[0] == "*" else [0] if parts[0] == "0" and document else []
    for key in keys:
        document[key] = planted_in(
            document[key] if isinstance(document, list) else document.get(key), parts[1:], secret
        )
    return document
