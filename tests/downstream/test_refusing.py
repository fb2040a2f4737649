"""Refused CONNECTs and SUBSCRIBEs: what the device, the audit trail and the metrics are told."""

from typing import Any

import orjson
import pytest
from trio.testing import MockClock

from mqttproxy.downstream.refusing import FILTER_LENGTH, FILTERS_TOLD, RefusedFilter, explained
from mqttproxy.mqtt.packets import ConnAck, Properties, SubAck, Will
from mqttproxy.mqtt.reasons import ReasonCode
from tests.client import Client
from tests.house import POLICY, V5, V311, House, open_house, route, upstream

FEW = "[limits]\nsubscriptions_per_packet = 3\nsubscriptions_per_client = 2\n"


def suback(device: Client) -> SubAck:
    answer = device.of(SubAck)[-1]
    assert isinstance(answer, SubAck)
    return answer


def lines(house: House, event: str) -> list[dict[str, Any]]:
    return [line for line in house.audit_lines() if line["event"] == event]


class TestSubscribe:
    async def test_each_filter_that_is_refused_is_told_with_its_rule(self, autojump_clock: MockClock) -> None:
        async with open_house(FEW) as house:
            device = await house.connect()
            device.subscribe("a/#/b", "$proxy/errors/other", "c", "d")
            await house.settle()
            given = suback(device).properties
            assert given.user_properties == (
                ("filter", "a/#/b"),
                ("rule", "topic rules"),
                ("filter", "$proxy/errors/other"),
                ("rule", "topic rules"),
                ("filter", "d"),
                ("rule", "limits.subscriptions_per_packet"),
            )
            assert given.reason_string is not None
            assert given.reason_string.startswith("topic rules: ")
            assert given.reason_string.endswith(": a/#/b (and 2 more)")
            assert house.metrics.subscriptions_refused == {
                "topic_filter_invalid": 1,
                "not_authorized": 1,
                "quota_exceeded": 1,
            }

    async def test_so_is_one_too_many_of_a_device(self, autojump_clock: MockClock) -> None:
        async with open_house(FEW) as house:
            device = await house.connect()
            device.subscribe("a", "b", "c")
            await house.settle()
            assert suback(device).reasons[2] is ReasonCode.QUOTA_EXCEEDED
            assert ("rule", "limits.subscriptions_per_client") in suback(device).properties.user_properties
            assert suback(device).properties.reason_string == (
                "limits.subscriptions_per_client: more than 2 subscriptions of one device: c"
            )

    async def test_so_is_what_its_broker_refuses(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream() + route("a")) as house:
            house.a.answers["x"] = ReasonCode.NOT_AUTHORIZED
            device = await house.connect()
            device.subscribe("x")
            await house.settle()
            assert suback(device).reasons == (ReasonCode.NOT_AUTHORIZED,)
            assert suback(device).properties.user_properties == (("filter", "x"), ("rule", "upstream a"))

    async def test_what_is_granted_needs_no_words(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect()
            device.subscribe("a")
            await house.settle()
            assert suback(device).properties == Properties()
            assert lines(house, "subscribe") == []

    async def test_without_problem_information_there_is_the_code_alone(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect(properties=Properties(request_problem_information=0))
            device.subscribe("a/#/b")
            await house.settle()
            assert suback(device).reasons == (ReasonCode.TOPIC_FILTER_INVALID,)
            assert suback(device).properties == Properties()
            assert len(lines(house, "subscribe")) == 1

    async def test_there_is_one_audit_line_for_a_packet(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect(username="u")
            device.subscribe("a/#/b", "ok", "$proxy/x")
            await house.settle()
            (line,) = lines(house, "subscribe")
            who = (line["client_id"], line["username"], line["listener"], line["action"], line["reason"])
            assert who == ("d", "u", house.listener.settings.name, "refused", "topic_filter_invalid")
            assert [(one["filter"], one["reason_code"], one["rule"]) for one in line["filters"]] == [
                ("a/#/b", 0x8F, "topic rules"),
                ("$proxy/x", 0x87, "topic rules"),
            ]
            assert line["filters_refused"] == 2

    @pytest.mark.parametrize("version", [V311, V5])
    async def test_the_error_document_says_it_in_both_versions(self, version: Any, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            device = await house.connect(version=version)
            device.subscribe("$proxy/errors/d")
            await house.settle()
            device.subscribe("a/#/b", "$proxy/x")
            await house.settle()
            ((topic, payload),) = device.received
            document = orjson.loads(payload)
            assert topic == "$proxy/errors/d"
            assert (document["action"], document["packet"], document["filter"]) == ("refused", "SUBSCRIBE", "a/#/b")
            assert (document["reason_code"], document["rule"]) == (0x8F, "topic rules")
            assert [one["filter"] for one in document["filters"]] == ["a/#/b", "$proxy/x"]
            assert document["at"].startswith("2023-11-14T")


def test_what_is_told_of_many_or_strange_filters_is_bounded() -> None:
    refused = [RefusedFilter("\x1b" + "x" * 60_000, ReasonCode.TOPIC_FILTER_INVALID, "r", "w")] * 100
    given = explained(refused)
    assert len(given.user_properties) == 2 * FILTERS_TOLD
    for text in (given.reason_string or "", *(value for _, value in given.user_properties)):
        assert text.isprintable()
        assert len(text) < FILTER_LENGTH + 60


class TestConnect:
    """Words, rule and audit line of each refusal."""

    @pytest.mark.parametrize(
        ("text", "how", "reason", "rule"),
        [
            (
                "",
                {"properties": Properties(authentication_method="x")},
                ReasonCode.BAD_AUTHENTICATION_METHOD,
                "access",
            ),
            (
                '[[access.attributes]]\npattern = "{model}-+"\n',
                {"client_id": "+-1"},
                ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
                "access.attributes",
            ),
            ("[limits]\nsessions = 1\n", {"client_id": "e"}, ReasonCode.QUOTA_EXCEEDED, "limits.sessions"),
            (
                "[limits]\nflapping_connects = 1\n",
                {"client_id": "first"},
                ReasonCode.BANNED,
                "limits.flapping_connects",
            ),
            (
                POLICY,
                {"will": Will("n/w", b'"x"', 1)},
                ReasonCode.PAYLOAD_FORMAT_INVALID,
                "policy numbers",
            ),
            ("", {"will": Will("$x", b"", 1)}, ReasonCode.NOT_AUTHORIZED, "topic rules"),
        ],
    )
    async def test_the_device_and_the_trail_are_told_why(
        self, text: str, how: dict[str, Any], reason: ReasonCode, rule: str, autojump_clock: MockClock
    ) -> None:
        async with open_house(text) as house:
            await house.connect("first")
            device = house.device(**{"client_id": "d", **how})
            await house.settle()
            answer = device.connack
            assert isinstance(answer, ConnAck)
            assert answer.reason is reason
            assert answer.properties.reason_string
            assert answer.properties.user_properties[0] == ("rule", rule)
            (line,) = lines(house, "connect")
            assert (line["action"], line["reason"], line["rule"]) == ("refused", reason.name.lower(), rule)
            assert line["words"]
            assert line["client_id"] == how.get("client_id", "d")

    async def test_a_refused_will_has_its_pointers_too(self, autojump_clock: MockClock) -> None:
        async with open_house(POLICY) as house:
            device = house.device(will=Will("n/w", b'"x"', 1))
            await house.settle()
            assert device.connack is not None
            assert device.connack.properties.user_properties == (
                ("rule", "policy numbers"),
                ("policy", "numbers"),
                ("schema", "number@1"),
                ("pointer", ""),
            )

    async def test_a_3_1_1_device_gets_its_code_and_the_trail_the_words(self, autojump_clock: MockClock) -> None:
        async with open_house("[limits]\nflapping_connects = 1\n") as house:
            await house.connect("d", V311)
            device = house.device("d", V311)
            await house.settle()
            assert device.connack is not None
            assert (device.connack.reason, device.connack.properties) == (ReasonCode.NOT_AUTHORIZED, Properties())
            (line,) = lines(house, "connect")
            assert (line["rule"], line["reason"]) == ("limits.flapping_connects", "banned")
            assert line["words"].startswith("it connects too often: wait ")

    async def test_who_is_let_in_has_no_line(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            await house.connect()
            assert lines(house, "connect") == []
