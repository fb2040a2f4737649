"""A will that could not be published keeps its device out."""

from pathlib import Path

import pytest

from mqttproxy.access import connack_reason, judge_will, make_acl, may_have_will
from mqttproxy.config.admitting import AccessSettings
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


def test_D2_one_where_its_device_may_not_publish_is_refused() -> None:
    acl = make_acl(AccessSettings(no_match="deny"))
    for will, rights in (
        (Will("$SYS/broker/uptime", b""), None),
        (Will("$CONTROL/x", b""), None),
        (Will("t", b""), acl),
    ):
        verdict = may_have_will(will, DEVICE, rights)
        assert verdict is not None
        assert connack_reason(verdict, is_5=True) is ReasonCode.NOT_AUTHORIZED
    assert may_have_will(Will("t", b""), DEVICE, None) is None
