"""A message is sent with what is left of its life, or not at all."""

from math import inf

import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.expiry import aged, timed
from mqttproxy.mqtt.packets import Message, Properties, Publish, Timed
from tests.mqtt.machines import V5, open_server, said


def expiring(seconds: int, content_type: str | None = None) -> Message:
    return Message("t", b"p", 1, True, Properties(message_expiry_interval=seconds, content_type=content_type))


def interval_of(message: Message | None) -> int | None:
    assert message is not None
    return message.properties.message_expiry_interval


def test_a_message_without_an_interval_is_left_as_it_is() -> None:
    message = Message("t", b"p")
    with_others = Message("t", b"p", properties=Properties(content_type="x"))
    assert timed(message, 5.0) is message
    assert timed(with_others, 5.0) is with_others
    assert aged(message, 5.0) is message


def test_an_interval_is_counted_from_the_first_time_it_is_looked_at() -> None:
    message = timed(expiring(10), 100.0)
    assert isinstance(message, Timed)
    assert message.expires_at == 110.0
    assert timed(message, 105.0) is message


def test_what_came_as_a_packet_keeps_all_that_belongs_to_the_message() -> None:
    properties = Properties(message_expiry_interval=10)
    assert timed(Publish("t", b"p", 2, True, properties, 7, True), 0.0) == Timed("t", b"p", 2, True, properties, 10.0)


@pytest.mark.parametrize(
    ("now", "interval"), [(100.0, 10), (100.9, 10), (101.0, 9), (101.1, 9), (109.0, 1), (109.999, 1)]
)
def test_what_is_left_is_said_in_whole_seconds_rounded_up(now: float, interval: int) -> None:
    assert interval_of(aged(timed(expiring(10, "x"), 100.0), now)) == interval


@pytest.mark.parametrize(("seconds", "now"), [(10, 110.0), (10, 500.0), (0, 100.0)])
def test_a_message_that_waited_too_long_is_over(seconds: int, now: float) -> None:
    assert aged(timed(expiring(seconds), 100.0), now) is None


def test_a_message_timed_by_us_has_no_interval_and_gets_none() -> None:
    message = Timed("t", b"p", expires_at=20.0)
    assert aged(message, 19.0) is message
    assert aged(message, 20.0) is None
    assert aged(Timed("t", b"p"), 1e9) == Timed("t", b"p", expires_at=inf)


def test_all_else_of_the_message_is_kept() -> None:
    message = aged(timed(expiring(10, "text/plain"), 0.0), 4.0)
    properties = Properties(message_expiry_interval=6, content_type="text/plain")
    assert message == Timed("t", b"p", 1, True, properties, 10.0)


@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0, 1e6), min_size=1).map(sorted))
def test_ageing_in_steps_is_ageing_at_once(seconds: int, moments: list[float]) -> None:
    message: Message | None = timed(expiring(seconds), 0.0)
    whole = message
    for now in moments:
        if message is not None:
            message = aged(message, now)
    assert whole is not None
    assert message == aged(whole, moments[-1])


def test_it_is_written_like_any_other_message() -> None:
    conn = open_server(V5)
    message = timed(expiring(10), 0.0)
    conn.publish([(message, None)])
    assert said(conn) == [Publish("t", b"p", 1, True, message.properties, 1)]
