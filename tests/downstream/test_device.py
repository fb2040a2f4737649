import pytest
import trio
from trio.testing import MockClock

from mqttproxy.downstream.delivering import UNSENT_HIGH
from mqttproxy.downstream.device import UNSENT_MOST
from mqttproxy.mqtt.packets import Message, ProtocolVersion, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from tests.house import AWAITED, V5, V311, open_house, route, upstream

BOTH_VERSIONS = pytest.mark.parametrize("version", [V311, V5])


def messages(count: int, *, qos: int = 1, payload: bytes = b"x", topic: str = "t") -> list[Message]:
    return [Message(topic, payload, qos) for _ in range(count)]


class TestAcknowledging:
    @BOTH_VERSIONS
    async def test_in_arrival_order_when_the_destination_answers_out_of_order(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        async with open_house(AWAITED) as house:
            device = await house.connect(version=version)
            device.publish(*messages(4))
            await house.settle()
            house.a.settle(2, 1)
            await house.settle()
            assert device.settled == []
            house.a.settle(0)
            await house.settle()
            assert device.settled == [(1, 0), (2, 0), (3, 0)]
            house.a.settle()
            await house.settle()
            assert device.settled == [(1, 0), (2, 0), (3, 0), (4, 0)]

    async def test_a_refusal_waits_for_its_turn_too(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream() + route("a", topics="t", more='ack = "all"')) as house:
            device = await house.connect()
            device.publish(Message("t", b"", 1), Message("nowhere", b"", 1), Message("t", b"", 2))
            await house.settle()
            assert device.settled == []
            house.a.settle()
            await house.settle()
            assert device.settled == [(1, 0), (2, ReasonCode.TOPIC_NAME_INVALID), (3, 0)]

    async def test_all_destinations_must_have_it_where_the_route_says_so(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream("a") + upstream("b") + route("a", "b", more='ack = "all"')) as house:
            device = await house.connect()
            device.publish(*messages(1))
            await house.settle()
            house.a.settle()
            await house.settle()
            assert device.settled == []
            house.b.settle()
            await house.settle()
            assert device.settled == [(1, 0)]

    async def test_any_of_them_is_enough_where_the_route_says_that(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream("a") + upstream("b") + route("a", "b", more='ack = "any"')) as house:
            device = await house.connect()
            device.publish(*messages(1))
            await house.settle()
            house.b.settle()
            await house.settle()
            assert device.settled == [(1, 0)]
            house.a.settle()
            await house.settle()
            assert device.settled == [(1, 0)]

    async def test_memory_acknowledges_at_once(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream() + route("a", more='ack = "memory"')) as house:
            device = await house.connect()
            device.publish(*messages(3))
            await house.settle()
            assert device.settled == [(1, 0), (2, 0), (3, 0)]
            assert len(house.a.taken) == 3

    async def test_what_settles_after_the_connection_is_lost_hurts_nobody(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await house.connect()
            device.publish(*messages(2), *messages(1, qos=2))
            await house.settle()
            device.cut()
            await house.settle()
            house.a.settle()
            assert house.metrics.connections_closed == {"connection_lost": 1}


class TestBackPressure:
    @pytest.mark.parametrize("version", [V311, V5])
    async def test_a_device_has_receive_maximum_unacknowledged_then_is_not_read(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        limits = '[limits]\nreceive_maximum = 10\nreceive_maximum_exceeded = "wait"\n'  # of 3.1.1 it is always so
        async with open_house(limits + AWAITED) as house:
            device = await house.connect(version=version)
            device.connection._peer_receive_maximum = 100  # it does not care what it was told
            device.publish(*messages(25))
            await house.settle()
            device.publish(*messages(1, topic="later"))
            await house.settle()
            inside = house.inside()
            assert (len(house.a.taken), len(inside.pending)) == (10, 10)
            assert inside.stream._arrived  # type: ignore[attr-defined] # the fake's: what nobody has read
            house.a.settle(*range(4))
            await house.settle()
            assert (len(house.a.taken), len(inside.pending)) == (10, 10)
            assert len(device.settled) == 4
            for _ in range(3):
                house.a.settle()
                await house.settle()
            assert device.settled == [(packet_id, 0) for packet_id in range(1, 27)]
            assert house.a.carried[-1] == "later"

    async def test_payload_bytes_are_bounded_too(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nunacknowledged_bytes = 1000\n" + AWAITED) as house:
            device = await house.connect()
            for _ in range(12):  # in one read each
                device.publish(*messages(1, payload=bytes(100)))
                await house.settle()
            assert len(house.a.taken) == 10
            assert house.inside().unacknowledged == 1000
            house.a.settle(0)
            await house.settle()
            assert len(house.a.taken) == 10
            house.a.settle()
            await house.settle()
            house.a.settle()
            await house.settle()
            assert len(device.settled) == 12

    async def test_an_mqtt_5_device_that_goes_beyond_its_receive_maximum_is_sent_away(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nreceive_maximum = 10\n" + AWAITED) as house:
            device = await house.connect()
            device.connection._peer_receive_maximum = 100  # it does not care what it was told
            device.publish(*messages(11))
            await house.settle()
            assert device.goodbye is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
            assert len(house.a.taken) == 10
            house.a.settle()

    async def test_a_device_that_takes_no_answers_is_not_read_until_it_does(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nwrite_timeout = 1000000") as house:
            device = await house.connect()
            device.hang()
            ping = b"\xc0\x00" * 30_000
            sent = 0
            while not house.inside()._is_paused:
                device.send(ping)
                sent += 30_000
                await house.settle()
                assert sent < 10_000_000
            assert UNSENT_MOST < house.inside().stream.unsent < UNSENT_MOST + 200_000
            device.send(ping)
            await house.settle()
            assert house.inside().stream.unsent < UNSENT_MOST + 200_000
            device.go_on()
            await house.settle()
            assert house.inside().stream.unsent == 0
            assert len(house.inside().stream.sent) >= 2 * (sent + 30_000)  # type: ignore[attr-defined] # the fake's


class TestKeepAlive:
    async def test_silence_of_one_and_a_half_times_ends_the_connection_to_the_second(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.connect(keep_alive=60)
            await trio.sleep(60)
            device.send(b"\xc0\x00")
            await trio.sleep(200)
            assert device.ended_at == 60 + 90
            assert device.goodbye is ReasonCode.KEEP_ALIVE_TIMEOUT
            assert house.metrics.connections_closed == {"keep_alive_timeout": 1}

    async def test_a_3_1_1_device_is_told_nothing(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect(keep_alive=2, version=V311)
            await trio.sleep(10)
            assert device.ended_at == 3
            assert len(device.events) == 1  # the CONNACK

    async def test_who_asks_for_none_gets_the_longest(self, autojump_clock: MockClock) -> None:
        async with open_house('[limits]\nkeep_alive = "100s"') as house:
            device = await house.connect(keep_alive=0)
            await trio.sleep(1000)
            assert device.ended_at == 150

    async def test_time_in_which_the_device_was_not_read_is_not_held_against_it(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nreceive_maximum = 1\n" + AWAITED) as house:
            device = await house.connect(keep_alive=60, version=V311)
            device.publish(*messages(2))
            await trio.sleep(1000)
            assert device.ended_at is None
            house.a.settle()
            await trio.sleep(1)
            house.a.settle()
            await trio.sleep(1000)
            assert device.ended_at == 1000 + 90

    async def test_devices_that_are_gone_are_not_watched_until_their_keep_alive_is_over(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            stays = await house.connect("stays", keep_alive=600)
            for number in range(500):
                device = await house.connect(f"d{number}", keep_alive=600)
                device.disconnect()
                await house.settle()
            assert len(house.premises.keep_alive._due) < 250
            assert sum(watch.device is not None for watch in house.premises.keep_alive._due) == 1
            await trio.sleep(900 + 1)
            assert stays.ended_at == 900.0


class TestDelivering:
    async def test_X30_a_slow_device_gets_what_its_queue_holds_and_the_rest_is_dropped_and_counted(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nqueue_messages = 5") as house:
            slow = await house.connect("slow")
            slow.connection._peer_wants_problems = True
            slow.acknowledges = False
            slow.subscribe("t")
            device = await house.connect()
            slow_inside = house.inside("slow")
            slow_inside.connection._peer_receive_maximum = 3
            for number in range(10):
                device.publish(Message("t", b"%d" % number, 1))
                await house.settle()
            assert len(device.settled) == 10
            assert slow.received == [("t", b"0"), ("t", b"1"), ("t", b"2")]
            assert house.metrics.dropped_down == {"queue_full": 2}
            assert house.metrics.delivered_down == 3
            slow.connection.acknowledge_all([(event.packet_id, 1) for event in slow.of(Publish)])
            slow.acknowledges = True
            slow.flush()
            await house.settle()
            assert [payload for _, payload in slow.received] == [b"%d" % number for number in range(8)]

    async def test_X30_a_device_that_takes_no_bytes_does_not_delay_another(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            stuck = await house.connect("stuck")
            fine = await house.connect("fine")
            stuck.subscribe("t")
            fine.subscribe("t")
            await house.settle()
            stuck.hang()
            device = await house.connect()
            for _ in range(50):
                device.publish(*messages(1, payload=bytes(50_000)))
                await house.settle()
            assert len(device.settled) == len(fine.received) == 50
            assert house.inside("stuck").stream.unsent < 3 * UNSENT_HIGH
            stuck.go_on()
            await house.settle()
            assert len(stuck.received) == 50

    async def test_what_waits_for_all_sockets_is_shared_out_among_them(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nunsent_bytes = 300000") as house:
            stuck = [await house.connect(f"stuck-{number}") for number in range(4)]
            for device in stuck:
                device.subscribe("t")
            await house.settle()
            for device in stuck:
                device.hang()
            device = await house.connect()
            for _ in range(50):
                device.publish(*messages(1, payload=bytes(10_000)))
                await house.settle()
            assert all(60_000 < house.inside(f"stuck-{number}").stream.unsent < 80_000 for number in range(4))
            for one in stuck:
                one.go_on()
            await house.settle()
            assert [len(one.received) for one in stuck] == [50] * 4

    async def test_what_is_larger_than_the_device_takes_is_dropped_and_counted(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.subscribe("t")
            await house.settle()
            house.inside().connection._peer_packet_size = 128
            device.publish(Message("t", bytes(200), 1), Message("t", b"small", 1))
            await house.settle()
            assert device.received == [("t", b"small")]
            assert house.metrics.dropped_down == {"too_large": 1}


class TestOtherPackets:
    async def test_auth_without_a_method_is_a_protocol_error(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.send(b"\xf0\x00")
            await house.settle()
            assert device.goodbye is ReasonCode.PROTOCOL_ERROR
            assert house.metrics.protocol_errors == {"protocol_error": 1}

    async def test_what_came_right_behind_connect_is_taken_after_connack(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = house.device()
            device.send(b"\x32\x07\x00\x01t\x00\x07\x00x\xc0\x00")
            await house.settle()
            assert device.stream.closed is None
            assert bytes(house.inside().stream.sent[-6:]) == b"\xd0\x00\x40\x02\x00\x07"  # type: ignore[attr-defined] # the fake's
