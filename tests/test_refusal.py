import json
from typing import Any

import orjson
import pytest
from trio.testing import MockClock

from mqttproxy import refusal as refusal_module
from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.packets import Message, Properties, ProtocolVersion, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.callbacks import Poison, Unshaped
from mqttproxy.validation import identity_of_upstream, judge
from tests.client import Client
from tests.house import AWAITED, POLICY, V5, V311, House, open_house, route, upstream

BOTH_VERSIONS = pytest.mark.parametrize("version", [V311, V5])
BAD = b'"no number"'
INVALID = int(ReasonCode.PAYLOAD_FORMAT_INVALID)


def policy(*on_failure: str, level: str = "enforce") -> str:
    return POLICY + f'on_failure = {json.dumps(on_failure)}\nlevel = "{level}"\n'


async def bad_one(house: House, *, version: ProtocolVersion = V5, qos: int = 1, **changes: Any) -> Client:
    """Connect a device that listens to its error topic and publishes one bad message."""
    device = await house.connect(version=version)
    device.subscribe("$proxy/errors/d")
    await house.settle()
    device.publish(Message(**{"topic": "n/1", "payload": BAD, "qos": qos, **changes}))
    await house.settle()
    return device


def documents(device: Client) -> list[dict[str, Any]]:
    return [orjson.loads(payload) for topic, payload in device.received if topic == "$proxy/errors/d"]


class TestHold:
    @pytest.mark.parametrize("qos", [1, 2])
    async def test_an_mqtt_5_device_reads_0x99_and_why_after_the_commit_and_not_before(
        self, qos: int, autojump_clock: MockClock
    ) -> None:
        async with open_house(policy("hold") + upstream()) as house:
            device = await bad_one(house, qos=qos)
            assert device.settled == []
            assert documents(device) == []
            assert house.metrics.waiting == 1
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, INVALID)]
            (event,) = device.of(Settled)
            assert "no number" in event.properties.reason_string
            assert event.properties.user_properties == (
                ("policy", "numbers"),
                ("schema", "number@1"),
                ("pointer", ""),
            )
            assert house.a.taken == []
            assert (house.metrics.waiting, house.metrics.held) == (0, 1)

    @pytest.mark.parametrize("qos", [1, 2])
    async def test_a_3_1_1_device_reads_a_plain_acknowledgement(self, qos: int, autojump_clock: MockClock) -> None:
        async with open_house(policy("hold")) as house:
            device = await bad_one(house, version=V311, qos=qos)
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, 0)]
            assert device.ended_at is None

    @BOTH_VERSIONS
    @pytest.mark.parametrize("qos", [0, 1, 2])
    async def test_an_error_document_comes_on_the_devices_own_topic(
        self, version: ProtocolVersion, qos: int, autojump_clock: MockClock
    ) -> None:
        async with open_house(policy("hold")) as house:
            other = await house.connect("other")
            other.subscribe("#", "$proxy/errors/other")
            device = await bad_one(house, version=version, qos=qos)
            house.quarantine.commit()
            await house.settle()
            (document,) = documents(device)
            assert document == {
                "at": "2023-11-14T22:13:20.000+00:00",
                "action": "held",
                "topic": "n/1",
                "reason_code": INVALID,
                "reason": document["reason"],
                "policy": "numbers",
                "schema": "number@1",
                "failures": [{"pointer": "", "keyword": "type", "message": document["failures"][0]["message"]}],
                "quarantine_id": house.quarantine.kept[0].id,
            }
            assert other.received == []

    async def test_the_quarantine_gets_everything_that_is_known(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("hold")) as house:
            given = Properties(content_type="x", user_properties=(("k", "v"),))
            await bad_one(house, retain=True, properties=given, qos=2)
            house.quarantine.commit()
            (held,) = house.quarantine.kept
            assert (held.topic, held.payload, held.qos, held.retain, held.properties) == ("n/1", BAD, 2, True, given)
            assert (held.client_id, held.username, held.listener) == ("d", None, "plain")
            assert held.address == "192.0.2.7"
            assert (held.policy, held.schema, held.reason) == ("numbers", "number@1", INVALID)
            assert held.failures[0][:2] == ("", "type")
            assert house.pipeline.retained.count == 0

    async def test_one_line_of_audit_tells_it(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("hold")) as house:
            await bad_one(house)
            house.quarantine.commit()
            (line,) = house.audit_lines()
            assert (line["action"], line["topic"], line["policy"]) == ("held", "n/1", "numbers")
            assert line["quarantine_id"] == house.quarantine.kept[0].id
            assert "payload" not in line

    async def test_a_full_quarantine_makes_the_device_wait_and_nobody_else(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("hold")) as house:
            house.quarantine.bound = 2
            device, other = await house.connect(), await house.connect("other")
            device.publish(*[Message(f"n/{number}", BAD, 1) for number in range(5)])
            await house.settle()
            device.publish(Message("t", b"", 1))
            other.publish(Message("t", b"", 1))
            await house.settle()
            assert other.settled == [(1, 0)]
            assert device.settled == []
            assert house.inside()._is_paused
            for _ in range(3):
                house.quarantine.commit()
                await house.settle()
            assert device.settled == [*[(packet_id, INVALID) for packet_id in range(1, 6)], (6, 0)]
            assert [held.topic for held in house.quarantine.kept] == [f"n/{number}" for number in range(5)]

    async def test_what_waited_for_room_when_its_device_was_lost_is_counted(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("hold")) as house:
            house.quarantine.bound = 1
            device = await house.connect()
            device.publish(*[Message("n/1", BAD, 1)] * 3)
            await house.settle()
            await house.connect()  # takes over
            assert house.metrics.dropped == {"connection_lost": 2}
            house.quarantine.commit()
            assert house.metrics.held == 1


