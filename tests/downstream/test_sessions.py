"""Devices that come back to their sessions: what waited, what was on its way, and who is told what."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import ConnAck, Message, Properties, ProtocolVersion, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from tests.bad_input.wire import frames
from tests.client import Client
from tests.house import AWAITED, DIRECT, V5, V311, House, open_house, upstream

BOTH_VERSIONS = pytest.mark.parametrize("version", [V311, V5])
DAY = 86_400


def messages(*payloads: str, qos: int = 1, topic: str = "t") -> list[Message]:
    return [Message(topic, payload.encode(), qos) for payload in payloads]


def payloads(device: Client) -> list[str]:
    return [publish.payload.decode() for publish in device.of(Publish)]


def is_present(device: Client) -> bool:
    (connack,) = device.of(ConnAck)
    return bool(connack.session_present)


def kinds(device: Client) -> list[int]:
    """Return the first byte of each packet that it heard."""
    return [packet[0] for packet in frames(bytes(device.heard))]


async def leave(house: House, device: Client, how: str = "cut") -> None:
    if how == "cut":
        device.cut()
    else:
        device.disconnect()
    await house.settle()


class TestComingBack:
    @BOTH_VERSIONS
    @pytest.mark.parametrize("how", ["cut", "disconnect"])
    async def test_what_came_meanwhile_was_kept_but_at_qos_0(
        self, version: ProtocolVersion, how: str, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.keep(version=version)
            assert not is_present(device)
            device.subscribe("t")
            await house.settle()
            await leave(house, device, how)
            sender = await house.connect("sender")
            sender.publish(*messages("1"), *messages("0", qos=0), *messages("2", qos=2))
            await house.settle()
            assert sender.settled == [(1, 0), (2, 0)]
            back = await house.keep(version=version, session=device.connection.session)
            assert is_present(back)
            assert payloads(back) == ["1", "2"]
            assert house.metrics.dropped_down == {"offline": 1}
            sender.publish(*messages("3"))
            await house.settle()
            assert payloads(back) == ["1", "2", "3"]

    @BOTH_VERSIONS
    async def test_what_was_on_its_way_comes_again_in_order_with_dup_and_then_what_waited(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.keep(version=version, acknowledges=False)
            device.subscribe("t")
            sender = await house.connect("sender")
            sender.publish(*messages("1"), *messages("2", qos=2), *messages("3"))
            await house.settle()
            first = [(publish.packet_id, publish.payload, publish.dup) for publish in device.of(Publish)]
            assert [dup for _, _, dup in first] == [False] * 3
            await leave(house, device)
            sender.publish(*messages("4"))
            await house.settle()
            back = await house.keep(version=version, session=device.connection.session)
            again = [(publish.packet_id, publish.payload, publish.dup) for publish in back.of(Publish)]
            assert again[:3] == [(packet_id, payload, True) for packet_id, payload, _ in first]
            assert [(payload, dup) for _, payload, dup in again[3:]] == [(b"4", False)]
            assert house.session().state.outgoing == {}

    async def test_a_smaller_receive_maximum_lets_it_come_little_by_little(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.keep(acknowledges=False)
            device.subscribe("t")
            sender = await house.connect("sender")
            sender.publish(*messages("1", "2", "3"))
            await house.settle()
            await leave(house, device)
            sender.publish(*messages("4", "5"))
            await house.settle()
            narrow = Properties(session_expiry_interval=1000, receive_maximum=1)
            back = await house.keep(session=device.connection.session, properties=narrow)
            await house.settle()
            assert payloads(back) == ["1", "2", "3", "4", "5"]

    async def test_what_is_too_large_for_the_new_connection_is_dropped_and_counted(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.keep(acknowledges=False)
            device.subscribe("t")
            sender = await house.connect("sender")
            sender.publish(*messages("x" * 500, "small"))
            await house.settle()
            await leave(house, device)
            small = Properties(session_expiry_interval=1000, maximum_packet_size=200)
            back = await house.keep(session=device.connection.session, properties=small)
            assert payloads(back) == ["small"]
            assert house.metrics.dropped_down == {"too_large": 1}
            assert house.premises.sessions.ledger.queued_messages == 0

    async def test_our_qos_2_goes_on_with_pubrel_where_pubrec_had_come(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.keep(acknowledges=False)
            device.subscribe("t")
            sender = await house.connect("sender")
            sender.publish(*messages("1", qos=2))
            await house.settle()
            (publish,) = device.of(Publish)
            device.hang()
            device.send(b"\xc0\x00")
            await house.settle()  # the answer is the last that it reads
            device.connection.acknowledge_all([(publish.packet_id, 2)])
            device.flush()
            await house.settle()
            assert house.session().state.released == {publish.packet_id}
            await leave(house, device)
            back = await house.keep(session=device.connection.session)
            assert [kind & 0xF0 for kind in kinds(back)] == [0x20, 0x60]
            assert house.session().state.outgoing == {}

    async def test_their_qos_2_goes_on_where_it_stood(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await house.keep(version=V311)
            device.send(b"\x34\x06\x00\x01t\x00\x09x")
            await house.settle()
            house.a.settle()
            await house.settle()
            assert kinds(device) == [0x20, 0x50]
            await leave(house, device)
            back = await house.keep(version=V311)
            back.send(b"\x3c\x06\x00\x01t\x00\x09x")  # it has not seen our PUBREC
            await house.settle()
            assert house.a.taken == []
            back.send(b"\x62\x02\x00\x09")
            await house.settle()
            assert kinds(back) == [0x20, 0x50, 0x70]
            back.send(b"\x34\x06\x00\x01t\x00\x09y")
            await house.settle()
            assert house.a.payloads == [b"y"]
            house.a.settle()

    @pytest.mark.parametrize("when", ["before", "after", "between"])
    async def test_what_a_destination_has_of_their_qos_2_is_never_given_to_it_again(
        self, when: str, autojump_clock: MockClock
    ) -> None:
        """The destination acknowledges before the connection ends, after the device is back, or between."""
        async with open_house(AWAITED) as house:
            device = await house.keep()
            device.publish(*messages("1", "2", "3", qos=2))
            await house.settle()
            assert house.a.payloads == [b"1", b"2", b"3"]
            if when == "before":
                house.a.settle(0, 1, 2)
            device.cut()
            await house.settle()
            if when == "between":
                house.a.settle(1)
                assert house.premises.absent["d"].unacknowledged == 2
            back = await house.keep(session=device.connection.session)
            assert house.premises.absent == {}
            house.check_books()
            house.a.settle()
            await house.settle()
            assert sorted(house.a.carried) == ["t", "t", "t"]
            assert sorted(back.settled) == [(1, 0), (2, 0), (3, 0)]
            assert house.session().state.incoming_qos2 == set()
            assert house.a.taken == []
            back.publish(*messages("4", qos=2))
            await house.settle()
            assert house.a.payloads == [b"4"]
            house.a.settle()

    async def test_what_had_no_place_yet_is_taken_when_it_comes_again(self, autojump_clock: MockClock) -> None:
        async with open_house("[spool]\nmax_bytes = 1\n" + AWAITED) as house:
            device = await house.keep()
            for payload in "12":  # a read each: the first fills the spool
                device.publish(*messages(payload, qos=2))
                await house.settle()
            device.cut()
            await house.settle()
            assert len(house.premises.absent["d"].pending) == 1
            house.a.settle()
            assert house.a.carried == ["t"]
            back = await house.keep(session=device.connection.session)
            assert house.a.payloads == [b"2"]
            house.a.settle()
            await house.settle()
            assert back.settled == [(1, 0), (2, 0)]

    async def test_what_a_device_was_about_to_wait_for_when_its_connection_ended_is_taken_when_it_comes_again(
        self, autojump_clock: MockClock
    ) -> None:
        due: list[Callable[[], None]] = []

        def at_end_of_turn(call: Callable[[], None]) -> bool:
            due.append(call)
            return True

        async with open_house(DIRECT) as house:
            house.a.bound = 0
            house.pipeline.at_end_of_turn = at_end_of_turn
            device = await house.keep()
            device.publish(*messages("1", qos=2))
            await house.settle()
            due.pop()()  # it is told to wait,
            house.inside().disconnect(ReasonCode.SESSION_TAKEN_OVER)  # and ended before it could begin to
            await house.settle()
            assert house.lanes["a"].waiting == 0
            assert house.premises.absent == {}
            house.pipeline.at_end_of_turn = lambda _: False
            house.a.make_room(10)
            back = await house.keep(session=device.connection.session)
            house.a.settle()
            await house.settle()
            assert back.settled == [(1, 0)]

    async def test_what_was_unfinished_is_forgotten_with_the_session(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await house.keep()
            device.publish(*messages("1", qos=2))
            await house.settle()
            device.cut()
            await house.settle()
            fresh = await house.connect(clean_start=True)
            assert house.premises.absent == {}
            fresh.publish(*messages("2", qos=2))
            await house.settle()
            house.a.settle()
            await house.settle()
            assert fresh.settled == [(1, 0)]

    async def test_an_expired_message_is_not_delivered_and_others_tell_how_long_they_still_live(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.keep()
            device.subscribe("t")
            await house.settle()
            await leave(house, device)
            sender = await house.connect("sender")
            for payload, seconds in (("short", 10), ("long", 100)):
                properties = Properties(message_expiry_interval=seconds)
                sender.publish(Message("t", payload.encode(), 1, False, properties))
            await trio.sleep(30)
            back = await house.keep()
            assert payloads(back) == ["long"]
            assert back.of(Publish)[0].properties.message_expiry_interval == 70
            assert house.metrics.dropped_down == {"expired": 1}


class TestTakeover:
    @BOTH_VERSIONS
    async def test_in_the_middle_of_exchanges_nothing_is_lost_or_doubled(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            old = await house.keep(version=version, acknowledges=False)
            old.subscribe("t")
            sender = await house.connect("sender")
            sender.publish(*messages("1"), *messages("2", qos=2))
            await house.settle()
            (_, second) = old.of(Publish)
            old.hang()
            old.send(b"\xc0\x00")
            await house.settle()  # the answer is the last that it reads
            old.connection.acknowledge_all([(second.packet_id, 2)])
            old.flush()
            await house.settle()
            new = await house.keep(version=version, session=old.connection.session)
            assert is_present(new)
            assert [(p.payload, p.dup) for p in new.of(Publish)] == [(b"1", True)]
            assert house.metrics.connections_closed == {"session_taken_over": 1}
            assert house.session().state.outgoing == {}
            sender.publish(*messages("3"))
            await house.settle()
            assert payloads(new) == ["1", "3"]

    async def test_a_clean_start_gets_nothing_of_the_old_session(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            old = await house.keep()
            old.subscribe("t")
            await house.settle()
            new = await house.connect(clean_start=True)
            assert not is_present(new)
            assert house.pipeline.table.count == 0
            assert house.a.wanted == {}


class TestTheirEnd:
    async def test_a_session_is_over_when_its_time_has_come(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            device = await house.keep(properties=Properties(session_expiry_interval=60))
            device.subscribe("t")
            await house.settle()
            await leave(house, device)
            await trio.sleep(59)
            assert dict(house.a.wanted) == {"t": 1}
            await trio.sleep(2)
            assert len(house.premises.sessions) == 0
            assert house.pipeline.table.count == 0
            assert house.a.wanted == {}
            assert not is_present(await house.keep())

    async def test_disconnect_can_shorten_it(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.keep()
            device.disconnect(properties=Properties(session_expiry_interval=0))
            await house.settle()
            assert len(house.premises.sessions) == 0

    @pytest.mark.parametrize(
        ("asked", "told"), [(100, None), (7 * DAY, None), (7 * DAY + 1, 7 * DAY), (2**32 - 1, 7 * DAY)]
    )
    async def test_a_longer_one_than_the_settings_allow_is_cut_and_the_device_told(
        self, asked: int, told: int | None, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.keep(properties=Properties(session_expiry_interval=asked))
            assert device.connack is not None
            assert device.connack.properties.session_expiry_interval == told
            assert house.session().expiry == min(asked, 7 * DAY)
            device.disconnect(properties=Properties(session_expiry_interval=2**32 - 1))
            await house.settle()
            assert house.session().expiry == 7 * DAY

    async def test_without_an_interval_it_ends_with_the_connection(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect(clean_start=False)
            await leave(house, device)
            assert len(house.premises.sessions) == 0

    async def test_a_3_1_1_session_that_is_not_clean_has_the_longest_time(self, autojump_clock: MockClock) -> None:
        async with open_house('[limits]\nsession_expiry = "5m"') as house:
            device = await house.keep(version=V311)
            await leave(house, device)
            await trio.sleep(299)
            assert len(house.premises.sessions) == 1
            await trio.sleep(2)
            assert len(house.premises.sessions) == 0

    @pytest.mark.parametrize(("version", "told"), [(V311, 3), (V5, 0x97)])
    async def test_beyond_the_most_sessions_a_new_one_is_refused(
        self, version: ProtocolVersion, told: int, autojump_clock: MockClock
    ) -> None:
        async with open_house("[limits]\nsessions = 1") as house:
            device = await house.keep()
            await leave(house, device)
            other = house.device("other", version)
            await house.settle()
            assert other.stream._other.sent[3] == told
            assert house.metrics.connections_refused == {"too_many_sessions": 1}
            await house.keep()  # who has one comes in


class TestOutputCommit:
    """What tells a device that we remember something does not go out before it is on disk."""

    async def test_suback_waits_for_the_commit(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device, other = await house.keep(), await house.connect("other")
            house.journal.at_once = False
            device.subscribe("t")
            other.subscribe("t")
            await house.settle()
            assert kinds(device) == [0x20]
            assert kinds(other) == [0x20, 0x90]
            house.journal.commit()
            await house.settle()
            assert kinds(device) == [0x20, 0x90]

    async def test_pubrec_and_pubcomp_wait_and_so_does_all_that_comes_behind_them(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.keep(version=V311)
            house.journal.at_once = False
            device.send(b"\x34\x06\x00\x01t\x00\x09x\xc0\x00")
            await house.settle()
            device.send(b"\x32\x06\x00\x01t\x00\x0ax")
            await house.settle()
            assert kinds(device) == [0x20]
            house.journal.commit()
            await house.settle()
            assert sorted(kinds(device)[1:]) == [0x40, 0x50, 0xD0]
            device.send(b"\x62\x02\x00\x09")
            await house.settle()
            assert kinds(device)[4:] == []
            house.journal.commit()
            await house.settle()
            assert kinds(device)[4:] == [0x70]

    async def test_what_is_not_on_disk_is_not_told_at_the_end_of_the_connection_either(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            device = await house.keep(version=V311)
            house.journal.at_once = False
            device.send(b"\x34\x06\x00\x01t\x00\x09x")
            await house.settle()
            house.inside().disconnect(ReasonCode.ADMINISTRATIVE_ACTION)
            await house.settle()
            assert kinds(device) == [0x20]
            house.journal.commit()
            await house.settle()
            assert kinds(device) == [0x20]

    async def test_who_drains_waits_for_the_commit(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.keep(version=V311)
            house.journal.at_once = False
            device.send(b"\x34\x06\x00\x01t\x00\x09x")
            await house.settle()
            house.nursery.start_soon(house.door.drain, 10.0)
            await trio.sleep(1)
            assert device.ended_at is None
            house.journal.commit()
            await house.settle()
            assert kinds(device) == [0x20, 0x50]
            assert device.ended_at == 1.0

    async def test_a_device_that_talks_on_meanwhile_is_not_read_for_ever(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mqttproxy.downstream.device.UNSENT_MOST", 10_000)
        async with open_house() as house:
            device = await house.keep(version=V311)
            house.journal.at_once = False
            device.send(b"\x34\x06\x00\x01t\x00\x09x")
            await house.settle()
            for _ in range(20):
                device.send(b"\xc0\x00" * 1000)
                await house.settle()
            assert house.inside()._is_paused
            house.journal.commit()
            await house.settle()
            assert not house.inside()._is_paused
            assert len(kinds(device)) == 2 + 20 * 1000


class TestUpstreams:
    async def test_subscriptions_stay_at_the_upstream_while_the_device_is_away(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            device = await house.keep()
            device.subscribe("t", "u/#")
            await house.settle()
            await leave(house, device)
            assert dict(house.a.wanted) == {"t": 1, "u/#": 1}
            house.a.send(Publish("t", b"1", 1))
            back = await house.keep()
            assert payloads(back) == ["1"]
            assert dict(house.a.wanted) == {"t": 1, "u/#": 1}
            back.connection.unsubscribe(["t"])
            back.flush()
            await house.settle()
            assert dict(house.a.wanted) == {"u/#": 1}

    async def test_sessions_that_were_restored_ask_again(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            for number in range(250):
                device = await house.keep(f"d{number}")
                device.subscribe("t", f"own/{number}")
                await house.settle()
                await leave(house, device)
            house.premises.homes._asked.clear()
            house.a.wanted.clear()
            await house.premises.rehome()
            assert house.a.wanted["t"] == 250
            assert len(house.a.wanted) == 251
            await house.premises.rehome()  # asks for nothing twice
            assert house.a.wanted["t"] == 250


class TestWhatIsOnItsWay:
    async def test_it_is_bounded_in_messages_whatever_the_device_would_take(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nin_flight = 2") as house:
            device = await house.connect(acknowledges=False)
            device.subscribe("t")
            sender = await house.connect("sender")
            sender.publish(*messages("1", "2", "3"))
            await house.settle()
            assert payloads(device) == ["1", "2"]
            assert house.premises.sessions.ledger.queued_messages == 3
            device.connection.acknowledge_all([(publish.packet_id, 1) for publish in device.of(Publish)])
            device.flush()
            await house.settle()
            assert payloads(device) == ["1", "2", "3"]
            assert house.premises.sessions.ledger.queued_messages == 1
            await leave(house, device)
            assert house.premises.sessions.ledger.queued_messages == 0

    @pytest.mark.parametrize("expiry", [0, 1000])
    async def test_it_is_bounded_in_bytes(self, expiry: int, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nin_flight_bytes = 1000\nqueues_bytes = 2200") as house:
            kept = Properties(session_expiry_interval=expiry)
            device = await house.connect(clean_start=True, acknowledges=False, properties=kept)
            device.subscribe("t")
            sender = await house.connect("sender")
            for number in range(3):
                sender.publish(*messages(str(number) * 500))
                await house.settle()
            assert [payload[0] for payload in payloads(device)] == ["0", "1"]
            sender.publish(*messages("3" * 500))
            await house.settle()
            assert house.metrics.dropped_down == {"queue_full": 1}  # what is on its way takes memory as well
            device.connection.acknowledge_all([(publish.packet_id, 1) for publish in device.of(Publish)])
            device.flush()
            await house.settle()
            assert [payload[0] for payload in payloads(device)] == ["0", "1", "2"]


class TestShared:
    async def test_no_local_is_a_protocol_error(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.send(b"\x82\x14\x00\x01\x00\x00\x01a\x01\x00\x0a$share/g/t\x05")
            await house.settle()
            assert device.goodbye is ReasonCode.PROTOCOL_ERROR
            assert house.pipeline.table.count == 0

    async def test_what_a_member_leaves_unacknowledged_goes_to_another(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            first = await house.connect("first", acknowledges=False)
            first.subscribe("$share/g/t")
            await house.settle()
            sender = await house.connect("sender")
            sender.publish(*messages("1", "2"), *messages("3", qos=2))
            await house.settle()
            assert payloads(first) == ["1", "2", "3"]
            second = await house.connect("second")
            second.subscribe("$share/g/t")
            await house.settle()
            await leave(house, first)
            assert payloads(second) == ["1", "2"]  # never what was sent at QoS 2 [MQTT-4.8.2-5]

    async def test_what_waits_for_a_member_that_goes_away_is_for_one_that_is_there(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            narrow = Properties(session_expiry_interval=1000, receive_maximum=2)
            first = await house.keep("first", acknowledges=False, properties=narrow)
            first.subscribe("$share/g/t")
            await house.settle()
            sender = await house.connect("sender")
            sender.publish(*messages("0", qos=2), *messages("1", "2", "3"))
            await house.settle()
            assert payloads(first) == ["0", "1"]
            second = await house.keep("second")
            second.subscribe("$share/g/t")
            await house.settle()
            await leave(house, first)
            ledger = house.premises.sessions.ledger
            back = await house.keep("first", session=first.connection.session)
            assert payloads(back) == ["0"]  # nobody else may get what was sent at QoS 2
            assert payloads(second) == ["1", "2", "3"]
            assert (ledger.queued_messages, ledger.queued_bytes) == (0, 0)

    async def test_when_the_proxy_ends_each_member_keeps_its_own(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            narrow = Properties(session_expiry_interval=1000, receive_maximum=1)
            for name in ("first", "second"):
                device = await house.keep(name, acknowledges=False, properties=narrow)
                device.subscribe("$share/g/+")
            await house.settle()
            sender = await house.connect("sender")
            for topic in "abcdefgh":
                sender.publish(*messages("1", "2", topic=topic))
            await house.settle()
            before = [len(house.session(name).unacknowledged()) for name in ("first", "second")]
            await house.door.drain(trio.current_time() + 1)
            await house.settle()
            assert [len(house.session(name).unacknowledged()) for name in ("first", "second")] == before

    async def test_if_nobody_is_there_it_waits_on(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            narrow = Properties(session_expiry_interval=1000, receive_maximum=1)
            first = await house.keep("first", acknowledges=False, properties=narrow)
            second = await house.keep("second")
            for device in (first, second):
                device.subscribe("$share/g/t")
            await house.settle()
            await leave(house, second)
            sender = await house.connect("sender")
            sender.publish(*messages("1", "2", "3"))
            await house.settle()
            await leave(house, first)
            back = await house.keep("first", session=first.connection.session)
            assert payloads(back) == ["1", "2", "3"]


async def test_a_client_identifier_that_comes_again_and_again_is_banned(autojump_clock: MockClock) -> None:
    async with open_house("[limits]\nflapping_connects = 3") as house:
        for _ in range(3):
            old = await house.connect()
        for version, told in ((V311, 5), (V5, 0x8A)):
            device = house.device(version=version)
            await house.settle()
            assert device.stream._other.sent[3] == told
        assert old.ended_at is None
        assert house.metrics.connections_refused == {"banned": 2}
        await trio.sleep(301)
        await house.connect()
