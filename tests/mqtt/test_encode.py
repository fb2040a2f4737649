"""mqttproxy/mqtt/encode.py: exact bytes, what cannot be said, and what the `mqtt5` package reads of it."""

from collections.abc import Callable
from typing import Any

import mqtt5
import pytest
from hypothesis import assume, given
from msgspec.structs import replace

from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import PUBACK, PUBCOMP, PUBREC, PUBREL, encode, encode_ack_into
from mqttproxy.mqtt.encode_publish import encode_aliased_into, encode_publish_into, stamp, topic_field
from mqttproxy.mqtt.errors import LocalProtocolError
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RetainHandling,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from mqttproxy.mqtt.reasons import ReasonCode
from tests.mqtt.strategies import packets, publishes

V311 = ProtocolVersion.V311
V5 = ProtocolVersion.V5
BOTH = (V311, V5)


@pytest.mark.parametrize(
    ("packet", "version", "expected"),
    [
        (Connect(client_id="c", version=V311), V311, "100d 0004 4d515454 04 02 0000 0001 63"),
        (Connect(client_id="c", keep_alive=60), V5, "100e 0004 4d515454 05 02 003c 00 0001 63"),
        (
            Connect(client_id="", username="u", password=b"p", will=Will("w", b"x", 1, retain=True)),
            V5,
            "101a 0004 4d515454 05 ee 0000 00 0000 00 000177 000178 000175 000170",
        ),
        (ConnAck(), V311, "2002 00 00"),
        (ConnAck(ReasonCode.NOT_AUTHORIZED, properties=Properties(reason_string="x")), V311, "2002 00 05"),
        (ConnAck(session_present=True), V5, "2003 01 00 00"),
        (Publish("a/b", b"hi"), V311, "3007 0003 612f62 6869"),
        (Publish("a", b"", 1, True, NO_PROPERTIES, 10, True), V5, "3b06 0001 61 000a 00"),
        (Publish("", b"x", properties=Properties(topic_alias=2)), V5, "3007 0000 03 230002 78"),
        (Publish("a", b"x", properties=Properties(topic_alias=2)), V311, "3004 0001 61 78"),
        (PubAck(258), V5, "4002 0102"),
        (PubAck(1, ReasonCode.NOT_AUTHORIZED), V5, "4003 0001 87"),
        (PubAck(1, properties=Properties(reason_string="x")), V5, "4008 0001 00 04 1f 0001 78"),
        (PubAck(1, ReasonCode.NOT_AUTHORIZED, Properties(reason_string="x")), V311, "4002 0001"),
        (PubRec(1), V5, "5002 0001"),
        (PubRel(1), V311, "6202 0001"),
        (PubComp(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND), V5, "7003 0001 92"),
        (Subscribe(1, (Subscription("a", 1),)), V311, "8206 0001 0001 61 01"),
        (
            Subscribe(
                1,
                (Subscription("a", 2, True, True, RetainHandling.DO_NOT_SEND),),
                Properties(subscription_identifiers=(200,)),
            ),
            V5,
            "820a 0001 03 0bc801 0001 61 2e",
        ),
        (SubAck(1, (ReasonCode.GRANTED_QOS_1, ReasonCode.NOT_AUTHORIZED)), V311, "9004 0001 01 80"),
        (SubAck(1, (ReasonCode.GRANTED_QOS_1, ReasonCode.NOT_AUTHORIZED)), V5, "9005 0001 00 01 87"),
        (Unsubscribe(1, ("a",)), V5, "a206 0001 00 0001 61"),
        (UnsubAck(1, (ReasonCode.NO_SUBSCRIPTION_EXISTED,)), V311, "b002 0001"),
        (UnsubAck(1, (ReasonCode.NO_SUBSCRIPTION_EXISTED,)), V5, "b004 0001 00 11"),
        (PingReq(), V5, "c000"),
        (PingResp(), V311, "d000"),
        (Disconnect(properties=Properties(reason_string="x")), V311, "e000"),
        (Disconnect(), V5, "e000"),
        (Disconnect(ReasonCode.SERVER_SHUTTING_DOWN), V5, "e001 8b"),
        (Disconnect(properties=Properties(session_expiry_interval=1)), V5, "e007 00 05 11 00000001"),
        (Auth(), V5, "f000"),
        (Auth(ReasonCode.REAUTHENTICATE, Properties(authentication_method="m")), V5, "f006 19 04 15 0001 6d"),
    ],
)
def test_a_packet_becomes_exactly_these_bytes(packet: Packet, version: ProtocolVersion, expected: str) -> None:
    assert encode(packet, version).hex() == expected.replace(" ", "")


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (127 - 3, "7f"),
        (128 - 3, "8001"),
        (16_383 - 3, "ff7f"),
        (16_384 - 3, "808001"),
        (2_097_151 - 3, "ffff7f"),
        (2_097_152 - 3, "80808001"),
    ],
)
def test_the_remaining_length_takes_as_many_bytes_as_it_needs(size: int, length: str) -> None:
    assert encode(Publish("a", bytes(size)), V311).startswith(bytes.fromhex("30" + length + "000161"))


