"""Chapters 4.1, 4.4 and 4.5: session state, sending again, and what is kept for devices that are away."""

import time

import pytest

from tests.bad_input.wire import V5, V311
from tests.conformance.device import BOTH, Device, Server
from tests.conformance.packets import Kind, Prop, ack, prop, publish
from tests.conformance.statements import holds_5, holds_311


def kept_subscriber(server: Server, version: int, topic: str, *, options: int = 2) -> Device:
    device = server.stay(version)
    device.subscribe(topic, options=options)
    return device


@BOTH
@holds_5("3.1.2-4", "3.1.4-4", "4.1.0-2")
@holds_311("3.1.2-6", "3.1.4-3")
def test_a_clean_start_discards_subscriptions_and_messages(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    device.leave()
    sender = server.join(version)
    sender.publish(topic, b"kept", qos=1)
    clean = server.join(version, device.client_id)
    sender.publish(topic, b"live", qos=1)
    assert clean.fence() == []
    clean.leave()
    after = server.stay(version, device.client_id)
    assert not after.connack.session_present
    sender.publish(topic, b"later", qos=1)
    assert after.fence() == []


@holds_311("3.1.2-6")
@holds_5("4.1.0-2")
@BOTH
def test_the_state_of_a_session_that_ended_is_not_used_again(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = server.subscriber(topic, version)
    sender = server.join(version)
    sender.publish(topic, b"unacknowledged", qos=1)
    device.message()
    device.send(publish(version, topic, b"unreleased", qos=2, packet_id=5))
    device.expect(Kind.PUBREC)
    device.leave()
    again = server.stay(version, device.client_id)
    assert not again.connack.session_present
    assert again.fence() == []
    other = server.subscriber(topic, version)
    again.publish(topic, b"new", qos=2, packet_id=5)
    assert other.message().payload == b"new"


@BOTH
@pytest.mark.parametrize("qos", [1, 2])
@holds_5("3.1.2-5", "3.1.2-23", "4.5.0-1", "4.1.0-1")
@holds_311("3.1.2-4", "3.1.2-5", "4.5.0-1", "4.1.0-1")
def test_a_device_that_is_back_gets_what_came_meanwhile(server: Server, version: int, qos: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    device.leave()
    sender = server.join(version)
    for number in range(1, 21):
        sender.publish(topic, b"%d" % number, qos=qos)
    again = server.stay(version, device.client_id)
    assert again.connack.session_present
    heard = again.messages(20)
    assert [one.payload for one in heard] == [b"%d" % number for number in range(1, 21)]
    assert {(one.qos, one.dup, one.retain) for one in heard} == {(qos, False, False)}
    for one in heard:
        again.acknowledge(one)
    assert again.fence() == []


@BOTH
@holds_5("3.1.2-5", "4.1.0-1")
@holds_311("3.1.2-4", "4.1.0-1", "4.1.0-2")
def test_subscriptions_are_kept_with_the_session(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, f"{topic}/#", options=1)
    device.subscribe(f"{topic}/left")
    device.unsubscribe(f"{topic}/left")
    device.cut()
    again = server.stay(version, device.client_id)
    server.join(version).publish(f"{topic}/a", qos=2)
    heard = again.message()
    assert heard.qos == 1
    again.acknowledge(heard)
    again.unsubscribe(f"{topic}/#")
    again.leave()
    last = server.stay(version, device.client_id)
    server.join(version).publish(f"{topic}/a", qos=2)
    assert last.fence() == []


@BOTH
@pytest.mark.parametrize("taken_over", [False, True], ids=["left", "taken over"])
@holds_5("4.4.0-1", "3.3.1-1", "4.6.0-1", "4.3.2-3", "4.3.3-3", "3.1.4-3")
@holds_311("4.4.0-1", "3.3.1-1", "4.6.0-1", "2.3.1-4", "4.3.2-1", "4.3.3-1")
def test_what_was_not_acknowledged_is_sent_again_in_its_order(
    server: Server, version: int, *, taken_over: bool
) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    sender = server.join(version)
    for number in range(1, 7):
        sender.publish(topic, b"%d" % number, qos=1 + number % 2)
    sent = device.messages(6)
    device.acknowledge(sent[0])
    device.acknowledge(sent[3])
    if not taken_over:
        device.leave()
    again = server.stay(version, device.client_id)
    heard = again.messages(4)
    left = [sent[1], sent[2], sent[4], sent[5]]
    assert [(one.payload, one.packet_id, one.qos) for one in heard] == [
        (one.payload, one.packet_id, one.qos) for one in left
    ]
    assert all(one.dup for one in heard)
    for one in heard:
        again.acknowledge(one)
    again.leave()
    assert server.stay(version, device.client_id).fence() == []


@BOTH
@holds_5("4.4.0-1", "4.3.3-5", "4.3.3-6", "4.3.3-4")
@holds_311("4.4.0-1", "4.3.3-1")
def test_a_pubrel_without_pubcomp_is_sent_again_and_the_message_is_not(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    server.join(version).publish(topic, b"x", qos=2)
    sent = device.message()
    device.send(ack(Kind.PUBREC, sent.packet_id))
    device.expect(Kind.PUBREL)
    device.leave()
    for _ in range(2):
        again = server.stay(version, device.client_id)
        assert [one.raw for one in again.fence()] == [ack(Kind.PUBREL, sent.packet_id)]
        again.leave()
    last = server.stay(version, device.client_id)
    last.expect(Kind.PUBREL)
    last.send(ack(Kind.PUBCOMP, sent.packet_id))
    last.leave()
    assert server.stay(version, device.client_id).fence() == []


@BOTH
@holds_5("4.3.3-10", "4.4.0-1", "4.1.0-1", "4.3.3-12")
@holds_311("4.3.3-2", "4.4.0-1", "4.1.0-1")
def test_a_message_at_qos_2_sent_again_over_a_new_connection_is_not_doubled(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    device = server.stay(version)
    device.send(publish(version, topic, b"once", qos=2, packet_id=9))
    device.expect(Kind.PUBREC)
    device.leave()
    again = server.stay(version, device.client_id)
    again.send(publish(version, topic, b"once", qos=2, packet_id=9, dup=True))
    assert again.expect(Kind.PUBREC).packet_id == 9
    again.send(ack(Kind.PUBREL, 9))
    assert again.expect(Kind.PUBCOMP).reason == 0
    assert [one.payload for one in reader.fence()] == [b"once"]
    again.publish(topic, b"another", qos=2, packet_id=9)
    assert reader.message().payload == b"another"


@BOTH
@holds_5("4.4.0-1", "4.3.3-11", "4.1.0-1")
@holds_311("4.4.0-1", "4.3.3-2", "4.1.0-1")
def test_a_pubrel_sent_again_over_a_new_connection_is_answered(server: Server, version: int) -> None:
    device = server.stay(version)
    device.send(publish(version, "t", qos=2, packet_id=9))
    device.expect(Kind.PUBREC)
    device.leave()
    again = server.stay(version, device.client_id)
    again.send(ack(Kind.PUBREL, 9))
    assert again.next().raw == ack(Kind.PUBCOMP, 9)


@BOTH
@holds_5("4.4.0-1")
@holds_311("4.4.0-1")
def test_nothing_is_sent_again_while_the_connection_lasts(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    server.join(version).publish(topic, b"x", qos=1)
    device.message()
    for _ in range(3):
        device.subscribe(topic)
        assert device.fence() == []


@BOTH
@holds_5("3.1.2-23", "4.1.0-1")
@holds_311("3.1.2-4", "4.1.0-2")
def test_a_session_outlives_a_connection_that_breaks(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    device.cut()
    server.join(version).publish(topic, b"x", qos=1)
    again = server.stay(version, device.client_id)
    assert again.connack.session_present
    assert again.message().payload == b"x"


@BOTH
@holds_5("3.1.4-3", "4.1.0-1", "3.1.2-5")
@holds_311("3.1.4-2", "3.1.2-4", "4.1.0-1")
def test_a_takeover_goes_on_with_the_session(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    again = server.stay(version, device.client_id)
    device.rest()
    assert again.connack.session_present
    server.join(version).publish(topic, b"x", qos=1)
    assert again.message().payload == b"x"


@holds_5("4.1.0-2", "3.2.2-3", "3.1.2-23")
def test_a_session_ends_when_its_expiry_interval_has_passed(server: Server) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, V5, topic)
    device.leave()
    back = server.join(V5, device.client_id, clean=False, fields=[prop(Prop.SESSION_EXPIRY_INTERVAL, 1)])
    assert back.connack.session_present
    time.sleep(1.2)  # it does not pass while the connection lasts
    server.join().publish(topic, b"live", qos=1)
    back.acknowledge(back.message())
    back.leave()
    time.sleep(1.2)  # and now it does
    server.join().publish(topic, b"too late", qos=1)
    late = server.stay(V5, device.client_id)
    assert not late.connack.session_present
    assert late.fence() == []


@holds_5("4.1.0-2", "3.1.2-4", "4.1.0-1")
def test_a_clean_start_with_an_expiry_begins_a_session_that_is_kept(server: Server) -> None:
    topic = server.new_topic()
    device = server.join(clean=True, fields=[prop(Prop.SESSION_EXPIRY_INTERVAL, 300)])
    device.subscribe(topic)
    device.leave()
    server.join().publish(topic, b"x", qos=1)
    again = server.stay(V5, device.client_id)
    assert again.connack.session_present
    assert again.message().payload == b"x"


@holds_5("3.1.2-23", "4.1.0-2")
@holds_311("3.1.2-4")
def test_a_session_goes_on_in_the_other_version(server: Server) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, V311, topic)
    device.leave()
    server.join().publish(topic, b"x", qos=1, fields=[prop(Prop.CONTENT_TYPE, "text/plain")])
    again = server.stay(V5, device.client_id)
    assert again.connack.session_present
    assert again.message().value(Prop.CONTENT_TYPE) == "text/plain"


@BOTH
@holds_5("4.5.0-1", "3.1.2-5")
@holds_311("4.5.0-1", "3.1.2-5")
def test_a_message_goes_to_every_session_that_has_a_matching_subscription(server: Server, version: int) -> None:
    topic = server.new_topic()
    away, here, elsewhere = (
        kept_subscriber(server, version, wanted) for wanted in (f"{topic}/#", f"{topic}/+", f"{topic}/b")
    )
    away.leave()
    server.join(version).publish(f"{topic}/a", b"x", qos=1)
    assert here.message().topic == f"{topic}/a"
    assert elsewhere.fence() == []
    assert server.stay(version, away.client_id).message().topic == f"{topic}/a"


@BOTH
@holds_5("3.2.0-1", "3.1.2-5")
@holds_311("3.2.0-1", "3.1.2-4")
def test_connack_comes_before_what_the_session_has_kept(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    server.join(version).publish(topic, b"in flight", qos=1)
    device.message()
    device.leave()
    server.join(version).publish(topic, b"queued", qos=1)
    again = server.dial(version)
    more = {"fields": [prop(Prop.SESSION_EXPIRY_INTERVAL, 300)]} if version == V5 else {}
    again.connect(device.client_id, clean=False, **more)
    assert [one.payload for one in again.messages(2)] == [b"in flight", b"queued"]


@BOTH
@holds_5("4.6.0-1", "4.6.0-5")
@holds_311("4.6.0-1", "4.6.0-6")
def test_what_is_new_comes_behind_what_is_sent_again(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    sender = server.join(version)
    sender.publish(topic, b"1", qos=1)
    device.message()
    device.leave()
    sender.publish(topic, b"2", qos=1)
    again = server.stay(version, device.client_id)
    sender.publish(topic, b"3", qos=1)
    heard = again.messages(3)
    assert [(one.payload, one.dup) for one in heard] == [(b"1", True), (b"2", False), (b"3", False)]
    assert len({one.packet_id for one in heard}) == 3


@holds_5("4.1.0-2", "3.1.2-5")
def test_the_expiry_of_the_last_connection_counts(server: Server) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, V5, topic)
    device.leave()
    last = server.join(V5, device.client_id, clean=False)
    assert last.connack.session_present
    server.join().publish(topic, b"x", qos=1)
    assert last.message().payload == b"x"
    last.cut()
    wait_gone(server, last)
    assert not server.stay(V5, device.client_id).connack.session_present


def wait_gone(server: Server, device: Device) -> None:
    """Wait until the proxy has noticed that a connection broke: its client identifier is taken, and left."""
    server.join(V5, device.client_id, clean=False).leave()


@BOTH
@holds_5("3.1.2-4", "3.1.4-3", "3.1.4-4")
@holds_311("3.1.2-6", "3.1.4-2", "3.1.4-3")
def test_a_takeover_with_a_clean_start_begins_anew(server: Server, version: int) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, version, topic)
    sender = server.join(version)
    sender.publish(topic, b"in flight", qos=1)
    device.message()
    clean = server.join(version, device.client_id)
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x8E)] * (version == V5)
    assert not clean.connack.session_present
    sender.publish(topic, b"live", qos=1)
    assert clean.fence() == []


@holds_5("3.3.1-13", "4.1.0-1")
def test_the_options_of_a_subscription_are_kept_with_it(server: Server) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, V5, topic, options=1 | 8)
    device.leave()
    sender = server.join()
    sender.publish(topic, b"away", qos=2, retain=True)
    again = server.stay(V5, device.client_id)
    sender.publish(topic, b"here", qos=2, retain=True)
    assert [(one.payload, one.qos, one.retain) for one in again.messages(2)] == [(b"away", 1, True), (b"here", 1, True)]


@holds_5("3.1.2-24", "3.1.2-25", "4.4.0-1")
def test_what_was_kept_for_a_device_must_fit_what_it_takes_now(server: Server) -> None:
    topic = server.new_topic()
    device = kept_subscriber(server, V5, topic)
    sender = server.join()
    sender.publish(topic, b"x" * 300, qos=2)
    device.message()
    device.leave()
    sender.publish(topic, b"y" * 300, qos=1)
    sender.publish(topic, b"small", qos=1)
    again = server.stay(V5, device.client_id, fields=[prop(Prop.MAXIMUM_PACKET_SIZE, 200)])
    assert [one.payload for one in again.fence()] == [b"small"]
