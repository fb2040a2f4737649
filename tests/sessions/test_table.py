from collections import Counter
from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqttproxy.mqtt.packets import Message, Properties, Publish, Subscription, Timed
from mqttproxy.mqtt.topics import matches, split_shared
from mqttproxy.sessions import SubscriptionTable
from mqttproxy.sessions.table import CACHED_MATCHES, CACHED_TOPICS, SharedMessage, by_group


class FakeDevice:
    def __init__(self, client_id: str, *, is_connected: bool = True) -> None:
        self.client_id = client_id
        self.is_connected = is_connected
        self.got: list[Message] = []
        self.calls = 0
        self.room = 1000
        self.holds = 0

    def hold(self) -> None:
        assert not self.got, "it may have been seen already"
        self.holds += 1

    def has_room_for(self, messages: Sequence[Message]) -> bool:
        return len(messages) <= self.room

    def deliver(self, messages: Sequence[Message]) -> None:
        self.calls += 1
        self.got.extend(messages)


def group(table: SubscriptionTable, *names: str, shared_filter: str = "$share/g/t", qos: int = 1) -> list[FakeDevice]:
    members = [FakeDevice(name) for name in names]
    for member in members:
        table.subscribe(member, Subscription(shared_filter, qos))
    return members


def payloads(device: FakeDevice) -> list[bytes]:
    return [message.payload for message in device.got]


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


def test_devices_that_want_the_same_of_a_message_share_one_copy() -> None:
    table = SubscriptionTable()
    devices = [FakeDevice(str(n)) for n in range(3)]
    for device in devices:
        table.subscribe(device, Subscription("a", 0), 5)
    table.deliver([Message("a", b"", 2)])
    assert devices[0].got[0] is devices[1].got[0] is devices[2].got[0]
    assert devices[0].got[0].properties.subscription_identifiers == (5,)


def test_what_becomes_of_a_message_in_time_stays_in_time() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    table.subscribe(device, Subscription("t", 0), 3)
    [member] = group(table, "m")
    table.deliver([Timed("t", b"", 1, expires_at=9.0), Message("t", b"", 1)])
    assert [message.expires_at for message in device.got if isinstance(message, Timed)] == [9.0]
    assert [message.expires_at for message in member.got if isinstance(message, Timed)] == [9.0, inf]


def test_what_a_client_has_is_told_filter_by_filter() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    assert (table.count_of("d"), table.has("d", "a")) == (0, False)
    table.subscribe(device, Subscription("a"))
    table.subscribe(device, Subscription("$share/g/a"))
    assert (table.count_of("d"), table.has("d", "a"), table.has("d", "$share/g/a")) == (2, True, True)
    assert not table.has("d", "b")
    assert table.filters_of("d") == tuple(e.subscription.topic_filter for e in table.entries_of("d"))
    assert table.unsubscribe("d", "a")
    assert table.unsubscribe("d", "$share/g/a")
    assert (table.count, table.count_of("d"), table.has_subscriber("a")) == (0, 0, False)


# Shared subscriptions.


def test_one_member_of_each_group_gets_a_message() -> None:
    table = SubscriptionTable()
    ones = group(table, "a", "b", "c", shared_filter="$share/one/t/#")
    twos = group(table, "x", "y", shared_filter="$share/two/t/#")
    same = group(table, "p", "q", shared_filter="$share/one/t/+")  # another filter: another group
    assert table.deliver([Message("t/1", b"")], sender="s") == 3
    for members in (ones, twos, same):
        assert sum(len(member.got) for member in members) == 1


def test_messages_of_one_sender_go_to_one_member_in_order_and_those_of_many_to_all() -> None:
    table = SubscriptionTable()
    members = group(table, "a", "b", "c")
    for number in range(300):
        for turn in (b"1", b"2"):
            table.deliver([Message("t", turn + b"-%d" % number)], sender=f"sender-{number}")
    for member in members:
        assert 60 < len(member.got) / 2 < 140
        assert [text[2:] for text in payloads(member)[::2]] == [text[2:] for text in payloads(member)[1::2]]


def test_who_sends_to_whom_does_not_depend_on_who_came_first() -> None:
    chosen = []
    for names in ("abcd", "dbca"):
        table = SubscriptionTable()
        members = group(table, *names)
        for number in range(20):
            table.deliver([Message("t", b"%d" % number)], sender=f"s{number}")
        chosen.append({member.client_id: payloads(member) for member in members})
    assert chosen[0] == chosen[1]


