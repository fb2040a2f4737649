"""Messages that policies transform, through the corridor: where they go, what is retained, what comes down."""

from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Publish, Subscription
from tests.house import DIRECT, POLICY, open_house, route, upstream
from tests.test_arrivals import send

DOUBLE = POLICY + 'transforms = [{ op = "set", path = "", value = [1] }]\n'
MOVE = POLICY + 'transforms = [{ op = "set_topic", to = "moved/{2}" }]\n'


async def test_destinations_and_subscribers_get_what_it_has_become(autojump_clock: MockClock) -> None:
    async with open_house(DOUBLE + DIRECT) as house:
        device = await house.connect()
        device.publish(Message("n/1", b"1", 1))
        await house.settle()
        assert house.a.payloads == [b"[1]"]
    async with open_house(DOUBLE) as house:
        device = await house.connect()
        device.subscribe("#")
        await house.settle()
        device.publish(Message("n/1", b"1", 1))
        await house.settle()
        assert device.received == [("n/1", b"[1]")]


async def test_it_goes_where_its_new_topic_goes(autojump_clock: MockClock) -> None:
    memory = 'ack = "memory"'
    routes = upstream("a") + upstream("b")
    routes += route("a", topics="n/#", more=memory) + route("b", topics="moved/#", more=memory)
    async with open_house(MOVE + routes) as house:
        device = await house.connect()
        device.publish(Message("n/1", b"1", 1), Message("n/2", b"2", 1))
        await house.settle()
        assert house.upstreams["a"].taken == []
        assert [(message.topic, message.payload) for message, _ in house.upstreams["b"].taken] == [
            ("moved/1", b"1"), ("moved/2", b"2"),
        ]  # fmt: skip


async def test_what_is_retained_is_what_was_carried_and_is_not_judged_again(autojump_clock: MockClock) -> None:
    async with open_house(DOUBLE) as house:
        device = await house.connect()
        device.publish(Message("n/1", b"1", 1, True))
        await house.settle()
        (kept,) = house.pipeline.retained.match("#")
        assert kept.payload == b"[1]"
        assert house.pipeline.may_still_go(kept)
        device.subscribe("n/#")
        await house.settle()
        assert device.received == [("n/1", b"[1]")]


async def test_messages_from_upstreams_are_transformed_on_the_way_down(autojump_clock: MockClock) -> None:
    async with open_house(DOUBLE + 'direction = "down"\n' + upstream()) as house:
        device = await house.connect()
        device.subscribe("n/#")
        await house.settle()
        send(house, Publish("n/1", b"1"))
        await house.settle()
        assert device.received == [("n/1", b"[1]")]


async def test_a_marked_message_is_marked_and_transformed(autojump_clock: MockClock) -> None:
    async with open_house(DOUBLE + 'on_failure = ["mark"]\n' + DIRECT) as house:
        device = await house.connect()
        device.publish(Message("n/1", b'"x"', 1))
        await house.settle()
        ((message, _),) = house.a.taken
        assert message.payload == b"[1]"
        assert ("mp-policy", "numbers") in message.properties.user_properties


async def test_what_cannot_be_transformed_is_held_as_it_came(autojump_clock: MockClock) -> None:
    text = POLICY + 'transforms = [{ op = "remove", path = "/x" }]\n' + DIRECT
    async with open_house(text) as house:
        device = await house.connect()
        device.publish(Message("n/1", b"1", 1))
        await house.settle()
        house.quarantine.commit()
        await house.settle()
        (held,) = house.quarantine.kept
        assert (held.payload, held.policy, held.failures) == (
            b"1",
            "numbers",
            (("/x", "transform", "nothing is there"),),
        )
        assert house.a.taken == []
        assert device.settled == [(1, 0x99)]


async def test_subscriptions_stay_what_they_are(autojump_clock: MockClock) -> None:
    async with open_house(MOVE) as house:
        device = await house.connect()
        device.subscribe(Subscription("n/#", 1))
        device.subscribe(Subscription("moved/#", 1))
        await house.settle()
        device.publish(Message("n/1", b"1", 1))
        await house.settle()
        assert device.received == [("moved/1", b"1")]
