import pytest
import trio
from trio.testing import MockClock

from mqttproxy.downstream.subscribing import RETAINED_AT_ONCE
from mqttproxy.mqtt.packets import Message, Properties, Publish, RetainHandling, Subscription, UnsubAck
from mqttproxy.mqtt.reasons import ReasonCode
from tests.client import Client
from tests.house import POLICY, V311, House, open_house, route, upstream

TWO_HOMES = upstream("a") + upstream("b") + route("a", topics="x/#") + route("b")


async def filled(house: House, *retained: Message) -> Client:
    """Connect a device that has published these, at QoS 1."""
    device = await house.connect("publisher")
    device.publish(*[Message(message.topic, message.payload, 1, True, message.properties) for message in retained])
    await house.settle()
    return device


class TestLocal:
    async def test_each_filter_has_its_answer(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.subscribe(
                "a", Subscription("b", 1), "a/#/b", "$share/g/t", "$proxy/errors/other", Subscription("c", 0)
            )
            await house.settle()
            assert device.granted == (
                ReasonCode.GRANTED_QOS_2,
                ReasonCode.GRANTED_QOS_1,
                ReasonCode.TOPIC_FILTER_INVALID,
                ReasonCode.GRANTED_QOS_2,
                ReasonCode.NOT_AUTHORIZED,
                ReasonCode.SUCCESS,
            )
            assert house.pipeline.table.count == 4

    async def test_a_3_1_1_device_reads_0x80_for_any_refusal(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect(version=V311)
            device.subscribe("$proxy/errors/other", "a", "a+")
            await house.settle()
            assert device.granted == (
                ReasonCode.UNSPECIFIED_ERROR,
                ReasonCode.GRANTED_QOS_2,
                ReasonCode.UNSPECIFIED_ERROR,
            )

    async def test_subscriptions_are_bounded_by_packet_and_by_client(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nsubscriptions_per_packet = 3\nsubscriptions_per_client = 5") as house:
            device = await house.connect()
            device.subscribe("1", "2", "3", "4")
            await house.settle()
            assert device.granted[3] is ReasonCode.QUOTA_EXCEEDED
            device.subscribe("4", "5", "6")
            await house.settle()
            assert [reason.is_failure for reason in device.granted] == [False, False, True]
            device.subscribe("1")  # a repetition is not one more
            await house.settle()
            assert device.granted == (ReasonCode.GRANTED_QOS_2,)

    async def test_unsubscribing_ends_delivery_and_says_whether_there_was_one(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.subscribe("t", "t/#")
            await house.settle()
            device.connection.unsubscribe(["t", "t/#", "u"])
            device.flush()
            await house.settle()
            assert device.of(UnsubAck)[0].reasons == (
                ReasonCode.SUCCESS,
                ReasonCode.SUCCESS,
                ReasonCode.NO_SUBSCRIPTION_EXISTED,
            )
            device.publish(Message("t", b"", 1))
            await house.settle()
            assert device.received == []

    async def test_no_local_and_identifiers_are_respected(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device, other = await house.connect(), await house.connect("other")
            device.subscribe(Subscription("t", 1, no_local=True))
            other.subscribe(Subscription("t", 1), identifier=7)
            other.subscribe(Subscription("+", 1), identifier=8)
            await house.settle()
            device.publish(Message("t", b"", 1))
            await house.settle()
            assert device.received == []
            (publish,) = other.of(Publish)
            assert sorted(publish.properties.subscription_identifiers) == [7, 8]

    async def test_no_local_keeps_back_what_is_retained_too(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device, other = await house.connect(), await house.connect("other")
            device.publish(Message("t/mine", b"x", 1, retain=True))
            other.publish(Message("t/theirs", b"x", 1, retain=True))
            await house.settle()
            for one in (device, other):
                one.subscribe(Subscription("t/+", 1, no_local=True))
            await house.settle()
            assert [topic for topic, _ in device.received] == ["t/theirs"]
            assert [topic for topic, _ in other.received] == ["t/mine"]
            other.subscribe(Subscription("t/+", 1))
            await house.settle()
            assert sorted(topic for topic, _ in other.received) == ["t/mine", "t/mine", "t/theirs"]

    async def test_everything_ends_with_the_connection(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            device = await house.connect()
            device.subscribe("t", "u/#")
            await house.settle()
            assert dict(house.a.wanted) == {"t": 1, "u/#": 1}
            device.cut()
            await house.settle()
            assert house.pipeline.table.count == 0
            assert house.a.wanted == {}


class TestRetained:
    async def test_what_a_policy_of_today_would_not_let_pass_is_not_delivered(self, autojump_clock: MockClock) -> None:
        async with open_house() as house, open_house(POLICY) as later:
            await filled(house, Message("n/1", b"1"), Message("n/2", b'"bad"'))
            house.pipeline.use(later.pipeline.ruleset, house.lanes)
            device = await house.connect("reader")
            device.subscribe("n/#")
            await house.settle()
            assert device.received == [("n/1", b"1")]
            assert house.metrics.dropped_down == {"policy": 1}

    async def test_what_is_retained_comes_with_the_flag_set(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            await filled(house, Message("t/1", b"one"), Message("t/2", b"two"))
            device = await house.connect()
            device.subscribe("t/#")
            await house.settle()
            assert {(p.topic, p.payload, p.qos, p.retain) for p in device.of(Publish)} == {
                ("t/1", b"one", 1, True),
                ("t/2", b"two", 1, True),
            }

    async def test_after_the_suback(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            await filled(house, Message("t", b"1"))
            device = await house.connect()
            device.subscribe("t")
            await house.settle()
            assert [type(event).__name__ for event in device.events] == ["ConnAck", "SubAck", "Publish"]

    @pytest.mark.parametrize(
        ("handling", "copies"),
        [(RetainHandling.SEND, 2), (RetainHandling.SEND_IF_NEW, 1), (RetainHandling.DO_NOT_SEND, 0)],
    )
    async def test_the_subscription_says_when(
        self, handling: RetainHandling, copies: int, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            await filled(house, Message("t", b"1"))
            device = await house.connect()
            for _ in range(2):
                device.subscribe(Subscription("t", 1, retain_handling=handling))
                await house.settle()
            assert len(device.received) == copies

    async def test_a_refused_filter_gets_nothing(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            await filled(house, Message("t", b"1"))
            device = await house.connect()
            device.subscribe("t/#/t")
            await house.settle()
            assert device.received == []


class TestErrorTopics:
    @pytest.mark.parametrize("wanted", ["$proxy/errors/other", "$proxy/#", "$proxy/errors/+", "$proxy/errors/d/#"])
    async def test_only_a_devices_own_may_be_subscribed_to(self, wanted: str, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.subscribe(wanted, "$proxy/errors/d")
            await house.settle()
            assert device.granted == (ReasonCode.NOT_AUTHORIZED, ReasonCode.GRANTED_QOS_2)

    async def test_a_client_identifier_with_slashes_has_one_level_of_its_own(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect("a/+/%2F")
            device.subscribe("$proxy/errors/a%2F%2B%2F%252F", "$proxy/errors/a/+/%2F")
            await house.settle()
            assert device.granted == (ReasonCode.GRANTED_QOS_2, ReasonCode.NOT_AUTHORIZED)


class TestHomes:
    async def test_only_the_home_of_the_topics_is_asked(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO_HOMES) as house:
            device = await house.connect()
            device.subscribe("x/1", "y", "#")
            await house.settle()
            assert dict(house.a.wanted) == {"x/1": 1, "#": 1}
            assert dict(house.b.wanted) == {"y": 1, "#": 1}

    async def test_repeating_a_filter_asks_again_and_holds_one_reference(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO_HOMES) as house:
            device, other = await house.connect(), await house.connect("other")
            for client in (device, other):
                client.subscribe("y")
                client.subscribe(Subscription("y", 0))
                await house.settle()
            assert dict(house.b.wanted) == {"y": 2}
            device.disconnect()
            other.disconnect()
            await house.settle()
            assert house.b.wanted == {}

    async def test_the_only_homes_refusal_is_the_answer(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO_HOMES) as house:
            house.b.answers["y"] = ReasonCode.NOT_AUTHORIZED
            house.a.answers["#"] = ReasonCode.NOT_AUTHORIZED
            device = await house.connect()
            device.subscribe("y", "#")
            await house.settle()
            assert device.granted == (ReasonCode.NOT_AUTHORIZED, ReasonCode.GRANTED_QOS_2)
            assert dict(house.b.wanted) == {"#": 1}
            assert house.pipeline.table.filters_of("d") == ("#",)

    async def test_a_home_that_does_not_answer_is_waited_for_five_seconds(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            house.a.answers["t"] = None
            device = await house.connect(keep_alive=2)
            device.subscribe("t")
            await trio.sleep(house.premises.limits.subscribe_wait - 0.1)
            assert len(device.events) == 1
            await trio.sleep(0.2)
            assert device.granted == (ReasonCode.GRANTED_QOS_2,)
            assert device.ended_at is None  # its ping was not read meanwhile

    async def test_a_home_that_is_away_is_not_waited_for(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            house.a.is_live, house.a.answers["t"] = False, None
            device = await house.connect()
            device.subscribe("t")
            await house.settle()
            assert device.granted == (ReasonCode.GRANTED_QOS_2,)

    async def test_what_comes_from_home_is_delivered_once_and_from_elsewhere_not(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(TWO_HOMES) as house:
            device = await house.connect()
            device.subscribe("#", "x/+")
            await house.settle()
            properties = Properties(user_properties=(("k", "v"),))
            house.a.send(Publish("x/1", b"home", 1, False, properties), Publish("y", b"elsewhere", 1))
            house.b.send(Publish("x/1", b"elsewhere", 1), Publish("y", b"home", 0))
            await house.settle()
            assert device.received == [("x/1", b"home"), ("y", b"home")]
            assert device.of(Publish)[0].properties.user_properties == (("k", "v"),)

    async def test_a_device_gets_its_own_message_from_home_only(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO_HOMES) as house:
            device = await house.connect()
            device.subscribe("y")
            device.publish(Message("y", b"1", 1))
            await house.settle()
            assert device.received == []
            house.b.settle()
            house.b.send(Publish("y", b"1", 1))
            await house.settle()
            assert device.received == [("y", b"1")]

    async def test_rehoming_asks_again(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO_HOMES) as house:
            device = await house.connect()
            device.subscribe("y")
            await house.settle()
            await house.premises.rehome()
            assert dict(house.b.wanted) == {"y": 1}


class TestManyRetained:
    """A filter that matches very many retained messages neither fills the queue nor holds up anybody."""

    async def test_they_come_in_slices_that_the_queue_has_room_for(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nqueue_messages = 20") as house:
            for number in range(1000):
                house.pipeline.retained.keep(Message(f"r/{number}", b"x", 1, True))
            device = await house.connect()
            device.subscribe("r/#")
            await house.settle()
            assert len({topic for topic, _ in device.received}) == 1000
            assert len(device.received) == 1000
            assert house.metrics.dropped_down == {}

    async def test_a_device_that_takes_no_more_gets_no_more_and_the_rest_once_it_does(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            for number in range(500):
                house.pipeline.retained.keep(Message(f"r/{number}", b"x", 1, True))
            device = await house.connect(acknowledges=False, properties=Properties(receive_maximum=10))
            device.subscribe("r/#")
            await house.settle()
            assert len(device.received) == 10
            assert len(house.session().queue) <= 2 * RETAINED_AT_ONCE
            device.acknowledges = True
            device.connection.acknowledge_all([(event.packet_id, 1) for event in device.of(Publish)])
            device.flush()
            await house.settle()
            assert len(device.received) == 500

    async def test_large_ones_do_not_break_the_bound_in_bytes(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nqueue_bytes = 10_000") as house:
            for number in range(100):
                house.pipeline.retained.keep(Message(f"r/{number}", bytes(1000), 1, True))
            device = await house.connect(properties=Properties(receive_maximum=1))
            device.subscribe("r/#")
            await house.settle()
            assert len(device.received) == 100
            assert house.metrics.dropped_down == {}

    async def test_unsubscribing_ends_them(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            for number in range(1000):
                house.pipeline.retained.keep(Message(f"r/{number}", b"x", 1, True))
            device = await house.connect(acknowledges=False, properties=Properties(receive_maximum=10))
            device.subscribe("r/#")
            await house.settle()
            device.connection.unsubscribe(["r/#"])
            device.flush()
            device.acknowledges = True
            device.connection.acknowledge_all([(event.packet_id, 1) for event in device.of(Publish)])
            device.flush()
            await house.settle()
            assert len(device.received) <= 3 * RETAINED_AT_ONCE

    async def test_others_have_their_turn_meanwhile(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            for number in range(5000):
                house.pipeline.retained.keep(Message(f"r/{number}", b"x", 1, True))
            device, other = await house.connect(), await house.connect("other")
            device.subscribe("r/#")
            other.publish(Message("t", b"", 1))
            while not other.settled:
                await trio.lowlevel.checkpoint()
            assert len(device.received) < 2000

    async def test_what_is_not_the_devices_to_see_is_left_out(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream() + route("local", topics="r/#") + route("a")) as house:
            for topic in ("r/1", "$proxy/errors/other", "elsewhere"):
                house.pipeline.retained.keep(Message(topic, b"x", 1, True))
            device = await house.connect()
            device.subscribe("#")
            await house.settle()
            assert [topic for topic, _ in device.received] == ["r/1"]
