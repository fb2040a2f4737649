"""Chapter 3.1: CONNECT, its flags and fields. Sessions are in `test_4_1_sessions.py`, wills in `test_3_01_will.py`."""

import string
import time

import pytest

from tests.bad_input.wire import V5, V311, frame, optional, text
from tests.conformance.device import BOTH, FOR_LONG, Server
from tests.conformance.packets import Kind, Prop, Will, ack, connect, prop, publish, subscribe
from tests.conformance.statements import holds_5, holds_311

FIRST = {
    "PINGREQ": b"\xc0\x00",
    "PUBLISH": publish(V311, "t", b"x"),
    "SUBSCRIBE": subscribe(V311, ("#", 0)),
    "DISCONNECT": b"\xe0\x00",
    "PUBACK": ack(Kind.PUBACK, 1),
    "AUTH": b"\xf0\x00",
    "CONNACK": b"\x20\x02\x00\x00",
}


@pytest.mark.parametrize("data", FIRST.values(), ids=FIRST)
@holds_5("3.1.0-1", "3.14.0-1", "3.2.0-1", "4.13.1-1")
@holds_311("3.1.0-1", "4.8.0-1")
def test_a_connection_that_does_not_begin_with_connect_is_closed_without_a_word(server: Server, data: bytes) -> None:
    assert server.refused(data) == []


@BOTH
@holds_5("3.1.0-2", "3.2.0-2", "4.13.1-1")
@holds_311("3.1.0-2", "4.8.0-1")
def test_a_second_connect_ends_the_connection(server: Server, version: int) -> None:
    device = server.join(version)
    device.send(connect(version, device.client_id))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x82)] * (version == V5)


@pytest.mark.parametrize("name", [b"MQTX", b"mqtt", b"", b"MQTTT", b"MQIsdp"])
@BOTH
@holds_5("3.1.2-1")
@holds_311("3.1.2-1")
def test_another_protocol_name_is_not_served(server: Server, version: int, name: bytes) -> None:
    head = text(name) + bytes([version]) + b"\x02\x00\x3c" + optional(version)
    heard = server.refused(frame(0x10, head + text("c")), version)
    assert [(one.kind, one.reason) for one in heard] in ([], [(Kind.CONNACK, 0x84 if version == V5 else 1)])


@pytest.mark.parametrize("level", [6, 7, 127])
@holds_5("3.1.2-2")
def test_a_protocol_version_of_the_future_is_told_unsupported(server: Server, level: int) -> None:
    heard = server.refused(connect(V5, "c", level=level))
    assert [(one.kind, one.reason) for one in heard] == [(Kind.CONNACK, 0x84)]


@pytest.mark.parametrize("level", [0, 1, 2, 3, 0x84])
@holds_311("3.1.2-2")
def test_a_protocol_level_that_is_not_served_is_told_in_the_words_of_3_1_1(server: Server, level: int) -> None:
    heard = server.refused(connect(V311, "c", level=level), V311)
    assert [(one.kind, one.reason) for one in heard] == [(Kind.CONNACK, 1)]


# Flags that contradict themselves or the fields that follow.
BAD_FLAGS = {
    "reserved": (0x03, b""),
    "will QoS without will": (0x0A, b""),
    "will QoS 2 without will": (0x12, b""),
    "will retain without will": (0x22, b""),
    "will QoS 3": (0x1E, b"will"),
    "will fields missing": (0x06, b""),
    "user name missing": (0x82, b""),
    "user name not announced": (0x02, text("user")),
    "password missing": (0xC2, text("user")),
    "password not announced": (0x82, text("user") + text("password")),
    "will not announced": (0x02, b"will"),
}


