"""What devices want under local names, asked and brought under the upstream's."""

from collections import Counter

import trio
from attrs import define, field
from hypothesis import assume, given, strategies as st
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Properties, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import matches
from mqttproxy.upstream.bell import Bell
from mqttproxy.upstream.callbacks import Arrival
from mqttproxy.upstream.interest import Interest, Want
from mqttproxy.upstream.mapping import NO_MAP, TopicMap
from mqttproxy.upstream.naming import Naming
from tests.upstream.test_mapping import PLANT, TOPICS, filters, mapped, maps


@define(eq=False)
class Broker:
    """Hears what is to be told, and sends messages with the identifiers of the subscriptions that match."""

    interest: Interest = field(factory=lambda: Interest(Bell()))
    wants: dict[str, Want] = field(factory=dict)
    ended: list[str] = field(factory=list)

    def hear(self) -> list[str]:
        """Return the filters that are subscribed to now."""
        for asking in self.interest.askings():
            if asking.want is None:
                del self.wants[asking.topic_filter]
                self.ended.append(asking.topic_filter)
            else:
                self.wants[asking.topic_filter] = asking.want
        return list(self.wants)

    def answer(self, **reasons: ReasonCode) -> None:
        for name, want in self.wants.items():
            want.answer(want.asked, reasons.get(name[0], ReasonCode.GRANTED_QOS_1))

    def message(self, topic: str, *filters: str) -> Publish:
        identifiers = tuple(self.wants[name].identifier for name in filters)
        return Publish(topic, b"", properties=Properties(subscription_identifiers=identifiers))


def naming(topics: TopicMap) -> tuple[Naming, Broker]:
    broker = Broker()
    return Naming(broker.interest, topics), broker


def test_a_filter_is_asked_for_under_its_names_and_ended_under_them_after_the_last_device() -> None:
    names, broker = naming(PLANT)
    names.add("plant/#", 1)
    names.add("plant/#", 0)
    assert broker.hear() == ["acme/eu/+/in/#", "plant/#"]
    names.remove("plant/#")
    assert broker.hear() == ["acme/eu/+/in/#", "plant/#"]
    names.remove("plant/#")
    names.remove("plant/#")
    assert broker.hear() == []
    assert len(broker.interest) == 0


def test_two_filters_with_one_name_share_its_subscription() -> None:
    names, broker = naming(PLANT)
    names.add("plant/#", 0)
    names.add("plant/+/#", 1)
    assert broker.hear() == ["acme/eu/+/in/#", "plant/#"]
    assert broker.wants["acme/eu/+/in/#"].qos == 1
    (arrival,) = names.arrivals([broker.message("acme/eu/7/in/x", "acme/eu/+/in/#")], 0.0)
    assert arrival.publish.topic == "plant/7/x"
    assert arrival.filters == ("plant/#", "plant/+/#")
    names.remove("plant/+/#")
    assert broker.hear() == ["acme/eu/+/in/#", "plant/#"]
    assert names.arrivals([broker.message("acme/eu/7/in/x", "acme/eu/+/in/#")], 0.0)[0].filters == ("plant/#",)


TURNED = mapped(("a/{x}/{y}", "r/{y}/{x}"))


def test_what_comes_twice_for_one_filter_counts_once() -> None:
    names, broker = naming(TURNED)
    names.add("+/1/+", 0)
    names.add("#", 0)
    assert broker.hear() == ["r/+/1", "+/1/+", "#"]
    copies = [broker.message("r/1/1", name) for name in broker.wants]
    assert [arrival.filters for arrival in names.arrivals(copies, 0.0)] == [("+/1/+",), (), ("#",)]


def test_one_copy_with_the_identifiers_of_all_counts_once_for_each_filter() -> None:
    names, broker = naming(TURNED)
    names.add("+/1/+", 0)
    names.add("#", 0)
    (arrival,) = names.arrivals([broker.message("r/1/1", *broker.hear())], 0.0)
    assert arrival.filters == ("+/1/+", "#")


