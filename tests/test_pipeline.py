from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties, ProtocolVersion, Publish, Subscription
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.sessions.records import IncomingRow, MessageRow, QueuedRow
from mqttproxy.validation import Generation, Identity, Verdict, judge
from mqttproxy.validation.plugins import Answers
from tests.house import AWAITED, DIRECT, POLICY, V5, V311, open_house, route, upstream

TWO = upstream("a") + upstream("b")


def numbered(count: int, *, qos: int = 1, start: int = 0) -> list[Message]:
    return [Message(f"t/{number}", b"", qos) for number in range(start, start + count)]


def topics(*numbers: int) -> list[str]:
    return [f"t/{number}" for number in numbers]


class TestFanOut:
    async def test_every_destination_of_the_route_gets_everything_in_order(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO) as house:
            device = await house.connect()
            properties = Properties(content_type="x", user_properties=(("k", "v"),))
            device.publish(*numbered(5), *numbered(5, qos=0), Message("t", b"payload", 2, True, properties))
            await house.settle()
            for destination in (house.a, house.b):
                in_order = [[item[0].topic for item in destination.taken if item[0].qos == qos] for qos in range(3)]
                assert in_order == [topics(0, 1, 2, 3, 4), topics(0, 1, 2, 3, 4), ["t"]]
                (last,) = [item[0] for item in destination.taken if item[0].qos == 2]
                assert (last.payload, last.qos, last.retain, last.properties) == (b"payload", 2, True, properties)
            assert house.metrics.routed == 11
            house.a.settle()
            house.b.settle()

    async def test_the_first_route_that_matches_applies(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a", topics="x/#") + route("b")) as house:
            device = await house.connect()
            device.publish(Message("x/1", b"", 1), Message("y", b"", 1))
            await house.settle()
            assert (house.a.topics, house.b.topics) == (["x/1"], ["y"])

    async def test_a_new_ruleset_is_in_force_from_the_next_read_on(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a")) as house, open_house(TWO + route("b")) as later:
            device = await house.connect()
            device.publish(*numbered(1))
            await house.settle()
            house.pipeline.use(later.pipeline.ruleset, house.lanes)
            device.publish(*numbered(1))
            await house.settle()
            assert (house.a.topics, house.b.topics) == (["t/0"], ["t/0"])


class TestWhenFull:
    @pytest.mark.parametrize("version", [V311, V5])
    async def test_wait_takes_what_fits_withholds_the_rest_and_reads_no_more(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        async with open_house(DIRECT) as house:
            house.a.bound = 3
            device = await house.connect(version=version)
            device.publish(*numbered(5))
            await house.settle()
            device.publish(*numbered(5, start=5))
            await house.settle()
            assert house.a.topics == topics(0, 1, 2)
            assert house.lanes["a"].waiting == 2
            assert house.metrics.received == 5
            house.a.settle(0)
            await house.settle()
            assert device.settled == [(packet_id, 0) for packet_id in range(1, 4)]  # as for all of its read that waits
            assert (house.a.topics, house.lanes["a"].waiting) == (topics(1, 2, 3), 1)
            for _ in range(5):
                house.a.settle()
                await house.settle()
            assert house.a.carried == topics(*range(10))
            assert device.settled == [(packet_id, 0) for packet_id in range(1, 11)]

    async def test_another_destination_is_not_delayed(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a", "b", more='ack = "all"')) as house:
            house.a.bound = 0
            device = await house.connect()
            device.publish(*numbered(5))
            await house.settle()
            assert (house.a.topics, house.b.topics) == ([], topics(0, 1, 2, 3, 4))
            house.b.settle()
            assert house.b.carried == topics(0, 1, 2, 3, 4)
            house.a.make_room(5)
            await house.settle()
            house.a.settle()
            await house.settle()
            assert len(device.settled) == 5

    async def test_nor_is_another_device_with_another_route(self, autojump_clock: MockClock) -> None:
        async with open_house(
            TWO + route("a", topics="t/#", more='ack = "memory"') + route("b", more='ack = "all"')
        ) as house:
            house.a.bound = 0
            stuck, free = await house.connect("stuck"), await house.connect("free")
            stuck.publish(*numbered(1))
            free.publish(Message("other", b"", 1))
            await house.settle()
            house.b.settle()
            await house.settle()
            assert (stuck.settled, free.settled) == ([], [(1, 0)])
            house.a.make_room(1)

    async def test_drop_newest_acknowledges_and_drops_what_does_not_fit(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream() + route("a", more='ack = "memory"\nwhen_full = "drop_newest"')) as house:
            house.a.bound = 2
            device = await house.connect()
            device.publish(*numbered(5))
            await house.settle()
            assert house.a.topics == topics(0, 1)
            assert house.a.dropped == {"queue_full": 3}
            assert device.settled == [(packet_id, 0) for packet_id in range(1, 6)]
            house.a.settle()

    async def test_drop_oldest_drops_what_waited_longest(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream() + route("a", more='ack = "memory"\nwhen_full = "drop_oldest"')) as house:
            house.a.bound = 2
            device = await house.connect()
            device.publish(*numbered(5))
            await house.settle()
            assert house.a.topics == topics(3, 4)
            assert house.a.dropped == {"drop_oldest": 3}
            assert device.settled == [(packet_id, 0) for packet_id in range(1, 6)]
            house.a.settle()

    async def test_what_one_destination_drops_the_other_has(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a", "b", more='ack = "memory"\nwhen_full = "drop_newest"')) as house:
            house.b.bound = 0
            device = await house.connect()
            device.publish(*numbered(2))
            await house.settle()
            assert (house.a.topics, house.b.dropped) == (topics(0, 1), {"queue_full": 2})
            assert device.settled == [(1, 0), (2, 0)]
            house.a.settle()

    async def test_memory_waits_until_every_destination_has_taken_it(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a", "b", more='ack = "memory"')) as house:
            house.a.bound = house.b.bound = 0
            device = await house.connect()
            device.publish(*numbered(2))
            await house.settle()
            house.a.make_room(2)
            await house.settle()
            assert device.settled == []
            house.b.make_room(1)
            await house.settle()
            assert device.settled == []
            house.b.make_room(1)
            await house.settle()
            assert device.settled == [(1, 0), (2, 0)]

    async def test_qos_0_waits_a_moment_for_a_live_link_and_is_dropped_then(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            house.a.bound = 0
            device = await house.connect()
            device.publish(*numbered(3, qos=0))
            await trio.sleep(0.05)
            assert house.lanes["a"].waiting == 3
            await trio.sleep(0.1)
            assert house.lanes["a"].waiting == 0
            assert house.a.dropped == {"queue_full": 3}
            device.send(b"\xc0\x00")
            await house.settle()
            assert not house.inside()._is_paused

    async def test_what_waits_when_its_connection_ends_is_dropped_and_counted(self, autojump_clock: MockClock) -> None:
        async with open_house(DIRECT) as house:
            house.a.bound = 1
            device = await house.connect()
            device.publish(*numbered(4))
            await house.settle()
            await house.connect()  # takes over
            assert house.a.dropped == {"connection_lost": 3}
            assert device.settled == [(1, 0)]
            house.a.settle()


class TestSpool:
    """The default: on disk, then acknowledged, then to the destinations."""

    @pytest.mark.parametrize("qos", [1, 2])
    async def test_a_device_is_acknowledged_by_the_commit_though_nobody_has_room(
        self, qos: int, autojump_clock: MockClock
    ) -> None:
        async with open_house(upstream()) as house:
            house.a.bound = 3
            house.journal.at_once = False
            device = await house.connect()
            device.publish(*numbered(5, qos=qos))
            await house.settle()
            assert (device.acknowledged, house.a.taken) == ([], [])
            house.journal.commit()
            await house.settle()
            assert [packet_id for packet_id, _ in device.acknowledged] == [1, 2, 3, 4, 5]
            assert house.a.topics == topics(0, 1, 2)
            house.a.settle()
            await house.settle()
            assert house.a.topics == topics(3, 4)
            house.a.settle()

    async def test_while_it_is_full_a_device_waits_and_is_not_read(self, autojump_clock: MockClock) -> None:
        async with open_house("[spool]\nmax_bytes = 3\n" + upstream()) as house:
            house.a.bound = 0
            device = await house.connect()
            for number in range(6):  # a read each
                device.publish(Message(f"t/{number}", b"x", 1))
                await house.settle()
            assert (len(device.settled), house.pipeline.spool_lanes.waiting) == (3, 1)
            assert house.metrics.received == 4
            for _ in range(6):
                house.a.make_room(1)
                await house.settle()
                house.a.settle()
                await house.settle()
            assert house.a.carried == topics(*range(6))
            assert len(device.settled) == 6

    async def test_a_quorum_of_all_waits_for_all_and_the_disk_is_no_answer(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a", "b", more="ack = { quorum = 2 }")) as house:
            house.b.bound = 0
            device = await house.connect()
            device.publish(*numbered(2))
            await house.settle()
            house.a.settle()
            await house.settle()
            assert device.settled == []
            house.b.make_room(2)
            await house.settle()
            house.b.settle()
            await house.settle()
            assert device.settled == [(1, 0), (2, 0)]


class TestLocal:
    async def test_without_upstreams_subscribers_have_it_at_once(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.subscribe("t/#")
            await house.settle()
            device.publish(*numbered(3))
            await house.settle()
            assert device.received == [(topic, b"") for topic in topics(0, 1, 2)]
            assert len(device.settled) == 3
            assert house.pipeline.local_messages == 3

    async def test_a_topic_at_home_here_goes_to_subscribers_and_upstreams(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream() + route("a", more='ack = "all"\nhome = "local"')) as house:
            device = await house.connect()
            device.subscribe("#")
            await house.settle()
            device.publish(*numbered(1))
            await house.settle()
            assert (device.received, house.a.topics) == ([("t/0", b"")], topics(0))
            assert device.settled == []
            house.a.send(Publish("t/0", b"from the broker", 1))  # not its home: nobody gets two
            house.a.settle()
            await house.settle()
            assert len(device.received) == 1

    async def test_topics_of_the_server_that_a_broker_sends_match_no_wildcard(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            device = await house.connect()
            device.subscribe("#", "+/x")
            await house.settle()
            house.a.send(Publish("$SYS/x", b"", 0), Publish("$other/x", b"", 0))
            await house.settle()
            assert device.received == []


class TestRetained:
    async def test_set_replace_and_clear(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            retained = house.pipeline.retained
            device.publish(Message("t", b"1", 1, True), Message("u", b"1", 0, True), Message("v", b"1", 1))
            await house.settle()
            assert {message.topic: message.payload for message in retained.match("#")} == {"t": b"1", "u": b"1"}
            device.publish(Message("t", b"22", 1, True))
            await house.settle()
            assert [message.payload for message in retained.match("t")] == [b"22"]
            device.publish(Message("t", b"", 1, True), Message("u", b"", 0, True), Message("none", b"", 1, True))
            await house.settle()
            assert (retained.count, retained.size) == (0, 0)
            assert len(device.settled) == 5

    async def test_beyond_the_limit_it_is_refused_and_replacing_goes_on(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nretained_messages = 2") as house:
            device = await house.connect()
            device.publish(*[Message(topic, b"x", 1, True) for topic in ("1", "2", "3", "1")])
            await house.settle()
            assert device.settled == [(1, 0), (2, 0), (3, ReasonCode.QUOTA_EXCEEDED), (4, 0)]
            assert house.metrics.refused == {"quota_exceeded": 1}
            assert house.pipeline.retained.count == 2

    async def test_what_an_upstream_is_home_to_is_retained_there(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            device = await house.connect()
            device.publish(Message("t", b"x", 1, True))
            await house.settle()
            assert house.pipeline.retained.count == 0
            assert house.a.taken[0][0].retain
            house.a.settle()

    async def test_an_invalid_one_is_not_retained(self, autojump_clock: MockClock) -> None:
        async with open_house(POLICY) as house:
            device = await house.connect()
            device.publish(Message("n/1", b"bad", 1, True))
            await house.settle()
            house.quarantine.commit()
            assert house.pipeline.retained.count == 0


async def test_every_decision_is_audited_where_that_is_asked_for(autojump_clock: MockClock) -> None:
    async with open_house('[audit]\ndecisions = "all"\n' + TWO + POLICY) as house:
        device = await house.connect()
        device.publish(Message("t", b"", 1), Message("n/1", b"1", 0), Message("n/1", b"bad", 1))
        await house.settle()
        house.quarantine.commit()
        lines = [(line["action"], line["topic"], line["destinations"]) for line in house.audit_lines()]
        assert sorted(lines) == [("forwarded", "n/1", ["a", "b"]), ("forwarded", "t", ["a", "b"]), ("held", "n/1", [])]


class TestTurns:
    """Under a poller what all devices send in one turn is one batch."""

    async def test_what_many_devices_send_in_a_turn_is_offered_at_once(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED, turns=True) as house:
            devices = [await house.connect(f"d{n}") for n in range(3)]
            offers: list[int] = []
            offer = house.a.offer

            def counted(items: Sequence[tuple[Message, object]]) -> int:
                offers.append(len(items))
                return offer(items)

            house.a.offer = counted  # type: ignore[method-assign] # to see how often it is asked
            for device in devices:
                device.publish(*numbered(2))
            await house.settle()
            assert offers == [6]
            house.a.settle()
            await house.settle()
            assert [len(device.settled) for device in devices] == [2, 2, 2]

    async def test_only_the_device_whose_messages_had_no_place_is_held_up(self, autojump_clock: MockClock) -> None:
        async with open_house(DIRECT, turns=True) as house:
            house.a.bound = 3
            first, second = await house.connect("x"), await house.connect("y")
            first.publish(*numbered(3))
            await house.settle()
            second.publish(*numbered(2))
            await house.settle()
            second.publish(*numbered(1, start=9))  # not read: what it sent before waits
            await house.settle()
            assert len(house.a.taken) == 3
            assert house.lanes["a"].waiting == 2
            house.a.bound = 100
            house.a.settle()
            await house.settle()
            house.a.settle()
            await house.settle()
            house.a.settle()
            await house.settle()
            assert (len(first.settled), len(second.settled)) == (3, 3)

    async def test_a_message_that_cannot_be_judged_is_held_and_the_others_are_carried(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:

        def broken(message: Message, identity: Identity, generation: Generation, answers: Answers | None) -> Verdict:
            if message.payload == b"13":
                raise ZeroDivisionError
            return judge(message, identity, generation, answers)

        monkeypatch.setattr("mqttproxy.pipeline.judge", broken)
        async with open_house(upstream(), turns=True) as house:
            device = await house.connect()
            device.publish(Message("t", b"12", 1), Message("t", b"13", 1), Message("t", b"14", 1))
            await house.settle()
            house.quarantine.commit()
            house.a.settle()
            await house.settle()
            assert house.a.carried == ["t", "t"]
            assert [reason for _, reason in device.acknowledged] == [
                ReasonCode.SUCCESS,
                ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
                ReasonCode.SUCCESS,
            ]
            assert "judge_raised" in house.log.events()


class TestUpstreamsThatRefuse:
    @pytest.mark.parametrize("turns", [False, True])
    async def test_devices_are_not_read_while_more_is_refused_than_the_quarantine_takes(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, turns: bool
    ) -> None:
        monkeypatch.setattr("mqttproxy.refusal.MOST_OF_UPSTREAMS", 3)
        text = upstream() + route("a", more='ack = "memory"')
        async with open_house(text, turns=turns) as house:
            house.quarantine.bound = 0  # the disk is full
            device = await house.connect()
            device.publish(*numbered(4))
            await house.settle()
            assert len(device.settled) == 4  # as this route's `ack` says
            house.a.refuse(ReasonCode.NOT_AUTHORIZED)
            for number in range(4, 7):  # a read each: the first is taken, and shows that it is too much
                device.publish(*numbered(1, start=number))
                await house.settle()
            assert house.a.topics == topics(4)
            house.quarantine.bound = 100
            house.quarantine.commit()
            await house.settle()
            house.quarantine.commit()
            await house.settle()
            assert house.a.topics == topics(4, 5, 6)
            assert [held.topic for held in house.quarantine.kept] == topics(0, 1, 2, 3)


class TestCommits:
    """What persistent sessions must not lose is on disk before its sender is acknowledged (promise P1)."""

    @pytest.mark.parametrize("qos", [1, 2])
    async def test_the_sender_waits_for_the_commit_of_a_persistent_session(
        self, qos: int, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            keeper, sender = await house.keep("keeper"), await house.connect("sender")
            keeper.subscribe(Subscription("t", 2))
            await house.settle()
            keeper.cut()
            await house.settle()
            house.journal.at_once = False
            sender.publish(Message("t", b"x", qos))
            await house.settle()
            assert sender.acknowledged == []
            house.journal.commit()
            await house.settle()
            assert sender.acknowledged == [(1, 0)]

    async def test_a_qos_2_message_and_its_packet_identifier_are_one_commit(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            keeper, sender = await house.keep("keeper"), await house.keep("sender")
            keeper.subscribe(Subscription("t", 2))
            await house.settle()
            keeper.cut()
            await house.settle()
            house.journal.at_once = False
            noted = len(house.journal.added)
            sender.publish(Message("t", b"x", 2))
            await house.settle()
            assert {MessageRow, QueuedRow, IncomingRow} <= {type(row) for row in house.journal.added[noted:]}
            noted = len(house.journal.added)
            assert sender.acknowledged == []
            house.journal.commit()
            await house.settle()
            assert not any(isinstance(row, IncomingRow) for row in house.journal.added[noted:])
            house.journal.commit()  # of PUBREL
            await house.settle()
            assert sender.acknowledged == [(1, 0)]

    async def test_it_does_not_wait_where_nothing_must_be_kept(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            reader, sender = await house.connect("reader"), await house.connect("sender")
            reader.subscribe("t")
            await house.settle()
            house.journal.at_once = False
            sender.publish(Message("t", b"x", 1))
            await house.settle()
            assert sender.acknowledged == [(1, 0)]

    async def test_ack_memory_waits_for_nothing(self, autojump_clock: MockClock) -> None:
        async with open_house(route("local", more='ack = "memory"')) as house:
            keeper, sender = await house.keep("keeper"), await house.connect("sender")
            keeper.subscribe(Subscription("t", 1))
            await house.settle()
            house.journal.at_once = False
            sender.publish(Message("t", b"x", 1))
            await house.settle()
            assert sender.acknowledged == [(1, 0)]
            house.journal.commit()

    @pytest.mark.parametrize(("ack", "after"), [("spool", 1), ("any", 1), ("all", 2)])
    async def test_local_sessions_are_one_destination_beside_the_upstreams(
        self, ack: str, after: int, autojump_clock: MockClock
    ) -> None:
        text = upstream() + route("local", "a", more=f'ack = "{ack}"\nhome = "local"')
        async with open_house(text) as house:
            keeper, sender = await house.keep("keeper"), await house.connect("sender")
            keeper.subscribe(Subscription("t", 1))
            await house.settle()
            house.journal.at_once = False
            sender.publish(Message("t", b"x", 1))
            await house.settle()
            assert (sender.acknowledged, house.a.taken) == ([], [])  # both have it after the same commit
            house.journal.commit()
            await house.settle()
            assert len(sender.acknowledged) == (after == 1)
            house.a.settle()
            await house.settle()
            assert sender.acknowledged == [(1, 0)]


class TestLoops:
    @pytest.mark.parametrize(
        ("stamps", "is_loop"),
        [
            ((("mqttproxy-hops", "1"), ("mqttproxy-origin", "other")), False),
            ((("mqttproxy-hops", "2"), ("mqttproxy-origin", "other")), True),
            ((("mqttproxy-hops", "1"), ("mqttproxy-origin", "mqttproxy")), True),
        ],
    )
    async def test_what_has_gone_round_is_acknowledged_dropped_and_counted(
        self, stamps: tuple[tuple[str, str], ...], is_loop: bool, autojump_clock: MockClock
    ) -> None:
        async with open_house(upstream()) as house:
            bridge = await house.connect()
            bridge.publish(Message("t", b"x", 1, properties=Properties(user_properties=stamps)))
            await house.settle()
            assert len(house.a.taken) == (not is_loop)
            house.a.settle()
            await house.settle()
            assert bridge.acknowledged == [(1, 0)]
            assert house.metrics.dropped == ({"loop": 1} if is_loop else {})
            assert [line["reason"] for line in house.audit_lines()] == (["loop"] if is_loop else [])

    async def test_what_only_proxies_may_say_is_taken_off_before_the_judge_sees_it(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(upstream()) as house:
            device = await house.connect()
            said = (("mp-policy", "lie"), ("k", "v"), ("mqttproxy-sender", "me"))
            device.publish(Message("t", b"x", 1, properties=Properties(user_properties=said)))
            await house.settle()
            ((message, _),) = house.a.taken
            assert message.properties.user_properties == (("k", "v"),)
            house.a.settle()
