import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties, ProtocolVersion, Will
from mqttproxy.mqtt.reasons import ReasonCode
from tests.house import POLICY, V5, V311, open_house, upstream


class TestTakeover:
    async def test_the_old_connection_is_told_and_gone_before_the_new_one_is_let_in(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            old = await house.connect()
            inside = house.inside()
            gone_before: list[bool] = []
            new = house.device()
            accept = type(inside.connection).accept

            def watched(self: object, *arguments: object, **named: object) -> object:
                gone_before.append(inside.gone.is_set())
                return accept(self, *arguments, **named)  # type: ignore[arg-type] # passed on as it came

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(inside.connection), "accept", watched)
                await house.settle()
            assert gone_before == [True]
            assert old.goodbye is ReasonCode.SESSION_TAKEN_OVER
            assert old.ended_at == 0.0
            assert new.connack is not None
            assert house.inside() is not inside
            assert house.metrics.connections_closed == {"session_taken_over": 1}

    @pytest.mark.parametrize("expiry", [0, 100])
    async def test_an_error_of_ours_in_letting_one_in_keeps_nobody_out(
        self, expiry: int, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            properties = Properties(session_expiry_interval=expiry)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(house.premises.wills, "back", lambda *_, **__: 1 / 0)
                house.device(properties=properties)
                await house.settle()
            assert house.log.events() == ["internal_error"]
            house.log.lines.clear()
            assert house.premises.devices == {}
            await house.connect(properties=properties)

    async def test_a_3_1_1_device_is_just_closed(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            old = await house.connect(version=V311)
            await house.connect()
            assert (old.ended_at, len(old.events)) == (0.0, 1)

    async def test_subscriptions_of_the_old_connection_are_gone(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            old = await house.connect()
            old.subscribe("t")
            await house.settle()
            new = await house.connect()
            assert house.pipeline.table.count == 0
            new.publish(Message("t", b"", 1))
            await house.settle()
            assert new.received == []

    async def test_many_at_once_leave_one(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            clients = [house.device() for _ in range(20)]
            await house.settle()
            assert sum(client.ended_at is None for client in clients) == 1
            assert all(client.connack is not None for client in clients)
            assert house.metrics.active_connections == {"plain": 1}

    async def test_an_old_connection_that_takes_no_bytes_does_not_keep_the_new_one_out(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            old = await house.connect()
            old.subscribe("t")
            await house.settle()
            old.hang()
            publisher = await house.connect("p")
            for _ in range(20):
                publisher.publish(Message("t", bytes(50_000), 1))
                await house.settle()
            new = house.device()
            await house.settle()
            assert new.connack is not None
            assert trio.current_time() == 0.0


class TestRefusing:
    @pytest.mark.parametrize(("version", "told"), [(V311, 5), (V5, 0x87)])
    async def test_nobody_comes_in_unless_it_is_allowed(
        self, version: ProtocolVersion, told: int, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            house.premises.access = type(house.premises.access)()
            device = house.device(version=version)
            await house.settle()
            assert device.stream._other.sent[3] == told
            assert device.connack is not None
            assert device.connack.reason is ReasonCode.NOT_AUTHORIZED
            assert device.ended_at is not None
            assert house.metrics.connections_refused == {"not_authorized": 1}
            assert house.premises.devices == {}

    async def test_an_authentication_method_is_not_known(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = house.device(properties=Properties(authentication_method="SCRAM"))
            await house.settle()
            assert device.connack is not None
            assert device.connack.reason is ReasonCode.BAD_AUTHENTICATION_METHOD

    async def test_a_broken_connect_is_told_counted_and_logged_once_a_second(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            for _ in range(50):
                house.arrive().send_nowait(b"\x10\x0d\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x00")
            await house.settle()
            assert house.metrics.connections_refused == {"malformed_packet": 50}
            assert house.metrics.protocol_errors == {"malformed_packet": 50}
            assert house.log.events() == ["bad_connect"]


class TestWills:
    @pytest.mark.parametrize(
        ("will", "reason"),
        [
            (Will("n/1", b"x"), ReasonCode.PAYLOAD_FORMAT_INVALID),
            (Will("$SYS/x", b""), ReasonCode.NOT_AUTHORIZED),
        ],
    )
    async def test_one_that_could_not_be_published_keeps_its_device_out_and_the_connected_one_in(
        self, will: Will, reason: ReasonCode, autojump_clock: MockClock
    ) -> None:
        async with open_house(POLICY) as house:
            old = await house.connect()
            new = house.device(will=will)
            await house.settle()
            assert new.connack is not None
            assert new.connack.reason is reason
            assert (new.connack.properties.reason_string or "").startswith("will: ")
            assert new.ended_at is not None
            assert old.ended_at is None
            assert house.metrics.connections_refused == {"will_refused": 1}
            decided = [line for line in house.audit_lines() if line["event"] == "decision"]
            lines = [(line["action"], line["topic"], line["reason"]) for line in decided]
            assert lines == [("refused", will.topic, reason.name.lower())]

    async def test_a_3_1_1_device_is_told_that_it_is_not_authorized(self, autojump_clock: MockClock) -> None:
        async with open_house(POLICY) as house:
            device = house.device(version=V311, will=Will("n/1", b"x"))
            await house.settle()
            assert device.stream._other.sent == b"\x20\x02\x00\x05"

    async def test_a_good_one_is_welcome_and_in_a_dry_run_any(self, autojump_clock: MockClock) -> None:
        async with open_house(POLICY) as house:
            await house.connect(will=Will("n/1", b"1"))
        async with open_house(POLICY, dry_run=True) as house:
            await house.connect(will=Will("n/1", b"x"))


class TestClientIdentifiers:
    async def test_an_empty_one_is_replaced_and_an_mqtt_5_device_told(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect("")
            assert device.connack is not None
            assert device.connack.properties.assigned_client_identifier in house.premises.devices

    async def test_in_3_1_1_only_with_a_clean_session(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            await house.connect("", V311)
            stream = house.arrive()
            stream.send_nowait(b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00")
            assert await stream.receive() == b"\x20\x02\x00\x02"
            assert await stream.receive() == b""

    async def test_two_devices_without_one_do_not_meet(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            first, second = await house.connect(""), await house.connect("")
            assert first.ended_at is None
            assert second.ended_at is None


async def test_connack_tells_the_limits_of_the_settings(autojump_clock: MockClock) -> None:
    limits = '[limits]\nreceive_maximum = 7\npacket_size = 300_000\ntopic_alias_maximum = 3\nkeep_alive = "30s"\n'
    async with open_house(limits) as house:
        device = await house.connect(keep_alive=60, properties=Properties(session_expiry_interval=100))
        server = device.connection.server
        assert (server.receive_maximum, server.maximum_packet_size, server.topic_alias_maximum) == (7, 300_000, 3)
        assert (server.keep_alive, server.session_expiry_interval, server.shared_subscriptions) == (30, 100, True)


async def test_nothing_behind_a_refused_connect_is_taken(autojump_clock: MockClock) -> None:
    async with open_house(upstream()) as house:
        house.premises.access = type(house.premises.access)()
        device = house.device()
        device.send(b"\x32\x08\x00\x01t\x00\x07\x00xx")
        await house.settle()
        assert house.metrics.received == 0
        assert house.a.taken == []


class TestFlapping:
    @pytest.mark.parametrize(("trouble", "is_banned"), [(None, True), ("disk full", False)])
    async def test_who_comes_too_often_is_banned_unless_our_disk_is_why(
        self, trouble: str | None, is_banned: bool, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nflapping_connects = 2\n") as house:
            house.journal.trouble = trouble
            for _ in range(2):
                await house.connect()
            last = house.device()
            await house.settle()
            assert last.connack is not None
            assert last.connack.reason is (ReasonCode.BANNED if is_banned else ReasonCode.SUCCESS)
