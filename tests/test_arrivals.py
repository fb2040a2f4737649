"""What brokers send to devices, through the corridor."""

from collections.abc import Mapping

import pytest
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Properties, Publish, Subscription
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.callbacks import Arrival
from mqttproxy.upstream.guard import SENDER
from tests.house import POLICY, House, open_house, route, upstream

GOOD, BAD = b"1", b'"x"'
A = upstream()


def down(action: str) -> str:
    return POLICY + f'on_failure = ["{action}"]\ndirection = "down"\n'


class Told:
    """The answer to the broker."""

    def __init__(self) -> None:
        self.refused: list[dict[int, ReasonCode]] = []

    def __call__(self, refused: Mapping[int, ReasonCode] | None = None) -> None:
        self.refused.append(dict(refused or {}))


def send(house: House, *arrivals: Arrival | Publish) -> Told:
    told = Told()
    house.pipeline.carry_down("a", [one if isinstance(one, Arrival) else Arrival(one) for one in arrivals], told)
    return told


class TestAcknowledging:
    async def test_what_nobody_must_keep_is_acknowledged_to_the_broker_at_once(self, autojump_clock: MockClock) -> None:
        async with open_house(A) as house:
            device = await house.connect()
            device.subscribe("t/#")
            await house.settle()
            told = send(house, Publish("t/1", b"x", 1))
            assert told.refused == [{}]
            await house.settle()
            assert device.received == [("t/1", b"x")]

    async def test_what_a_persistent_session_must_keep_is_acknowledged_after_its_commit(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(A) as house:
            device = await house.keep()
            device.subscribe(Subscription("t/#", 1))
            await house.settle()
            house.journal.at_once = False
            told = send(house, Publish("t/1", b"x", 1))
            assert told.refused == []
            house.journal.commit()
            assert told.refused == [{}]

    async def test_the_broker_is_told_once_of_a_read_when_the_last_of_it_is_safe(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(A + down("hold")) as house:
            device = await house.keep()
            device.subscribe(Subscription("#", 1))
            await house.settle()
            house.journal.at_once = False
            told = send(house, Publish("n/1", GOOD, 1), Publish("n/2", BAD, 1), Publish("t", b"x", 1))
            house.journal.commit()
            assert told.refused == []
            house.quarantine.commit()
            assert told.refused == [{}]

    async def test_a_refused_message_is_named_by_its_place(self, autojump_clock: MockClock) -> None:
        async with open_house(A + down("refuse")) as house:
            device = await house.connect()
            device.subscribe("#")
            await house.settle()
            told = send(house, Publish("n/1", GOOD, 1), Publish("n/2", BAD, 1), Publish("n/3", GOOD, 1))
            await house.settle()
            assert told.refused == [{1: ReasonCode.PAYLOAD_FORMAT_INVALID}]
            assert device.received == [("n/1", GOOD), ("n/3", GOOD)]

    async def test_a_message_that_cannot_be_judged_is_held(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("injected")

        monkeypatch.setattr("mqttproxy.arrivals.judge", fail)
        async with open_house(A) as house:
            device = await house.connect()
            device.subscribe("#")
            await house.settle()
            told = send(house, Publish("t", b"x", 1))
            await house.settle()
            assert (device.received, told.refused) == ([], [])
            house.quarantine.commit()
            assert told.refused == [{}]


class TestDelivering:
    async def test_topics_that_live_elsewhere_are_not_delivered_twice(self, autojump_clock: MockClock) -> None:
        async with open_house(A + upstream("b") + route("a", "b", more='home = "b"')) as house:
            device = await house.connect()
            device.subscribe("#")
            await house.settle()
            told = send(house, Publish("t", b"x", 1))
            await house.settle()
            assert (device.received, told.refused) == ([], [{}])
            assert house.metrics.refused_down == {"elsewhere": 1}

    async def test_a_message_too_old_for_devices_is_not_delivered(self, autojump_clock: MockClock) -> None:
        async with open_house(A + route("a", more='max_age = "10s"')) as house:
            device = await house.keep()
            device.subscribe(Subscription("#", 1))
            await house.settle()
            device.cut()
            await house.settle()
            send(house, Publish("old", b"", 1))
            autojump_clock.jump(6)
            send(house, Publish("young", b"", 1))
            autojump_clock.jump(6)
            again = await house.keep()
            await house.settle()
            assert again.received == [("young", b"")]
            assert house.metrics.dropped_down == {"expired": 1}

    async def test_time_in_the_queue_counts_against_the_life_that_the_publisher_gave(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(A + route("a", more='max_age = "100s"')) as house:
            device = await house.keep()
            device.subscribe(Subscription("#", 1))
            await house.settle()
            device.cut()
            await house.settle()
            send(house, Publish("t", b"", 1, properties=Properties(message_expiry_interval=30)))
            autojump_clock.jump(10)
            again = await house.keep()
            await house.settle()
            (publish,) = again.of(Publish)
            assert publish.properties.message_expiry_interval == 20

    async def test_messages_for_different_subscriptions_keep_their_order(self, autojump_clock: MockClock) -> None:
        async with open_house(A) as house:
            device = await house.connect()
            device.subscribe("t/+", "t/#")
            await house.settle()
            arrivals = [
                Arrival(Publish(f"t/{number}", b"", 1), ("t/+",) if number % 3 else ("t/#",)) for number in range(9)
            ]
            send(house, *arrivals)
            await house.settle()
            assert [topic for topic, _ in device.received] == [f"t/{number}" for number in range(9)]

    async def test_a_stored_message_is_for_those_who_asked(self, autojump_clock: MockClock) -> None:
        async with open_house(A) as house:
            first, second = await house.connect("first"), await house.connect("second")
            for device in (first, second):
                device.subscribe("t/#")
            await house.settle()
            stored = Arrival(Publish("t/1", b"x", 1, True), ("t/#",), retained_for=(house.session("second"),))
            send(house, stored)
            await house.settle()
            assert (first.received, second.received) == ([], [("t/1", b"x")])


class TestNoLocal:
    async def test_a_device_does_not_get_its_own_message_back_from_the_broker(self, autojump_clock: MockClock) -> None:
        async with open_house(A) as house:
            sender, other = await house.connect("sender"), await house.connect("other")
            sender.subscribe(Subscription("t", 1, no_local=True))
            other.subscribe("t")
            await house.settle()
            sender.publish(Publish("t", b"x", 1))
            await house.settle()
            ((message, _),) = house.a.taken
            assert [name for name, _ in message.properties.user_properties] == [SENDER]
            send(house, Publish("t", b"x", 1, properties=message.properties))
            await house.settle()
            assert (sender.received, other.received) == ([], [("t", b"x")])
            (publish,) = other.of(Publish)
            assert publish.properties.user_properties == ()
            house.a.settle()

    async def test_nor_what_the_broker_has_retained_of_it(self, autojump_clock: MockClock) -> None:
        async with open_house(A) as house:
            sender, other = await house.connect("sender"), await house.connect("other")
            sender.subscribe(Subscription("t", 1, no_local=True))
            other.subscribe(Subscription("t", 1, no_local=True))
            await house.settle()
            sender.publish(Publish("t", b"x", 1, True))
            await house.settle()
            ((message, _),) = house.a.taken
            both = (house.session("sender"), house.session("other"))
            stored = Publish("t", b"x", 1, True, properties=message.properties)
            send(house, Arrival(stored, ("t",), retained_for=both))
            await house.settle()
            assert (sender.received, other.received) == ([], [("t", b"x")])
            house.a.settle()

    async def test_messages_of_others_go_without_a_signature(self, autojump_clock: MockClock) -> None:
        async with open_house(A) as house:
            device = await house.connect()
            device.subscribe("t")
            await house.settle()
            device.publish(Publish("t", b"x", 1))
            await house.settle()
            ((message, _),) = house.a.taken
            assert message.properties.user_properties == ()
            house.a.settle()