@BOTH
@pytest.mark.parametrize(("flags", "fields"), BAD_FLAGS.values(), ids=BAD_FLAGS)
@holds_5(
    *("3.1.2-3", "3.1.2-9", "3.1.2-11", "3.1.2-12", "3.1.2-13", "3.1.2-16", "3.1.2-17", "3.1.2-18", "3.1.2-19"),
    *("3.1.4-1", "3.2.2-6", "3.2.2-7", "4.13.2-1"),
)
@holds_311(
    *("3.1.2-3", "3.1.2-9", "3.1.2-11", "3.1.2-13", "3.1.2-14", "3.1.2-15", "3.1.2-18", "3.1.2-19", "3.1.2-20"),
    *("3.1.2-21", "3.1.4-1"),
)
def test_flags_that_do_not_go_with_the_fields_are_refused(
    server: Server, version: int, flags: int, fields: bytes
) -> None:
    more = optional(version) + text("will/topic") + text("x") if fields == b"will" else fields
    head = text("MQTT") + bytes([version, flags]) + b"\x00\x3c" + optional(version)
    heard = server.refused(frame(0x10, head + text("c") + more), version)
    expected = [(Kind.CONNACK, 0x81, False)] if version == V5 else []
    assert [(one.kind, one.reason, one.session_present) for one in heard] == expected


@holds_311("3.1.2-22", "3.1.4-1")
def test_a_password_needs_a_user_name_in_3_1_1(server: Server) -> None:
    assert server.refused(connect(V311, "c", password=b"secret"), V311) == []


@holds_5("3.1.3-1")
def test_a_password_needs_no_user_name_in_5_0(server: Server) -> None:
    server.join(V5, password=b"token")


@BOTH
@holds_5("3.1.3-1", "3.1.3-3", "3.1.2-9", "3.1.2-17", "3.1.2-19")
@holds_311("3.1.3-1", "3.1.3-3", "3.1.2-9", "3.1.2-19", "3.1.2-21")
def test_all_fields_are_read_in_their_order(server: Server, version: int) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, version)
    device = server.join(version, will=Will(topic, b"payload", qos=1), username="somebody", password=b"secret")
    device.cut()
    assert (reader.message().payload) == b"payload"


@BOTH
@holds_5("3.1.3-3", "3.1.4-1")
@holds_311("3.1.3-3", "3.1.4-1")
def test_a_connect_without_a_client_identifier_field_is_refused(server: Server, version: int) -> None:
    head = text("MQTT") + bytes([version]) + b"\x02\x00\x3c" + optional(version)
    assert [one.reason for one in server.refused(frame(0x10, head), version)] == [0x81] * (version == V5)


@BOTH
@holds_5("3.1.3-5")
@holds_311("3.1.3-5")
def test_client_identifiers_of_1_to_23_letters_and_digits_are_welcome(server: Server, version: int) -> None:
    allowed = string.digits + string.ascii_lowercase + string.ascii_uppercase
    for start in range(0, len(allowed), 23):
        server.join(version, allowed[start : start + 23])
    server.join(version, "Z")


@holds_5("3.1.3-6", "3.1.3-7", "3.2.2-16")
def test_a_device_without_a_client_identifier_is_given_one_of_its_own(server: Server) -> None:
    given = []
    for _ in range(5):
        device = server.dial(V5)
        device.connect("", fields=[FOR_LONG])
        given.append(device.connack.value(Prop.ASSIGNED_CLIENT_IDENTIFIER))
    assert len(set(given)) == 5
    assert all(given)
    again = server.dial(V5)
    assert again.connect(given[0], clean=False, fields=[FOR_LONG]).session_present
    assert again.connack.value(Prop.ASSIGNED_CLIENT_IDENTIFIER) is None


@holds_311("3.1.3-6", "3.1.3-7")
def test_devices_of_3_1_1_without_a_client_identifier_do_not_meet(server: Server) -> None:
    topic = server.new_topic()
    devices = [server.dial(V311) for _ in range(3)]
    for device in devices:
        assert device.connect("").reason == 0
        device.subscribe(topic)
    server.join(V311).publish(topic, b"to all")
    assert [device.message().payload for device in devices] == [b"to all"] * 3


@holds_311("3.1.3-8", "3.1.3-9", "3.2.2-4", "3.2.2-5")
def test_a_session_to_keep_without_a_client_identifier_is_rejected_in_3_1_1(server: Server) -> None:
    heard = server.refused(connect(V311, "", clean=False), V311)
    assert [one.raw for one in heard] == [b"\x20\x02\x00\x02"]


@holds_5("3.1.3-8", "3.1.4-2", "3.2.2-6", "3.2.2-7", "4.13.2-1")
def test_a_client_identifier_that_is_too_long_for_us_is_rejected(server: Server) -> None:
    heard = server.refused(connect(V5, "x" * 1000))
    assert [(one.kind, one.reason, one.session_present) for one in heard] == [(Kind.CONNACK, 0x85, False)]


