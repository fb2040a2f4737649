"""A will that could not be published keeps its device out."""

from pathlib import Path

import pytest

from mqttproxy.access import connack_reason, judge_will
from mqttproxy.config.load import parse_config
from mqttproxy.mqtt.packets import Properties, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Generation, Identity, build_generation
from tests.fake_rooms import Shelf

DEVICE = Identity("d", None, "192.0.2.1", "plain")
POLICY = """
[[policies]]
name = "numbers"
topics = ["n/#"]
schema = "number@1"
"""


def rules(text: str = "") -> Generation:
    config = parse_config(POLICY + text, "proxy.toml", Path("/"), unreadable=lambda _: None)
    return build_generation(1, config, Shelf({"number/1.json": {"type": "number"}}))


@pytest.mark.parametrize("will", [Will("n/1", b"1"), Will("elsewhere", b"x", 2, True)])
def test_a_good_one_is_welcome(will: Will) -> None:
    assert judge_will(will, DEVICE, rules()) is None


@pytest.mark.parametrize(
    ("will", "more", "reason"),
    [
        (Will("$SYS/broker/uptime", b""), "", ReasonCode.NOT_AUTHORIZED),
        (Will("n/1", b"x"), "", ReasonCode.PAYLOAD_FORMAT_INVALID),
        (Will("n/1", b"x"), 'on_failure = ["refuse"]', ReasonCode.PAYLOAD_FORMAT_INVALID),
        (Will("t", b"\xff", properties=Properties(payload_format_indicator=1)), "", ReasonCode.PAYLOAD_FORMAT_INVALID),
        (Will("t", b""), '[topics]\nallowed = ["n/#"]', ReasonCode.TOPIC_NAME_INVALID),
        (Will("t", b""), '[default]\naction = "refuse"', ReasonCode.TOPIC_NAME_INVALID),
    ],
)
def test_a_bad_one_is_refused_with_the_reason_that_a_message_would_get(
    will: Will, more: str, reason: ReasonCode
) -> None:
    verdict = judge_will(will, DEVICE, rules(more))
    assert verdict is not None
    assert verdict.failures
    assert connack_reason(verdict, is_5=True) is reason
    assert connack_reason(verdict, is_5=False) is ReasonCode.NOT_AUTHORIZED


@pytest.mark.parametrize("more", ['level = "observe"', 'level = "off"', 'on_failure = ["mark"]'])
def test_one_that_would_be_carried_all_the_same_is_welcome(more: str) -> None:
    assert judge_will(Will("n/1", b"x"), DEVICE, rules(more)) is None
