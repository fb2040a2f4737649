"""The gate accepts a payload if and only if a slow and simple reader does, and says what is wrong with it."""

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings, strategies as st

from mqttproxy.validation.gate import PayloadError, measure, read
from mqttproxy.validation.scan import scan
from tests.validation.slow_reader import NotAcceptedError, slow

DEPTH, ITEMS = 5, 30


def keyword(payload: bytes, depth: int = 64, items: int = 10_000) -> str:
    with pytest.raises(PayloadError) as caught:
        read(payload, depth, items)
    return caught.value.failures[0].keyword


NUMBERS = st.sampled_from(
    [
        "0",
        "-0",
        "1",
        "1.5",
        "-2e3",
        "1e19",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "9223372036854775808.0",
        "1e400",
        "-1E999",
        "NaN",
        "Infinity",
        "01",
        "1.",
        "+1",
        "1e-400",
    ]
)
STRINGS = st.sampled_from(
    [
        r'"a"',
        r'"b"',
        r'""',
        r'":"',
        r'","',
        r'"\u003a"',
        r'"\""',
        r'"\\"',
        r'"\"a\":"',
        r'"\ud800"',
        r'"\udc00"',
        r'"\ud83d\ude00"',
        r'"\u0061"',
        r'"[{"',
        r'"é"',
        r'"\u0000"',
        r'"\x"',
        r'"',
    ]
)
SPACE = st.sampled_from(["", " ", "\n\t", "\x0c"])


def _spaced(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(SPACE, parts, SPACE).map("".join)


TEXTS = st.recursive(
    NUMBERS | STRINGS | st.sampled_from(["true", "null", "[]", "{}"]),
    lambda inner: (
        st.lists(_spaced(inner), max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(_spaced(STRINGS), inner).map(":".join), max_size=4).map(
            lambda items: f"{{{','.join(items)}}}"
        )
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        TEXTS.map(str.encode),
        st.binary(max_size=20),
        st.builds(lambda a, b: a.encode() + b, TEXTS, st.binary(max_size=2)),
    )
)
@example(b'{"a":1,"\\u0061":2}')
@example(b'{"a":{"b":1},"a":2}')
@example(b'{"x":"\\u003a\\u003a","a":1,"a":2}')
@example(b'[{"a":1,"a":"\\""}]')
@example(b'{"a":[[[[[[1]]]]]],"a":1}')
@example(b'{"a":1e19,"a":18446744073709551616}')
def test_a_payload_passes_if_and_only_if_the_slow_reader_takes_it(payload: bytes) -> None:
    try:
        expected = slow(payload, DEPTH, ITEMS)
    except NotAcceptedError:
        keyword(payload, DEPTH, ITEMS)
    else:
        assert read(payload, DEPTH, ITEMS) == expected


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_the_exact_step_alone_agrees_with_all_three(text: str) -> None:
    payload = text.encode()
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return
    try:
        slow(payload, DEPTH, ITEMS)
    except NotAcceptedError:
        assert scan(payload, DEPTH, ITEMS) or _too_many(payload)
    else:
        assert not scan(payload, DEPTH, ITEMS)


def _too_many(payload: bytes) -> bool:
    """Tell whether there are too many values for `measure`; `scan` does not count strings and constants."""
    try:
        measure(orjson.loads(payload), DEPTH, ITEMS)
    except PayloadError:
        return True
    return False


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'"\xff"', "utf-8"),
        (b'\xef\xbb\xbf{"a":1}', "utf-8"),
        ('{"a":1}'.encode("utf-16"), "utf-8"),
        ('{"a":1}'.encode("utf-16-le"), "json"),  # valid UTF-8, full of NUL
        (b'"\xed\xa0\x80"', "utf-8"),
        (b"NaN", "json"),
        (b'{"a":-Infinity}', "json"),
        (b"1e400", "number"),
        (b"9" * 5000, "number"),
        (b"[18446744073709551616]", "integer"),
        (b"[9223372036854775808]", "integer"),
        (b'"\\ud800"', "surrogate"),
        (b'{"a":1,"a":1}', "duplicate-key"),
        (b"[" * 65 + b"]" * 65, "depth"),
        (b"[" * 100_000, "depth"),
        (b'{"a":' + b"[" * 65 + b"]" * 65 + b',"a":1}', "depth"),
        (b"[" + b"1," * 10_000 + b"1]", "items"),
        (b'{"a":[' + b"1," * 10_000 + b'1],"a":1}', "items"),
        (b"", "json"),
        (b"{", "json"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_failure_has_the_keyword_of_its_kind(payload: bytes, expected: str) -> None:
    assert keyword(payload) == expected


def test_nesting_and_size_may_reach_their_bounds() -> None:
    assert read(b"[" * 64 + b"]" * 64, 64, 64)
    assert read(b"[" + b"1," * 9_999 + b"1]", 64, 10_000)
    assert read(b'{"a":1,"b":2}', 64, 2)
    assert keyword(b'{"a":1,"b":2,"c":3}', 64, 2) == "items"


def test_integers_may_have_64_bits_and_floats_may_be_larger() -> None:
    payload = b"[9223372036854775807,-9223372036854775808,1e300,9223372036854775808.0]"
    assert read(payload, 64, 64) == [2**63 - 1, -(2**63), 1e300, 2.0**63]


def test_failures_of_the_exact_step_point_to_their_place() -> None:
    failures = scan(b'{"a/b":[1,{"c":1,"c":99999999999999999999}],"z":-99999999999999999999}', 64, 64)
    assert [(failure.pointer, failure.keyword) for failure in failures] == [
        ("/a~1b/1/c", "duplicate-key"),
        ("/a~1b/1/c", "integer"),
        ("/z", "integer"),
    ]
    assert failures[0].message == "the key 'c' stands 2 times"


def test_no_more_than_32_failures_are_told() -> None:
    names = b",".join(b'"%d":1' % number for number in range(50))
    assert len(scan(b"{%s,%s}" % (names, names), 64, 1000)) == 32


def test_failures_quote_little_of_what_the_device_sent() -> None:
    name = "\\u0000" + "n" * 5000
    (failure,) = scan(f'{{"{name}":1,"{name}":2}}'.encode(), 64, 64)
    assert len(failure.message) < 120
    assert len(failure.pointer) < 270
    assert "\x00" not in failure.pointer + failure.message


def test_a_document_is_measured_level_by_level() -> None:
    found = measure({"a": [1, "x", {"b": 1e300}], "c": "y"}, 64, 64)
    assert found.levels == (1, 2, 3, 1)
    assert (found.members, found.texts, found.large) == (3, 2, 1)


@pytest.mark.parametrize("document", ["x", 1, None, 1e300])
def test_a_lone_value_has_no_levels_below(document: Any) -> None:
    found = measure(document, 64, 64)
    assert found.levels == (1,)
    assert (found.texts, found.large) == (int(document == "x"), int(document == 1e300))