@holds_311("3.1.3-9", "3.2.2-4", "3.2.2-5")
def test_a_client_identifier_that_is_too_long_for_us_is_rejected_in_3_1_1(server: Server) -> None:
    heard = server.refused(connect(V311, "x" * 1000), V311)
    assert [one.raw for one in heard] == [b"\x20\x02\x00\x02"]


@BOTH
@holds_5("3.1.4-5", "3.2.0-1", "3.2.0-2", "3.2.2-1")
@holds_311("3.1.4-4", "3.2.0-1")
def test_connack_comes_first_and_once(server: Server, version: int) -> None:
    device = server.dial(version)
    topic = server.new_topic()
    packets = subscribe(version, (topic, 0)), publish(version, topic, b"x"), publish(version, topic, qos=1), b"\xc0\x00"
    device.send(connect(version, server.new_id()), *packets)
    first = device.next()
    assert (first.kind, first.reason) == (Kind.CONNACK, 0)
    kinds = [device.next().kind for _ in range(5)]
    assert sorted(kinds) == [Kind.PUBLISH, Kind.PUBLISH, Kind.PUBACK, Kind.SUBACK, Kind.PINGRESP]
    assert Kind.CONNACK not in {packet.kind for packet in device.fence()}


@BOTH
@pytest.mark.parametrize("wrong", ["flags", "client identifier"])
@holds_5("3.1.4-6", "3.2.0-1", "3.14.0-1")
@holds_311("3.1.4-5")
def test_nothing_behind_a_refused_connect_is_done(server: Server, version: int, wrong: str) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic)
    greeting = connect(version, "c", flags=0x03) if wrong == "flags" else connect(version, "x" * 1000)
    heard = server.refused(greeting + publish(version, topic, b"smuggled", qos=1) + b"\xc0\x00", version)
    assert {one.kind for one in heard} <= {Kind.CONNACK}
    assert reader.fence() == []


@BOTH
@holds_5("3.1.4-3")
@holds_311("3.1.4-2")
def test_a_connect_with_a_client_identifier_in_use_ends_the_older_connection(server: Server, version: int) -> None:
    older = server.join(version)
    newer = server.join(version, older.client_id)
    assert [(one.kind, one.reason) for one in older.rest()] == [(Kind.DISCONNECT, 0x8E)] * (version == V5)
    assert newer.fence() == []


@holds_5("3.1.4-3")
@holds_311("3.1.4-2")
def test_a_client_identifier_is_one_whatever_version_it_speaks(server: Server) -> None:
    older = server.join(V5)
    server.join(V311, older.client_id)
    assert [one.reason for one in older.rest()] == [0x8E]


@holds_5("3.1.2-22", "3.2.2-22", "4.13.2-1")
@holds_311("3.1.2-24")
def test_a_device_that_is_silent_for_one_and_a_half_times_its_keep_alive_is_cut(server: Server) -> None:
    began = time.monotonic()
    topic = server.new_topic()
    reader = server.subscriber(topic)
    old = server.join(V311, keep_alive=1, will=Will(topic, b"3.1.1"))
    new = server.join(V5, keep_alive=1, will=Will(topic, b"5.0"))
    assert new.connack.value(Prop.SERVER_KEEP_ALIVE) is None
    assert old.rest() == []
    assert time.monotonic() - began >= 1.4
    assert [(one.kind, one.reason) for one in new.rest()] == [(Kind.DISCONNECT, 0x8D)]
    assert {one.payload for one in reader.messages(2)} == {b"3.1.1", b"5.0"}  # as if the network had failed


@BOTH
@holds_5("3.1.2-22")
@holds_311("3.1.2-24")
def test_any_packet_keeps_a_connection_alive(server: Server, version: int) -> None:
    device = server.join(version, keep_alive=1)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:  # each of them is sent well before the keep alive is over
        time.sleep(0.2)
        device.publish("somewhere", qos=1)
    device.fence()


@holds_5("3.1.2-28")
@pytest.mark.parametrize("asked", [None, 0])
def test_response_information_is_not_given_unasked(server: Server, asked: int | None) -> None:
    fields = [] if asked is None else [prop(Prop.REQUEST_RESPONSE_INFORMATION, asked)]
    assert server.join(V5, fields=fields).connack.value(Prop.RESPONSE_INFORMATION) is None


