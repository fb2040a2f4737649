"""Chapter 3.3: PUBLISH, its flags and properties. Retained messages are in `test_3_03_retain.py`."""

import time

import pytest

from tests.bad_input.wire import V5, V311, frame, text
from tests.conformance.device import BOTH, Server
from tests.conformance.packets import Kind, Prop, ack, prop, publish
from tests.conformance.statements import holds_5, holds_311


@BOTH
@holds_5("3.3.1-3", "3.3.1-2", "4.3.1-1", "4.3.2-2", "4.3.3-2")
@holds_311("3.3.1-3", "3.3.1-2", "4.3.1-1", "4.3.2-1", "4.3.3-1")
def test_the_dup_flag_of_the_sender_is_not_handed_on(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    sender = server.join(version)
    sender.publish(topic, qos=0)
    sender.publish(topic, qos=1, dup=True)
    sender.publish(topic, qos=2, dup=True, packet_id=2)
    assert [(one.qos, one.dup) for one in reader.messages(3)] == [(0, False), (1, False), (2, False)]


@BOTH
@pytest.mark.parametrize("first", [0x36, 0x37, 0x3E, 0x3F])
@holds_5("3.3.1-4", "4.13.1-1")
@holds_311("3.3.1-4", "4.8.0-1")
def test_qos_3_ends_the_connection(server: Server, version: int, first: int) -> None:
    device = server.join(version)
    device.send(bytes([first]) + publish(version, "t", b"x", qos=2)[1:])
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x81)] * (version == V5)


@BOTH
@holds_5("3.3.1-2", "4.13.1-1")
@holds_311("3.3.1-2", "4.8.0-1")
def test_dup_at_qos_0_ends_the_connection(server: Server, version: int) -> None:
    device = server.join(version)
    device.send(publish(version, "t", b"x", dup=True))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x81)] * (version == V5)


@BOTH
@pytest.mark.parametrize("topic", ["a/+", "#", "+", "a/#", "a/b+", "a#b"])
@holds_5("3.3.2-2", "4.7.0-1", "4.13.1-1")
@holds_311("3.3.2-2", "4.7.1-1", "4.8.0-1")
def test_a_topic_name_with_a_wildcard_ends_the_connection(server: Server, version: int, topic: str) -> None:
    device = server.join(version)
    device.send(publish(version, topic))
    heard = device.rest()
    assert [one.kind for one in heard] == [Kind.DISCONNECT] * (version == V5)
    assert all(one.reason in (0x81, 0x82, 0x90) for one in heard)


@BOTH
@holds_5("3.3.2-1", "4.7.3-1", "4.13.1-1")
@holds_311("3.3.2-1", "4.7.3-1", "4.8.0-1")
def test_a_message_without_a_topic_name_ends_the_connection(server: Server, version: int) -> None:
    for data in (publish(version, ""), publish(version, "", qos=1), frame(0x30, b"\x00"), frame(0x30, b"\x00\x05t")):
        device = server.join(version)
        device.send(data)
        assert [one.kind for one in device.rest()] == [Kind.DISCONNECT] * (version == V5)


