"""Rates where devices connect and publish: who waits, who is refused, who is counted together."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.limiting.rates import Rates
from mqttproxy.mqtt.packets import Message, ProtocolVersion, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.telemetry.limited import LimitingMetrics
from mqttproxy.transport.proxy_header import ProxyHeader
from mqttproxy.validation import Identity
from tests.config.documents import parse
from tests.house import HOST, V5, V311, House, open_house


def rate(what: str, windows: str, per: str = "client", when: str = "pause", name: str = "r") -> str:
    return (
        f'[[limits.rates]]\nname = "{name}"\nper = "{per}"\nwhat = "{what}"\nwindows = "{windows}"\n'
        f'when_exceeded = "{when}"\n'
    )


def messages(count: int, qos: int = 1, payload: bytes = b"x", topic: str = "t") -> list[Message]:
    return [Message(topic, payload, qos) for _ in range(count)]


def received(house: House) -> int:
    return house.metrics.received


class TestMessages:
    @pytest.mark.parametrize("qos", [0, 1, 2])
    @pytest.mark.parametrize("turns", [True, False])
    async def test_one_that_is_too_fast_is_read_at_the_pace_of_the_rule(
        self, qos: int, turns: bool, autojump_clock: MockClock
    ) -> None:
        async with open_house(rate("messages", "10:1,30:60"), turns=turns) as house:
            device = await house.connect()
            device.publish(*messages(40, qos))
            await house.settle()
            assert received(house) == 10
            await trio.sleep(1.05)
            assert received(house) == 20
            await trio.sleep(1)  # 30, and half of one each second
            assert received(house) == 30
            await trio.sleep(20)
            assert received(house) == 40
            assert house.premises.limited.rate_pauses == {"r": 30}
            assert house.metrics.refused == {}

    async def test_one_by_one_is_counted_like_all_at_once(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("messages", "3:60"), turns=True) as house:
            device = await house.connect()
            for _ in range(5):
                device.publish(*messages(1))
                await house.settle()
            assert received(house) == 3
            await trio.sleep(41)
            assert received(house) == 5

    async def test_bytes_are_those_of_topics_and_payloads(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("bytes", "1kB:1s")) as house:
            device = await house.connect()
            device.publish(*messages(20, payload=b"x" * 99))
            await house.settle()
            assert received(house) == 10
            await trio.sleep(0.55)
            assert received(house) == 15
            await trio.sleep(1)
            assert received(house) == 20

    async def test_a_message_larger_than_the_window_comes_through_alone(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("bytes", "100:1")) as house:
            device = await house.connect()
            device.publish(*messages(3, payload=b"x" * 999))
            await house.settle()
            assert received(house) == 1
            await trio.sleep(10)
            assert received(house) == 2
            await trio.sleep(10)
            assert received(house) == 3

    async def test_those_counted_together_take_turns(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("messages", "10:1", per="listener")) as house:
            devices = [await house.connect(name) for name in "abc"]
            for device in devices:
                device.publish(*messages(100, topic="t"))
            await trio.sleep(20.05)
            assert abs(received(house) - 210) <= 1
            waiting = [len(house.inside(name)._left) for name in "abc"]
            assert max(waiting) - min(waiting) <= 11  # the first of them had the ten that were free

    async def test_who_waits_is_not_taken_for_silent_and_may_go(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("messages", "1:100")) as house:
            device = await house.connect(keep_alive=10)
            device.publish(*messages(2))
            await trio.sleep(99)
            assert "d" in house.premises.devices
            await trio.sleep(2)
            assert received(house) == 2
            await device.stream.aclose()
            await house.settle()
            assert house.premises.devices == {}

    @pytest.mark.parametrize("version", [V5, V311])
    async def test_refused_is_told_with_0x97_and_written_down(
        self, version: ProtocolVersion, autojump_clock: MockClock
    ) -> None:
        async with open_house(rate("messages", "2:60", when="refuse")) as house:
            device = await house.connect(version=version)
            device.publish(*messages(3))
            await house.settle()
            refused = 0x97 if version is V5 else 0
            assert [reason for _, reason in device.settled][-1] == refused
            (line,) = house.audit_lines()
            assert (line["action"], line["policy"]) == ("refused", "r")
            assert line["failures"][0]["message"] == "more than 2 messages in 1m for each client"
            assert house.metrics.refused == {"quota_exceeded": 1}
            await trio.sleep(31)
            device.publish(*messages(2))  # what was refused does not count, and one has become free
            await house.settle()
            assert house.metrics.refused == {"quota_exceeded": 2}
            assert house.premises.limited.rate_refused == {"r": 2}

    async def test_what_is_one_too_many_does_not_fill_the_quarantine(self, autojump_clock: MockClock) -> None:
        text = '[[policies]]\nname = "p"\ntopics = ["#"]\nformat = "json"\n' + rate("messages", "1:60", when="refuse")
        async with open_house(text) as house:
            device = await house.connect()
            device.publish(*messages(3, payload=b"{"))
            await house.settle()
            assert len(house.quarantine.waiting) == 1
            assert house.metrics.refused == {"quota_exceeded": 2}
            house.quarantine.commit()

    async def test_without_rules_nothing_is_asked(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("connections", "5:1")) as house:
            await house.connect()
            assert house.inside()._pace is None
            assert not house.pipeline.behaving.has_rules


class TestConnections:
    @pytest.mark.parametrize("version", [V5, V311])
    async def test_refuse_says_0x9f_and_when(self, version: ProtocolVersion, autojump_clock: MockClock) -> None:
        async with open_house(rate("connections", "2:60", per="address", when="refuse")) as house:
            for name in "ab":
                await house.connect(name)
            late = house.device("c", version)
            await house.settle()
            assert late.connack is not None
            told = ReasonCode.CONNECTION_RATE_EXCEEDED if version is V5 else ReasonCode.SERVER_UNAVAILABLE  # as 3
            assert late.connack.reason is told
            assert house.metrics.connections_refused == {"connection_rate_exceeded": 1}
            (line,) = house.audit_lines()
            assert (line["rule"], line["words"]) == (
                "rate r", "more than 2 connections in 1m for each address: wait 30 s"
            )  # fmt: skip
            await trio.sleep(30)
            await house.connect("c")

    async def test_pause_answers_when_there_is_room_and_refuses_who_would_wait_too_long(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(rate("connections", "1:2", per="listener")) as house:
            waiting = [house.device(name) for name in "abcde"]
            answers = []
            for at in (0.0, 1.9, 2.1, 4.1, 6.1):
                await trio.sleep(at - trio.current_time())
                await house.settle()
                answers.append([one.connack is not None and one.connack.reason == 0 for one in waiting].count(True))
            assert answers == [1, 1, 2, 3, 3]
            assert [one.connack.reason for one in waiting if one.connack is not None].count(
                ReasonCode.CONNECTION_RATE_EXCEEDED
            ) == 2

    async def test_addresses_are_asked_before_credentials_are_so_attempts_that_fail_count(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        users = f'chain = ["users"]\n[[access.passwords]]\nname = "users"\ndatabase = "{tmp_path}/none.db"\n'
        limit = rate("connections", "2:60", per="address", when="refuse")
        of_user = rate("connections", "1:60", per="username", when="refuse", name="u")
        async with open_house(users + limit + of_user) as house:
            answers = []
            for _ in range(3):
                device = house.device("d", username="ada", password=b"guessed")
                await trio.sleep(1)  # what is refused is told late
                assert device.connack is not None
                answers.append(device.connack.reason)
            unavailable, exceeded = ReasonCode.SERVER_UNAVAILABLE, ReasonCode.CONNECTION_RATE_EXCEEDED
            assert answers == [unavailable, unavailable, exceeded]
            # Nobody uses up what is another's by naming him.
            assert house.premises.limited.rate_refused == {"r": 1}

    async def test_an_address_of_ipv6_is_its_network_of_64_bits(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("connections", "1:60", per="address", when="refuse")) as house:
            hosts = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"]
            devices = [house.device(str(number), host=host) for number, host in enumerate(hosts)]
            await house.settle()
            assert [one.connack.reason for one in devices if one.connack is not None] == [0, 0x9F, 0, 0, 0]

    async def test_behind_a_load_balancer_the_client_counts(self, autojump_clock: MockClock) -> None:
        async with open_house(rate("connections", "1:60", per="address", when="refuse")) as house:
            told = [ProxyHeader((f"198.51.100.{number}", 1)) for number in (1, 1, 2)]
            answers = []
            for number, header in enumerate(told):
                house.listener.balancers = {HOST: header}
                device = house.device(str(number))
                await house.settle()
                assert device.connack is not None
                answers.append(int(device.connack.reason))
            assert answers == [0, 0x9F, 0]

    async def test_waiting_for_two_rules_takes_no_longer_than_for_one(self, autojump_clock: MockClock) -> None:
        of_client = rate("connections", "1:6", name="c")
        async with open_house(rate("connections", "1:3", per="listener") + of_client) as house:
            await house.connect("d")
            late = house.device("d")
            await trio.sleep(2.9)
            assert late.connack is None
            await trio.sleep(0.2)  # the listener would have it, and 2 s are left; its own rule wants 3 more
            assert late.connack is not None
            assert late.connack.reason is ReasonCode.CONNECTION_RATE_EXCEEDED
            assert house.premises.limited.rate_refused == {"c": 1}

    async def test_a_tenant_is_an_attribute(self, autojump_clock: MockClock) -> None:
        attribute = '[[access.attributes]]\npattern = "{tenant}-+"\n'
        text = attribute + rate("connections", "1:60", per="tenant", when="refuse")
        async with open_house(text) as house:
            devices = [house.device(name) for name in ("red-1", "red-2", "blue-1")]
            await house.settle()
            assert [one.connack.reason for one in devices if one.connack is not None] == [0, 0x9F, 0]


def rates(text: str, most: int = 2) -> Rates:
    return Rates(parse(f"[limits]\nrate_keys = {most}\n" + text).limits, LimitingMetrics())


def test_the_least_recently_heard_of_are_forgotten_but_not_who_is_connected() -> None:
    some = rates(rate("messages", "1:60"))
    names = [Identity(name, None, "h", "l") for name in "abc"]
    paces = [some.pace(one, 0.0) for one in names[:1]]
    publish = Publish("t", b"", 0)
    for pace in paces:
        assert pace is not None
        pace.take([publish], 0.0)
    for one in names[1:]:
        pace = some.pace(one, 0.0)
        assert pace is not None
        pace.take([publish], 0.0)
        del pace
    assert (some.keys, some.metrics.rate_forgotten) == (3, 1)
    again = some.pace(names[0], 0.0)
    assert again is not None
    assert again.room([publish], 0.0) == 0
    del paces, again
    some.pace(Identity("d", None, "h", "l"), 0.0)
    some.pace(Identity("e", None, "h", "l"), 0.0)
    assert some.keys == 2


def test_who_has_no_user_name_is_counted_with_the_others_who_have_none() -> None:
    some = rates(rate("connections", "1:60", per="username", when="refuse"))
    assert some.connect(Identity("a", None, "h", "l"), 0.0, 5.0, is_known=True) == (None, 0.0)
    rule, seconds = some.connect(Identity("b", None, "h", "l"), 0.0, 5.0, is_known=True)
    assert rule is not None
    assert seconds > 59
    assert some.connect(Identity("b", "me", "h", "l"), 0.0, 5.0, is_known=True)[0] is None


def test_one_rule_that_refuses_takes_nothing_from_the_others() -> None:
    together = rate("messages", "3:60", name="all", when="refuse", per="listener")
    some = rates(rate("messages", "1:60", name="one", when="refuse") + together)
    a, b = Identity("a", None, "h", "l"), Identity("b", None, "h", "l")
    verdicts = [some.judge(Publish("t", b"", 0), who, 0.0) for who in (a, a, a, a, b)]
    assert [verdict and verdict.policy for verdict in verdicts] == [None, "one", "one", "one", None]
