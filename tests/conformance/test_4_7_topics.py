"""Chapters 4.7 and 4.8: topic names, topic filters, shared subscriptions."""

import pytest

from tests.bad_input.wire import V5, V311
from tests.conformance.device import BOTH, Device, Server
from tests.conformance.packets import Kind, Packet, Prop, ack, prop, publish, subscribe
from tests.conformance.statements import holds_5, holds_311

# Filter, then names below a topic that it matches, then names that it does not.
MATCHES = [
    ("/#", ["", "/a", "/a/b", "/", "//"], ["x"]),
    ("/a/#", ["/a", "/a/b", "/a/b/c"], ["", "/ab", "/b", "/A/b"]),
    ("/+", ["/a", "/b", "/"], ["", "/a/b", "//"]),
    ("/+/b", ["/a/b", "//b"], ["/b", "/a/b/c", "/a/B"]),
    ("/a/+/c", ["/a/b/c", "/a//c"], ["/a/c", "/a/b/d"]),
    ("/+/#", ["/a", "/a/b", "/"], [""]),
    ("/a", ["/a"], ["/a/", "/A", "a", "/a/b"]),
    ("/é", ["/é"], ["/e\u0301"]),
    ("/ ", ["/ "], ["/", "/  "]),
    ("/a//b", ["/a//b"], ["/a/b"]),
]


@BOTH
@pytest.mark.parametrize(("wanted", "inside", "outside"), MATCHES, ids=[one[0] for one in MATCHES])
@holds_5("4.7.1-1", "4.7.1-2", "4.7.3-4", "3.3.2-3")
@holds_311("4.7.1-2", "4.7.1-3", "4.7.3-4", "3.3.2-3")
def test_filters_match_level_by_level_and_character_by_character(
    server: Server, version: int, wanted: str, inside: list[str], outside: list[str]
) -> None:
    topic = server.new_topic()
    reader = server.subscriber(topic + wanted, version)
    sender = server.join(version)
    for name in [*inside, *outside]:
        sender.publish(topic + name)
    assert [one.topic for one in reader.fence()] == [topic + name for name in inside]


BAD_FILTERS = ["", "a/#/b", "a#", "#a", "a/b#", "##", "#/", "a+", "+a", "a/+b/c", "++"]


@BOTH
@pytest.mark.parametrize("wanted", BAD_FILTERS)
@holds_5("4.7.1-1", "4.7.1-2", "4.7.3-1", "3.8.4-7")
@holds_311("4.7.1-2", "4.7.1-3", "4.7.3-1", "3.8.4-5")
def test_filters_with_a_wildcard_in_the_wrong_place_are_refused(server: Server, version: int, wanted: str) -> None:
    device = server.join(version)
    device.send(subscribe(version, (wanted, 0)))
    assert device.next().reasons == (0x8F if version == V5 else 0x80,)


@BOTH
@pytest.mark.parametrize("wanted", ["#", "+", "+/#", "+/+", "/#", "//"])
@holds_5("4.7.1-1", "4.7.1-2")
@holds_311("4.7.1-2", "4.7.1-3")
def test_filters_of_nothing_but_wildcards_and_separators_are_filters(server: Server, version: int, wanted: str) -> None:
    device = server.join(version)
    device.send(subscribe(version, (wanted, 0)))
    assert device.expect(Kind.SUBACK).reasons == (0,)


@BOTH
@holds_5("4.7.1-2", "4.7.3-1")
@holds_311("4.7.1-3", "4.7.3-1")
def test_a_leading_or_trailing_separator_makes_an_empty_level(server: Server, version: int) -> None:
    one = server.new_id()
    readers = {wanted: server.subscriber(wanted, version) for wanted in (f"/{one}", f"+/{one}", f"{one}/+", f"{one}/")}
    sender = server.join(version)
    for name in (f"/{one}", f"{one}/", one):
        sender.publish(name)
    heard = {wanted: [packet.topic for packet in reader.fence()] for wanted, reader in readers.items()}
    assert heard == {
        f"/{one}": [f"/{one}"], f"+/{one}": [f"/{one}"], f"{one}/+": [f"{one}/"], f"{one}/": [f"{one}/"],
    }  # fmt: skip