@BOTH
@holds_5("3.3.2-3", "4.5.0-1", "4.7.3-4")
@holds_311("3.3.2-3", "4.5.0-1", "4.7.3-4")
def test_a_subscriber_gets_what_its_filter_matches_under_the_name_it_was_sent_to(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(f"{topic}/+/x", version)
    sender = server.join(version)
    for name in ("a/x", "a/y", "x", "a/b/x", "/x", "A/X"):
        sender.publish(f"{topic}/{name}")
    assert [one.topic for one in reader.fence()] == [f"{topic}/a/x", f"{topic}//x"]


FIELDS = {
    Prop.PAYLOAD_FORMAT_INDICATOR: 1,
    Prop.CONTENT_TYPE: "application/json; charset=utf-8",
    Prop.RESPONSE_TOPIC: "answer/é",
    Prop.CORRELATION_DATA: b"\x00\x01\xff",
}
PAIRS = [("b", "2"), ("a", "1"), ("b", "2"), ("", ""), ("é", "𝄞")]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retained", [False, True], ids=["live", "retained"])
@holds_5("3.3.2-4", "3.3.2-15", "3.3.2-16", "3.3.2-17", "3.3.2-18", "3.3.2-20")
def test_properties_of_a_message_reach_every_subscriber_unaltered(server: Server, qos: int, retained: bool) -> None:
    topic = server.new_topic()
    readers = [] if retained else [server.subscriber(topic), server.subscriber(topic)]
    fields = [prop(which, value) for which, value in FIELDS.items()]  # type: ignore[arg-type] # as the table says
    fields[1:1] = [prop(Prop.USER_PROPERTY, pair) for pair in PAIRS]
    server.join().publish(topic, b'{"a": 1}', qos=qos, retain=retained, fields=fields)
    if retained:
        readers = [server.subscriber(topic), server.subscriber(topic)]
    for reader in readers:
        heard = reader.message()
        assert {which: heard.value(which) for which in FIELDS} == FIELDS
        assert heard.all_of(Prop.USER_PROPERTY) == PAIRS


@holds_5("3.3.2-4")
def test_a_payload_format_of_0_is_handed_on_as_0_or_not_at_all(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join().publish(topic, b"\xff", fields=[prop(Prop.PAYLOAD_FORMAT_INDICATOR, 0)])
    assert reader.message().value(Prop.PAYLOAD_FORMAT_INDICATOR) in (0, None)


@holds_5("3.3.2-4")
def test_a_payload_that_is_not_the_utf_8_it_says_it_is_does_not_reach_subscribers(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    sender = server.join()
    sender.send(publish(V5, topic, b"\xff", qos=1, fields=[prop(Prop.PAYLOAD_FORMAT_INDICATOR, 1)]))
    assert sender.next().reason == 0x99
    assert reader.fence() == []


@pytest.mark.parametrize("topic", ["a/+", "a/#", ""])
@holds_5("3.3.2-14", "4.13.1-1")
def test_a_response_topic_with_a_wildcard_or_none_ends_the_connection(server: Server, topic: str) -> None:
    device = server.join()
    device.send(publish(V5, "t", fields=[prop(Prop.RESPONSE_TOPIC, topic)]))
    heard = device.rest()
    assert [one.kind for one in heard] == [Kind.DISCONNECT]
    assert heard[0].reason in (0x81, 0x82, 0x90)


# Topic aliases, from the device.


@holds_5("3.3.2-12", "3.3.2-7")
def test_every_topic_alias_that_was_offered_can_be_used(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(f"{topic}/+")
    sender = server.join()
    most = sender.connack.value(Prop.TOPIC_ALIAS_MAXIMUM)
    for alias in range(1, most + 1):
        sender.publish(f"{topic}/{alias}", b"named", fields=[prop(Prop.TOPIC_ALIAS, alias)])
    for alias in range(1, most + 1):
        sender.publish("", b"aliased", fields=[prop(Prop.TOPIC_ALIAS, alias)])
    heard = reader.messages(2 * most)
    assert [one.topic for one in heard] == [f"{topic}/{alias}" for alias in range(1, most + 1)] * 2
    assert all(one.value(Prop.TOPIC_ALIAS) is None for one in heard)


@holds_5("3.3.2-12")
def test_a_topic_alias_can_be_given_another_topic(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(f"{topic}/+")
    sender = server.join()
    alias = [prop(Prop.TOPIC_ALIAS, 1)]
    for name in (f"{topic}/a", "", f"{topic}/b", ""):
        sender.publish(name, fields=alias)
    assert [one.topic[-1] for one in reader.messages(4)] == ["a", "a", "b", "b"]


@holds_5("3.3.2-8", "4.13.1-1")
def test_topic_alias_0_ends_the_connection(server: Server) -> None:
    device = server.join()
    device.send(publish(V5, "t", fields=[prop(Prop.TOPIC_ALIAS, 0)]))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x94)]


@holds_5("3.3.2-7")
def test_topic_aliases_end_with_the_connection(server: Server) -> None:
    device = server.stay()
    device.publish("somewhere", fields=[prop(Prop.TOPIC_ALIAS, 1)])
    device.leave()
    again = server.stay(V5, device.client_id)
    again.send(publish(V5, "", fields=[prop(Prop.TOPIC_ALIAS, 1)]))
    assert [(one.kind, one.reason) for one in again.rest()] == [(Kind.DISCONNECT, 0x82)]


# Topic aliases, to the device.


@pytest.mark.parametrize("most", [None, 0])
@holds_5("3.1.2-27", "3.1.2-26", "3.3.2-11")
def test_a_device_that_takes_no_topic_aliases_gets_none(server: Server, most: int | None) -> None:
    topic = server.new_topic()
    fields = [] if most is None else [prop(Prop.TOPIC_ALIAS_MAXIMUM, most)]
    reader = server.subscriber(topic, fields=fields)
    sender = server.join()
    for number in range(1, 6):
        sender.publish(topic, packet_id=number)
    heard = reader.messages(5)
    assert {(one.topic, one.value(Prop.TOPIC_ALIAS)) for one in heard} == {(topic, None)}


@holds_5("3.1.2-26", "3.3.2-11", "3.3.2-8", "3.3.2-3")
def test_a_device_gets_no_more_topic_aliases_than_it_takes(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(f"{topic}/+", fields=[prop(Prop.TOPIC_ALIAS_MAXIMUM, 3)])
    sender = server.join()
    sent = [f"{topic}/{number % 6}" for number in range(18)]
    for name in sent:
        sender.publish(name)
    known: dict[int, str] = {}
    meant = []
    for one in reader.messages(18):
        alias = one.value(Prop.TOPIC_ALIAS)
        assert alias is None or 1 <= alias <= 3
        if one.topic and alias:
            known[alias] = one.topic
        meant.append(one.topic or known[alias])
    assert meant == sent


@holds_5("3.3.2-7", "3.3.2-3")
def test_topic_aliases_to_a_device_end_with_the_connection(server: Server) -> None:
    topic = server.new_topic()
    fields = [prop(Prop.TOPIC_ALIAS_MAXIMUM, 5)]
    reader = server.stay(fields=fields)
    reader.subscribe(topic)
    sender = server.join()
    for number in range(1, 4):
        sender.publish(topic, b"%d" % number)
    reader.messages(3)
    reader.leave()
    again = server.stay(V5, reader.client_id, fields=fields)
    assert again.connack.session_present
    heard = again.messages(3)
    assert heard[0].topic == topic  # the alias is said anew, in the redelivery too
    assert [one.payload for one in heard] == [b"1", b"2", b"3"]


# Expiry.


@holds_5("3.3.2-6")
def test_a_message_that_did_not_wait_keeps_its_expiry(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    server.join().publish(topic, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 100)])
    assert reader.message().value(Prop.MESSAGE_EXPIRY_INTERVAL) in (99, 100)


@holds_5("3.3.2-5", "3.3.2-6", "4.3.3-7", "4.3.3-13")
def test_messages_age_while_they_wait(server: Server) -> None:
    live, kept = server.new_topic(), server.new_topic()
    reader = server.stay()
    reader.subscribe(live)
    sender = server.join()
    sender.publish(live, b"sent", qos=2, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 1)])
    sent = reader.message()  # on its way: it is not dropped any more
    reader.leave()
    for topic, retain in ((live, False), (kept, True)):
        sender.publish(topic, b"long", qos=1, retain=retain, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 100)])
    sender.publish(live, b"short", qos=1, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 1)])
    sender.publish(kept + "/short", b"short", retain=True, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 1)])
    sender.send(publish(V5, live, b"over", qos=2, packet_id=9, fields=[prop(Prop.MESSAGE_EXPIRY_INTERVAL, 1)]))
    assert sender.expect(Kind.PUBREC).reason < 0x80
    time.sleep(1.2)  # longer than the short ones live; MQTT counts in seconds
    sender.send(ack(Kind.PUBREL, 9))  # the exchange goes on although the message is over
    assert sender.expect(Kind.PUBCOMP).reason == 0
    again = server.stay(V5, reader.client_id)
    heard = again.message()
    assert (heard.payload, heard.dup, heard.packet_id) == (b"sent", True, sent.packet_id)
    heard = again.message()
    assert (heard.payload, 90 <= heard.value(Prop.MESSAGE_EXPIRY_INTERVAL) <= 99) == (b"long", True)
    assert again.fence() == []
    again.subscribe(f"{kept}/#")
    heard = again.message()
    assert (heard.payload, 90 <= heard.value(Prop.MESSAGE_EXPIRY_INTERVAL) <= 99) == (b"long", True)
    assert again.fence() == []


