from itertools import pairwise
from math import inf

from hypothesis import given, strategies as st

from mqttproxy.mqtt.packets import Message, Properties, Timed
from mqttproxy.mqtt.topics import matches
from mqttproxy.sessions import RetainedStore
from mqttproxy.sessions.retained import SPARE, WIDE

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), min_size=0, max_size=3),
    st.sampled_from([["#"], ["a"], ["+"]]),
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def store(messages: int = 100, size: int = 100_000, clock: Clock | None = None) -> RetainedStore:
    return RetainedStore(max_messages=messages, max_bytes=size, now=clock or Clock())


def until(expires_at: float, topic: str, payload: bytes = b"1") -> Timed:
    return Timed(topic, payload, 1, True, expires_at=expires_at)


def topics_of(retained: RetainedStore, topic_filter: str = "#") -> list[str]:
    return sorted(message.topic for message in retained.match(topic_filter))


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
    for topic in ("a/b/c", "a/b", "a", "$x/y"):
        retained.keep(kept(topic))
    for topic in ("a/b", "a/b/c", "a", "$x/y", "never/there"):
        retained.keep(kept(topic, b""))
    assert (retained.count, retained.size) == (0, 0)
    assert not retained._root.children
    assert not retained._dollar_root.children


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


def test_properties_count_among_the_bytes() -> None:
    retained = store(size=1000)
    properties = Properties(user_properties=(("x" * 500, "y" * 500),))
    assert not retained.keep(Message("a", b"1", 1, True, properties))
    assert retained.keep(Message("a", b"1", 1, True, Properties(content_type="x" * 500)))


def test_a_message_is_kept_whole() -> None:
    retained = store()
    properties = Properties(payload_format_indicator=1, content_type="t", user_properties=(("a", "1"), ("a", "2")))
    message = Message("a", b"1", 2, True, properties)
    retained.keep(message)
    assert next(retained.match("a")) is message


def test_a_shared_subscription_gets_nothing() -> None:
    retained = store()
    retained.keep(kept("$share/g/a"))
    retained.keep(kept("a"))
    assert not list(retained.match("$share/g/a"))


# What is over.


def test_what_is_over_is_not_found_even_before_it_is_removed() -> None:
    clock = Clock()
    retained = store(clock=clock)
    retained.keep(until(5.0, "a"))
    retained.keep(kept("b"))
    assert topics_of(retained) == ["a", "b"]
    clock.now = 5.0
    assert topics_of(retained) == ["b"]
    assert retained.count == 2


def test_what_is_over_is_removed_in_slices() -> None:
    retained = store()
    for number in range(10):
        retained.keep(until(float(number), f"a/{number}"))
    assert retained.next_expiry == 0.0
    assert retained.expire(6.0, most=5) == 5
    assert retained.next_expiry == 5.0
    assert retained.expire(6.0, most=5) == 2
    assert (retained.next_expiry, retained.count) == (7.0, 3)
    assert retained.expire(6.0) == 0


def test_a_message_that_was_replaced_does_not_end_its_successor() -> None:
    retained = store()
    retained.keep(until(1.0, "longer"))
    retained.keep(until(9.0, "longer"))
    retained.keep(until(1.0, "for ever"))
    retained.keep(kept("for ever"))
    retained.keep(until(1.0, "cleared"))
    retained.keep(kept("cleared", b""))
    assert retained.expire(5.0) == 0
    assert topics_of(retained) == ["for ever", "longer"]
    assert retained.expire(9.0) == 1
    assert (topics_of(retained), retained.next_expiry) == (["for ever"], inf)


def test_a_topic_that_is_set_again_and_again_costs_no_more_memory() -> None:
    retained = store()
    for number in range(3 * SPARE):
        retained.keep(until(float(number), "a"))
    assert len(retained._times) <= SPARE + 3
    assert retained.expire(3.0 * SPARE - 2) == 0
    while retained.next_expiry <= 3.0 * SPARE:
        retained.expire(3.0 * SPARE)
    assert retained.count == 0


# What is on record.


