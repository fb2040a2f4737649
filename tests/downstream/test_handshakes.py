"""Who waits for a place, and who loses it: see `mqttproxy.downstream.handshakes`. No socket, no second of real time."""

from typing import cast

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.config.model import LimitSettings
from mqttproxy.downstream.handshakes import A_FEW, AT_ONCE, CHURN, LONG, LOOK, QUIET, Handshakes
from mqttproxy.mqtt.packets import Connect
from mqttproxy.transport.tcp import TcpStream
from tests.client import Client
from tests.fakes import MemoryByteStream, memory_pair
from tests.house import HOST, House, open_house

OTHER = "198.51.100.4"
PATIENCE = LimitSettings().handshake_patience


def begin(house: House, count: int, *hosts: str) -> list[MemoryByteStream]:
    """Open connections that say the first byte of CONNECT and no more."""
    streams = [house.arrive(hosts[number % len(hosts)]) for number in range(count)]
    for stream in streams:
        stream.send_nowait(b"\x10")
    return streams


def visit(house: House, host: str = OTHER, client_id: str = "good") -> Client:
    return Client(house.arrive(host), Connect(client_id=client_id), house.nursery)


async def wait_in(client: Client) -> float:
    """Return after how many seconds it was let in."""
    began = trio.current_time()
    with trio.fail_after(60):
        while client.connack is None:  # noqa: ASYNC110 # its task tells nobody
            await trio.sleep(0.01)
    return trio.current_time() - began