class TestOtherActions:
    @pytest.mark.parametrize(("version", "reason"), [(V311, 0), (V5, INVALID)])
    async def test_refuse_answers_at_once_and_keeps_nothing(
        self, version: ProtocolVersion, reason: int, autojump_clock: MockClock
    ) -> None:
        async with open_house(policy("refuse") + upstream()) as house:
            device = await bad_one(house, version=version)
            assert device.settled == [(2, reason)]
            (document,) = documents(device)
            assert (document["action"], document["quarantine_id"]) == ("refused", None)
            assert not house.quarantine.waiting
            assert not house.a.taken
            assert house.metrics.refused == {"payload_format_invalid": 1}
            assert [line["action"] for line in house.audit_lines()] == ["refused"]

    async def test_mark_forwards_with_what_is_wrong_in_user_properties(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("mark") + AWAITED) as house:
            device = await bad_one(house, properties=Properties(user_properties=(("k", "v"),)))
            ((message, _),) = house.a.taken
            assert message.payload == BAD
            assert message.properties.user_properties == (
                ("k", "v"),
                ("mp-policy", "numbers"),
                ("mp-schema", "number@1"),
                ("mp-pointer", ""),
            )
            assert device.settled == []
            house.a.settle()
            await house.settle()
            assert device.settled == [(2, 0)]
            assert (house.metrics.marked, house.metrics.invalid) == (1, 1)
            assert [line["action"] for line in house.audit_lines()] == ["marked"]

    async def test_observe_forwards_as_it_is_and_tells_it(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("hold", level="observe") + AWAITED) as house:
            device = await bad_one(house)
            ((message, _),) = house.a.taken
            assert (message.payload, message.properties) == (BAD, Properties())
            house.a.settle()
            await house.settle()
            assert device.settled == [(2, 0)]
            assert documents(device) == []
            assert (house.metrics.observed, house.metrics.invalid, house.metrics.held) == (1, 1, 0)
            assert [line["action"] for line in house.audit_lines()] == ["observed"]

    async def test_alert_is_one_warning_a_second_for_a_policy(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("refuse", "alert")) as house:
            device = await bad_one(house)
            device.publish(*[Message("n/1", BAD, 1)] * 50)
            await house.settle()
            assert [line["event"] for line in house.log.lines] == ["policy_alert"]
            assert house.log.lines[0]["policy"] == "numbers"
            assert house.metrics.policy_failures == {"numbers": 51}

    async def test_disconnect_answers_first_so_that_the_device_does_not_send_it_for_ever(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(policy("refuse", "disconnect")) as house:
            device = await bad_one(house)
            assert device.settled == [(2, INVALID)]
            assert device.goodbye is ReasonCode.PAYLOAD_FORMAT_INVALID
            assert house.metrics.connections_closed == {"payload_format_invalid": 1}

    async def test_disconnect_of_a_3_1_1_device_acknowledges_and_closes(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("refuse", "disconnect")) as house:
            device = await bad_one(house, version=V311)
            assert device.settled == [(2, 0)]
            assert device.ended_at == 0.0

    async def test_hold_and_disconnect_waits_for_the_commit(self, autojump_clock: MockClock) -> None:
        async with open_house(policy("hold", "disconnect")) as house:
            device = await bad_one(house)
            assert device.ended_at is None
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, INVALID)]
            assert device.goodbye is ReasonCode.PAYLOAD_FORMAT_INVALID