def test_what_has_no_place_here_is_left_out() -> None:
    names, broker = naming(PLANT)
    names.add("#", 0)
    broker.hear()
    arrived = [broker.message("plant/7", "#"), broker.message("other", "#")]
    assert [arrival.publish.topic for arrival in names.arrivals(arrived, 0.0)] == ["other"]


def test_where_the_broker_names_no_subscriptions_the_filters_are_not_known() -> None:
    names, _ = naming(PLANT)
    names.add("#", 0)
    assert names.arrivals([Publish("acme/eu/7/in", b"")], 0.0) == [Arrival(Publish("plant/7", b""))]


def test_another_map_ends_what_has_another_name_and_leaves_what_keeps_its_own() -> None:
    names, broker = naming(NO_MAP)
    for _ in range(2):
        names.add("plant/7/#", 1)
        names.add("other", 1)
    assert broker.hear() == ["plant/7/#", "other"]
    identifier = broker.wants["other"].identifier
    names.use(PLANT, "gw")
    assert sorted(broker.hear()) == ["acme/eu/7/in/#", "other"]
    assert broker.ended == ["plant/7/#"]
    assert broker.wants["other"].identifier == identifier
    names.use(NO_MAP, "gw")
    assert sorted(broker.hear()) == ["other", "plant/7/#"]
    for _ in range(2):
        names.remove("plant/7/#")
        names.remove("other")
    assert broker.hear() == []
    assert len(broker.interest) == 0


async def test_the_worst_answer_is_the_answer(autojump_clock: MockClock) -> None:
    names, broker = naming(PLANT)
    names.add("plant/#", 2)
    broker.hear()
    answers: list[ReasonCode] = []

    async def ask() -> None:
        answers.append(await names.wait("plant/#"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        broker.answer(a=ReasonCode.GRANTED_QOS_2, p=ReasonCode.SUCCESS)
    assert answers == [ReasonCode.SUCCESS]
    broker.wants["acme/eu/+/in/#"].reason = ReasonCode.NOT_AUTHORIZED
    assert await names.wait("plant/#") is ReasonCode.NOT_AUTHORIZED


async def test_a_filter_that_nothing_there_can_match_is_not_refused(autojump_clock: MockClock) -> None:
    names, broker = naming(PLANT)
    names.add("acme/eu/7/in/x", 1)
    assert broker.hear() == []
    assert await names.wait("acme/eu/7/in/x") is ReasonCode.SUCCESS
    assert await names.wait("nobody") is ReasonCode.NO_SUBSCRIPTION_EXISTED


@given(st.lists(maps(), min_size=1, max_size=3), st.lists(filters(), unique=True, max_size=4), TOPICS, st.booleans())
def test_each_filter_that_matches_gets_a_message_once_whatever_the_names_are_and_were(
    topics: list[TopicMap],
    wanted: list[str],
    topic: str,
    one_copy: bool,
) -> None:
    names, broker = naming(NO_MAP)
    for topic_filter in wanted:
        names.add(topic_filter, 0)
        broker.hear()
    for now in topics:
        names.use(now, "gw")
        broker.hear()
    remote = topics[-1].to_remote(topic)
    assume(remote is not None)
    assert remote is not None
    bringing = [name for name in broker.wants if matches(name, remote)]
    copies = [bringing] if one_copy and bringing else [[name] for name in bringing]
    arrived = names.arrivals([broker.message(remote, *names_of_copy) for names_of_copy in copies], 0.0)
    assert {arrival.publish.topic for arrival in arrived} <= {topic}
    came_for = Counter(topic_filter for arrival in arrived for topic_filter in arrival.filters or ())
    for topic_filter in wanted:
        if matches(topic_filter, topic):
            assert came_for[topic_filter] == 1
        else:
            assert came_for[topic_filter] <= 1  # by itself; it does not match the local name, so nobody gets it
    for topic_filter in wanted:
        names.remove(topic_filter)
    assert broker.hear() == []
