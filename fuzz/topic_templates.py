r"""Target `topic_templates`: what a device says of itself never means more in a topic than its text.

A template is read or told what is wrong with it; filled in it has as many levels as it was written with, is a topic
filter, and has a wildcard only where its writer put one. Patterns give attributes that were in the text.

Input: a template, a client identifier, a user name and a pattern, each ended by a newline.
"""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.config.attribute_patterns import AttributePattern, parse_pattern
from mqttproxy.config.topic_templates import TopicParts, UnsafeValueError, parse_topic
from mqttproxy.mqtt.topics import check_topic_filter
from tests.mqtt.strategies import texts, topic_filters

LARGEST = 8 * 1024  # bytes of an input: templates and patterns stand in the settings, and are read once
WORDS = (
    b"${client_id}",
    b"${username}",
    b"${",
    b"}",
    b"{a}",
    b"{b}",
    b"+",
    b"#",
    b"/",
    b"$",
    b"\n",
    b"$share/g/",
    b"\xc2\x85",
)
_values = st.text(st.sampled_from("ab+#/$-\0é{}"), max_size=8)
_templates = st.lists(st.sampled_from(["a", "+", "#", "/", "${client_id}", "x${username}", "$SYS", "${", "é"])).map(
    "".join
)
strategy: SearchStrategy[bytes] = st.tuples(
    _templates | topic_filters() | texts(),
    _values,
    _values,
    st.lists(st.sampled_from(["{a}", "{b}", "-", "+", "x"])).map("".join),
).map(lambda parts: "\n".join(parts).encode())


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: what was good, and what came of it."""
    template, client_id, username, pattern = [*data.decode(errors="surrogateescape").split("\n"), "", "", "", ""][:4]
    return _filled(template, {"client_id": client_id, "username": username}), _attributes(pattern, client_id)


def _filled(template: str, values: dict[str, str]) -> object:
    parts = parse_topic(template, max_bytes=65_535, max_levels=128)
    if not isinstance(parts, TopicParts):
        assert parts
        return _bare(parts)
    try:
        filled = parts.fill(values.get)
    except UnsafeValueError as error:
        return "unsafe", error.name
    if filled is None:
        assert not parts.names <= values.keys()
        return "unknown"
    assert filled.count("/") == template.count("/")
    assert filled.count("+") == template.count("+")
    assert filled.count("#") == template.count("#")
    assert filled.startswith("$") == (template.startswith("$") and not template.startswith("${"))
    if parts.names:
        assert filled.isprintable() or not template.isprintable()
    check_topic_filter(filled, max_bytes=len(filled) * 4, max_levels=128)
    return "filled", len(parts.names), min(filled.count("/"), 3)


def _attributes(pattern: str, text: str) -> object:
    parsed = parse_pattern(pattern)
    if not isinstance(parsed, AttributePattern):
        return _bare(parsed)
    found = parsed.read(text)
    if found is None:
        return "no match"
    assert all(value and value in text for value in found.values())
    rebuilt = pattern
    for name, value in found.items():
        rebuilt = rebuilt.replace(f"{{{name}}}", value)
    assert "+" in pattern or "{" in text or rebuilt == text
    return len(found)


def _bare(words: str) -> str:
    """Return how words begin, without what they quote."""
    return " ".join(words.rpartition("}")[2].split()[:3])