def test_each_change_is_noted_and_nothing_else() -> None:
    notes: list[tuple[str, bytes | None]] = []
    retained = RetainedStore(
        max_messages=2,
        max_bytes=10_000,
        note=lambda topic, message, _is_new, _sender: notes.append((topic, message.payload if message else None)),
    )
    retained.keep(until(1.0, "a", b"1"))
    retained.keep(kept("b", b"2"))
    retained.keep(kept("c", b"does not fit"))
    retained.keep(kept("b", b"3"))
    retained.keep(kept("b", b""))
    retained.keep(kept("b", b""))
    retained.expire(2.0)
    assert notes == [("a", b"1"), ("b", b"2"), ("b", b"3"), ("b", None), ("a", None)]


def test_what_was_kept_is_put_back_without_a_note_unless_it_does_not_fit_any_more() -> None:
    notes: list[tuple[str, Message | None]] = []
    retained = RetainedStore(
        max_messages=2,
        max_bytes=10_000,
        note=lambda topic, message, _is_new, _sender: notes.append((topic, message)),
        now=lambda: 0.0,
    )
    assert retained.restore([(kept("a"), "one"), (until(5.0, "b"), ""), (kept("c"), "")]) == 1
    assert notes == [("c", None)]
    assert topics_of(retained) == ["a", "b"]
    assert retained.next_expiry == 5.0
    assert retained.sender_of("a") == "one"


def test_who_sent_it_counts_as_it_is_kept_with_it() -> None:
    retained = store()
    retained.keep(kept("a"), "one")
    first = retained.size
    retained.keep(kept("a"), "twelve")
    assert retained.size == first + 3
    retained.keep(kept("a", b""), "")
    assert retained.size == 0


def test_who_sent_what_is_retained_is_known_as_long_as_it_is() -> None:
    retained = store()
    retained.keep(kept("a/b"), "one")
    assert [retained.sender_of(topic) for topic in ("a/b", "a", "a/b/c", "x")] == ["one", "", "", ""]
    retained.keep(kept("a/b", b"2"), "two")
    assert retained.sender_of("a/b") == "two"
    retained.keep(kept("a/b/c"), "three")
    retained.keep(kept("a/b", b""), "one")
    assert [retained.sender_of(topic) for topic in ("a/b", "a/b/c")] == ["", "three"]


# Slices, and changes between them.


@given(
    st.lists(TOPICS, max_size=12, unique=True),
    st.lists(st.tuples(TOPICS, st.booleans()), max_size=12),
    FILTERS,
    st.integers(1, 3),
)
def test_what_stays_is_found_once_whatever_else_changes_meanwhile(
    topics: list[str], changes: list[tuple[str, bool]], wanted: str, nodes: int
) -> None:
    retained = store()
    for topic in topics:
        retained.keep(kept(topic))
    found: list[str] = []
    pending = list(changes)
    for part in retained.slices(wanted, nodes):
        assert len(part) <= nodes
        found += [message.topic for message in part]
        if pending:
            topic, is_set = pending.pop()
            retained.keep(kept(topic, b"2" if is_set else b""))
    made = changes[len(pending) :]
    steady = set(topics) - {topic for topic, _ in made}
    assert len(found) == len(set(found))
    assert steady & set(found) == {topic for topic in steady if matches(wanted, topic)}
    assert all(matches(wanted, topic) for topic in found)
    assert set(found) <= set(topics) | {topic for topic, is_set in made if is_set}


def test_each_step_takes_a_slice_though_nothing_is_found() -> None:
    retained = store(messages=5000, size=10_000_000)
    for number in range(3000):
        retained.keep(kept(f"a/{number}/x"))
    slices = list(retained.slices("a/+/y", 100))
    assert len(slices) >= 30
    assert not any(slices)


def test_those_who_go_through_a_wide_level_at_once_share_its_list_until_it_changes() -> None:
    retained = store(messages=5000, size=10_000_000)
    for number in range(WIDE + 1):
        retained.keep(kept(f"{number}"))
    lists = [retained._root.snapshot()]
    lists.append(retained._root.snapshot())
    retained.keep(kept("new"))
    lists.append(retained._root.snapshot())
    retained.keep(kept("new", b""))
    lists.append(retained._root.snapshot())
    assert [one is other for one, other in pairwise(lists)] == [True, False, False]
    assert [len(each) - WIDE for each in lists] == [1, 1, 2, 1]