@BOTH
@holds_5("4.7.2-1")
@holds_311("4.7.2-1")
def test_a_leading_wildcard_does_not_match_dollar_topics(server: Server, version: int) -> None:
    wild = server.join(version)
    wild.subscribe("#", "+/#", "+/broker/#", "+", options=0)
    topic = server.new_topic()
    sender = server.join(version)
    sender.publish("$SYS/broker/x", qos=0)  # refused, or not; nobody with a leading wildcard may hear of it
    sender.publish(f"{topic}/$SYS", qos=0)
    while (name := wild.message().topic) != f"{topic}/$SYS":  # what others have retained comes before
        assert not name.startswith("$")


@BOTH
@holds_5("4.7.3-3")
@holds_311("4.7.3-3")
def test_topics_as_long_as_our_limit_are_served(server: Server, version: int) -> None:
    topic = (server.new_topic() + "/").ljust(1024, "x")
    reader = server.subscriber(topic, version)
    server.join(version).publish(topic)
    assert reader.message().topic == topic


# Shared subscriptions.


@holds_5("4.8.2-1", "4.8.2-2")
@pytest.mark.parametrize(
    "wanted",
    ["$share/", "$share/g", "$share//t", "$share/g/", "$share/+/t", "$share/#/t", "$share/a+/t", "$share/g/a#"],
)
def test_a_shared_subscription_without_a_share_name_or_a_filter_is_refused(server: Server, wanted: str) -> None:
    device = server.join()
    device.send(subscribe(V5, (wanted, 0)))
    assert device.next().reasons == (0x8F,)


def group(server: Server, topic: str, members: int, *, version: int = V5, options: int = 2) -> list[Device]:
    """Return devices with a kept session that share a subscription."""
    devices = [server.stay(version) for _ in range(members)]
    for device in devices:
        assert device.subscribe(f"$share/group/{topic}", options=options).reason == options & 3
    return devices


def heard_by(devices: list[Device]) -> list[tuple[Device, Packet]]:
    return [(device, packet) for device in devices for packet in device.fence()]


@BOTH
@holds_5("4.8.2-1", "4.8.2-2", "3.3.2-3")
def test_each_message_goes_to_one_member_of_each_group(server: Server, version: int) -> None:
    topic = server.new_topic()
    first = group(server, f"{topic}/+", 3, version=version)
    second = server.stay(version)
    second.subscribe(f"$share/other/{topic}/#")
    plain = server.subscriber(f"{topic}/a", version)
    senders = [server.join(version) for _ in range(5)]
    for number, sender in enumerate(senders):
        sender.publish(f"{topic}/a", b"%d" % number)
    due = [b"%d" % number for number in range(5)]
    assert sorted(packet.payload for _, packet in heard_by(first)) == due
    assert [one.payload for one in second.fence()] == due
    assert [one.payload for one in plain.fence()] == due


@pytest.mark.parametrize(("sent", "granted"), [(0, 2), (1, 0), (1, 2), (2, 1), (2, 2)])
@holds_5("4.8.2-3", "3.8.4-8")
def test_a_shared_subscription_has_the_qos_that_was_granted(server: Server, sent: int, granted: int) -> None:
    topic = server.new_topic()
    (device,) = group(server, topic, 1, options=granted)
    server.join().publish(topic, qos=sent)
    assert device.message().qos == min(sent, granted)


@holds_5("4.8.2-4", "4.4.0-1")
def test_what_was_sent_to_a_member_is_completed_when_it_is_back(server: Server) -> None:
    topic = server.new_topic()
    devices = group(server, topic, 2)
    server.join().publish(topic, b"x", qos=2)
    ((chosen, packet),) = heard_by(devices)
    (other,) = (device for device in devices if device is not chosen)
    chosen.send(ack(Kind.PUBREC, packet.packet_id))
    chosen.expect(Kind.PUBREL)
    chosen.leave()
    assert other.fence() == []
    again = server.stay(V5, chosen.client_id)
    assert [one.raw for one in again.fence()] == [ack(Kind.PUBREL, packet.packet_id)]


@holds_5("4.8.2-5")
def test_what_qos_2_has_sent_to_a_member_is_sent_to_nobody_else_when_its_session_ends(server: Server) -> None:
    topic = server.new_topic()
    devices = group(server, topic, 2)
    server.join().publish(topic, b"x", qos=2)
    ((chosen, _),) = heard_by(devices)
    (other,) = (device for device in devices if device is not chosen)
    chosen.leave(b"\xe0\x07\x00\x05" + prop(Prop.SESSION_EXPIRY_INTERVAL, 0))
    assert other.fence() == []
    assert not server.stay(V5, chosen.client_id).connack.session_present


