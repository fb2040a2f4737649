"""Target `configuration`: any bytes of a file are settings, or faults that a person can read, and nothing else.

A fault is one printable line of bounded length with the name of the file in front; there is not more than one for each
few bytes. The same bytes give the same settings; no file is looked at.

Input: the file.
"""

import tomllib
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import decode, parse_config
from mqttproxy.config.model import ProxyConfig

LARGEST = (
    4096  # bytes; `tomllib` takes the square of the length for `a.a.a.a…`, and only who may do all writes the file
)
LONGEST_CPU = 0.5  # seconds: read once, at start and reload
BASE = Path("/etc/mqttproxy")
_HEADS = (
    "[proxy]", "[limits]", "[payload]", "[[listeners]]", "[[upstreams]]", "[[policies]]", "[[policies.bindings]]",
    "[default]",
    "[topics]", "[access]", "[[access.rules]]", "[[access.passwords]]", "[[access.tokens]]", "[[access.certificates]]",
    "[[access.chains]]", "[[behaviours]]", "[quarantine]", "[spool]", "[sessions]", "[[upstreams.routes]]",
)  # fmt: skip
_LINES = (
    'name = "a"', 'bind = "127.0.0.1:1883"', 'url = "mqtt://127.0.0.1:1901"', 'url = "mqtts://u:p@h"',
    'topics = ["a/+", "b/#"]',
    'schema = "t@1"', 'on_failure = ["refuse"]', "max_depth = 5", 'id = "x"', 'directory = "q"', 'window = "60s"',
    "messages = 5",
    'rule = "quota"', 'client_id = ["a-*"]', 'keep_alive = "1h"', 'issuer = "i"', 'audience = "m"', 'file = "f"',
    "priority = 1",
    'publish = ["${client_id}/#"]', 'when = { listener = ["a"] }', "x = 1979-05-27", "a.b.c = [[1], {}]",
    'max_bytes = "4KiB"',
)  # fmt: skip
WORDS = tuple(
    word.encode()
    for word in (
        *(f"\n{one}\n" for one in (*_HEADS, *_LINES)), " = ", '"', "'''", "[[", "]]", "{", "}", "-1", "1e400", "nan",
        "inf", "true",
        "0x" + "f" * 30, "9" * 30, "1h", "5MiB", "${", "\\u0000", "\\U0010ffff", "#", ".",
    )
)  # fmt: skip

_lines = st.lists(st.sampled_from(_HEADS + _LINES * 2), max_size=14).map("\n".join)
strategy: SearchStrategy[bytes] = st.binary(max_size=60) | st.text(max_size=40).map(str.encode) | _lines.map(str.encode)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the keys of its faults, or its tables."""
    first = _read(data)
    if isinstance(first, ProxyConfig):
        assert _read(data) == first
        return tuple(sorted(tomllib.loads(data.decode())))
    words = str(first).split("\n")
    assert len(words) == len(first.faults) <= 4 + len(data)
    for line, fault in zip(words, first.faults, strict=True):
        assert line.startswith("proxy.toml: ")
        assert line.isprintable()
        assert len(line) <= 2000
        assert fault.found
    return tuple(sorted({_bare(fault.key) for fault in first.faults}))[:3], first.faults[0].expected[:20]


def _read(data: bytes) -> ProxyConfig | ConfigError:
    try:
        return parse_config(decode(data, "proxy.toml"), "proxy.toml", BASE, unreadable=lambda _path: None)
    except ConfigError as error:
        return error


def _bare(key: str) -> str:
    return "".join(letter for letter in key if letter.isalpha() or letter in "._")[:24]
