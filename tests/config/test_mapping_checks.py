"""Cross-checks of the topic mappings of an upstream, with the exact sentences."""

import pytest

from mqttproxy.config.mapping_checks import as_filter
from mqttproxy.config.model import TopicMapping, TopicPattern
from tests.config.documents import UPSTREAM, faults, parse

PATTERN = 'expected a topic pattern such as "plant/{line}/#"'
FIRST = "upstreams[0].topics[0]"


def mappings(*pairs: tuple[str, str]) -> str:
    return UPSTREAM + "".join(
        f'[[upstreams.topics]]\nlocal = "{local}"\nremote = "{remote}"\n' for local, remote in pairs
    )


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        ("plant/{line}/#", "acme/eu/{line}/in/#"),
        ("#", "acme/#"),
        ("{a}/{b}", "{b}/x/{a}"),
        ("one", "two/three"),
        ("/#", "acme//#"),
        ("same/#", "same/#"),
    ],
)
def test_a_mapping_is_read_as_it_is_written(local: str, remote: str) -> None:
    (upstream,) = parse(mappings((local, remote))).upstreams
    assert upstream.topics == (TopicMapping(local=TopicPattern(local), remote=TopicPattern(remote)),)


def test_two_entries_may_exchange_the_names_of_their_topics() -> None:
    assert faults(mappings(("a/#", "b/#"), ("b/#", "a/#"))) == []


def test_entries_of_different_upstreams_may_overlap() -> None:
    text = mappings(("a/#", "x/#")) + mappings(("a/#", "x/#")).replace('name = "a"', 'name = "b"')
    assert faults(text) == []


@pytest.mark.parametrize(
    ("local", "why"),
    [
        ("$SYS/#", "topics that begin with $ keep their names everywhere"),
        ("plant/+", "write {name} for a level that may be any"),
        ("plant/line{a}", "a {name}, of letters, digits and underscores, fills its level"),
        ("plant/{}", "a {name}, of letters, digits and underscores, fills its level"),
        ("plant/{a b}", "a {name}, of letters, digits and underscores, fills its level"),
        ("plant/{a}/{a}", "each {name} stands once"),
        ("plant/#/x", "'#' is not the last level of the topic filter"),
        ("plant#", "a wildcard does not fill its level of the topic filter"),
        ("", "the topic filter is empty"),
    ],
)
def test_what_is_no_pattern_is_told_on_either_side(local: str, why: str) -> None:
    assert faults(mappings((local, "x"))) == [f'{FIRST}.local: found "{local}", {PATTERN}; {why}']
    assert faults(mappings(("x", local))) == [f'{FIRST}.remote: found "{local}", {PATTERN}; {why}']


@pytest.mark.parametrize(
    ("local", "remote", "missing"),
    [
        ("a/{x}", "b", "{x}"),
        ("a", "b/{x}", "{x}"),
        ("a/{x}", "b/{y}", "{x}, {y}"),
        ("a/#", "b", "#"),
        ("a/{x}", "b/{x}/#", "#"),
    ],
)
def test_both_sides_have_the_same_names_and_rest(local: str, remote: str, missing: str) -> None:
    expected = f'expected the same names as in "{local}", and # on both sides or none; only one side has {missing}'
    assert faults(mappings((local, remote))) == [f'{FIRST}.remote: found "{remote}", {expected}']


@pytest.mark.parametrize(
    ("first", "second", "side"),
    [
        (("a/{x}/#", "r1/{x}/#"), ("a/7/#", "r2/#"), "local"),
        (("#", "r1/#"), ("a", "r2"), "local"),
        (("a/#", "r1/#"), ("a", "r2"), "local"),
        (("l1/#", "a/#"), ("l2/{x}", "a/{x}"), "remote"),
    ],
)
def test_overlapping_patterns_are_told_with_both_entries(
    first: tuple[str, str], second: tuple[str, str], side: str
) -> None:
    ours, theirs = (dict(zip(("local", "remote"), pair, strict=True))[side] for pair in (second, first))
    expected = "expected topics that no other entry has"
    hint = f'{FIRST}.{side} is "{theirs}", and some topics match both'
    assert faults(mappings(first, second)) == [f'upstreams[0].topics[1].{side}: found "{ours}", {expected}; {hint}']


def test_limits_of_topics_hold_for_patterns_too() -> None:
    text = "[limits]\ntopic_levels = 2\n" + mappings(("a/b/c", "x"))
    assert faults(text) == [f'{FIRST}.local: found "a/b/c", {PATTERN}; the topic filter has 3 levels, more than 2']


def test_an_entry_without_a_side_is_told() -> None:
    text = UPSTREAM + '[[upstreams.topics]]\nlocal = "a"\n'
    assert faults(text) == [f'{FIRST}.remote: found nothing, expected a topic pattern such as "plant/{{line}}/#"']


def test_something_else_than_tables_is_told() -> None:
    assert faults(UPSTREAM + "topics = 3\n") == [
        "upstreams[0].topics: found 3, expected tables, each written [[upstreams.topics]]"
    ]


@pytest.mark.parametrize(("pattern", "topic_filter"), [("a/{x}/#", "a/+/#"), ("{a}/b", "+/b"), ("a", "a")])
def test_a_pattern_stands_for_what_its_filter_matches(pattern: str, topic_filter: str) -> None:
    assert as_filter(pattern) == topic_filter
