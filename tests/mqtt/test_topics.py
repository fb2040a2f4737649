"""mqttproxy/mqtt/topics.py: names, filters, and three ways to match them that must agree."""

from itertools import product

import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import (
    FEW,
    FilterTree,
    check_topic_filter,
    check_topic_name,
    matches,
    overlaps,
    split_shared,
)
from tests.mqtt.strategies import topic_filters, topic_names


@pytest.mark.parametrize("topic", ["a", "/", "a/b", "//", " ", "$SYS/x", "é/\ufeff", "a" * 1024, "/" * 127])
def test_a_valid_topic_name_passes(topic: str) -> None:
    check_topic_name(topic)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", ReasonCode.TOPIC_NAME_INVALID),
        ("a/+", ReasonCode.TOPIC_NAME_INVALID),
        ("a+b", ReasonCode.TOPIC_NAME_INVALID),
        ("#", ReasonCode.TOPIC_NAME_INVALID),
        ("a" * 1025, ReasonCode.TOPIC_NAME_INVALID),
        ("é" * 513, ReasonCode.TOPIC_NAME_INVALID),
        ("/" * 128, ReasonCode.TOPIC_NAME_INVALID),
        ("a\0b", ReasonCode.MALFORMED_PACKET),
        ("a\x1f", ReasonCode.MALFORMED_PACKET),
        ("\x7f", ReasonCode.MALFORMED_PACKET),
        ("\x9f", ReasonCode.MALFORMED_PACKET),
        ("\ufdd0", ReasonCode.MALFORMED_PACKET),
        ("\uffff", ReasonCode.MALFORMED_PACKET),
        ("\U0010fffe", ReasonCode.MALFORMED_PACKET),
        ("\ud800", ReasonCode.MALFORMED_PACKET),
    ],
)
def test_an_invalid_topic_name_is_refused_with_its_reason(topic: str, reason: ReasonCode) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        check_topic_name(topic)
    assert caught.value.reason is reason


def test_limits_of_topic_names_can_be_set() -> None:
    check_topic_name("a/b/c", max_bytes=5, max_levels=3)
    with pytest.raises(RemoteProtocolError, match="6 bytes, more than 5"):
        check_topic_name("a/b/cd", max_bytes=5)
    with pytest.raises(RemoteProtocolError, match="3 levels, more than 2"):
        check_topic_name("a/b/c", max_levels=2)


@pytest.mark.parametrize(
    "topic_filter", ["a", "#", "+", "/", "+/+", "a/#", "+/#", "/#", "$share/g/a", "$share/g/#", "$share", "$share/g//"]
)
def test_a_valid_topic_filter_passes(topic_filter: str) -> None:
    check_topic_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "",
        "a/#/b",
        "#/",
        "a+",
        "+a/b",
        "a#",
        "##",
        "++",
        "$share/",
        "$share//",
        "$share/ab",
        "$share/g+/t",
        "$share/#/t",
        "$share//t",
        "$share/g/",
        "$share/g/a#",
        "a\0",
        "a\n",
        "a" * 1025,
        "/" * 128,
    ],
)
def test_an_invalid_topic_filter_is_refused_as_suback_says_it(topic_filter: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        check_topic_filter(topic_filter)
    assert caught.value.reason is ReasonCode.TOPIC_FILTER_INVALID


def test_a_shared_filter_is_split_into_group_and_filter() -> None:
    assert split_shared("$share/g/a/#") == ("g", "a/#")
    assert split_shared("$share/g") == ("g", "")
    assert split_shared("a/$share/g") == (None, "a/$share/g")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),  # the examples of section 4.7.1
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/monitor", False),
        ("+/monitor", "$SYS/monitor", False),
        ("$SYS/#", "$SYS/monitor", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("a/#", "a/$b", True),
        ("a/+", "a/$b", True),
        ("A", "a", False),
        ("#", "/", True),
    ],
)
def test_filters_match_as_the_standard_has_it(topic_filter: str, topic: str, *, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected
    tree: FilterTree[str] = FilterTree()
    tree.add(topic_filter, "x")
    assert tree.match(topic) == (["x"] if expected else [])


SMALL_TOPICS = ["/".join(parts) for size in (1, 2, 3) for parts in product(["a", "b", "", "$"], repeat=size)]
SMALL_FILTERS = [
    "/".join(parts)
    for size in (1, 2, 3)
    for parts in product(["a", "", "+", "$", "#"], repeat=size)
    if "#" not in parts[:-1] and parts != ("",)
]


def test_two_filters_overlap_when_some_topic_matches_both() -> None:
    # Levels that no filter names and one level more than the longest filter stand for all other topics.
    topics = [topic for topic in SMALL_TOPICS if topic]
    matched = {
        topic_filter: {topic for topic in topics if matches(topic_filter, topic)} for topic_filter in SMALL_FILTERS
    }
    for a, b in product(SMALL_FILTERS, repeat=2):
        assert overlaps(a, b) is bool(matched[a] & matched[b]), (a, b)


@given(topic_filters(), topic_filters(), topic_names)
def test_filters_that_match_one_topic_overlap(a: str, b: str, topic: str) -> None:
    assert overlaps(a, b) is overlaps(b, a)
    if matches(a, topic) and matches(b, topic):
        assert overlaps(a, b)


@given(st.lists(st.tuples(topic_filters(), st.integers(0, 3))), st.lists(topic_names), st.data())
def test_a_tree_finds_what_matching_one_by_one_finds(
    entries: list[tuple[str, int]], topics: list[str], data: st.DataObject
) -> None:
    tree: FilterTree[int] = FilterTree()
    expected: set[tuple[str, int]] = set()
    for topic_filter, value in entries:
        assert tree.add(topic_filter, value) is ((topic_filter, value) not in expected)
        expected.add((topic_filter, value))
    for topic_filter, value in data.draw(st.lists(st.sampled_from(entries))) if entries else []:
        assert tree.remove(topic_filter, value) is ((topic_filter, value) in expected)
        expected.discard((topic_filter, value))
    assert len(tree) == len(expected)
    for topic in topics:
        found = sorted(value for topic_filter, value in expected if matches(topic_filter, topic))
        assert sorted(tree.match(topic)) == found


def test_an_emptied_tree_holds_no_nodes() -> None:
    tree: FilterTree[str] = FilterTree()
    for topic_filter in ("a/b/c", "a/b", "a/+/#"):
        tree.add(topic_filter, "x")
    for topic_filter in ("a/b", "a/+/#", "a/b/c"):
        assert tree.remove(topic_filter, "x")
    assert not tree._root.below
    assert not tree.remove("a/b", "x")
    assert not tree.remove("z", "x")


def test_a_popular_filter_keeps_the_order_of_its_values_and_loses_each_of_them() -> None:
    tree: FilterTree[int] = FilterTree()
    for value in range(3 * FEW):
        assert tree.add("a/#", value)
        assert not tree.add("a/#", value)
    assert tree.match("a/b") == list(range(3 * FEW))
    for value in range(3 * FEW):
        assert tree.remove("a/#", value)
        assert not tree.remove("a/#", value)
    assert (len(tree), tree.match("a/b")) == (0, [])


def test_the_deepest_topic_costs_no_recursion() -> None:
    deepest = "/" * 65_534
    tree: FilterTree[str] = FilterTree()
    tree.add(deepest, "deep")
    tree.add("+/#", "wide")
    assert tree.match(deepest) == ["wide", "deep"]
    assert tree.remove(deepest, "deep")
    assert not overlaps(deepest, deepest + "/")