# Subscriptions that overlap, and their identifiers.


@BOTH
@pytest.mark.parametrize(("sent", "due"), [(0, 0), (1, 1), (2, 2)])
@holds_5("3.3.4-2", "3.8.4-8")
@holds_311("3.3.5-1", "3.8.4-6")
def test_overlapping_subscriptions_give_the_highest_qos_of_them(
    server: Server, version: int, sent: int, due: int
) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version, options=0)
    reader.subscribe(f"{topic}/#", options=2)
    reader.subscribe("+" + topic.removeprefix("topic"), options=1)
    server.join(version).publish(topic, qos=sent)
    assert max(one.qos for one in reader.fence()) == due


@holds_5("3.3.4-3", "3.3.4-4", "3.3.4-5")
def test_identifiers_of_all_matching_subscriptions_come_with_the_message(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(f"{topic}/#", options=0)
    reader.subscribe(f"{topic}/+", identifier=1)
    reader.subscribe(f"{topic}/a", identifier=268_435_455)
    reader.subscribe(f"{topic}/b", identifier=7)
    server.join().publish(f"{topic}/a")
    copies = reader.fence()
    identifiers = [number for one in copies for number in one.all_of(Prop.SUBSCRIPTION_IDENTIFIER)]
    assert sorted(identifiers) == [1, 268_435_455]


@holds_5("3.3.4-3", "3.8.4-3")
def test_a_subscription_that_is_made_anew_has_the_new_identifier_or_none(server: Server) -> None:
    topic = server.new_topic()
    reader = server.join()
    sender = server.join()
    for identifier, due in ((5, [5]), (128, [128]), (0, [])):
        reader.subscribe(topic, identifier=identifier)
        sender.publish(topic)
        assert reader.message().all_of(Prop.SUBSCRIPTION_IDENTIFIER) == due


@holds_5("3.3.4-3")
def test_a_retained_message_comes_with_the_identifier_of_the_subscription(server: Server) -> None:
    topic = server.new_topic()
    server.join().publish(topic, b"kept", retain=True)
    reader = server.join()
    reader.subscribe(topic, identifier=3)
    assert reader.message().all_of(Prop.SUBSCRIPTION_IDENTIFIER) == [3]


@holds_5("3.3.4-3", "4.1.0-1")
def test_an_identifier_outlives_the_connection_with_its_subscription(server: Server) -> None:
    topic = server.new_topic()
    reader = server.stay()
    reader.subscribe(topic, identifier=11)
    reader.leave()
    server.join().publish(topic)
    assert server.stay(V5, reader.client_id).message().all_of(Prop.SUBSCRIPTION_IDENTIFIER) == [11]


@holds_5("3.3.4-6", "4.13.1-1")
def test_a_subscription_identifier_from_a_device_ends_the_connection(server: Server) -> None:
    device = server.join()
    device.send(publish(V5, "t", fields=[prop(Prop.SUBSCRIPTION_IDENTIFIER, 1)]))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x82)]


