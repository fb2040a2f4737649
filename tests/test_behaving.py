"""Behaviour rules where messages pass: publishes and wills alike, and what becomes of a message that breaks one."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.keeping import Keeping
from mqttproxy.mqtt.packets import Message, ProtocolVersion, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation.behaviour import Watch
from tests.config.documents import parse
from tests.house import AWAITED, POLICY, V5, V311, WALL, House, open_house, upstream

QUOTA = '[[behaviours]]\nname = "two a minute"\ntopics = ["t/#", "n/#"]\nrule = "quota"\nmessages = 2\nwindow = "60s"\n'
SILENCE = '[[behaviours]]\nname = "quiet"\ntopics = ["t/#"]\nrule = "silence"\nevery = "60s"\n'
UP = upstream()


def messages(count: int, topic: str = "t/1") -> list[Message]:
    return [Message(topic, b"%d" % number, 1) for number in range(count)]


def silences(house: House) -> list[dict[str, Any]]:
    return [line for line in house.audit_lines() if line["event"] == "silence"]


def read_again(house: House, text: str) -> None:
    house.pipeline.behaving.use(parse(text))


class TestMessages:
    async def test_what_is_over_the_quota_is_held_like_what_fails_a_policy(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + QUOTA) as house:
            device = await house.connect()
            device.publish(*messages(3))
            await house.settle()
            assert house.a.topics == ["t/1", "t/1"]
            ((held, _),) = house.quarantine.waiting
            assert (held.policy, held.reason, held.failures) == (
                "two a minute",
                ReasonCode.QUOTA_EXCEEDED,
                (("", "quota", "more than 2 messages in 1m"),),
            )
            house.quarantine.commit()
            await house.settle()
            assert house.metrics.policy_failures == {"two a minute": 1}
            house.a.settle()

    @pytest.mark.parametrize("version", [V311, V5])
    async def test_refuse_answers_with_0x97_and_what_was_too_much(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        async with open_house(UP + QUOTA + 'on_failure = ["refuse"]') as house:
            device = await house.connect(version=version)
            device.publish(*messages(3))
            await house.settle()
            house.a.settle()
            await house.settle()
            assert device.settled == [(1, 0), (2, 0), (3, 0x97 if version is V5 else 0)]
            (line,) = house.audit_lines()
            assert (line["action"], line["policy"]) == ("refused", "two a minute")
            assert line["failures"] == [{"pointer": "", "keyword": "quota", "message": "more than 2 messages in 1m"}]

    async def test_the_window_is_of_the_monotonic_clock(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + QUOTA + 'on_failure = ["refuse"]') as house:
            device = await house.connect()
            device.publish(*messages(3))
            await trio.sleep(70)
            device.publish(*messages(3))
            await house.settle()
            assert (len(house.a.topics), house.metrics.refused) == (4, {"quota_exceeded": 2})
            house.a.settle()

    async def test_wills_are_counted_as_publishes_are(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + QUOTA + 'on_failure = ["refuse"]') as house:
            device = await house.connect(will=Will("t/will", b"", 1))
            device.publish(*messages(2))
            await house.settle()
            house.a.settle()
            await house.settle()
            await device.stream.aclose()
            await house.settle()
            assert "t/will" not in house.a.carried + house.a.topics
            assert house.metrics.refused == {"quota_exceeded": 1}

    async def test_policies_come_first_and_both_are_told(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + POLICY + QUOTA) as house:
            device = await house.connect()
            device.publish(*[Message("n/1", b"bad", 1)] * 3)
            await house.settle()
            assert [held.policy for held, _ in house.quarantine.waiting] == ["numbers"] * 3
            assert [failure[1] for failure in house.quarantine.waiting[2][0].failures] == ["json", "quota"]
            house.quarantine.commit()
            await house.settle()
            assert house.metrics.policy_failures == {"numbers": 3, "two a minute": 1}
            assert [part["policy"] for part in house.audit_lines()[2]["policies"]] == ["numbers", "two a minute"]

    async def test_a_rule_that_observes_changes_nothing(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + QUOTA + 'level = "observe"') as house:
            device = await house.connect()
            device.publish(*messages(3))
            await house.settle()
            assert (len(house.a.topics), house.metrics.observed) == (3, 1)
            house.a.settle()

    async def test_disconnect_ends_the_connection_after_the_answer(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + QUOTA + 'on_failure = ["refuse", "disconnect"]') as house:
            device = await house.connect()
            device.publish(*messages(3))
            await house.settle()
            assert "d" not in house.premises.devices
            assert house.metrics.refused == {"quota_exceeded": 1}
            house.a.settle()

    async def test_skew_is_against_the_wall_clock(self, autojump_clock: MockClock) -> None:
        rule = '[[behaviours]]\nname = "clock"\ntopics = ["t"]\nrule = "skew"\npointer = ""\ntime = "seconds"\n'
        async with open_house(UP + rule + 'max_skew = "5s"\non_failure = ["refuse"]') as house:
            device = await house.connect()
            device.publish(Message("t", b"%d" % WALL, 1), Message("t", b"%d" % (WALL - 6), 1))
            await house.settle()
            assert house.a.topics == ["t"]
            (line,) = house.audit_lines()
            assert line["failures"][0]["message"] == "the time is 6s behind our clock, where 5s is the most"
            house.a.settle()

    async def test_a_bug_in_a_rule_holds_the_message(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_house(UP + QUOTA) as house:
            device = await house.connect()
            monkeypatch.setattr(Watch, "ask", lambda *_, **__: 1 / 0)
            device.publish(*messages(1), Message("elsewhere", b"", 1))
            await house.settle()
            assert house.a.topics == ["elsewhere"]
            assert house.quarantine.waiting[0][0].failures[0][1] == "internal"
            assert "judge_raised" in house.log.events()
            house.quarantine.commit()
            await house.settle()
            house.a.settle()

    async def test_a_reload_goes_on_counting(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED + QUOTA + 'on_failure = ["refuse"]') as house:
            device = await house.connect()
            device.publish(*messages(2))
            await house.settle()
            read_again(house, AWAITED + QUOTA + 'on_failure = ["refuse", "alert"]')
            device.publish(*messages(1))
            await house.settle()
            assert house.metrics.refused == {"quota_exceeded": 1}
            assert "policy_alert" in house.log.events()
            house.a.settle()


class TestSilence:
    async def test_it_is_told_in_audit_log_and_metrics_when_it_begins_and_ends(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + SILENCE) as house:
            device = await house.connect()
            device.publish(*messages(1))
            keeping = Keeping.__new__(Keeping)
            keeping._behaving = house.pipeline.behaving
            house.nursery.start_soon(keeping._look_for_silence)
            await trio.sleep(60.5)
            assert silences(house) == []
            await trio.sleep(3)
            device.publish(*messages(2))
            await house.settle()
            began, ended = silences(house)
            assert {name: began[name] for name in ("state", "policy", "device")} == {
                "state": "began",
                "policy": "quiet",
                "device": "d",
            }
            assert (ended["state"], ended["seconds"]) == ("ended", 63.5)
            assert [event for event in house.log.events() if "silence" in event] == ["silence_began", "silence_ended"]
            assert house.metrics.silences == {"quiet": 1}
            house.a.settle()

    async def test_metrics_tell_what_is_remembered(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nbehaviour_devices = 1\n" + UP + SILENCE) as house:
            for name in ("d", "e"):
                device = await house.connect(name)
                device.publish(*messages(1))
            await trio.sleep(61)
            house.pipeline.behaving.look(trio.current_time())
            for refresh in house.metrics.refresh:
                refresh()
            metrics = house.metrics
            assert (metrics.behaviour_states, metrics.behaviour_forgotten, metrics.silent) == (1, 1, 1)
            house.a.settle()
