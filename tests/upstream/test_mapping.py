"""Topic mapping: nothing is lost, nothing is mistaken for something else, and what went there comes back as it was."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given, strategies as st

from mqttproxy.config.mapping_checks import check_mappings
from mqttproxy.config.model import LimitSettings, TopicMapping, TopicPattern, UpstreamSettings
from mqttproxy.config.report import Report
from mqttproxy.mqtt.packets import Message, Properties, Publish
from mqttproxy.mqtt.topics import matches
from mqttproxy.upstream.mapping import CACHED_TOPICS, NO_MAP, TopicMap, topic_map


def mapping(local: str, remote: str) -> TopicMapping:
    return TopicMapping(local=TopicPattern(local), remote=TopicPattern(remote))


def mapped(*pairs: tuple[str, str]) -> TopicMap:
    return TopicMap([mapping(*pair) for pair in pairs])


PLANT = mapped(("plant/{line}/#", "acme/eu/{line}/in/#"))
PREFIX = mapped(("#", "acme/#"))
STRIPPED = mapped(("acme/#", "#"))
TURNED = mapped(("{a}/{b}", "{b}/of/{a}"))


class TestNames:
    @pytest.mark.parametrize(
        ("topics", "local", "remote"),
        [
            (PLANT, "plant/7", "acme/eu/7/in"),
            (PLANT, "plant/7/temperature", "acme/eu/7/in/temperature"),
            (PLANT, "plant/7/a/b/", "acme/eu/7/in/a/b/"),
            (PLANT, "plant//x", "acme/eu//in/x"),
            (PLANT, "plant", "plant"),
            (PLANT, "other/7", "other/7"),
            (PLANT, "acme/eu/7/out", "acme/eu/7/out"),
            (PLANT, "$SYS/x", "$SYS/x"),
            (PREFIX, "a/b", "acme/a/b"),
            (PREFIX, "acme", "acme/acme"),
            (PREFIX, "/", "acme//"),
            (PREFIX, "$SYS/x", "$SYS/x"),
            (STRIPPED, "acme/a/b", "a/b"),
            (TURNED, "x/y", "y/of/x"),
            (TURNED, "x", "x"),
            (TURNED, "$x/y", "$x/y"),
            (mapped(("a/#", "b/#"), ("b/#", "a/#")), "a/1", "b/1"),
            (mapped(("a/#", "b/#"), ("b/#", "a/#")), "b/1", "a/1"),
        ],
    )
    def test_there_and_back(self, topics: TopicMap, local: str, remote: str) -> None:
        assert topics.to_remote(local) == remote
        assert topics.to_local(remote) == local

    @pytest.mark.parametrize(
        ("topics", "local"),
        [
            (PLANT, "acme/eu/7/in"),  # is what the upstream calls plant/7
            (STRIPPED, "a/b"),
            (STRIPPED, "acme"),  # would be the empty name
            (STRIPPED, "acme/"),
            (STRIPPED, "acme/$SYS/x"),  # would be the server's
            (mapped(("a/{x}", "{x}")), "a/$x"),
            (PREFIX, "x" * 65_531),
        ],
    )
    def test_what_would_be_mistaken_has_no_place_at_the_upstream(self, topics: TopicMap, local: str) -> None:
        assert topics.to_remote(local) is None

    @pytest.mark.parametrize(
        ("topics", "remote"),
        [
            (PLANT, "plant/7"),
            (PREFIX, "a/b"),
            (PREFIX, "acme"),
            (PREFIX, "acme/$SYS/x"),
            (STRIPPED, "x" * 65_531),
        ],
    )
    def test_what_would_be_mistaken_has_no_place_here(self, topics: TopicMap, remote: str) -> None:
        assert topics.to_local(remote) is None

    def test_the_memory_of_names_is_bounded(self) -> None:
        topics = mapped(("a/#", "b/#"))
        for number in range(CACHED_TOPICS + 1):
            assert topics.to_remote(f"a/{number}") == f"b/{number}"
        assert len(topics._to_remote._known) == 1


class TestFilters:
    @pytest.mark.parametrize(
        ("topics", "wanted", "asked"),
        [
            (PLANT, "plant/7/temperature", ("acme/eu/7/in/temperature",)),
            (PLANT, "plant/7", ("acme/eu/7/in",)),
            (PLANT, "plant/+/#", ("acme/eu/+/in/#",)),
            (PLANT, "plant/+/+", ("acme/eu/+/in/+",)),
            (PLANT, "plant/#", ("acme/eu/+/in/#", "plant/#")),  # the topic "plant" itself keeps its name
            (PLANT, "+/7/x", ("acme/eu/7/in/x", "+/7/x")),
            (PLANT, "+/eu/x", ("acme/eu/eu/in/x", "+/eu/x")),
            (PLANT, "#", ("#",)),
            (PLANT, "other/#", ("other/#",)),
            (PLANT, "acme/eu/7/in/x", ()),  # there are no local topics of this name here
            (PLANT, "acme/#", ("acme/#",)),
            (PLANT, "$SYS/#", ("$SYS/#",)),
            (PLANT, "$share/g/plant/7/#", ("$share/g/acme/eu/7/in/#",)),
            (PREFIX, "#", ("acme/#",)),
            (PREFIX, "a/+", ("acme/a/+",)),
            (STRIPPED, "acme/#", ("#",)),
            (STRIPPED, "acme", ()),
            (STRIPPED, "acme/$SYS/#", ()),
            (STRIPPED, "a", ()),
            (mapped(("{site}/#", "acme/{site}/#")), "#", ("acme/+/#",)),
            (TURNED, "x/#", ("+/of/x", "x/#")),
            (TURNED, "x/+", ("+/of/x",)),
            (mapped(("a/{x}", "r1/{x}"), ("b/{x}", "r2/{x}")), "+/7", ("+/7",)),
            (mapped(("a/{x}", "r/1/{x}"), ("b/{x}", "r/2/{x}")), "+/7", ("r/1/7", "r/2/7", "+/7")),
            (NO_MAP, "a/#", ("a/#",)),
        ],
    )
    def test_a_filter_becomes_those_that_bring_what_it_wants(
        self, topics: TopicMap, wanted: str, asked: tuple[str, ...]
    ) -> None:
        assert topics.filters_to_remote(wanted) == asked


class TestMessages:
    def test_a_message_and_its_response_topic_are_renamed_and_nothing_else(self) -> None:
        properties = Properties(response_topic="plant/7/answers", correlation_data=b"1")
        message = Publish("plant/7/x", b"p", 2, True, properties, 5, True)
        remote = PLANT.message_to_remote(message)
        expected = Properties(response_topic="acme/eu/7/in/answers", correlation_data=b"1")
        assert remote == Publish("acme/eu/7/in/x", b"p", 2, True, expected, 5, True)
        assert remote is not None
        assert PLANT.message_to_local(remote) == message

    def test_a_response_topic_without_a_place_is_left_out(self) -> None:
        message = Message("plant/7/x", b"", properties=Properties(response_topic="acme/eu/7/in", content_type="x"))
        remote = PLANT.message_to_remote(message)
        assert remote == Message("acme/eu/7/in/x", b"", properties=Properties(content_type="x"))

    def test_a_message_without_a_place_is_none(self) -> None:
        assert PLANT.message_to_remote(Message("acme/eu/7/in", b"")) is None
        assert PLANT.message_to_local(Message("plant/7", b"")) is None

    def test_what_keeps_its_names_is_the_very_message(self) -> None:
        message = Message("other", b"", properties=Properties(response_topic="x"))
        assert PLANT.message_to_remote(message) is message
        assert NO_MAP.message_to_remote(message) is message

    def test_an_upstream_without_entries_has_no_map(self) -> None:
        settings = UpstreamSettings(name="a", url="mqtt://h")
        assert topic_map(settings) is NO_MAP
        with_one = UpstreamSettings(name="a", url="mqtt://h", topics=(mapping("a", "b"),))
        assert topic_map(with_one).to_remote("a") == "b"


# Laws

LEVELS = st.sampled_from(["a", "b", "c", "", "$s"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(LEVELS, st.just("+")), max_size=4))
    if not levels or draw(st.booleans()):
        levels.append("#")
    text = "/".join(levels)
    assume(text)
    return text


@st.composite
def patterns(draw: st.DrawFn) -> tuple[str, str]:
    """Return both sides of an entry."""
    captures = draw(st.sampled_from([[], ["{x}"], ["{x}", "{y}"]]))
    sides = []
    rest = draw(st.sampled_from([[], ["#"]]))
    for _ in range(2):
        literal = draw(st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=2))
        sides.append("/".join([*draw(st.permutations([*captures, *literal])), *rest]))
    return sides[0], sides[1]


@st.composite
def maps(draw: st.DrawFn) -> TopicMap:
    entries: list[TopicMapping] = []
    for local, remote in draw(st.lists(patterns(), max_size=3)):
        entry = mapping(local, remote)
        if not faults([*entries, entry]):
            entries.append(entry)
    return TopicMap(entries)


def faults(entries: Sequence[TopicMapping]) -> bool:
    report = Report("", lambda _: None)
    check_mappings(entries, "", LimitSettings(), report)
    return bool(report.faults)


@given(maps(), TOPICS)
def test_what_is_mapped_comes_back_as_it_was(topics: TopicMap, topic: str) -> None:
    if (remote := topics.to_remote(topic)) is not None:
        assert topics.to_local(remote) == topic
    if (local := topics.to_local(topic)) is not None:
        assert topics.to_remote(local) == topic


@given(maps(), TOPICS, filters())
def test_a_filter_brings_what_it_wants_and_entries_bring_nothing_else(
    topics: TopicMap, topic: str, wanted: str
) -> None:
    asked = topics.filters_to_remote(wanted)
    remote = topics.to_remote(topic)
    assume(remote is not None)
    assert remote is not None
    bringing = [name for name in asked if matches(name, remote)]
    if matches(wanted, topic):
        assert bringing
    else:
        assert set(bringing) <= {wanted}  # the filter itself may bring more: what comes is held against it again


@given(maps(), filters(), TOPICS)
def test_only_the_filter_itself_brings_anything_a_second_time(topics: TopicMap, wanted: str, topic: str) -> None:
    bringing = [name for name in topics.filters_to_remote(wanted) if matches(name, topic)]
    assert len(bringing) <= 1 or (len(bringing) == 2 and bringing[1] == wanted)


@given(maps(), filters())
def test_every_filter_that_is_asked_for_is_valid_and_none_covers_another(topics: TopicMap, wanted: str) -> None:
    asked = topics.filters_to_remote(wanted)
    assert len(set(asked)) == len(asked)
    for name in asked:
        levels = name.split("/")
        assert name
        assert "#" not in levels[:-1]
        assert name == wanted or not name.startswith("$")
