"""Chapter 3.1.2.5 and 3.1.3: wills."""

import time

import pytest

from tests.bad_input.wire import V5, V311
from tests.conformance.device import BOTH, FOR_LONG, Server
from tests.conformance.packets import Kind, Prop, Will, connect, prop
from tests.conformance.statements import holds_5, holds_311

DELAY = prop(Prop.WILL_DELAY_INTERVAL, 1)
LONG_DELAY = prop(Prop.WILL_DELAY_INTERVAL, 300)


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
@holds_5("3.1.2-7", "3.1.2-8", "3.1.2-9", "3.1.2-10", "3.1.2-14")
@holds_311("3.1.2-8", "3.1.2-9", "3.1.2-10", "3.1.2-16")
def test_a_will_is_published_once_when_the_connection_breaks(server: Server, version: int, qos: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, options=0x0A)  # retain as published
    device = server.join(version, will=Will(topic, b"gone", qos=qos))
    assert reader.fence() == []
    device.cut()
    heard = reader.message()
    assert (heard.topic, heard.payload, heard.qos, heard.retain) == (topic, b"gone", qos, False)
    server.join(version, device.client_id).leave()  # it is not left for the next connection
    assert reader.fence() == []
    assert server.subscriber(topic).fence() == []


@BOTH
@holds_5("3.1.2-15", "3.1.2-10")
@holds_311("3.1.2-17", "3.1.2-10")
def test_a_will_to_retain_is_retained(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, options=0x0A)
    server.join(version, will=Will(topic, b"gone", qos=1, retain=True)).cut()
    assert reader.message().retain
    later = server.subscriber(topic).message()
    assert (later.payload, later.retain) == (b"gone", True)