def test_a_message_without_a_sender_is_dealt_by_its_topic() -> None:
    table = SubscriptionTable()
    members = group(table, "a", "b", shared_filter="$share/g/#")
    for _ in range(2):
        table.deliver([Message(f"t/{number}", b"") for number in range(50)])
    for member in members:
        assert set(Counter(message.topic for message in member.got).values()) == {2}


def test_round_robin_gives_each_connected_member_its_turn() -> None:
    table = SubscriptionTable(shared="round_robin")
    members = group(table, "a", "b", "c", "d")
    members[1].is_connected = False
    table.deliver([Message("t", b"%d" % number) for number in range(6)], sender="s")
    assert [payloads(member) for member in members] == [[b"0", b"3"], [], [b"1", b"4"], [b"2", b"5"]]


def test_only_the_senders_of_a_member_that_is_away_change_and_spread_over_all_others() -> None:
    table = SubscriptionTable()
    members = group(table, *"abcdefgh")
    senders = [f"sender-{number}" for number in range(800)]

    def owners() -> dict[str, str]:
        for member in members:
            member.got.clear()
        for sender in senders:
            table.deliver([Message("t", sender.encode())], sender=sender)
        return {text.decode(): member.client_id for member in members for text in payloads(member)}

    before = owners()
    members[3].is_connected = False
    after = owners()
    moved = [sender for sender in senders if before[sender] != after[sender]]
    assert moved == [sender for sender in senders if before[sender] == "d"]
    assert set(Counter(after[sender] for sender in moved)) == set("abcefgh")
    members[3].is_connected = True
    assert owners() == before


@pytest.mark.parametrize("shared", ["hash", "round_robin"])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_the_only_one_connected_gets_everything_and_without_any_a_session_keeps_it(shared: str, count: int) -> None:
    table = SubscriptionTable(shared="hash" if shared == "hash" else "round_robin")
    members = group(table, *(f"m{number:02}" for number in range(count)))
    for member in members:
        member.is_connected = False
    table.deliver([Message("t", b"") for _ in range(5)], sender="s")
    assert sum(len(member.got) for member in members) == 5
    members[-1].is_connected = True
    members[-1].got.clear()
    for number in range(20):
        table.deliver([Message("t", b"")], sender=f"s{number}")
    assert len(members[-1].got) == 20


def test_a_plain_and_a_shared_subscription_of_one_device_give_it_the_message_for_each() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    table.subscribe(device, Subscription("t", 1), 1)
    table.subscribe(device, Subscription("$share/g/t", 0), 2)
    table.deliver([Message("t", b"", 2)], sender="s")
    got = [
        (message.qos, message.properties.subscription_identifiers, isinstance(message, SharedMessage))
        for message in device.got
    ]
    assert got == [(1, (1,), False), (0, (2,), True)]
    assert device.calls == 1


def test_a_shared_filter_is_named_whole_among_those_that_count() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    [member] = group(table, "m")
    table.subscribe(device, Subscription("t"))
    table.deliver([Message("t", b"1")], only=frozenset({"t"}))
    table.deliver([Message("t", b"2")], only=frozenset({"$share/g/t"}))
    assert (payloads(device), payloads(member)) == ([b"1"], [b"2"])


def test_shared_subscriptions_get_nothing_that_was_retained() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    [member] = group(table, "m")
    table.subscribe(device, Subscription("t"))
    table.deliver([Message("t", b"", retain=True)], retained=True)
    assert (len(device.got), len(member.got)) == (1, 0)


def test_a_member_that_subscribes_again_is_still_one_member() -> None:
    table = SubscriptionTable()
    [member] = group(table, "m", qos=0)
    assert not table.subscribe(member, Subscription("$share/g/t", 2))
    table.deliver([Message("t", b"", 2)])
    assert [message.qos for message in member.got] == [2]
    assert table.count == 1
    assert table.unsubscribe("m", "$share/g/t")
    assert not table.unsubscribe("m", "$share/g/t")
    assert not table.has_subscriber("t")


# What a member leaves behind.


