"""Target `json_gate`: the gate takes a payload if and only if a slow and simple reader does, and reads the same in it.

`read` raises nothing but PayloadError, whose failures are few, short and printable; `check_long` refuses nothing that
`read` would take.

Input: the payload.
"""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.validation.gate import PayloadError, check_long, read
from mqttproxy.validation.verdict import Failure
from tests.validation.slow_reader import NotAcceptedError, slow

LONGEST_CPU = 0.25  # seconds: the slow reader takes nearly all of it
DEPTH, ITEMS = 5, 30  # small, so that short inputs reach both
WORDS = (
    b'"a"', b'"b":', b'{"a":', b"[", b"]", b"{", b"}", b",", b":", b'\\"', b"\\u0000", b"\\ud800", b"\\udc00",
    b"1e400", b"-0", b"9223372036854775808", b"-9223372036854775809", b"1e19", b"NaN", b"Infinity", b"null", b"true",
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80",
)  # fmt: skip

_texts = st.text(st.sampled_from('ab":\\é\0\ud800'), max_size=4)
_numbers = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**400])
_values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=40,
)
strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda value, is_ascii: json.dumps(value, ensure_ascii=is_ascii).encode(errors="surrogatepass"),
        _values,
        st.booleans(),
    ),
)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the words, or what kinds of values there are."""
    try:
        expected: Any = slow(data, DEPTH, ITEMS)
    except NotAcceptedError:
        return _refused(data)
    found = read(data, DEPTH, ITEMS)
    assert _exact(found) == _exact(expected)
    check_long(data, ITEMS)
    return type(found).__name__, len(found) if isinstance(found, dict | list) else 0


def _refused(data: bytes) -> object:
    failures = _failures(data)
    assert failures, "it is taken"
    for failure in failures:
        assert len(failure.message) <= 300
        assert failure.message.isprintable()
        assert failure.pointer.isprintable()
    return tuple(sorted({failure.keyword for failure in failures}))


def _failures(data: bytes) -> tuple[Failure, ...]:
    try:
        read(data, DEPTH, ITEMS)
    except PayloadError as error:
        return error.failures
    return ()


def _exact(value: Any) -> str:
    """Return what tells 1, 1.0 and True apart, and -0.0 from 0.0."""
    return repr(value)
