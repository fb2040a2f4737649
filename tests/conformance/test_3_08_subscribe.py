"""Chapters 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK. Retained messages are in `test_3_03_retain.py`."""

import pytest

from tests.bad_input.wire import V5, V311, frame, optional, text, unsubscribe
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, Prop, ack, prop, publish, subscribe
from tests.conformance.statements import holds_5, holds_311

NO_LOCAL = 0x04


@BOTH
@holds_5("3.8.4-1", "3.8.4-2", "3.8.4-6", "3.8.4-7", "3.9.3-2")
@holds_311("3.8.4-1", "3.8.4-2", "3.8.4-5", "3.9.3-2")
def test_every_subscribe_is_answered_with_what_was_granted(server: Server, version: int) -> None:
    device = server.join(version)
    for qos in (0, 1, 2):
        device.send(subscribe(version, (server.new_topic(), qos), packet_id=500 + qos))
        answer = device.next()
        assert (answer.kind, answer.packet_id, answer.reasons) == (Kind.SUBACK, 500 + qos, (qos,))


@BOTH
@holds_5("3.8.4-5", "3.8.4-6", "3.9.3-1", "3.9.3-2", "3.8.4-7")
@holds_311("3.8.4-4", "3.8.4-5", "3.9.3-1", "3.9.3-2")
def test_several_filters_are_answered_in_their_order(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.join(version)
    wanted = [(topic, 2), ("bad/#/filter", 1), (f"{topic}/b", 0), ("", 0), (f"{topic}/c", 1), (topic, 0)]
    device.send(subscribe(version, *wanted))
    bad = 0x8F if version == V5 else 0x80
    assert device.next().reasons == (2, bad, 0, bad, 1, 0)
    sender = server.join(version)
    for name in (topic, f"{topic}/b", f"{topic}/c"):
        sender.publish(name)
    # As if they had come one after another: of the two that are the same, the last one counts.
    assert [(one.topic, one.qos) for one in device.fence()] == [(topic, 0), (f"{topic}/b", 0), (f"{topic}/c", 1)]


@BOTH
@holds_5("3.8.3-2", "4.13.1-1")
@holds_311("3.8.3-3", "4.8.0-1")
def test_a_subscribe_without_a_filter_ends_the_connection(server: Server, version: int) -> None:
    device = server.join(version)
    device.send(frame(0x82, b"\x00\x01" + optional(version)))
    assert [(one.kind, one.reason) for one in device.rest()] in ([], [(Kind.DISCONNECT, 0x82)])


@BOTH
@pytest.mark.parametrize("options", [0x03, 0x40, 0x80, 0x30])
@holds_5("3.8.3-5", "4.13.1-1")
@holds_311("3.8.3-4", "4.8.0-1")
def test_subscription_options_that_there_are_not_end_the_connection(server: Server, version: int, options: int) -> None:
    device = server.join(version)
    device.send(subscribe(version, ("t", options)))
    heard = device.rest()
    assert [one.kind for one in heard] == [Kind.DISCONNECT] * (version == V5)
    assert all(one.reason in (0x81, 0x82) for one in heard)


@pytest.mark.parametrize("options", [0x04, 0x08, 0x10, 0x20])
@holds_311("3.8.3-4")
def test_options_of_5_0_are_reserved_in_3_1_1(server: Server, options: int) -> None:
    device = server.join(V311)
    device.send(subscribe(V311, ("t", options)))
    assert device.rest() == []


@BOTH
@holds_5("3.8.3-1", "3.8.4-7")
@holds_311("3.8.3-2", "3.8.4-5")
def test_filters_with_wildcards_are_served(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.join(version)
    assert device.subscribe(f"{topic}/+/a", f"{topic}/#", "+/+/#", options=0).reasons == (0, 0, 0)


@holds_5("3.8.3-3")
def test_no_local_keeps_a_device_from_hearing_itself(server: Server) -> None:
    topic = server.new_topic()
    device = server.join()
    device.subscribe(topic, options=2 | NO_LOCAL)
    device.subscribe(topic + "/too", options=2)
    device.publish(topic)
    device.publish(topic + "/too")
    server.join().publish(topic, b"other")
    assert [(one.topic, one.payload) for one in device.fence()] == [(topic + "/too", b"x"), (topic, b"other")]


@holds_5("3.8.3-3")
def test_no_local_goes_by_the_client_identifier_not_by_the_connection(server: Server) -> None:
    topic = server.new_topic()
    device = server.stay()
    device.subscribe(topic, options=2 | NO_LOCAL)
    device.leave()
    again = server.stay(V5, device.client_id)
    again.publish(topic)
    server.join().publish(topic, b"other")
    assert [one.payload for one in again.fence()] == [b"other"]


@holds_5("3.8.3-3")
def test_no_local_keeps_what_is_retained_of_a_device_from_it_too(server: Server) -> None:
    topic = server.new_topic()
    device, other = server.join(), server.join()
    device.publish(topic + "/mine", retain=True)
    other.publish(topic + "/theirs", retain=True)
    device.fence()
    other.fence()
    device.subscribe(topic + "/+", options=2 | NO_LOCAL)
    assert [one.topic for one in device.fence()] == [topic + "/theirs"]


@holds_5("3.8.3-4", "4.13.1-1")
def test_no_local_on_a_shared_subscription_ends_the_connection(server: Server) -> None:
    device = server.join()
    device.send(subscribe(V5, ("$share/group/topic", NO_LOCAL)))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x82)]