def test_what_a_member_did_not_get_done_goes_to_others_as_they_subscribed() -> None:
    table = SubscriptionTable()
    leaver, other = group(table, "a", "b", qos=2)
    table.subscribe(other, Subscription("$share/g/t", 1), 7)
    other.is_connected = False
    table.deliver([Message("t", b"1", 2), Message("t", b"2", 0)], sender="s")
    table.unsubscribe("a", "$share/g/t")
    [(shared_filter, messages)] = by_group([*leaver.got, Message("plain", b"")]).items()
    assert shared_filter == "$share/g/t"
    assert table.redispatch(shared_filter, messages, "a") == ()
    assert [(m.payload, m.qos, m.properties.subscription_identifiers) for m in other.got] == [
        (b"1", 1, (7,)),
        (b"2", 0, (7,)),
    ]
    assert by_group(other.got) == {"$share/g/t": other.got}


def test_a_member_that_may_come_back_keeps_its_messages_unless_another_is_connected() -> None:
    table = SubscriptionTable()
    leaver, away, here = group(table, "a", "b", "c")
    away.is_connected = here.is_connected = leaver.is_connected = False
    messages = [Message("t", b"%d" % number, 1) for number in range(10)]
    assert table.redispatch("$share/g/t", messages, "a") == messages
    here.is_connected = True
    here.room = 9
    assert table.redispatch("$share/g/t", messages, "a") == messages  # it would lose some, the leaver none
    here.room = 10
    assert table.redispatch("$share/g/t", messages, "a") == ()
    assert payloads(here) == [message.payload for message in messages]
    assert here.calls == 1
    assert not away.got


def test_the_last_member_gets_back_what_it_leaves() -> None:
    table = SubscriptionTable()
    group(table, "a")
    messages = [Message("t", b"", 1)]
    assert table.redispatch("$share/g/t", messages, "a") == messages
    table.unsubscribe("a", "$share/g/t")
    assert table.redispatch("$share/g/t", messages, "a") == messages


def test_round_robin_deals_what_is_left_behind_to_all_others() -> None:
    table = SubscriptionTable(shared="round_robin")
    _, *others = group(table, "a", "b", "c")
    assert not table.redispatch("$share/g/t", [Message("t", b"%d" % number) for number in range(4)], "a")
    assert [payloads(other) for other in others] == [[b"0", b"2"], [b"1", b"3"]]


# Against a model: a list of subscriptions, looked through one by one.

FILTERS = ["a", "a/b", "a/#", "+/b", "#", "+", "b/+", "$x/a", "$x/#"]
SHARED = ["$share/g/a", "$share/h/a", "$share/g/#", "$share/g/+/b", "$share/g/$x/a"]
CLIENTS = "wxyz"
TOPICS = ["a", "a/b", "b/b", "c", "$x/a", "$x/b"]


