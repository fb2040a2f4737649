"""Messages of one device stay in order, however they have to wait, and are doubled by no end of a connection."""

import pytest
import trio

from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.session_state import SessionState
from tests.house import open_house, route, upstream


@pytest.mark.parametrize("attempt", range(8))  # which task runs first is a matter of chance
async def test_parts_of_one_read_that_wait_for_the_same_destination_keep_their_order(attempt: int) -> None:
    memory = 'ack = "memory"'
    text = upstream("a") + upstream("b") + route("a", topics="x/#", more=memory) + route("b", topics="y/#", more=memory)
    async with open_house(text) as house:
        house.a.bound = house.b.bound = 0
        device = await house.connect("d")
        device.publish(*(Message(f"{'xy'[number % 2]}/t", b"%d" % number, 1) for number in range(8)))
        await house.settle()
        house.a.make_room(100)
        house.b.make_room(100)
        await house.settle()
        assert house.a.payloads == [b"0", b"2", b"4", b"6"]
        assert house.b.payloads == [b"1", b"3", b"5", b"7"]
        house.a.settle()
        house.b.settle()


async def test_what_was_gathered_when_its_connection_ended_is_not_doubled_when_it_comes_again() -> None:
    async with open_house(upstream("a") + route("a", more='ack = "all"'), turns=True) as house:
        session = SessionState()
        device = await house.keep("d", session=session)
        device.publish(Message("t", b"1", 2))
        while not house.pipeline._gathered:
            await trio.lowlevel.checkpoint()
        house.inside("d")._scope.cancel()
        await house.settle()
        again = await house.keep("d", session=session)
        await house.settle()
        assert house.a.payloads == [b"1"]
        house.a.settle()
        await house.settle()
        assert len(again.acknowledged) == 1