@BOTH
@holds_5("3.14.4-3", "3.1.2-10", "3.1.2-8")
@holds_311("3.14.4-3", "3.1.2-10", "3.1.2-8")
def test_a_will_is_forgotten_on_disconnect(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join(version, will=Will(topic, b"gone")).leave()
    assert reader.fence() == []


@holds_5("3.1.2-8")
def test_a_device_can_disconnect_and_leave_its_will(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join(will=Will(topic, b"gone")).leave(b"\xe0\x01\x04")
    assert reader.message().payload == b"gone"


@BOTH
@holds_5("3.1.2-8")
@holds_311("3.1.2-8")
def test_a_will_is_published_when_the_device_breaks_the_protocol(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(version, will=Will(topic, b"gone"))
    device.send(b"\xff\x00")
    assert reader.message().payload == b"gone"


@holds_311("3.1.2-8", "3.1.4-2")
def test_a_will_is_published_when_another_connection_takes_over_in_3_1_1(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(V311, will=Will(topic, b"gone"))
    server.join(V311, device.client_id)
    assert reader.message().payload == b"gone"


@holds_311("3.1.2-12")
@BOTH
def test_without_a_will_nothing_is_published_at_the_end(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.join(version, will=Will(topic, b"gone"))
    device.leave()
    again = server.join(version, device.client_id)  # the will was of the connection before
    again.send(b"\xff\x00")
    again.rest()
    assert reader.fence() == []


@BOTH
@holds_5("3.1.2-7", "3.1.4-6")
@holds_311("3.1.2-8", "3.1.4-5")
def test_the_will_of_a_refused_connect_is_not_published(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.refused(connect(version, "x" * 1000, will=Will(topic)), version)
    assert reader.fence() == []


@BOTH
@pytest.mark.parametrize("topic", ["a/+", "a/#", ""])
@holds_5("3.1.4-1", "3.3.2-2", "4.7.0-1", "4.7.3-1")
@holds_311("3.3.2-2", "4.7.1-1", "4.7.3-1")
def test_a_will_topic_with_a_wildcard_or_none_is_refused(server: Server, version: int, topic: str) -> None:
    heard = server.refused(connect(version, "c", will=Will(topic)), version)
    assert [one.kind for one in heard] == [Kind.CONNACK] * (version == V5)
    assert all(one.reason in (0x81, 0x82, 0x90) for one in heard)


FIELDS = [
    prop(Prop.PAYLOAD_FORMAT_INDICATOR, 1),
    prop(Prop.CONTENT_TYPE, "text/plain"),
    prop(Prop.RESPONSE_TOPIC, "answer/here"),
    prop(Prop.CORRELATION_DATA, b"\x00\xff"),
    prop(Prop.USER_PROPERTY, ("z", "1")),
    prop(Prop.USER_PROPERTY, ("a", "2")),
    prop(Prop.USER_PROPERTY, ("z", "3")),
]


@holds_5("3.1.3-10", "3.3.2-4", "3.3.2-15", "3.3.2-16", "3.3.2-17", "3.3.2-18", "3.3.2-20")
def test_a_will_keeps_its_properties_and_their_order(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join(will=Will(topic, b"gone", fields=FIELDS)).cut()
    heard = reader.message()
    assert heard.value(Prop.PAYLOAD_FORMAT_INDICATOR) == 1
    assert heard.value(Prop.CONTENT_TYPE) == "text/plain"
    assert heard.value(Prop.RESPONSE_TOPIC) == "answer/here"
    assert heard.value(Prop.CORRELATION_DATA) == b"\x00\xff"
    assert heard.all_of(Prop.USER_PROPERTY) == [("z", "1"), ("a", "2"), ("z", "3")]
    assert heard.value(Prop.WILL_DELAY_INTERVAL) is None


@holds_5("3.1.2-8", "3.1.3-9", "3.1.2-10")
def test_a_will_waits_for_its_delay_and_is_not_sent_if_the_device_is_back_before(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    back = server.stay(will=Will(topic, b"was back", fields=[DELAY]))
    lost = server.stay(will=Will(topic, b"gone", fields=[DELAY]))
    began = time.monotonic()
    back.cut()
    server.stay(V5, back.client_id)
    lost.cut()
    heard = reader.message()
    assert heard.payload == b"gone"
    assert time.monotonic() - began >= 0.9
    assert reader.fence() == []  # the other one would have been due before


@holds_5("3.1.2-8")
def test_a_delayed_will_is_sent_at_the_end_of_a_session_that_ends_before(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join(will=Will(topic, b"at once", fields=[LONG_DELAY])).cut()
    assert reader.message().payload == b"at once"
    short = [prop(Prop.SESSION_EXPIRY_INTERVAL, 1)]
    server.join(fields=short, will=Will(topic, b"with the session", fields=[LONG_DELAY])).cut()
    assert reader.message().payload == b"with the session"


@holds_5("3.1.2-8", "3.1.2-4")
def test_a_delayed_will_is_sent_when_a_clean_start_ends_the_session(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(will=Will(topic, b"gone", fields=[LONG_DELAY]))
    device.cut()
    server.join(V5, device.client_id)
    assert reader.message().payload == b"gone"


@holds_5("3.1.3-9", "3.1.4-3")
def test_a_takeover_that_goes_on_with_the_session_cancels_a_delayed_will(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(will=Will(topic, b"gone", fields=[DELAY]))
    server.stay(V5, device.client_id)
    yardstick = server.stay(will=Will(topic, b"yardstick", fields=[DELAY]))
    yardstick.cut()
    assert reader.message().payload == b"yardstick"
    assert reader.fence() == []


@holds_5("3.1.2-8", "3.1.4-3")
def test_a_will_without_delay_is_sent_at_a_takeover(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(will=Will(topic, b"gone"))
    server.stay(V5, device.client_id)
    assert reader.message().payload == b"gone"


@holds_5("3.14.4-3", "3.1.2-8")
def test_disconnect_forgets_a_delayed_will_too(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(will=Will(topic, b"forgotten", fields=[DELAY]))
    device.leave()
    server.join(fields=[FOR_LONG], will=Will(topic, b"yardstick", fields=[DELAY])).cut()
    assert reader.message().payload == b"yardstick"
    assert reader.fence() == []


@holds_5("3.1.2-7", "3.3.2-6")
def test_the_expiry_of_a_will_counts_from_when_it_is_sent(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    fields = [DELAY, prop(Prop.MESSAGE_EXPIRY_INTERVAL, 60)]
    server.stay(will=Will(topic, b"gone", fields=fields)).cut()
    assert reader.message().value(Prop.MESSAGE_EXPIRY_INTERVAL) == 60


@holds_5("3.1.2-8", "4.1.0-2")
def test_a_delayed_will_is_sent_when_disconnect_ends_the_session(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(will=Will(topic, b"gone", fields=[LONG_DELAY]))
    device.leave(b"\xe0\x07\x04\x05" + prop(Prop.SESSION_EXPIRY_INTERVAL, 0))
    assert reader.message().payload == b"gone"


@BOTH
@holds_5("3.1.2-7", "3.1.2-8", "3.1.2-10")
@holds_311("3.1.2-8", "3.1.2-10")
def test_the_will_of_the_last_connect_counts(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(version, will=Will(topic, b"first"))
    device.leave()
    server.stay(version, device.client_id, will=Will(topic, b"second")).cut()
    assert reader.message().payload == b"second"
    assert reader.fence() == []


@BOTH
@holds_5("3.1.2-8", "4.5.0-1")
@holds_311("3.1.2-8", "4.5.0-1")
def test_a_will_waits_for_subscribers_that_are_away(server: Server, version: int) -> None:
    topic = server.new_topic()
    away, here = server.stay(version), server.subscriber(topic)
    away.subscribe(topic)
    away.leave()
    server.join(version, will=Will(topic, b"gone", qos=1)).cut()
    here.message()
    assert server.stay(version, away.client_id).message().payload == b"gone"


@BOTH
@holds_5("3.1.2-8")
@holds_311("3.1.2-8")
def test_a_device_can_be_told_of_its_own_will(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.stay(version, will=Will(topic, b"mine", qos=1))
    device.subscribe(topic)
    other = server.subscriber(topic)
    device.cut()
    other.message()
    assert server.stay(version, device.client_id).message().payload == b"mine"