class Model(RuleBasedStateMachine):
    """Any subscriptions of four sessions, and what each gets of any message."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SubscriptionTable()
        self.devices = {name: FakeDevice(name) for name in CLIENTS}
        self.model: dict[tuple[str, str], tuple[Subscription, int]] = {}

    @rule(
        client_id=st.sampled_from(CLIENTS),
        subscription=st.builds(
            Subscription,
            st.sampled_from(FILTERS),
            st.integers(0, 2),
            no_local=st.booleans(),
            retain_as_published=st.booleans(),
        )
        | st.builds(Subscription, st.sampled_from(SHARED), st.integers(0, 2)),
        identifier=st.integers(0, 3),
    )
    def subscribe(self, client_id: str, subscription: Subscription, identifier: int) -> None:
        key = client_id, subscription.topic_filter
        assert self.table.subscribe(self.devices[client_id], subscription, identifier) is (key not in self.model)
        self.model[key] = subscription, identifier

    @rule(client_id=st.sampled_from(CLIENTS), topic_filter=st.sampled_from(FILTERS + SHARED))
    def unsubscribe(self, client_id: str, topic_filter: str) -> None:
        had = self.model.pop((client_id, topic_filter), None) is not None
        assert self.table.unsubscribe(client_id, topic_filter) is had

    @rule(client_id=st.sampled_from(CLIENTS))
    def come_or_go(self, client_id: str) -> None:
        self.devices[client_id].is_connected = not self.devices[client_id].is_connected

    @rule(
        topic=st.sampled_from(TOPICS),
        qos=st.integers(0, 2),
        retain=st.booleans(),
        sender=st.sampled_from(["", *CLIENTS]),
        only=st.none() | st.frozensets(st.sampled_from(FILTERS + SHARED)),
        retained=st.booleans(),
    )
    def deliver(
        self, *, topic: str, qos: int, retain: bool, sender: str, only: frozenset[str] | None, retained: bool
    ) -> None:
        for device in self.devices.values():
            device.got.clear()
        copies = self.table.deliver([Message(topic, b"", qos, retain)], sender=sender, only=only, retained=retained)
        assert copies == sum(len(device.got) for device in self.devices.values())
        counting = {
            key: found
            for key, found in self.model.items()
            if matches(split_shared(key[1])[1], topic) and (only is None or key[1] in only)
        }
        for client_id, device in self.devices.items():
            mine = [
                (subscription, identifier)
                for (owner, topic_filter), (subscription, identifier) in counting.items()
                if owner == client_id and topic_filter in FILTERS and not (subscription.no_local and sender == owner)
            ]
            plain = [message for message in device.got if not isinstance(message, SharedMessage)]
            assert len(plain) == bool(mine)
            if mine:
                [copy] = plain
                assert copy.qos == min(qos, max(subscription.qos for subscription, _ in mine))
                kept = retain and any(subscription.retain_as_published for subscription, _ in mine)
                assert copy.retain is (retained or kept)
                assert Counter(copy.properties.subscription_identifiers) == Counter(i for _, i in mine if i)
        self.check_groups(counting, qos, retained)

    def check_groups(self, counting: dict[tuple[str, str], tuple[Subscription, int]], qos: int, retained: bool) -> None:
        chosen = [
            (name, message)
            for name, device in self.devices.items()
            for message in device.got
            if isinstance(message, SharedMessage)
        ]
        groups = {topic_filter for _, topic_filter in counting if topic_filter in SHARED and not retained}
        assert sorted(message.shared_filter for _, message in chosen) == sorted(groups)
        for name, message in chosen:
            subscription, identifier = counting[name, message.shared_filter]
            assert message.qos == min(qos, subscription.qos)
            assert message.properties.subscription_identifiers == ((identifier,) if identifier else ())
            members = [self.devices[owner] for owner, other in counting if other == message.shared_filter]
            assert self.devices[name].is_connected or not any(member.is_connected for member in members)

    @invariant()
    def counts(self) -> None:
        assert self.table.count == len(self.model)
        for topic in TOPICS:  # which fills the cache, too, that the next step must keep true
            wanted = any(matches(split_shared(topic_filter)[1], topic) for _, topic_filter in self.model)
            assert self.table.has_subscriber(topic) is wanted
        for name in CLIENTS:
            assert self.table.filters_of(name) == tuple(f for owner, f in self.model if owner == name)
            assert self.table.count_of(name) == len(self.table.filters_of(name))


TestAgainstAModel = Model.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


# The cache of topics.


def test_the_cache_of_topics_is_bounded() -> None:
    table = SubscriptionTable()
    for number in range(CACHED_TOPICS + 5):
        table.has_subscriber(f"t/{number}")
    assert len(table._matched) <= CACHED_TOPICS


def test_topics_that_very_many_match_are_not_cached() -> None:
    table = SubscriptionTable()
    for number in range(CACHED_MATCHES + 1):
        table.subscribe(FakeDevice(str(number)), Subscription("t"))
    assert table.deliver([Message("t", b"")]) == CACHED_MATCHES + 1
    assert not table._matched


def test_a_subscription_without_wildcards_leaves_other_topics_in_the_cache() -> None:
    table, device = SubscriptionTable(), FakeDevice("d")
    for topic in ("a", "b"):
        assert not table.has_subscriber(topic)
    table.subscribe(device, Subscription("$share/g/a"))
    assert list(table._matched) == ["b"]
    assert table.has_subscriber("a")
    table.subscribe(device, Subscription("a"))
    table.unsubscribe("d", "$share/g/a")
    assert table.has_subscriber("a")
    table.unsubscribe("d", "a")
    assert not table.has_subscriber("a")


def test_what_must_not_come_twice_is_withheld_from_each_device_before_it_is_delivered() -> None:
    table = SubscriptionTable()
    one, other = FakeDevice("one"), FakeDevice("other")
    table.subscribe(one, Subscription("a/#"))
    table.subscribe(other, Subscription("a/b"))
    table.deliver([Message("a/b", b"1"), Message("a/c", b"2")], once=True)
    assert (one.holds, other.holds) == (1, 1)
    assert (len(one.got), len(other.got)) == (2, 1)
    table.deliver([Message("a/c", b"3")])
    assert one.holds == 1