# Authorisation.


@holds_311("3.3.5-2")
def test_a_message_that_is_refused_is_acknowledged_all_the_same_in_3_1_1(server: Server) -> None:
    sender = server.join(V311)
    assert sender.publish("$SYS/mine", qos=1).raw == b"\x40\x02\x00\x01"
    assert sender.publish("$SYS/mine", qos=2).raw == b"\x50\x02\x00\x01"
    assert sender.publish("numbers/x", b"not a number", qos=1).raw == b"\x40\x02\x00\x01"


@BOTH
@holds_5("3.3.4-1")
@holds_311("3.3.4-1")
def test_a_message_at_qos_0_is_not_acknowledged(server: Server, version: int) -> None:
    sender = server.join(version)
    sender.send(publish(version, "t", b"x"), publish(version, "numbers/x", b"not a number"))
    sender.publish("t", qos=1, packet_id=7)  # the first acknowledgement is for this one
    assert sender.fence() == []


@holds_5("3.3.2-1")
@holds_311("3.3.2-1")
def test_the_topic_name_is_the_first_field_of_a_message(server: Server) -> None:
    topic = server.new_topic()
    for version in (V311, V5):
        reader = server.subscriber(topic, version, options=1)
        server.join(V311).publish(topic, b"payload")
        heard = reader.message()
        assert heard.raw[2:].startswith(text(topic) + heard.packet_id.to_bytes(2, "big"))
