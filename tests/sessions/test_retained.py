from hypothesis import given, strategies as st

from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.topics import matches
from mqttproxy.sessions import RetainedStore

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), min_size=0, max_size=3),
    st.sampled_from([["#"], ["a"], ["+"]]),
)


def store(messages: int = 100, size: int = 100_000) -> RetainedStore:
    return RetainedStore(max_messages=messages, max_bytes=size)


def kept(topic: str, payload: bytes = b"1") -> Message:
    return Message(topic, payload, 1, True)


@given(st.lists(TOPICS, max_size=12), st.lists(TOPICS, max_size=6), FILTERS)
def test_a_filter_finds_what_matching_each_topic_finds(topics: list[str], cleared: list[str], wanted: str) -> None:
    retained = store()
    for topic in topics:
        assert retained.keep(kept(topic))
    for topic in cleared:
        assert retained.keep(kept(topic, b""))
    left = set(topics) - set(cleared)
    assert sorted(message.topic for message in retained.match(wanted)) == sorted(t for t in left if matches(wanted, t))
    assert retained.count == len(left)


def test_the_last_message_of_a_topic_is_the_one_that_is_kept() -> None:
    retained = store()
    retained.keep(kept("a", b"old"))
    retained.keep(kept("a", b"new"))
    assert [message.payload for message in retained.match("a")] == [b"new"]
    assert retained.count == 1


def test_clearing_everything_leaves_nothing_behind() -> None:
    retained = store()
    for topic in ("a/b/c", "a/b", "a"):
        retained.keep(kept(topic))
    for topic in ("a/b", "a/b/c", "a", "never/there"):
        retained.keep(kept(topic, b""))
    assert (retained.count, retained.size) == (0, 0)
    assert not retained._root.children


def test_one_message_more_than_the_bound_is_not_kept_but_a_replacement_is() -> None:
    retained = store(messages=2)
    assert retained.keep(kept("a"))
    assert retained.keep(kept("b"))
    assert not retained.keep(kept("c"))
    assert retained.keep(kept("b", b"again"))


def test_the_bound_in_bytes_holds() -> None:
    retained = store(size=1000)
    assert retained.keep(kept("a", b"x" * 700))
    assert not retained.keep(kept("b", b"x" * 700))
    assert not retained.keep(kept("a", b"x" * 2000))