@BOTH
@holds_5("3.8.4-3", "3.8.4-4")
@holds_311("3.8.4-3")
def test_the_same_filter_again_replaces_the_subscription(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.subscriber(topic, version, options=2)
    device.subscribe(topic, options=0)
    sender = server.join(version)
    sender.publish(topic)
    assert [one.qos for one in device.fence()] == [0]
    assert device.subscribe(topic, options=1).reason == 1
    sender.publish(topic)
    assert [one.qos for one in device.fence()] == [1]
    device.unsubscribe(topic)  # there is one only
    sender.publish(topic)
    assert device.fence() == []


@BOTH
@holds_5("3.8.4-4")
@holds_311("3.8.4-3")
def test_replacing_a_subscription_loses_no_message(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.subscriber(topic, version, options=1)
    sender = server.join(version)
    data = b"".join(publish(version, topic, b"%d" % number, qos=1, packet_id=number) for number in range(1, 201))
    sender.send(data)
    for number in range(20):
        device.subscribe(topic, options=1 + number % 2)
    for _ in range(200):
        sender.expect(Kind.PUBACK)
    assert [one.payload for one in device.messages(200)] == [b"%d" % number for number in range(1, 201)]


@BOTH
@pytest.mark.parametrize("sent", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
@holds_5("3.8.4-8", "3.3.4-2")
@holds_311("3.8.4-6", "3.3.5-1")
def test_a_message_comes_at_the_lower_of_its_qos_and_the_granted_one(
    server: Server, version: int, sent: int, granted: int
) -> None:
    topic = server.new_topic()
    device = server.subscriber(topic, version, options=granted)
    server.join(version).publish(topic, qos=sent)
    assert device.message().qos == min(sent, granted)


@pytest.mark.parametrize(("size", "is_told"), [(128, False), (1000, True)])
@holds_5("3.9.2-1", "3.9.2-2", "3.1.2-24")
def test_a_suback_that_refuses_says_why_as_far_as_it_fits(server: Server, size: int, is_told: bool) -> None:
    device = server.join(fields=[prop(Prop.MAXIMUM_PACKET_SIZE, size)])
    answer = device.subscribe("a/#/b" + "x" * 80, server.new_topic())
    assert answer.reasons == (0x8F, 2)
    assert len(answer.raw) <= size
    told = answer.value(Prop.REASON_STRING)
    rules = dict(answer.all_of(Prop.USER_PROPERTY))
    if is_told:
        assert "a/#/b" in told
        assert rules["rule"] == "topic rules"
    else:
        assert rules == {}


@holds_5("3.9.2-1", "3.9.2-2", "3.11.2-1", "3.11.2-2", "3.1.2-24")
def test_suback_and_unsuback_are_no_larger_than_the_device_takes(server: Server) -> None:
    device = server.join(fields=[prop(Prop.MAXIMUM_PACKET_SIZE, 128)])
    bad = ["x/#/y"] * 60
    answer = device.subscribe(*bad)
    assert (len(answer.reasons), len(answer.raw) <= 128) == (60, True)
    answer = device.unsubscribe(*bad)
    assert (len(answer.reasons), len(answer.raw) <= 128) == (60, True)


@BOTH
@holds_5("3.10.4-4", "3.10.4-5", "3.11.3-2")
@holds_311("3.10.4-4", "3.10.4-5")
def test_every_unsubscribe_is_answered_though_there_was_nothing_to_leave(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.subscriber(topic, version)
    for reason in (0x00, 0x11):
        answer = device.unsubscribe(topic)
        assert answer.packet_id == 98
        assert answer.reasons == ((reason,) if version == V5 else ())
    assert version == V5 or answer.raw == b"\xb0\x02\x00\x62"


@holds_5("3.10.4-6", "3.11.3-1", "3.11.3-2")
def test_several_filters_to_leave_are_answered_in_their_order(server: Server) -> None:
    topic = server.new_topic()
    device = server.join()
    device.subscribe(topic, f"{topic}/b")
    assert device.unsubscribe(f"{topic}/b", f"{topic}/a", topic, topic).reasons == (0x00, 0x11, 0x00, 0x11)


@BOTH
@holds_5("3.10.4-6", "3.10.4-2", "3.10.4-1")
@holds_311("3.10.4-6", "3.10.4-2", "3.10.4-1")
def test_several_filters_are_left_at_once(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.join(version)
    device.subscribe(topic, f"{topic}/#", f"{topic}/stays")
    device.unsubscribe(topic, "not/mine", f"{topic}/#")
    sender = server.join(version)
    for name in (topic, f"{topic}/a", f"{topic}/stays"):
        sender.publish(name)
    assert [one.topic for one in device.fence()] == [f"{topic}/stays"]


@BOTH
@holds_5("3.10.4-1", "4.7.3-4")
@holds_311("3.10.4-1", "4.7.3-4")
def test_a_filter_to_leave_is_compared_character_by_character(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.subscriber(f"{topic}/a", version)
    others = (f"{topic}/+", f"{topic}/#", f"{topic}/A", f"{topic}/a/", f"/{topic}/a", "#", f"{topic}/a\u0301")
    answer = device.unsubscribe(*others)
    assert answer.reasons == ((0x11,) * len(others) if version == V5 else ())
    server.join(version).publish(f"{topic}/a")
    assert [one.topic for one in device.fence()] == [f"{topic}/a"]


@BOTH
@holds_5("3.10.3-2", "4.13.1-1")
@holds_311("3.10.3-2", "4.8.0-1")
def test_an_unsubscribe_without_a_filter_ends_the_connection(server: Server, version: int) -> None:
    device = server.join(version)
    device.send(frame(0xA2, b"\x00\x01" + optional(version)))
    assert [(one.kind, one.reason) for one in device.rest()] in ([], [(Kind.DISCONNECT, 0x82)])


@BOTH
@holds_5("3.10.4-2")
@holds_311("3.10.4-2")
def test_after_unsubscribing_nothing_more_comes(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.subscriber(topic, version)
    sender = server.join(version)
    sender.publish(topic, b"before")
    device.unsubscribe(topic)
    sender.publish(topic, b"after")
    assert [one.payload for one in device.fence()] == [b"before"]


@BOTH
@pytest.mark.parametrize("qos", [1, 2])
@holds_5("3.10.4-3")
@holds_311("3.10.4-3")
def test_what_was_on_its_way_is_delivered_to_its_end_after_unsubscribing(
    server: Server, version: int, qos: int
) -> None:
    topic = server.new_topic()
    device = server.stay(version)
    device.subscribe(topic, options=qos)
    server.join(version).publish(topic, qos=qos)
    sent = device.message()
    device.unsubscribe(topic)
    device.leave()
    again = server.stay(version, device.client_id)
    repeated = again.message()
    assert (repeated.packet_id, repeated.dup) == (sent.packet_id, True)
    again.acknowledge(repeated)
    again.leave()
    assert server.stay(version, device.client_id).fence() == []


@BOTH
@holds_5("3.8.3-1", "3.10.3-1", "4.7.3-3")
@holds_311("3.8.3-1", "3.10.3-1", "4.7.3-3")
def test_a_filter_that_runs_over_its_packet_ends_the_connection(server: Server, version: int) -> None:
    for first, end in ((0x82, b"\x00"), (0xA2, b"")):
        device = server.join(version)
        device.send(frame(first, b"\x00\x01" + optional(version) + b"\x00\x09" + text("t") + end))
        assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x81)] * (version == V5)


@BOTH
@holds_5("3.8.4-1")
@holds_311("3.8.4-1")
def test_a_message_may_come_before_the_suback_or_after_but_comes(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.join(version)
    device.send(subscribe(version, (topic, 1)), publish(version, topic, b"mine", qos=1))
    assert {device.next().kind for _ in range(3)} == {Kind.SUBACK, Kind.PUBACK, Kind.PUBLISH}


@BOTH
@holds_5("3.10.4-4")
@holds_311("3.10.4-4")
def test_requests_are_answered_while_messages_wait_for_acknowledgement(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.join(version, fields=[prop(Prop.RECEIVE_MAXIMUM, 1)] if version == V5 else [])
    device.subscribe(topic)
    sender = server.join(version)
    for number in range(1, 4):
        sender.publish(topic, b"%d" % number, qos=2, packet_id=number)
    device.send(unsubscribe(version, topic, packet_id=5), publish(version, "t", qos=1, packet_id=6))
    assert device.expect(Kind.UNSUBACK).packet_id == 5
    assert device.expect(Kind.PUBACK).packet_id == 6
    first = device.message()
    device.send(ack(Kind.PUBREC, first.packet_id))
    assert device.expect(Kind.PUBREL).packet_id == first.packet_id
