r"""Target `topic_filters`: three ways to match a filter agree, whatever the filter and the topic are.

`check_topic_filter` and `check_topic_name` pass a text or raise RemoteProtocolError, never another exception. For those
that pass, `matches` and `FilterTree.match` say the same, removing what was added leaves an empty tree, and two filters
that match one topic overlap.

Input: two filters and a topic, each ended by a newline.
"""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import FilterTree, check_topic_filter, check_topic_name, matches, overlaps, split_shared
from tests.mqtt.strategies import texts, topic_filters, topic_names

_parts = st.one_of(topic_filters(), topic_names, texts(), st.text("+#/$a", max_size=8))
strategy: SearchStrategy[bytes] = st.lists(_parts, min_size=3, max_size=3).map(lambda parts: "\n".join(parts).encode())


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: what was valid, and what matched."""
    # Surrogates stand for ill-formed bytes, as texts that do not come from the decoder may hold them.
    first, second, topic = [*data.decode(errors="surrogateescape").split("\n"), "", "", ""][:3]
    filters = [split_shared(text)[1] for text in (first, second) if _passes(text)]
    if not _passes_as_name(topic):
        return len(filters), "no topic"
    matched = []
    tree: FilterTree[int] = FilterTree()
    for number, topic_filter in enumerate(filters):
        tree.add(topic_filter, number)
        matched.append(matches(topic_filter, topic))
    assert sorted(tree.match(topic)) == [number for number, match in enumerate(matched) if match]
    if len(filters) == 2:
        assert overlaps(*filters) is overlaps(*reversed(filters))
        assert overlaps(*filters) or not all(matched)
    for number, topic_filter in enumerate(filters):
        assert tree.remove(topic_filter, number)
    assert len(tree) == 0
    assert tree.match(topic) == []
    return len(filters), tuple(matched), topic.count("/")


def _passes(text: str) -> bool:
    try:
        check_topic_filter(text)
    except RemoteProtocolError:
        return False
    return True


def _passes_as_name(text: str) -> bool:
    try:
        check_topic_name(text)
    except RemoteProtocolError:
        return False
    return True
