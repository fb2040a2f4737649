"""Chapter 3.3.1.3 and 3.8.3.1: retained messages."""

import pytest

from tests.bad_input.wire import V5
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, Prop, prop, publish, subscribe
from tests.conformance.statements import holds_5, holds_311

# Subscription options beside the QoS.
AS_PUBLISHED, IF_NEW, NEVER = 0x08, 0x10, 0x20


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
@holds_5("3.3.1-5", "3.3.1-9", "3.8.4-8")
@holds_311("3.3.1-5", "3.3.1-6", "3.3.1-8", "3.8.4-6")
def test_a_retained_message_is_given_to_those_who_subscribe_later(server: Server, version: int, qos: int) -> None:
    topic = server.new_topic()
    server.join(version).publish(topic, b"kept", qos=qos, retain=True)
    for granted in (0, 1, 2):
        heard = server.subscriber(topic, version, options=granted).message()
        assert (heard.payload, heard.retain, heard.dup, heard.qos) == (b"kept", True, False, min(qos, granted))


@BOTH
@holds_5("3.3.1-5")
@holds_311("3.3.1-5", "3.3.1-7")
def test_the_last_retained_message_replaces_the_one_before(server: Server, version: int) -> None:
    topic = server.new_topic()
    sender = server.join(version)
    for qos in (1, 0, 2):
        sender.publish(topic, b"%d" % qos, qos=qos, retain=True)
        reader = server.subscriber(topic, version)
        assert [(one.payload, one.qos) for one in reader.fence()] == [(b"%d" % qos, qos)]
    assert reader.fence() == []
    assert server.subscriber(topic, version).message().payload == b"2"


@BOTH
@holds_5("3.3.1-6", "3.3.1-7", "3.3.1-12")
@holds_311("3.3.1-10", "3.3.1-11", "3.3.1-9")
def test_an_empty_retained_message_clears_and_is_handed_on(server: Server, version: int) -> None:
    topic = server.new_topic()
    sender = server.join(version)
    sender.publish(topic, b"kept", retain=True)
    reader = server.subscriber(topic, version)
    assert reader.message().payload == b"kept"
    sender.publish(topic, b"", retain=True)
    heard = reader.message()
    assert (heard.payload, heard.retain) == (b"", False)
    assert server.subscriber(topic, version).fence() == []
    sender.publish(topic, b"", retain=True)  # with nothing to clear
    assert server.subscriber(topic, version).fence() == []


@BOTH
@holds_5("3.3.1-8")
@holds_311("3.3.1-12")
def test_a_message_that_is_not_to_be_retained_leaves_the_retained_one(server: Server, version: int) -> None:
    topic = server.new_topic()
    sender = server.join(version)
    sender.publish(topic, b"not kept")
    assert server.subscriber(topic, version).fence() == []
    sender.publish(topic, b"kept", retain=True)
    sender.publish(topic, b"not kept")
    sender.publish(topic, b"")
    assert [one.payload for one in server.subscriber(topic, version).fence()] == [b"kept"]


@BOTH
@holds_5("3.3.1-9", "3.3.2-3", "4.7.2-1")
@holds_311("3.3.1-6", "3.3.2-3")
def test_every_retained_message_that_a_filter_matches_is_sent(server: Server, version: int) -> None:
    topic = server.new_topic()
    sender = server.join(version)
    names = ["", "/a", "/a/b", "/a/b/c", "/b", "//"]
    for name in names:
        sender.publish(topic + name, name.encode() or b"top", retain=True)
    expected = {
        f"{topic}/#": set(names),
        f"{topic}/+": {"/a", "/b"},
        f"{topic}/+/b": {"/a/b"},
        f"{topic}/a/#": {"/a", "/a/b", "/a/b/c"},
        f"{topic}/+/+": {"/a/b", "//"},
        topic: {""},
    }
    for wanted, due in expected.items():
        heard = server.subscriber(wanted, version).fence()
        assert {one.topic.removeprefix(topic) for one in heard} == due
        assert all(one.retain for one in heard)


