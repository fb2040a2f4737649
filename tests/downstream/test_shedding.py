"""What overload means for devices: at each level, what goes on and what does not."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.limiting.overload import Level, State
from mqttproxy.mqtt.packets import Message
from tests.house import AWAITED, House, open_house


async def shed(house: House, level: Level) -> None:
    await house.premises.shedding.use(State(level, "it is so"))


def topics(*qos: int, payload: bytes = b"x") -> list[Message]:
    return [Message("t", payload, one) for one in qos]


@pytest.mark.parametrize("turns", [True, False])
@pytest.mark.parametrize("level", list(Level))
async def test_qos_0_is_dropped_from_its_level_on_and_the_rest_is_carried(
    level: Level, turns: bool, autojump_clock: MockClock
) -> None:
    async with open_house(turns=turns) as house:
        device = await house.connect()
        await shed(house, level)
        device.publish(*topics(0, 1, 0, 2))
        await house.settle()
        is_dropped = level >= Level.QOS_0
        assert house.metrics.dropped == ({"overload": 2} if is_dropped else {})
        assert house.metrics.received == 4
        assert house.metrics.routed == (2 if is_dropped else 4)
        assert ("overload_drops" in house.log.events()) is is_dropped


async def test_no_new_connections_are_accepted_and_those_that_came_are_later(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        old = await house.connect("old")
        await shed(house, Level.CONNECTIONS)
        first, second = house.device("a"), house.device("b")
        await house.settle()
        assert [one.connack is not None for one in (first, second)] == [True, False]  # one was being waited for
        old.publish(*topics(0, 1))
        await house.settle()
        assert house.metrics.routed == 2
        await shed(house, Level.FEEDS)
        await house.settle()
        assert second.connack is not None


@pytest.mark.parametrize("turns", [True, False])
async def test_no_publisher_is_read_while_subscribers_get_their_messages(
    turns: bool, autojump_clock: MockClock
) -> None:
    async with open_house(turns=turns) as house:
        reader = await house.connect("reader")
        reader.subscribe("t")
        device = await house.connect()
        await house.settle()
        await shed(house, Level.PUBLISHERS)
        for _ in range(3):
            device.publish(*topics(1))
            await house.settle()
        assert house.metrics.routed == 1  # what was on its way when it was read for the last time
        assert reader.received == [("t", b"x")]
        assert house.premises.limited.overload_waiting == 1
        await shed(house, Level.HEAVIEST)
        await house.settle()
        assert (house.metrics.routed, house.premises.limited.overload_waiting) == (3, 0)


async def test_the_heaviest_are_not_read_and_the_others_are(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        heavy, light = await house.connect("heavy"), await house.connect("light")
        await shed(house, Level.QOS_0)
        heavy.publish(*topics(1, payload=b"x" * 1000))
        light.publish(*topics(1))
        await house.settle()
        await shed(house, Level.HEAVIEST)
        for device in (heavy, light):
            for _ in range(3):
                device.publish(*topics(1))
                await house.settle()
        assert house.metrics.routed == 2 + 1 + 3
        await shed(house, Level.HEAVIEST)  # who is held stays so, although nothing came from it meanwhile
        heavy.publish(*topics(1))
        await house.settle()
        assert house.metrics.routed == 6
        await shed(house, Level.QOS_0)
        await house.settle()
        assert house.metrics.routed == 9


async def test_one_that_is_not_read_is_not_taken_for_silent_and_may_go(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        device = await house.connect(keep_alive=10)
        await shed(house, Level.PUBLISHERS)
        device.publish(*topics(1))
        await trio.sleep(100)
        assert "d" in house.premises.devices
        await device.stream.aclose()
        await house.settle()
        await trio.sleep(100)
        assert house.premises.limited.overload_waiting in {0, 1}
        await shed(house, Level.NOTHING)
        await house.settle()
        assert house.premises.devices == {}


async def test_what_is_acknowledged_and_judged_is_so_under_overload_too(autojump_clock: MockClock) -> None:
    policy = '[[policies]]\nname = "p"\ntopics = ["#"]\nformat = "json"\non_failure = ["refuse"]\n'
    async with open_house(AWAITED + policy) as house:
        device = await house.connect()
        await shed(house, Level.PUBLISHERS)
        device.publish(Message("t", b"1", 1), Message("t", b"{", 1))
        await house.settle()
        house.a.settle()
        await house.settle()
        reasons: list[Any] = [reason for _, reason in device.settled]
        assert reasons == [0, 0x99]