A_PAIR = Properties(user_properties=(("k", "v"),))


@pytest.mark.parametrize(
    ("packet", "versions"),
    [
        (Connect(client_id="c" * 65_536), (V5,)),
        (Connect(client_id="a\0"), (V5,)),
        (Connect(client_id="c"), (V311,)),  # the packet itself says MQTT 5
        (Connect(client_id="c", keep_alive=65_536), (V5,)),
        (Connect(client_id="", version=V311, clean_start=False), (V311,)),
        (Connect(client_id="c", version=V311, password=b"p"), (V311,)),
        (Connect(client_id="c", version=V311, properties=A_PAIR), (V311,)),
        (Connect(client_id="c", properties=Properties(topic_alias=1)), (V5,)),
        (Connect(client_id="c", will=Will("w", b"", 3)), (V5,)),
        (Connect(client_id="c", will=Will("w/#", b"")), (V5,)),
        (Connect(client_id="c", will=Will("w", bytes(65_536))), (V5,)),
        (ConnAck(ReasonCode.NOT_AUTHORIZED, session_present=True), BOTH),
        (ConnAck(ReasonCode.TOPIC_NAME_INVALID), (V311,)),
        (ConnAck(ReasonCode.KEEP_ALIVE_TIMEOUT), BOTH),
        (ConnAck(properties=Properties(receive_maximum=0)), (V5,)),
        (ConnAck(properties=Properties(maximum_qos=2)), (V5,)),
        (ConnAck(properties=Properties(server_keep_alive=65_536)), (V5,)),
        (Publish("", b""), BOTH),
        (Publish("", b"", properties=Properties(topic_alias=1)), (V311,)),
        (Publish("a/+", b""), BOTH),
        (Publish("a\n", b""), BOTH),
        (Publish("a" * 65_536, b""), BOTH),
        (Publish("a", b"", 3, packet_id=1), BOTH),
        (Publish("a", b"", 1), BOTH),
        (Publish("a", b"", 1, packet_id=65_536), BOTH),
        (Publish("a", b"", 0, packet_id=1), BOTH),
        (Publish("a", b"", 0, dup=True), BOTH),
        (Publish("a", b"", properties=Properties(topic_alias=0)), (V5,)),
        (Publish("a", b"", properties=Properties(topic_alias=65_536)), (V5,)),
        (Publish("a", b"", properties=Properties(payload_format_indicator=2)), (V5,)),
        (Publish("a", b"", properties=Properties(message_expiry_interval=-1)), (V5,)),
        (Publish("a", b"", properties=Properties(subscription_identifiers=(0,))), (V5,)),
        (Publish("a", b"", properties=Properties(subscription_identifiers=(268_435_456,))), (V5,)),
        (Publish("a", b"", properties=Properties(response_topic="a/#")), (V5,)),
        (Publish("a", b"", properties=Properties(will_delay_interval=1)), (V5,)),
        (Publish("a", b"", properties=Properties(user_properties=(("k", "\x07"),))), (V5,)),
        (Publish("a", bytes(268_435_456)), BOTH),
        (PubAck(0), BOTH),
        (PubAck(65_536), BOTH),
        (PubAck(1, ReasonCode.SERVER_BUSY), (V5,)),
        (PubRel(1, ReasonCode.NOT_AUTHORIZED), (V5,)),
        (PubAck(1, properties=Properties(content_type="x")), (V5,)),
        (Subscribe(1, ()), BOTH),
        (Subscribe(0, (Subscription("a"),)), BOTH),
        (Subscribe(1, (Subscription("a", 3),)), BOTH),
        (Subscribe(1, (Subscription("a\0"),)), BOTH),
        (Subscribe(1, (Subscription("a", no_local=True),)), (V311,)),
        (Subscribe(1, (Subscription("$share/g/a", no_local=True),)), (V5,)),
        (Subscribe(1, (Subscription("a"),), A_PAIR), (V311,)),
        (Subscribe(1, (Subscription("a"),), Properties(subscription_identifiers=(1, 2))), (V5,)),
        (SubAck(1, ()), BOTH),
        (SubAck(1, (ReasonCode.NO_SUBSCRIPTION_EXISTED,)), BOTH),
        (SubAck(1, (ReasonCode.SERVER_BUSY,)), (V5,)),
        (Unsubscribe(1, ()), BOTH),
        (Unsubscribe(1, ("a",), A_PAIR), (V311,)),
        (UnsubAck(1, ()), (V5,)),
        (UnsubAck(0, ()), (V311,)),
        (Disconnect(ReasonCode.NOT_AUTHORIZED), (V311,)),
        (Disconnect(ReasonCode.BANNED), BOTH),
        (Auth(), (V311,)),
        (Auth(ReasonCode.CONTINUE_AUTHENTICATION), (V5,)),
        (Auth(properties=Properties(authentication_data=b"x")), (V5,)),
        (Message("a", b""), BOTH),
    ],
)
def test_what_mqtt_cannot_say_is_our_own_error(packet: Packet, versions: tuple[ProtocolVersion, ...]) -> None:
    for version in versions:
        with pytest.raises(LocalProtocolError):
            encode(packet, version)