class TestPlaces:
    async def test_E7_who_has_not_said_a_word_takes_no_place(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 1") as house:
            for _ in range(100):
                house.arrive()
            await house.settle()
            assert house.metrics.handshakes == 100
            assert await wait_in(visit(house)) < LOOK
            assert house.metrics.handshake_waits == 0

    async def test_E1_who_lets_us_wait_loses_its_place_to_who_waits_for_one(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 4") as house:
            begin(house, 4, HOST)
            await house.settle()
            assert PATIENCE <= await wait_in(visit(house)) <= PATIENCE + 2 * LOOK
            assert house.metrics.connections_refused == {"slow_handshake": 1}  # one was enough
            await trio.sleep(10)
            assert house.metrics.connections_refused == {"slow_handshake": 1, "connect_deadline": 3}
            assert house.log.events() == ["handshakes_wait", "slow_handshake"]

    async def test_E1_nobody_goes_while_nobody_waits(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 2") as house:
            begin(house, 2, HOST)
            await trio.sleep(9.9)
            assert house.metrics.connections_refused == {}

    async def test_E7_a_crowd_from_one_address_makes_way_for_others_at_once(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 20") as house:
            begin(house, 200, HOST)
            await house.settle()
            for number in range(5):
                assert await wait_in(visit(house, client_id=f"good-{number}")) < LOOK
            assert house.metrics.connections_refused == {"slow_handshake": 5}  # a place for each

    async def test_E7_a_hundred_crowds_make_way_too(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 20\nconnections = 10000") as house:
            begin(house, 2000, *(f"10.0.0.{number}" for number in range(100)))
            await trio.sleep(3 * PATIENCE)  # those with a few were first in line, and have had their time
            assert await wait_in(visit(house)) <= PATIENCE + 2 * LOOK

    async def test_E7_each_from_its_own_address_they_do_not_keep_others_out(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 100\nconnections = 10000") as house:
            begin(house, 3000, *(f"10.0.{number // 250}.{number % 250}" for number in range(3000)))
            await house.settle()
            assert await wait_in(visit(house)) <= LONG + 2 * LOOK  # not after the thirty hundreds before it

    async def test_E7_where_only_the_processor_is_short_the_line_keeps_its_order(self, mock_clock: MockClock) -> None:
        begun: list[int] = []

        async def come(handshakes: Handshakes, number: int) -> None:
            theirs, ours = memory_pair(host=f"10.0.{number // 250}.{number % 250}")
            theirs.send_nowait(b"\x10")
            with handshakes.begun(cast("TcpStream", ours)) as handshake:
                await handshakes.take_place(handshake)
                begun.append(number)
                await trio.sleep_forever()

        async with open_house() as house:
            for turn in range(200):  # of ten milliseconds: more come than begin, and none goes on
                for number in range(AT_ONCE + 2):
                    house.nursery.start_soon(come, house.door._handshakes, turn * (AT_ONCE + 2) + number)
                mock_clock.jump(0.01)
                await trio.lowlevel.checkpoint()
            assert house.metrics.handshake_waits == 0  # there are places for all
            assert house.metrics.handshakes_waiting > 300
            assert set(range(1500)) <= set(begun)
            house.nursery.cancel_scope.cancel()

    async def test_E7_who_came_in_before_comes_in_at_once_beside_thousands_of_strangers(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nhandshakes = 100\nconnections = 10000") as house:
            await wait_in(visit(house))
            begin(house, 3000, *(f"10.0.{number // 250}.{number % 250}" for number in range(3000)))
            await house.settle()
            assert await wait_in(visit(house)) < LOOK

    async def test_E1_who_was_too_slow_comes_after_strangers_the_next_time(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 10") as house:
            hosts = [f"10.0.0.{number}" for number in range(10)]
            begin(house, 10, *hosts)
            await trio.sleep(10.1)  # all have met their deadline
            begin(house, 10, *hosts)
            await house.settle()
            assert await wait_in(visit(house)) < LOOK

    async def test_E7_thousands_that_wait_for_each_other_are_left_alone(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 100\nconnections = 10000") as house:
            begin(house, 3000, *(f"10.0.{number // 250}.{number % 250}" for number in range(3000)))
            await trio.sleep(5)
            before = house.metrics.connections_refused["slow_handshake"]
            await trio.sleep(1)
            assert house.metrics.connections_refused["slow_handshake"] - before <= (CHURN + 1) / LOOK

    async def test_no_more_addresses_are_remembered_than_may_be(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mqttproxy.downstream.handshakes.REMEMBERED", 2)
        async with open_house() as house:
            for number in (1, 2, 1, 3):
                await wait_in(visit(house, f"10.0.0.{number}", f"d{number}"))
            assert list(house.door._handshakes._known) == ["10.0.0.1", "10.0.0.3"]

    async def test_who_waits_for_us_keeps_its_place(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 20") as house:
            house.listener.patience = 5.0
            crowd = [visit(house, HOST, f"d{number}") for number in range(20)]
            await trio.sleep(1)
            late = visit(house)
            await trio.sleep(3.9)
            assert late.connack is None
            await trio.sleep(10)
            assert all(device.connack is not None for device in (*crowd, late))
            assert house.metrics.connections_refused == {}

    async def test_who_waits_in_line_is_not_held_to_the_deadline_meanwhile(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 1") as house:
            house.listener.patience = 8.0
            devices = [visit(house, client_id=f"d{number}") for number in range(4)]
            await trio.sleep(33)
            assert all(device.connack is not None for device in devices)

    async def test_a_peer_that_hangs_up_in_line_leaves_nothing_behind(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 1") as house:
            house.listener.patience = 2.0
            streams = begin(house, A_FEW, HOST)
            await trio.sleep(1)
            for stream in streams:
                stream.abort()
            await trio.sleep(10 * A_FEW)
            assert house.metrics.connections_refused["closed_before_connect"] == A_FEW - 1
            assert (house.metrics.handshakes, house.metrics.handshakes_waiting) == (0, 0)
            assert house.door._by_address == house.door._handshakes._of_host == {}


class TestRoom:
    @pytest.mark.parametrize(
        ("after", "reason"), [(0.5 * QUIET, "too_many_connections"), (2 * QUIET, "slow_handshake")]
    )
    async def test_E7_who_says_nothing_for_long_makes_room_when_there_are_too_many_connections(
        self, autojump_clock: MockClock, after: float, reason: str
    ) -> None:
        async with open_house("[limits]\nconnections = 20") as house:
            for _ in range(20):
                house.arrive()
            await trio.sleep(after)
            device = visit(house)
            await trio.sleep(1)
            assert (device.connack is not None) == (reason == "slow_handshake")
            assert set(house.metrics.connections_refused) == {reason}
