"""Topics that repeat are said by alias, where the peer takes that and it saves something."""

import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.client import ClientLimits
from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.flow import Flow
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Packet, Properties, Publish
from mqttproxy.mqtt.server import ServerLimits
from mqttproxy.mqtt.session_state import SessionState
from tests.mqtt.machines import V5, V311, open_client, open_server, said

TOPIC = "sensor/1/temperature"
MANY = [f"sensor/{number}/temperature" for number in range(9)]


def a_device(alias_maximum: int | None = 2, packet_size: int | None = None, to_device: int = 32) -> Flow:
    properties = Properties(topic_alias_maximum=alias_maximum, maximum_packet_size=packet_size)
    return open_server(limits=ServerLimits(topic_aliases_to_device=to_device), properties=properties)


def publish(conn: Flow, topic: str = TOPIC, payload: bytes = b"p", qos: int = 0) -> int:
    """Publish one message and return the size of its packet, 0 if it was too large."""
    return publish_all(conn, Message(topic, payload, qos))[0]


def publish_all(conn: Flow, *messages: Message) -> list[int]:
    sizes = []
    for item in messages:
        conn.publish([(item, None)])
        sizes.append(len(conn.data_to_send()))
    return sizes


class Ears:
    """A peer that takes so many aliases."""

    def __init__(self, maximum: int) -> None:
        limits = DecodeLimits()
        self._decoder = Decoder(version=V5, max_packet_size=2**28, limits=limits, topic_alias_maximum=maximum)

    def hear(self, conn: Flow) -> list[Packet]:
        self._decoder.feed(conn.data_to_send())
        return self._decoder.packets()


def plain(topic: str, payload: bytes = b"p") -> int:
    return len(encode(Publish(topic, payload), V5))


def test_the_second_packet_sets_the_alias_and_the_third_uses_it() -> None:
    conn = a_device()
    sizes = [publish(conn) for _ in range(4)]
    whole = plain(TOPIC)
    assert sizes == [whole, whole + 3, whole + 3 - len(TOPIC), whole + 3 - len(TOPIC)]


def test_the_peer_reads_what_was_meant() -> None:
    conn, ears = a_device(), Ears(2)
    properties = Properties(content_type="x", user_properties=(("a", "b"),))
    messages = [Message(TOPIC, b"%d" % number, number % 3, number % 2 == 0, properties) for number in range(6)]
    messages += [Message(TOPIC, b"plain", 1)] * 2
    conn.publish([(message, None) for message in messages])
    heard = [packet for packet in ears.hear(conn) if isinstance(packet, Publish)]
    assert [Message(one.topic, one.payload, one.qos, one.retain, one.properties) for one in heard] == messages


@pytest.mark.parametrize(("taken", "to_device"), [(None, 32), (0, 32), (5, 0)])
def test_without_aliases_agreed_on_every_packet_has_its_topic(taken: int | None, to_device: int) -> None:
    conn = a_device(taken, to_device=to_device)
    assert [publish(conn) for _ in range(3)] == [plain(TOPIC)] * 3


@pytest.mark.parametrize(("taken", "to_device", "aliases"), [(2, 32, 2), (65_535, 3, 3)])
def test_there_are_never_more_aliases_than_either_end_wants(taken: int, to_device: int, aliases: int) -> None:
    conn, ears = a_device(taken, to_device=to_device), Ears(min(taken, to_device))
    for _ in range(3):
        conn.publish([(Message(topic, b"p"), None) for topic in MANY])
        assert [packet.topic for packet in ears.hear(conn) if isinstance(packet, Publish)] == MANY
    sizes = [publish(conn, topic) for topic in MANY]
    assert sizes == [plain(topic) + 3 - len(topic) for topic in MANY[:aliases]] + [plain(MANY[0])] * (9 - aliases)


def test_short_topics_are_not_worth_an_alias() -> None:
    conn = a_device()
    assert [publish(conn, "a/b/c/d") for _ in range(3)] == [plain("a/b/c/d")] * 3


def test_of_topics_that_never_repeat_only_some_are_remembered() -> None:
    conn = a_device()
    for number in range(1000):
        publish(conn, f"never/again/{number}")
    assert [publish(conn) for _ in range(3)][2] < plain(TOPIC)


def test_a_message_that_would_be_too_large_with_an_alias_goes_without() -> None:
    conn = a_device(packet_size=150)
    payload = b"p" * (149 - plain(TOPIC, b""))
    assert plain(TOPIC, payload) == 150
    assert [publish(conn, payload=payload) for _ in range(3)] == [150, 150, 150]
    assert [publish(conn) for _ in range(2)] == [plain(TOPIC) + 3, plain(TOPIC) + 3 - len(TOPIC)]


def test_a_message_that_is_too_large_without_an_alias_stays_too_large() -> None:
    conn = a_device(packet_size=150)
    for _ in range(3):
        publish(conn)
    message = Message(TOPIC, b"p" * (150 - plain(TOPIC, b"")), 0)
    assert conn.publish([(message, 7)]).too_large == [7]
    assert conn.data_to_send() == b""


def test_the_next_connection_begins_with_whole_topics_and_so_does_what_is_sent_again() -> None:
    session = SessionState()
    takes = Properties(topic_alias_maximum=2)
    conn = open_server(session=session, properties=takes)
    conn.data_to_send()
    conn.publish([(Message(TOPIC, b"p", 1), number) for number in range(3)])
    conn = open_server(session=session, properties=takes)
    assert said(conn)[1:] == [Publish(TOPIC, b"p", 1, packet_id=number, dup=True) for number in (1, 2, 3)]
    assert publish(conn) == plain(TOPIC)


def test_towards_a_broker_aliases_are_used_if_we_want_to() -> None:
    terms = Properties(topic_alias_maximum=1)
    wanting = open_client(terms=terms, limits=ClientLimits(topic_aliases_to_server=8))
    wanting.resume()
    assert [publish(wanting) for _ in range(3)][2] < plain(TOPIC)
    for conn in (open_client(terms=terms), open_client(V311)):
        conn.resume()
        assert len(set(publish_all(conn, *[Message(TOPIC, b"p")] * 3))) == 1


@given(
    taken=st.integers(1, 4),
    packet_size=st.integers(128, 200),
    sent=st.lists(
        st.tuples(
            st.sampled_from(MANY[:6]),
            st.integers(0, 200),
            st.integers(0, 2),
            st.sampled_from([NO_PROPERTIES, Properties(content_type="c" * 20)]),
        ),
        max_size=40,
    ),
)
def test_with_and_without_aliases_the_peer_hears_the_same(
    taken: int, packet_size: int, sent: list[tuple[str, int, int, Properties]]
) -> None:
    heard = []
    for maximum in (None, taken):
        conn, ears = a_device(maximum, packet_size), Ears(maximum or 0)
        of_one = []
        for topic, size, qos, properties in sent:
            result = conn.publish([(Message(topic, b"p" * size, qos, False, properties), None)])
            assert len(conn._out) <= packet_size
            of_one.append((result.too_large, ears.hear(conn)))
        heard.append(of_one)
    assert heard[0] == heard[1]
