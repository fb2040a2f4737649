"""mqttproxy/mqtt/properties.py: each property by its bytes, and each way to get it wrong (BAD-INPUT A4, A11, A12)."""

import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.grammar import PROPERTIES, Kind, PacketType, Property
from mqttproxy.mqtt.limits import DecodeLimits
from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties
from mqttproxy.mqtt.properties import read_properties, without_topic_alias, write_properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.wire import Reader
from tests.mqtt.strategies import properties

P = PacketType
LIMITS = DecodeLimits()
PLACES = sorted({place for row in PROPERTIES for place in row.packets})
# One value of each kind, 1 or "a" throughout, so that it is in every range.
SAMPLES = {
    Kind.BYTE: "01",
    Kind.UINT16: "0001",
    Kind.UINT32: "00000001",
    Kind.VARINT: "01",
    Kind.STRING: "000161",
    Kind.BINARY: "000161",
    Kind.PAIR: "000161000161",
}


def read(text: str, place: PacketType, limits: DecodeLimits = LIMITS) -> Properties:
    """Read properties whose length is given as they stand."""
    data = bytes.fromhex(text)
    reader = Reader(data, 0, len(data))
    found = read_properties(reader, place, limits)
    reader.end()
    return found


def with_length(text: str) -> str:
    return bytes((len(bytes.fromhex(text)),)).hex() + text


def sample(row: Property, place: PacketType) -> str:
    """Return one property, with the method that authentication data must not be without."""
    method = "150001 6d" if row.field == "authentication_data" else ""
    assert place in row.packets
    return f"{row.identifier:02x}" + SAMPLES[row.kind] + method.replace(" ", "")


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_packet_takes_its_properties_and_no_others(place: PacketType) -> None:
    for row in PROPERTIES:
        if place in row.packets:
            found = read(with_length(sample(row, place)), place)
            assert getattr(found, row.field) in (1, "a", b"a", (1,), (("a", "a"),))
        else:
            with pytest.raises(RemoteProtocolError) as caught:
                read(with_length(f"{row.identifier:02x}" + SAMPLES[row.kind]), place)
            assert caught.value.reason is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_property_that_may_stand_once_must_not_stand_twice(place: PacketType) -> None:
    for row in PROPERTIES:
        if place not in row.packets or row.kind is Kind.PAIR:
            continue
        twice = with_length(sample(row, place) + f"{row.identifier:02x}" + SAMPLES[row.kind])
        if row.kind is Kind.VARINT and place is P.PUBLISH:
            assert read(twice, place).subscription_identifiers == (1, 1)
            continue
        with pytest.raises(RemoteProtocolError) as caught:
            read(twice, place)
        assert caught.value.reason is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (P.PUBLISH, "01 02"),
        (P.WILL, "01 ff"),
        (P.SUBSCRIBE, "0b 00"),
        (P.PUBLISH, "0b 00"),
        (P.CONNECT, "17 02"),
        (P.CONNECT, "19 02"),
        (P.CONNECT, "21 0000"),
        (P.CONNACK, "21 0000"),
        (P.CONNACK, "24 02"),
        (P.CONNACK, "25 02"),
        (P.CONNECT, "27 00000000"),
        (P.CONNACK, "28 02"),
        (P.CONNACK, "29 02"),
        (P.CONNACK, "2a 02"),
        (P.CONNECT, "16 0001 61"),  # authentication data without a method
    ],
)
def test_a_bad_value_is_a_protocol_error(place: PacketType, text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(with_length(text.replace(" ", "")), place)
    assert caught.value.reason is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "text",
    [
        "01",  # the length runs over the end
        "02 01",
        "01 01",  # a property without its value
        "02 02 00",
        "03 03 00 05",
        "05 26 0001 61 00",  # the second half of a pair is cut
        "04 03 0001 61 62",  # a byte follows
        "02 00 00",  # no such property
        "03 8001 00",  # nor one of two bytes
        "80 00",  # the length is not minimal
        "ff ff ff ff 00",  # or has five bytes
        "03 0b 80 00",
        "05 0b ff ff ff ff",
        "06 0b 80 80 80 80 01",
        "04 03 0001 ff",  # not UTF-8
        "06 03 0003 eda080",
        "05 03 0002 c080",
        "04 03 0001 00",  # NUL
        "04 03 0001 07",
        "07 26 0001 61 0001 00",
    ],
)
def test_what_cannot_be_read_is_malformed(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(text.replace(" ", ""), P.PUBLISH)
    assert caught.value.reason is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize("topic", ["a/+", "#", ""])
def test_a_response_topic_is_a_topic_name(topic: str) -> None:
    text = "08" + len(topic).to_bytes(2, "big").hex() + topic.encode().hex()
    for place in (P.PUBLISH, P.WILL):
        with pytest.raises(RemoteProtocolError) as caught:
            read(with_length(text), place)
        assert caught.value.reason is ReasonCode.TOPIC_NAME_INVALID


def test_user_properties_are_counted_and_keep_their_order() -> None:
    limits = DecodeLimits(user_properties=3)
    pairs = [f"260001{letter.encode().hex()}000178" for letter in "baba"]
    assert read(with_length("".join(pairs[:3])), P.PUBLISH, limits).user_properties == (
        ("b", "x"),
        ("a", "x"),
        ("b", "x"),
    )
    with pytest.raises(RemoteProtocolError) as caught:
        read(with_length("".join(pairs)), P.PUBLISH, limits)
    assert caught.value.reason is ReasonCode.QUOTA_EXCEEDED


def test_subscription_identifiers_are_counted() -> None:
    limits = DecodeLimits(subscription_identifiers=2)
    assert read("04 0b01 0b02".replace(" ", ""), P.PUBLISH, limits).subscription_identifiers == (1, 2)
    with pytest.raises(RemoteProtocolError) as caught:
        read("06 0b01 0b02 0b03".replace(" ", ""), P.PUBLISH, limits)
    assert caught.value.reason is ReasonCode.QUOTA_EXCEEDED


def test_no_properties_are_one_and_the_same_object() -> None:
    assert read("00", P.PUBLISH) is NO_PROPERTIES
    assert without_topic_alias(Properties(topic_alias=1)) is NO_PROPERTIES
    assert without_topic_alias(Properties(topic_alias=1, content_type="x")) == Properties(content_type="x")


@given(st.data())
def test_what_is_written_is_read_back(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(PLACES))
    wanted = data.draw(properties(place))
    out = bytearray()
    write_properties(out, wanted, place)
    assert read(out.hex(), place) == wanted


@given(st.sampled_from(PLACES), st.binary(max_size=40))
def test_any_bytes_are_properties_that_can_be_written_or_a_protocol_error(place: PacketType, body: bytes) -> None:
    try:
        found = read(with_length(body.hex()), place)
    except RemoteProtocolError:
        return
    out = bytearray()
    try:
        write_properties(out, found, place)
    except LocalProtocolError:
        assert found.topic_alias == 0  # the decoder refuses it with a reason of its own
    else:
        assert read(out.hex(), place) == found
