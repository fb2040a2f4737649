"""How a device's connection ends, and what it leaves: its will, and nothing else."""

import gc
import weakref

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Connect, Message, ProtocolVersion, Will
from mqttproxy.mqtt.reasons import ReasonCode
from tests.client import Client
from tests.house import AWAITED, DIRECT, V5, V311, open_house

BOTH_VERSIONS = pytest.mark.parametrize("version", [V311, V5])


def messages(count: int, *, qos: int = 1, payload: bytes = b"x", topic: str = "t") -> list[Message]:
    return [Message(topic, payload, qos) for _ in range(count)]


class TestLastWill:
    WILL = Will("will", b"gone", 1)

    @pytest.mark.parametrize("how", ["cut", "silence", "takeover", "error", "with will"])
    async def test_it_is_published_when_the_connection_ends_without_a_plain_disconnect(
        self, how: str, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("will")
            device = await house.connect(will=self.WILL, keep_alive=10)
            match how:
                case "cut":
                    device.cut()
                case "takeover":
                    house.device()
                case "error":
                    device.send(b"\x00\x00")
                case "with will":
                    device.disconnect(ReasonCode.DISCONNECT_WITH_WILL)
            await trio.sleep(20)
            assert witness.received == [("will", b"gone")]

    @BOTH_VERSIONS
    async def test_it_is_not_published_after_disconnect(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("#")
            device = await house.connect(will=self.WILL, version=version)
            device.disconnect()
            await trio.sleep(20)
            assert witness.received == []
            assert house.metrics.connections_closed == {"disconnect": 1}

    async def test_it_waits_for_its_place_though_its_device_is_gone(self, autojump_clock: MockClock) -> None:
        async with open_house(DIRECT) as house:
            house.a.bound = 0
            device = await house.connect(will=self.WILL)
            device.cut()
            await trio.sleep(100)
            assert (house.lanes["a"].waiting, house.premises.publisher.late) == (1, 1)
            house.a.make_room(1)
            await house.settle()
            assert house.a.topics == ["will"]
            assert (house.lanes["a"].waiting, house.premises.publisher.late) == (0, 0)
            house.a.settle()


class TestHangingUpUnread:
    """A device that is not read, because a destination has no room, is gone all the same when it hangs up."""

    @pytest.mark.parametrize("how", ["cut", "close"])
    async def test_it_is_noticed_at_once_if_it_has_said_no_more(self, how: str, autojump_clock: MockClock) -> None:
        async with open_house(DIRECT) as house:
            house.a.bound = 0
            device = await house.connect(keep_alive=60)
            device.publish(*messages(1))
            await house.settle()
            assert house.inside()._is_paused
            if how == "cut":
                device.cut()
            else:
                await device.stream.aclose()
            await house.settle()
            assert house.premises.devices == {}
            assert house.metrics.connections_closed == {"connection_lost": 1}
            assert house.lanes["a"].waiting == 0

    async def test_what_it_said_last_is_worth_as_long_as_its_keep_alive(self, autojump_clock: MockClock) -> None:
        async with open_house(DIRECT) as house:
            house.a.bound = 0
            late, early = await house.connect("late", keep_alive=60), await house.connect("early", keep_alive=60)
            for device in (late, early):
                device.publish(*messages(1))
                await house.settle()
                device.disconnect()
                await device.stream.aclose()
            await trio.sleep(89)
            assert set(house.premises.devices) == {"late", "early"}
            house.a.make_room(1)
            await house.settle()
            assert house.metrics.connections_closed == {"disconnect": 1}
            await trio.sleep(2)
            assert house.metrics.connections_closed == {"disconnect": 1, "keep_alive_timeout": 1}
            house.a.settle()

    async def test_a_device_that_is_read_again_is_not_held_to_it(self, autojump_clock: MockClock) -> None:
        async with open_house(DIRECT) as house:
            house.a.bound = 0
            device = await house.connect(keep_alive=60)
            device.publish(*messages(1))
            await trio.sleep(200)
            house.a.make_room(1)
            await house.settle()
            house.a.settle()
            await trio.sleep(80)
            assert device.ended_at is None
            assert device.settled == [(1, 0)]


class TestLeavingNothing:
    @pytest.mark.parametrize("how", ["disconnect", "cut", "error", "will", "takeover"])
    async def test_a_device_that_is_gone_does_not_wait_for_the_garbage_collector(
        self, how: str, autojump_clock: MockClock
    ) -> None:
        async with open_house(AWAITED) as house:
            connect = Connect(client_id="d", keep_alive=60, will=Will("w", b"", 1) if how == "will" else None)
            client = Client(house.arrive(), connect, house.nursery)
            await house.settle()
            client.publish(*messages(3))
            client.subscribe("t")
            await house.settle()
            gone = weakref.ref(house.inside())
            gc.collect()
            gc.disable()
            try:
                match how:
                    case "disconnect":
                        client.disconnect()
                    case "error":
                        client.send(b"\x00\x00" + bytes(100_000))
                    case "takeover":
                        house.device("d")
                    case _:
                        client.cut()
                await house.settle()
                house.a.settle()
                await house.settle()
                assert gone() is None
            finally:
                gc.enable()


class TestTrouble:
    @pytest.mark.parametrize("place", ["receive", "acknowledge_one", "data_to_send"])
    async def test_X33_an_error_of_ours_in_one_devices_tree_ends_that_connection_only(
        self, place: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_house() as house:
            other = await house.connect("other")
            device = await house.connect(will=Will("w", b"", 0))

            def fail(*_: object) -> None:
                raise ZeroDivisionError("injected")

            other.subscribe("w")
            await house.settle()
            monkeypatch.setattr(house.inside().connection, place, fail)
            device.publish(*messages(1))
            await house.settle()
            assert device.ended_at is not None
            assert house.log.events() == ["internal_error"]
            assert house.metrics.connections_closed == {"internal_error": 1}
            assert "d" not in house.premises.devices
            other.publish(*messages(1))
            await house.settle()
            assert other.settled == [(2, 0)]
            assert other.received == [("w", b"")]
            house.log.lines.clear()

    @pytest.mark.parametrize("place", ["publish", "data_to_send"])
    async def test_X33_an_error_while_delivering_to_one_device_does_not_touch_the_sender(
        self, place: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_house() as house:
            sender, faulty, fine = [await house.connect(name) for name in ("sender", "faulty", "fine")]
            for device in (faulty, fine):
                device.subscribe("t")
            await house.settle()

            def fail(*_: object) -> None:
                raise ZeroDivisionError("injected")

            monkeypatch.setattr(house.inside("faulty").connection, place, fail)
            sender.publish(*messages(1))
            await house.settle()
            assert faulty.ended_at is not None
            assert house.log.events() == ["internal_error"]
            assert house.metrics.connections_closed == {"internal_error": 1}
            assert sender.settled == [(1, 0)]
            assert fine.received == [("t", b"x")]
            house.log.lines.clear()

    async def test_X33_an_error_while_acknowledging_does_not_touch_the_destination(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_house(AWAITED) as house:
            faulty, fine = await house.connect("faulty"), await house.connect("fine")
            for device in (faulty, fine):
                device.publish(*messages(1))
                await house.settle()

            def fail(*_: object) -> None:
                raise ZeroDivisionError("injected")

            monkeypatch.setattr(house.inside("faulty").connection, "acknowledge_one", fail)
            house.a.settle()
            await house.settle()
            assert fine.settled == [(1, 0)]
            assert house.metrics.connections_closed == {"internal_error": 1}
            house.log.lines.clear()

    async def test_an_error_while_leaving_does_not_keep_the_next_connection_out(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_house() as house:
            await house.connect()

            def fail() -> None:
                raise ZeroDivisionError("injected")

            monkeypatch.setattr(house.inside(), "_leave", fail)
            await house.connect()
            house.log.lines.clear()