PROBLEMS = {Prop.REASON_STRING, Prop.USER_PROPERTY}


@pytest.mark.parametrize("qos", [1, 2])
@holds_5("3.1.2-29", "3.4.2-1", "3.5.2-1")
def test_a_refusal_explains_itself_unless_problem_information_is_unwanted(server: Server, qos: int) -> None:
    wants = server.join(V5)
    answer = wants.publish("numbers/a", b"not a number", qos=qos)
    assert (answer.reason, {which for which, _ in answer.properties}) == (0x99, PROBLEMS)
    spare = server.join(V5, fields=[prop(Prop.REQUEST_PROBLEM_INFORMATION, 0)])
    answer = spare.publish("numbers/a", b"not a number", qos=qos)
    assert (answer.reason, answer.properties) == (0x99, ())


@holds_5("3.1.2-29")
def test_what_others_publish_keeps_its_user_properties_without_problem_information(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, fields=[prop(Prop.REQUEST_PROBLEM_INFORMATION, 0)])
    server.join(V5).publish(topic, fields=[prop(Prop.USER_PROPERTY, ("a", "b"))])
    assert reader.message().all_of(Prop.USER_PROPERTY) == [("a", "b")]


@holds_5("3.1.2-29")
def test_answers_without_problem_information_have_none(server: Server) -> None:
    device = server.join(V5, fields=[prop(Prop.REQUEST_PROBLEM_INFORMATION, 0)])
    answers = [
        device.subscribe("a/#/b"),
        device.unsubscribe("never/subscribed"),
        device.publish("$SYS/mine", qos=1),
        device.publish("$SYS/mine", qos=2),
    ]
    device.send(ack(Kind.PUBREC, 7), ack(Kind.PUBREL, 8))
    answers += [device.expect(Kind.PUBREL), device.expect(Kind.PUBCOMP)]
    assert all(answer.reason >= 0x11 and answer.properties == () for answer in answers)


@BOTH
@holds_5("3.1.3-2")
@holds_311("3.1.3-2")
def test_the_client_identifier_tells_whose_session_it_is(server: Server, version: int) -> None:
    one, other = server.stay(version), server.stay(version)
    one.leave()
    other.leave()
    assert not server.stay(version, server.new_id()).connack.session_present
    assert server.stay(version, one.client_id).connack.session_present
    assert server.stay(version, other.client_id.upper()).connack.session_present is False


@holds_5("3.1.2-24", "3.1.2-25")
def test_a_message_larger_than_the_device_takes_is_left_out(server: Server) -> None:
    topic = server.new_topic()
    limits = [prop(Prop.MAXIMUM_PACKET_SIZE, 200), prop(Prop.RECEIVE_MAXIMUM, 1)]
    reader = server.subscriber(topic, fields=limits)
    sender = server.join(V5)
    for qos in (0, 1, 2):
        sender.publish(topic, b"x" * 200, qos=qos)
        sender.publish(topic, b"%d" % qos, qos=qos)
        heard = reader.message()  # what was left out is over: it holds no place in the receive maximum
        assert heard.payload == b"%d" % qos
        assert len(heard.raw) <= 200
        reader.acknowledge(heard)
    assert reader.fence() == []


@holds_5("3.1.2-24")
def test_a_message_of_just_the_size_that_the_device_takes_is_sent(server: Server) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic, options=0, fields=[prop(Prop.MAXIMUM_PACKET_SIZE, 200)])
    room = 200 - len(publish(V5, topic, b"x" * 150)) + 150
    sender = server.join(V5)
    sender.publish(topic, b"y" * (room + 1))
    sender.publish(topic, b"x" * room)
    assert len(reader.message().raw) == 200
    assert reader.fence() == []


@holds_5("3.1.2-24", "3.1.2-25")
def test_a_retained_message_larger_than_the_device_takes_is_left_out(server: Server) -> None:
    topic = server.new_topic()
    server.join(V5).publish(topic, b"x" * 200, retain=True)
    reader = server.subscriber(topic, fields=[prop(Prop.MAXIMUM_PACKET_SIZE, 200)])
    assert reader.fence() == []