@pytest.mark.parametrize("qos", [1, 2])
@holds_5("4.8.2-6", "4.4.0-2")
def test_what_a_member_refuses_is_sent_to_nobody_else(server: Server, qos: int) -> None:
    topic = server.new_topic()
    devices = group(server, topic, 2)
    server.join().publish(topic, b"x", qos=qos)
    ((chosen, packet),) = heard_by(devices)
    chosen.send(ack(Kind.PUBACK if qos == 1 else Kind.PUBREC, packet.packet_id, 0x97))
    assert heard_by(devices) == []
    chosen.leave()
    assert heard_by([device for device in devices if device is not chosen]) == []
    assert server.stay(V5, chosen.client_id).fence() == []


@holds_5("4.8.2-1", "3.3.1-9")
def test_a_shared_subscription_brings_no_retained_messages(server: Server) -> None:
    topic = server.new_topic()
    server.join().publish(topic, b"kept", retain=True)
    (device,) = group(server, topic, 1)
    assert device.fence() == []


@holds_5("3.10.4-1", "3.10.4-2", "4.8.2-1")
def test_a_member_that_leaves_the_group_gets_nothing_more(server: Server) -> None:
    topic = server.new_topic()
    devices = group(server, topic, 2)
    assert devices[0].unsubscribe(f"$share/other/{topic}", topic).reasons == (0x11, 0x11)
    assert devices[0].unsubscribe(f"$share/group/{topic}").reason == 0
    for number in range(5):
        server.join().publish(topic, b"%d" % number)
    assert devices[0].fence() == []
    assert [one.payload for one in devices[1].fence()] == [b"%d" % number for number in range(5)]


@holds_5("4.8.2-1", "4.5.0-1")
def test_while_a_member_is_away_another_gets_the_messages(server: Server) -> None:
    topic = server.new_topic()
    devices = group(server, topic, 3)
    for device in devices[:2]:
        device.leave()
    for number in range(6):
        server.join().publish(topic, b"%d" % number)
    assert [one.payload for one in devices[2].fence()] == [b"%d" % number for number in range(6)]


@holds_5("4.8.2-1")
def test_a_message_to_the_name_of_a_share_is_for_no_group(server: Server) -> None:
    topic = server.new_topic()
    (device,) = group(server, topic, 1)
    server.join().send(publish(V5, f"$share/group/{topic}", b"x", qos=1))
    server.join(V311).publish(f"$share/group/{topic}")
    assert device.fence() == []


@holds_5("4.8.2-4", "4.5.0-1")
def test_what_qos_1_has_sent_to_a_member_goes_to_another_when_its_session_ends(server: Server) -> None:
    topic = server.new_topic()
    devices = group(server, topic, 2)
    server.join().publish(topic, b"x", qos=1)
    ((chosen, _),) = heard_by(devices)
    (other,) = (device for device in devices if device is not chosen)
    chosen.leave(b"\xe0\x07\x00\x05" + prop(Prop.SESSION_EXPIRY_INTERVAL, 0))
    assert other.message().payload == b"x"


@holds_5("4.8.2-3", "3.3.4-3")
def test_a_shared_subscription_has_an_identifier_of_its_own(server: Server) -> None:
    topic = server.new_topic()
    device = server.join()
    device.subscribe(f"$share/group/{topic}", identifier=5, options=1)
    device.subscribe(topic, identifier=6, options=1)
    server.join().publish(topic)
    found = sorted(number for one in device.fence() for number in one.all_of(Prop.SUBSCRIPTION_IDENTIFIER))
    assert found == [5, 6]


@holds_5("4.6.0-5", "4.8.2-1")
def test_a_group_gets_the_messages_of_one_sender_in_order(server: Server) -> None:
    topic = server.new_topic()
    devices = group(server, topic, 3)
    sender = server.join()
    for number in range(50):
        sender.publish(topic, b"%d" % number, qos=1 + number % 2)
    heard = [[int(one.payload) for one in device.fence()] for device in devices]
    assert sorted(number for one in heard for number in one) == list(range(50))
    assert all(one == sorted(one) for one in heard)