@BOTH
@holds_5("3.3.1-12")
@holds_311("3.3.1-9")
def test_subscribers_get_a_retained_message_as_one_of_now(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    server.join(version).publish(topic, retain=True)
    assert not reader.message().retain


@holds_5("3.3.1-13", "3.3.1-12")
def test_retain_as_published_hands_the_flag_on(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, options=2 | AS_PUBLISHED)
    sender = server.join()
    sender.publish(topic, b"1", retain=True)
    sender.publish(topic, b"2", retain=False)
    assert [(one.payload, one.retain) for one in reader.messages(2)] == [(b"1", True), (b"2", False)]


@BOTH
@holds_5("3.3.1-9", "3.8.4-4", "3.8.4-3")
@holds_311("3.8.4-3")
def test_subscribing_again_brings_the_retained_messages_again(server: Server, version: int) -> None:
    topic = server.new_topic()
    server.join(version).publish(topic, b"kept", retain=True)
    reader = server.subscriber(topic, version)
    assert reader.message().retain
    reader.subscribe(topic, options=1)
    assert [(one.payload, one.retain) for one in reader.fence()] == [(b"kept", True)]


@holds_5("3.3.1-10")
def test_retain_handling_1_sends_them_for_a_new_subscription_only(server: Server) -> None:
    topic = server.new_topic()
    server.join().publish(topic, b"kept", retain=True)
    reader = server.subscriber(topic, options=2 | IF_NEW)
    assert reader.message().payload == b"kept"
    reader.subscribe(topic, options=1 | IF_NEW)
    assert reader.fence() == []
    reader.unsubscribe(topic)
    reader.subscribe(topic, options=2 | IF_NEW)
    assert [one.payload for one in reader.fence()] == [b"kept"]


@holds_5("3.3.1-10", "4.1.0-1")
def test_a_subscription_of_a_kept_session_is_not_new(server: Server) -> None:
    topic = server.new_topic()
    server.join().publish(topic, b"kept", retain=True)
    reader = server.stay()
    reader.subscribe(topic, options=1 | IF_NEW)
    reader.acknowledge(reader.message())
    reader.leave()
    again = server.stay(V5, reader.client_id)
    again.subscribe(topic, options=1 | IF_NEW)
    assert again.fence() == []


@holds_5("3.3.1-11")
def test_retain_handling_2_sends_none(server: Server) -> None:
    topic = server.new_topic()
    sender = server.join()
    sender.publish(topic, b"kept", retain=True)
    reader = server.subscriber(topic, options=2 | NEVER)
    assert reader.fence() == []
    sender.publish(topic, b"live", retain=True)
    assert reader.message().payload == b"live"


@BOTH
@holds_311("3.1.2-7")
@holds_5("3.3.1-5")
def test_retained_messages_outlive_the_session_of_their_sender(server: Server, version: int) -> None:
    topic = server.new_topic()
    sender = server.join(version)
    sender.publish(topic, b"kept", retain=True)
    sender.leave()
    server.join(version, sender.client_id).leave()
    assert server.subscriber(topic, version).message().payload == b"kept"


@holds_5("3.3.1-5")
def test_a_refused_message_is_not_retained(server: Server) -> None:
    name = f"numbers/{server.new_id()}"
    sender = server.join()
    sender.publish(name, b"1", retain=True)
    assert sender.publish(name, b"not a number", retain=True).reason == 0x99
    assert server.subscriber(name).message().payload == b"1"


@holds_5("3.3.1-9", "3.9.3-1")
def test_retained_messages_come_for_each_filter_of_one_subscribe(server: Server) -> None:
    one, other = server.new_topic(), server.new_topic()
    sender = server.join()
    sender.publish(one, b"1", retain=True)
    sender.publish(other, b"2", retain=True)
    reader = server.join()
    reader.send(subscribe(V5, (one, 0), (other, 2 | NEVER), (f"{one}/#", 0)))
    assert reader.next().reasons == (0, 2, 0)
    assert {one.payload for one in reader.fence()} == {b"1"}


@holds_5("3.3.1-9")
@holds_311("3.3.1-6")
def test_a_refused_subscription_brings_no_retained_messages(server: Server) -> None:
    reader = server.join()
    reader.send(subscribe(V5, ("topic/#/x", 0)))
    assert [one.kind for one in reader.fence()] == [Kind.SUBACK]


@holds_5("3.3.2-6")
def test_a_retained_message_is_published_with_its_expiry(server: Server) -> None:
    topic = server.new_topic()
    server.join().publish(topic, b"x", qos=0, retain=True, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 50)])
    assert server.subscriber(topic).message().value(Prop.MESSAGE_EXPIRY_INTERVAL) in (49, 50)


@BOTH
@holds_5("3.3.1-9", "3.3.4-10")
@holds_311("3.3.1-6")
def test_very_many_retained_messages_all_come_once(server: Server, version: int) -> None:
    topic = server.new_topic()
    sender = server.join(version)
    number = 3000
    for start in range(0, number, 100):
        sender.send(
            *(
                publish(version, f"{topic}/{index % 7}/{index}", b"kept", qos=1, packet_id=index + 1, retain=True)
                for index in range(start, start + 100)
            )
        )
        for _ in range(100):
            sender.expect(Kind.PUBACK)
    reader = server.subscriber(f"{topic}/#", version, options=0)
    reader.fence()
    reader.unsubscribe(f"{topic}/#")
    reader = server.subscriber(f"{topic}/#", version, options=0)
    sender.publish(f"{topic}/0/0", b"live", retain=True)
    heard = reader.messages(number + 1)
    assert sorted(one.topic for one in heard if one.retain) == sorted(
        f"{topic}/{index % 7}/{index}" for index in range(number)
    )
    assert [one.payload for one in heard if not one.retain] == [b"live"]
    assert reader.fence() == []