def test_the_hot_helper_leaves_nothing_behind_when_it_refuses() -> None:
    out = bytearray(b"before")
    for message in (Message("a/#", b""), Message("a", bytes(268_435_456)), Message("", b"")):
        with pytest.raises(LocalProtocolError):
            encode_publish_into(out, message, V5, 0, dup=False)
    assert out == b"before"


def test_the_hot_helper_publishes_a_will_without_its_delay() -> None:
    out = bytearray()
    will = Will("a", b"x", properties=Properties(will_delay_interval=5, content_type="t"))
    encode_publish_into(out, will, V5, 0, dup=False)
    assert out == encode(Publish("a", b"x", properties=Properties(content_type="t")), V5)


def test_an_equal_but_other_empty_properties_object_is_said_as_empty() -> None:
    assert encode(Publish("a", b"x", properties=Properties()), V5) == encode(Publish("a", b"x"), V5)
    assert encode(PubAck(1, properties=Properties()), V5) == encode(PubAck(1), V5)


@given(publishes(V5))
def test_the_hot_helper_says_a_publish_as_encode_does(packet: Publish) -> None:
    for version in BOTH:
        out = bytearray(b"before")
        encode_publish_into(out, packet, version, packet.packet_id, packet.dup)
        assert out == b"before" + encode(packet, version)


@pytest.mark.parametrize(("first", "make"), [(PUBACK, PubAck), (PUBREC, PubRec), (PUBREL, PubRel), (PUBCOMP, PubComp)])
def test_the_hot_helper_says_an_acknowledgement_as_encode_does(first: int, make: Callable[[int], Packet]) -> None:
    for packet_id in (1, 255, 256, 65_535):
        out = bytearray(b"before")
        encode_ack_into(out, first, packet_id)
        assert out == b"before" + encode(make(packet_id), V5) == b"before" + encode(make(packet_id), V311)


# What `mqtt5` does not tell apart from the absence of the property.
DEFAULTS: dict[str, Any] = {
    "payload_format_indicator": 0,
    "session_expiry_interval": 0,
    "request_problem_information": 1,
    "request_response_information": 0,
    "will_delay_interval": 0,
    "receive_maximum": 65_535,
    "topic_alias_maximum": 0,
    "retain_available": 1,
    "wildcard_subscription_available": 1,
    "subscription_identifier_available": 1,
    "shared_subscription_available": 1,
}


def without_defaults(properties: Properties) -> Properties:
    return replace(
        properties, **{field: None for field, default in DEFAULTS.items() if getattr(properties, field) == default}
    )


def comparable(packet: Packet) -> Packet:
    if isinstance(packet, PingReq | PingResp):
        return packet
    packet = replace(packet, properties=without_defaults(packet.properties))
    if isinstance(packet, Connect) and packet.will is not None:
        packet = replace(packet, will=replace(packet.will, properties=without_defaults(packet.will.properties)))
    return packet


@given(packets(V5))
def test_another_implementation_reads_what_we_write_and_we_what_it_writes(packet: Packet) -> None:
    assume(packet != Auth())  # 3.15.2.1 allows it without any field; mqtt5 0.8 does not
    ours = encode(packet, V5)
    read, size = mqtt5.read(memoryview(ours))
    assert size == len(ours)
    decoder = Decoder(max_packet_size=1 << 20, limits=DecodeLimits())
    decoder.feed(read.write())
    (back,) = decoder.packets()
    assert comparable(back) == comparable(packet)


STAMPED = stamp((("h", "1"), ("o", "gw")))


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_stamp_is_added_to_what_does_not_have_it(size: int) -> None:
    payload = b"x" * size
    for own, expected in (
        ((), (("h", "1"), ("o", "gw"))),
        ((("a", "b"),), (("a", "b"), ("h", "1"), ("o", "gw"))),
        ((("h", "2"), ("a", "b")), (("h", "2"), ("a", "b"))),
    ):
        properties = Properties(user_properties=own) if own else NO_PROPERTIES
        out = bytearray()
        encode_publish_into(out, Message("t", payload, 1, False, properties), V5, 7, False, STAMPED)
        stamped = Publish("t", payload, 1, False, Properties(user_properties=expected), 7)
        assert bytes(out) == encode(stamped, V5)
        out = bytearray()
        encode_aliased_into(out, Message("t", payload, 1, False, properties), 7, 3, topic_field("t"), STAMPED)
        aliased = bytearray()
        with_stamp = Properties(user_properties=expected)
        encode_aliased_into(aliased, Message("t", payload, 1, False, with_stamp), 7, 3, topic_field("t"))
        assert out == aliased


def test_mqtt_3_1_1_has_no_place_for_a_stamp() -> None:
    out = bytearray()
    encode_publish_into(out, Message("t", b"x"), V311, 0, False, STAMPED)
    assert bytes(out) == encode(Publish("t", b"x"), V311)