class TestDryRun:
    @pytest.mark.parametrize("action", ["hold", "refuse", "mark", "disconnect"])
    async def test_everything_is_forwarded_and_nothing_held(self, action: str, autojump_clock: MockClock) -> None:
        async with open_house(policy(action) + upstream(), dry_run=True) as house:
            device = await bad_one(house)
            assert house.a.payloads == [BAD]
            assert house.quarantine.waiting == []
            house.a.settle()
            await house.settle()
            assert device.settled == [(2, 0)]
            assert (device.ended_at, documents(device)) == (None, [])
            assert (house.metrics.invalid, house.metrics.observed) == (1, 1)
            (line,) = house.audit_lines()
            assert (line["action"], line["dry_run"]) == ("observed", True)


class TestNotCarried:
    @pytest.mark.parametrize(("version", "reason"), [(V311, 0), (V5, 0x90)])
    async def test_a_topic_without_a_route_is_refused_and_explained(
        self, version: ProtocolVersion, reason: int, autojump_clock: MockClock
    ) -> None:
        async with open_house(upstream() + route("a", topics="known/#")) as house:
            device = await bad_one(house, version=version, topic="unknown")
            assert device.settled == [(2, reason)]
            assert documents(device)[0]["reason"] == "topic rules: no route leads anywhere from this topic"
            assert house.metrics.refused == {"topic_name_invalid": 1}

    async def test_or_dropped_where_the_settings_say_so(self, autojump_clock: MockClock) -> None:
        settings = '[default]\nunrouted = "drop"\n' + upstream() + route("a", topics="known/#")
        async with open_house(settings) as house:
            device = await bad_one(house, topic="unknown")
            assert device.settled == [(2, 0)]
            assert documents(device) == []
            assert house.metrics.dropped == {"no_route": 1}

    async def test_a_topic_of_the_server_says_why_in_the_acknowledgement(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await bad_one(house, topic="$SYS/x")
            (event,) = device.of(Settled)
            assert event.reason is ReasonCode.NOT_AUTHORIZED
            assert event.properties.reason_string == "topic rules: topics that begin with $ are the server's"


TWO = upstream("a") + upstream("b")


class TestRefusedUpstream:
    async def test_it_is_held_then_acknowledged_with_the_brokers_reason(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await bad_one(house)
            house.a.refuse(ReasonCode.NOT_AUTHORIZED)
            await house.settle()
            assert device.settled == []
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, ReasonCode.NOT_AUTHORIZED)]
            (held,) = house.quarantine.kept
            assert held.failures == (("", "upstream", "upstream a answered 0x87 not_authorized"),)
            assert documents(device)[0]["action"] == "held"
            assert house.metrics.held == 0  # it was routed, and counts as refused at its destination

    async def test_a_reason_that_no_puback_may_carry_becomes_unspecified(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await bad_one(house)
            house.a.refuse(ReasonCode.PACKET_TOO_LARGE)
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, ReasonCode.UNSPECIFIED_ERROR)]

    @pytest.mark.parametrize("first", ["refused", "settled"])
    async def test_with_all_the_device_is_told_whoever_answers_first(
        self, first: str, autojump_clock: MockClock
    ) -> None:
        async with open_house(TWO + route("a", "b", more='ack = "all"')) as house:
            device = await bad_one(house)
            if first == "settled":
                house.b.settle()
            house.a.refuse(ReasonCode.NOT_AUTHORIZED)
            house.quarantine.commit()
            await house.settle()
            if first == "refused":
                assert device.settled == []
                house.b.settle()
                await house.settle()
            assert device.settled == [(2, ReasonCode.NOT_AUTHORIZED)]

    async def test_with_any_one_that_takes_it_is_enough(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a", "b", more='ack = "any"')) as house:
            device = await bad_one(house)
            house.a.refuse(ReasonCode.NOT_AUTHORIZED)
            house.quarantine.commit()
            await house.settle()
            assert device.settled == []
            house.b.settle()
            await house.settle()
            assert device.settled == [(2, 0)]

    async def test_with_any_the_last_refusal_is_told(self, autojump_clock: MockClock) -> None:
        async with open_house(TWO + route("a", "b", more='ack = "any"')) as house:
            device = await bad_one(house)
            house.a.refuse(ReasonCode.NOT_AUTHORIZED)
            house.b.refuse(ReasonCode.QUOTA_EXCEEDED)
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, ReasonCode.QUOTA_EXCEEDED)]

    async def test_a_full_quarantine_is_tried_again_after_its_next_commit(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            house.quarantine.bound = 1
            device = await house.connect()
            device.publish(*[Message(f"t/{number}", b"", 1) for number in range(3)])
            await house.settle()
            house.a.refuse(ReasonCode.QUOTA_EXCEEDED)
            for _ in range(3):
                house.quarantine.commit()
            await house.settle()
            assert device.settled == [(packet_id, ReasonCode.QUOTA_EXCEEDED) for packet_id in (1, 2, 3)]

    async def test_what_kills_every_link_is_held_with_a_reason_of_its_own(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await bad_one(house)
            house.a.refuse(Poison(4))
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, ReasonCode.UNSPECIFIED_ERROR)]
            (held,) = house.quarantine.kept
            words = "the link to upstream a was lost 4 times while this message was in flight"
            assert held.failures == (("", "upstream_poison", words),)

    async def test_what_cannot_be_transformed_for_it_is_held_with_the_place(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await bad_one(house)
            house.a.refuse(Unshaped("/x", "nothing is there"))
            house.quarantine.commit()
            await house.settle()
            assert device.settled == [(2, INVALID)]
            (held,) = house.quarantine.kept
            assert held.failures == (("/x", "transform", "transforms of upstream a: nothing is there"),)

    async def test_qos_0_is_only_counted(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            await bad_one(house, qos=0)
            house.a.refuse(ReasonCode.PACKET_TOO_LARGE)
            assert house.quarantine.waiting == []


class TestRefusedFromTheSpool:
    """The device was acknowledged before; the spool lets go only of what the quarantine has on disk."""

    async def test_it_is_needed_until_the_quarantine_has_it(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            device = await bad_one(house)
            assert device.settled == [(2, 0)]
            house.a.refuse(ReasonCode.NOT_AUTHORIZED)
            await house.settle()
            feed = house.pipeline.spool.feeds["a"]
            assert (feed.messages, feed.cursor) == (1, 0)
            house.quarantine.commit()
            await house.settle()
            assert (feed.messages, feed.cursor) == (0, 1)
            (held,) = house.quarantine.kept
            assert (held.client_id, held.failures[0][1]) == ("d", "upstream")
            assert device.settled == [(2, 0)]

    async def test_while_too_much_is_refused_nothing_more_is_handed_out(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refusal_module, "MOST_OF_UPSTREAMS", 2)
        async with open_house(upstream()) as house:
            house.quarantine.bound = 0  # the disk is full
            house.a.bound = 2
            device = await house.connect()
            device.publish(*[Message(f"t/{number}", b"", 1) for number in range(4)])
            await house.settle()
            house.a.refuse(ReasonCode.NOT_AUTHORIZED)
            await house.settle()
            assert house.a.topics == []
            house.quarantine.bound = 100
            house.quarantine.commit()
            await house.settle()
            assert house.a.topics == ["t/2", "t/3"]
            house.quarantine.commit()
            house.a.settle()
            await house.settle()
            assert house.pipeline.spool.messages == 0

    async def test_what_comes_back_because_its_destination_was_removed_stays(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            await bad_one(house)
            house.a.refuse(ReasonCode.ADMINISTRATIVE_ACTION)
            await house.settle()
            assert house.quarantine.waiting == []
            assert house.a.payloads == [BAD]  # handed out again, as soon as there is one of this name
            house.a.settle()
            assert house.pipeline.spool.messages == 0


class Broker:
    """An upstream that sends messages, as the pipeline hands those that failed to the refusal."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.identity = identity_of_upstream("a")
        self.answers: list[int] = []

    def send(self, message: Message) -> Message | None:
        """Return what is delivered of a message; it must have failed."""
        house = self.house
        house.metrics.received_down += 1
        verdict = judge(message, self.identity, house.pipeline.ruleset.generation.down)
        assert verdict.failures
        carried = house.refusal.failed_down(message, self.identity, verdict, self.answers.append)
        house.metrics.carried_down += carried is not None
        return carried


def down(*on_failure: str, level: str = "enforce") -> str:
    return policy(*on_failure, level=level) + 'direction = "down"\n'


class TestFromUpstreams:
    async def test_hold_acknowledges_to_the_broker_after_the_commit_and_not_before(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(down("hold")) as house:
            broker = Broker(house)
            assert broker.send(Message("n/1", BAD, 2, True)) is None
            assert broker.answers == []
            assert (house.metrics.waiting_down, house.metrics.held_down) == (1, 0)
            assert house.audit_lines() == []
            house.quarantine.commit()
            assert broker.answers == [0]
            assert (house.metrics.waiting_down, house.metrics.held_down) == (0, 1)
            (held,) = house.quarantine.kept
            assert (held.topic, held.payload, held.qos, held.retain, held.policy) == ("n/1", BAD, 2, True, "numbers")
            assert (held.client_id, held.address, held.listener) == ("", "a", "upstream:a")
            (line,) = house.audit_lines()
            assert (line["action"], line["listener"], line["quarantine_id"]) == ("held", "upstream:a", held.id)
            assert (house.metrics.held, house.metrics.waiting) == (0, 0)  # not of the devices' books

    async def test_refuse_answers_0x99_at_once_and_keeps_nothing(self, autojump_clock: MockClock) -> None:
        async with open_house(down("refuse")) as house:
            broker = Broker(house)
            assert broker.send(Message("n/1", BAD, 1)) is None
            assert broker.answers == [INVALID]
            assert house.quarantine.waiting == []
            assert house.metrics.refused_down == {"payload_format_invalid": 1}
            assert [line["action"] for line in house.audit_lines()] == ["refused"]

    async def test_mark_delivers_with_what_is_wrong_in_user_properties(self, autojump_clock: MockClock) -> None:
        async with open_house(down("mark")) as house:
            broker = Broker(house)
            carried = broker.send(Message("n/1", BAD, 1))
            assert carried is not None
            assert ("mp-policy", "numbers") in carried.properties.user_properties
            assert (broker.answers, house.metrics.marked) == ([], 1)

    @pytest.mark.parametrize("dry_run", [False, True])
    async def test_observe_and_dry_run_deliver_as_it_is(self, *, dry_run: bool, autojump_clock: MockClock) -> None:
        async with open_house(down("hold", level="enforce" if dry_run else "observe"), dry_run=dry_run) as house:
            message = Message("n/1", BAD, 1)
            assert Broker(house).send(message) is message
            assert house.metrics.observed == 1
            assert [line["action"] for line in house.audit_lines()] == ["observed"]

    async def test_alert_warns_and_the_policy_counts(self, autojump_clock: MockClock) -> None:
        async with open_house(down("refuse", "alert")) as house:
            Broker(house).send(Message("n/1", BAD))
            assert house.log.events() == ["policy_alert"]
            assert house.metrics.policy_failures == {"numbers": 1}

    async def test_no_device_reads_an_error_document_about_it(self, autojump_clock: MockClock) -> None:
        async with open_house(down("refuse")) as house:
            device = await house.connect()
            device.subscribe("$proxy/errors/d")
            await house.settle()
            Broker(house).send(Message("n/1", BAD, 1))
            await house.settle()
            assert documents(device) == []

    async def test_a_full_quarantine_is_tried_again_after_its_next_commit_in_order(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(down("hold")) as house:
            house.quarantine.bound = 1
            broker = Broker(house)
            for number in range(3):
                broker.send(Message(f"n/{number}", BAD, 1))
            for done in range(1, 4):
                house.quarantine.commit()
                assert len(broker.answers) == done
            assert [held.topic for held in house.quarantine.kept] == ["n/0", "n/1", "n/2"]
            assert not house.refusal.is_overfull  # devices do not wait for what brokers send

    async def test_what_nothing_holds_back_is_dropped_beyond_a_bound(
        self, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
    ) -> None:
        monkeypatch.setattr(refusal_module, "MOST_OF_UPSTREAMS", 2)
        async with open_house(down("hold")) as house:
            house.quarantine.bound = 0
            broker = Broker(house)
            for qos in (0, 0, 0, 1):
                broker.send(Message("n/1", BAD, qos))
            assert (house.metrics.waiting_down, house.metrics.refused_down) == (3, {"quarantine_full": 1})
            assert broker.answers == [0]
            assert [line["action"] for line in house.audit_lines()] == ["dropped"]


async def test_an_error_document_is_for_nobody_who_did_not_ask(autojump_clock: MockClock) -> None:
    async with open_house(policy("refuse")) as house:
        device = await house.connect()
        device.subscribe("#")
        await house.settle()
        device.publish(Message("n/1", BAD, 1))
        await house.settle()
        assert device.of(Publish) == []
