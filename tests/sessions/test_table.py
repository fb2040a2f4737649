from collections.abc import Sequence

from hypothesis import given, strategies as st

from mqttproxy.mqtt.packets import Message, Properties, Publish, Subscription
from mqttproxy.mqtt.topics import matches
from mqttproxy.sessions import SubscriptionTable
from mqttproxy.sessions.table import CACHED_TOPICS


class FakeDevice:
    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.got: list[Message] = []
        self.calls = 0

    def deliver(self, messages: Sequence[Message]) -> None:
        self.calls += 1
        self.got.extend(messages)


def test_every_subscriber_gets_a_batch_in_one_call_and_in_order() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    table.subscribe(device, Subscription("a/#", 1))
    table.deliver([Message(f"a/{n}", b"", 1) for n in range(3)])
    assert [message.topic for message in device.got] == ["a/0", "a/1", "a/2"]
    assert device.calls == 1


def test_overlapping_subscriptions_give_one_copy_with_the_highest_qos_and_all_identifiers() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    table.subscribe(device, Subscription("a/#", 0), 7)
    table.subscribe(device, Subscription("a/b", 2), 9)
    table.deliver([Message("a/b", b"", 2)])
    [copy] = device.got
    assert copy.qos == 2
    assert sorted(copy.properties.subscription_identifiers) == [7, 9]


def test_qos_is_lowered_to_that_of_the_subscription() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    table.subscribe(device, Subscription("a", 1))
    table.deliver([Publish("a", b"", 2, packet_id=5), Message("a", b"", 0)])
    assert [message.qos for message in device.got] == [1, 0]


def test_retain_is_cleared_unless_retain_as_published() -> None:
    table, plain, as_published = SubscriptionTable(), FakeDevice("p"), FakeDevice("r")
    table.subscribe(plain, Subscription("a"))
    table.subscribe(as_published, Subscription("a", retain_as_published=True))
    table.deliver([Message("a", b"1", 0, True)])
    assert [message.retain for message in (*plain.got, *as_published.got)] == [False, True]


def test_no_local_keeps_a_message_from_its_sender_only() -> None:
    table, device, other = SubscriptionTable(), FakeDevice("d"), FakeDevice("o")
    for subscriber in (device, other):
        table.subscribe(subscriber, Subscription("a", no_local=True))
    table.deliver([Message("a", b"")], sender="d")
    assert (len(device.got), len(other.got)) == (0, 1)


def test_only_the_named_filters_count_where_an_upstream_says_which_it_came_for() -> None:
    table, device, other = SubscriptionTable(), FakeDevice("d"), FakeDevice("o")
    table.subscribe(device, Subscription("a/#"))
    table.subscribe(other, Subscription("a/b"))
    table.deliver([Message("a/b", b"")], only=frozenset({"a/b"}))
    assert (len(device.got), len(other.got)) == (0, 1)


def test_an_identifier_of_the_upstream_is_not_passed_on() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    table.subscribe(device, Subscription("a"))
    table.deliver([Message("a", b"", properties=Properties(subscription_identifiers=(3,)))])
    assert device.got[0].properties.subscription_identifiers == ()


def test_a_repeated_filter_replaces_the_subscription() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    assert table.subscribe(device, Subscription("a", 0))
    assert not table.subscribe(device, Subscription("a", 1))
    table.deliver([Message("a", b"", 1)])
    assert [message.qos for message in device.got] == [1]
    assert table.count == 1


FILTERS = st.sampled_from(["a", "a/b", "a/#", "+/b", "#", "+", "b/+"])


@given(st.lists(st.tuples(st.sampled_from("xyz"), FILTERS, st.booleans())), st.sampled_from(["a", "a/b", "b/b", "c"]))
def test_a_device_gets_a_message_exactly_if_one_of_its_filters_matches(
    steps: list[tuple[str, str, bool]], topic: str
) -> None:
    table, model = SubscriptionTable(), set()
    devices = {name: FakeDevice(name) for name in "xyz"}
    for client_id, topic_filter, joins in steps:
        if joins:
            table.subscribe(devices[client_id], Subscription(topic_filter))
            model.add((client_id, topic_filter))
        else:
            assert table.unsubscribe(client_id, topic_filter) == ((client_id, topic_filter) in model)
            model.discard((client_id, topic_filter))
        table.has_subscriber(topic)  # fills the cache, which the next step must empty
    table.deliver([Message(topic, b"")])
    for name, device in devices.items():
        wanted = any(matches(topic_filter, topic) for owner, topic_filter in model if owner == name)
        assert len(device.got) == wanted
    assert table.count == len(model)


def test_the_cache_of_topics_is_bounded() -> None:
    table = SubscriptionTable()
    for number in range(CACHED_TOPICS + 5):
        table.has_subscriber(f"t/{number}")
    assert len(table._matched) <= CACHED_TOPICS
