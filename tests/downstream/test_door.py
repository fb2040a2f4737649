import pytest
import trio
from trio.testing import MockClock

from mqttproxy.config.model import Address, LimitSettings, ListenerSettings
from mqttproxy.downstream.door import Door
from mqttproxy.mqtt.packets import Connect, Disconnect, Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.transport.dial import dial
from mqttproxy.transport.proxy_header import ProxyHeader
from mqttproxy.transport.stream import TransportError
from tests.client import Client
from tests.house import AWAITED, HOST, V311, House, make_house, open_house

CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"


async def outcomes(house: House, count: int, host: str = HOST) -> list[str]:
    """Open connections that say nothing; tell which of them were closed."""
    streams = [house.arrive(host) for _ in range(count)]
    await house.settle()
    return ["closed" if stream._ended else "open" for stream in streams]


class TestLimits:
    async def test_E7_connections_in_total(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nconnections = 3") as house:
            assert await outcomes(house, 4) == ["open", "open", "open", "closed"]
            assert house.metrics.connections_refused == {"too_many_connections": 1}
            await trio.sleep(11)  # they had their time to say CONNECT
            assert await outcomes(house, 1) == ["open"]

    async def test_E7_connections_from_one_address(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nconnections_per_address = 2") as house:
            assert await outcomes(house, 3) == ["open", "open", "closed"]
            assert await outcomes(house, 1, "192.0.2.8") == ["open"]
            assert house.metrics.connections_refused == {"too_many_from_address": 1}
            await trio.sleep(11)
            assert house.door._by_address == {}

    async def test_connections_from_one_network_of_ipv6(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nconnections_per_address = 2") as house:
            assert await outcomes(house, 1, "2001:db8::1") == ["open"]
            assert await outcomes(house, 1, "2001:db8::2%eth0") == ["open"]
            assert await outcomes(house, 1, "2001:db8::3") == ["closed"]
            assert await outcomes(house, 1, "2001:db8:0:1::1") == ["open"]
            await trio.sleep(11)
            assert house.door._by_address == {}

    async def test_E1_beyond_the_handshakes_at_once_the_next_waits_and_comes_in_when_one_is_over(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nhandshakes = 2") as house:
            house.listener.patience = 5.0
            house.device("a")
            house.device("b")
            await trio.sleep(1)
            device = house.device(keep_alive=60)
            await trio.sleep(3)
            assert (device.connack, house.metrics.handshake_waits, house.metrics.handshakes_waiting) == (None, 1, 1)
            await trio.sleep(5)
            assert (device.connack, house.metrics.handshakes_waiting) == (None, 0)
            await trio.sleep(2)  # 11 s after it came: it does not have to answer for those before it
            assert device.connack is not None
            assert house.metrics.connections_refused == {}
            assert house.log.events() == ["handshakes_wait"]

    async def test_X31_a_storm_of_devices_comes_in_without_one_being_sent_away(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 5\nconnections_per_address = 1000") as house:
            house.listener.patience = 0.1
            devices = [house.device(f"d{number}") for number in range(300)]
            await trio.sleep(7)
            assert all(device.connack is not None for device in devices)
            assert house.metrics.connections_refused == {}
            assert house.metrics.handshake_waits > 0

    async def test_devices_that_are_in_do_not_count_as_handshakes(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nhandshakes = 1") as house:
            for number in range(5):
                await house.connect(f"d{number}")
            assert house.metrics.handshakes == 0
            assert house.metrics.active_connections == {"plain": 5}

    async def test_E7_a_flood_is_one_line_a_second_in_the_log(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nconnections_per_address = 1") as house:
            await outcomes(house, 100)
            assert house.log.events() == ["too_many_from_address"]


class TestBalancers:
    """Who is there is said by a load balancer at 10.0.0.1."""

    async def test_D12_the_clients_address_is_what_counts_logs_and_the_audit_trail_tell(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nconnections_per_address = 1") as house:
            house.listener.balancers = {"10.0.0.1": ProxyHeader(("198.51.100.7", 5))}
            device = Client(house.arrive("10.0.0.1"), Connect(client_id="d", version=V311), house.nursery)
            await house.settle()
            assert device.connack is not None
            assert house.inside().identity.address == "198.51.100.7"
            assert house.door._by_address == {"198.51.100.7": 1}
            assert await outcomes(house, 2, "10.0.0.1") == ["closed", "closed"]
            house.listener.balancers = {"10.0.0.1": ProxyHeader(("198.51.100.8", 5))}
            assert await outcomes(house, 1, "10.0.0.1") == ["open"]
            assert house.metrics.connections_refused == {"too_many_from_address": 2}
            assert house.log.events() == ["too_many_from_address"]

    async def test_D12_from_other_addresses_nobody_comes_in(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            house.listener.balancers = {"10.0.0.1": ProxyHeader(("198.51.100.7", 5))}
            assert await outcomes(house, 1, "198.51.100.7") == ["closed"]
            assert house.metrics.connections_refused == {"not_a_balancer": 1}
            assert house.door._by_address == {}

    async def test_D12_the_balancers_own_looks_do_not_count_against_it(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nconnections_per_address = 1") as house:
            house.listener.balancers = {"10.0.0.1": ProxyHeader()}
            assert await outcomes(house, 5, "10.0.0.1") == ["open"] * 5
            await trio.sleep(11)
            assert house.door._by_address == {}

    async def test_D12_a_look_that_is_broken_off_is_no_fault(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            house.listener.balancers = {"10.0.0.1": ProxyHeader()}
            house.listener.failure = "reset"
            stream = house.arrive("10.0.0.1")
            stream.send_nowait(b"\x16")  # as of a handshake
            await house.settle()
            assert stream._ended
            assert house.metrics.connections_refused == {"closed_before_connect": 1}
            assert house.log.events() == []

    async def test_D12_a_bad_header_is_counted_as_such(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            house.listener.balancers = {"10.0.0.1": ProxyHeader(), "10.0.0.2": None}
            assert await outcomes(house, 1, "10.0.0.2") == ["closed"]
            assert house.metrics.connections_refused == {"bad_introduction": 1}
            assert house.door._by_address == {}


class TestConnectDeadline:
    async def test_E7_a_silent_peer_is_cut_after_exactly_ten_seconds(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            stream = house.arrive()
            with pytest.raises(TransportError):
                await stream.receive()
            assert trio.current_time() == 10.0
            assert house.metrics.connections_refused == {"connect_deadline": 1}
            assert house.metrics.handshakes == 0

    async def test_E1_the_handshake_of_the_transport_counts(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            house.listener.patience = 7.0
            stream = house.arrive()
            await trio.sleep(9)
            stream.send_nowait(CONNECT[:-1])
            with pytest.raises(TransportError):
                await stream.receive()
            assert trio.current_time() == 10.0

    async def test_one_byte_a_second_is_too_slow(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            stream = house.arrive()
            for byte in CONNECT:
                stream.send_nowait(bytes([byte]))
                await trio.sleep(1)
            assert stream._ended
            assert house.metrics.connections_refused == {"connect_deadline": 1}
            assert house.metrics.connections_closed == {}

    async def test_it_is_over_once_connect_came(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect(keep_alive=60)
            await trio.sleep(30)
            assert device.ended_at is None

    async def test_hanging_up_before_connect_is_counted(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            await house.arrive().aclose()
            broken = house.arrive()
            await house.settle()
            broken.abort()
            house.listener.failure = "not TLS"
            house.arrive().send_nowait(b"?")
            await house.settle()
            assert house.metrics.connections_refused == {"closed_before_connect": 1, "handshake_failed": 2}


class TestDrain:
    async def test_devices_are_let_go_once_what_they_sent_is_acknowledged(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            idle, busy = await house.connect("idle"), await house.connect("busy")
            old = await house.connect("old", V311)
            busy.publish(Message("t", b"", 1))
            await house.settle()
            house.nursery.start_soon(house.door.drain, 100.0)
            await trio.sleep(1)
            assert house.listener.closed
            assert idle.goodbye is ReasonCode.SERVER_SHUTTING_DOWN
            assert old.ended_at == 0.0
            assert len(old.events) == 1
            assert busy.ended_at is None
            busy.publish(Message("late", b"", 1))
            await house.settle()
            house.a.settle()
            await trio.sleep(1)
            assert busy.settled == [(1, 0)]
            assert busy.goodbye is ReasonCode.SERVER_SHUTTING_DOWN
            assert house.a.carried == ["t"]

    async def test_another_server_is_named_if_there_is_one(self, autojump_clock: MockClock) -> None:
        async with open_house('[proxy]\nserver_reference = "other.example:1883"\n' + AWAITED) as house:
            idle, busy = await house.connect("idle"), await house.connect("busy")
            old = await house.connect("old", V311)
            busy.publish(Message("t", b"", 1))
            await house.settle()
            await house.door.drain(5.0)
            await house.settle()
            for device in (idle, busy):
                (goodbye,) = device.of(Disconnect)
                assert goodbye.reason is ReasonCode.USE_ANOTHER_SERVER
                assert goodbye.properties.server_reference == "other.example:1883"
            assert (old.ended_at, len(old.events)) == (0.0, 1)
            house.a.settle()

    async def test_at_the_deadline_everybody_goes(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await house.connect()
            device.publish(Message("t", b"", 1))
            await house.settle()
            await house.door.drain(5.0)
            await house.settle()
            assert device.ended_at == 5.0
            assert device.goodbye is ReasonCode.SERVER_SHUTTING_DOWN
            house.a.settle()

    async def test_who_comes_while_draining_is_sent_away(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = house.device(keep_alive=60)
            house.listener.patience = 3.0
            late = house.device("late")
            await trio.sleep(1)
            await house.door.drain(10.0)
            await trio.sleep(3)
            assert device.goodbye is late.goodbye is ReasonCode.SERVER_SHUTTING_DOWN
            assert house.premises.devices == {}


async def test_every_listener_of_the_settings_is_opened_and_accepts(nursery: trio.Nursery) -> None:
    house = make_house("", nursery)
    door = Door(house.premises)
    settings = [ListenerSettings(name=name, bind=Address("127.0.0.1:0"), enabled=name != "off") for name in "abc"]
    settings.append(ListenerSettings(name="off", bind=Address("127.0.0.1:0"), enabled=False))
    await door.open(settings)
    nursery.start_soon(door.run)
    for listener in door.listeners:
        stream = await dial(f"mqtt://127.0.0.1:{listener.port}")
        stream.send_nowait(CONNECT)
        assert bytes(await stream.receive()) == b"\x20\x02\x00\x00"
        await stream.aclose()
    assert house.metrics.listening == {"a": 1, "b": 1, "c": 1}
    await door.drain(trio.current_time() + 1)
    await trio.testing.wait_all_tasks_blocked()
    assert all(listener._socket.fileno() == -1 for listener in door.listeners)
    assert house.metrics.listening == {"a": 0, "b": 0, "c": 0}


async def test_if_one_listener_cannot_be_opened_none_stays_open(nursery: trio.Nursery) -> None:
    house = make_house("", nursery)
    door = Door(house.premises)
    first = ListenerSettings(name="a", bind=Address("127.0.0.1:0"))
    await door.open([first])
    taken = Address(f"127.0.0.1:{door.listeners[0].port}")
    second = Door(house.premises)
    with pytest.raises(TransportError, match="address already in use"):
        await second.open([first, ListenerSettings(name="b", bind=taken)])
    assert second.listeners == []
    door._close_listeners()


def test_the_deadline_is_ten_seconds_unless_the_settings_say_otherwise() -> None:
    assert LimitSettings().connect_deadline == 10.0
