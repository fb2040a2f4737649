import pytest

from mqttproxy.access import error_topic, may_publish, may_subscribe
from mqttproxy.mqtt.reasons import ReasonCode


@pytest.mark.parametrize("topic", ["$SYS/broker", "$share/g/t", "$CONTROL/x", "$proxy/errors/d", "$anything"])
def test_nobody_publishes_to_topics_of_servers(topic: str) -> None:
    assert may_publish(topic) is ReasonCode.NOT_AUTHORIZED


def test_other_topics_may_be_published_to() -> None:
    assert may_publish("a/$b") is ReasonCode.SUCCESS


@pytest.mark.parametrize(
    ("topic_filter", "reason"),
    [
        ("$proxy/errors/d", ReasonCode.SUCCESS),
        ("$proxy/errors/other", ReasonCode.NOT_AUTHORIZED),
        ("$proxy/errors/+", ReasonCode.NOT_AUTHORIZED),
        ("$proxy/#", ReasonCode.NOT_AUTHORIZED),
        ("$share/g/a", ReasonCode.SUCCESS),
        ("$share/g/$proxy/errors/other", ReasonCode.NOT_AUTHORIZED),
        ("$share/+/a", ReasonCode.TOPIC_FILTER_INVALID),
        ("a/#/b", ReasonCode.TOPIC_FILTER_INVALID),
        ("a+", ReasonCode.TOPIC_FILTER_INVALID),
        ("#", ReasonCode.SUCCESS),
        ("$SYS/#", ReasonCode.SUCCESS),
    ],
)
def test_each_filter_has_its_answer(topic_filter: str, reason: ReasonCode) -> None:
    assert may_subscribe("d", topic_filter)[0] is reason


def test_a_filter_beyond_the_limits_is_invalid() -> None:
    assert may_subscribe("d", "a/b/c", max_levels=2)[0] is ReasonCode.TOPIC_FILTER_INVALID
    assert may_subscribe("d", "abc", max_bytes=2)[0] is ReasonCode.TOPIC_FILTER_INVALID


def test_the_error_topic_of_a_strange_client_identifier_is_a_plain_topic_of_its_own() -> None:
    assert error_topic("a/+/#%") == "$proxy/errors/a%2F%2B%2F%23%25"
    assert may_subscribe("a/+", error_topic("a/+"))[0] is ReasonCode.SUCCESS


def test_what_is_refused_is_refused_in_words_and_nothing_else_is() -> None:
    for topic_filter, is_told in (("a/#/b", True), ("$proxy/#", True), ("a", False)):
        assert bool(may_subscribe("d", topic_filter)[1]) is is_told
