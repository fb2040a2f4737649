"""Our own messages: within the peer's limits, in order, each token back exactly once."""

import pytest

from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.events import Sent, Settled
from mqttproxy.mqtt.expiry import timed
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Message,
    Packet,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Timed,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.sender import State
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState
from tests.mqtt.machines import V5, V311, greeted_server, hear, message, open_client, open_server, said

NOT_FOUND = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
SUCCESS = ReasonCode.SUCCESS
both_versions = pytest.mark.parametrize("version", [V311, V5])


def as_publish(number: int, packet_id: int, qos: int = 1, *, dup: bool = False) -> Publish:
    return Publish("t", b"%d" % number, qos, packet_id=packet_id, dup=dup)


@both_versions
def test_each_qos_has_its_exchange_and_its_token_back(version: ProtocolVersion) -> None:
    conn = open_client(version)
    items = [(message(0, 0), "zero"), (message(1, 1), "one"), (message(2, 2), "two"), (message(3, 0), None)]
    assert conn.publish(items) == Sent(["zero"], [])
    assert said(conn) == [as_publish(0, 0, 0), as_publish(1, 1), as_publish(2, 2, 2), as_publish(3, 0, 0)]
    hear(conn, PubAck(1), PubRec(2))
    assert conn.next_batch(1.0) == [Settled("one", SUCCESS, 1, NO_PROPERTIES, message(1))]
    assert said(conn) == [PubRel(2)]
    hear(conn, PubComp(2))
    assert conn.next_batch(1.0) == [Settled("two", SUCCESS, 2, NO_PROPERTIES, message(2, 2))]
    assert not conn.session.outgoing
    assert not conn.session.released


@pytest.mark.parametrize(("qos", "answer"), [(1, PubAck), (2, PubRec)])
def test_h4_a_refusal_is_final_and_told(qos: int, answer: type[PubAck | PubRec]) -> None:
    conn = open_client()
    conn.publish([(message(1, qos), "token")])
    why = Properties(reason_string="no")
    hear(conn, answer(1, ReasonCode.NOT_AUTHORIZED, why))
    assert conn.next_batch(1.0) == [Settled("token", ReasonCode.NOT_AUTHORIZED, 1, why, message(1, qos))]
    assert not conn.session.outgoing


def test_a_pubcomp_that_does_not_know_the_message_ends_the_exchange_in_peace() -> None:
    conn = open_client()
    conn.publish([(message(1, 2), "token")])
    hear(conn, PubRec(1), PubComp(1, NOT_FOUND))
    [settled] = conn.next_batch(1.0)
    assert isinstance(settled, Settled)
    assert settled.reason is SUCCESS  # it was accepted with PUBREC


def test_a_repeated_pubrec_is_answered_again() -> None:
    conn = open_client()
    conn.publish([(message(1, 2), "token")])
    conn.data_to_send()
    hear(conn, PubRec(1), PubRec(1))
    assert conn.next_batch(1.0) == []
    assert said(conn) == [PubRel(1), PubRel(1)]


@pytest.mark.parametrize(
    ("packet", "v5_answer"), [(PubAck(9), []), (PubRec(9), [PubRel(9, NOT_FOUND)]), (PubComp(9), [])]
)
def test_c8_h2_acknowledgements_for_nothing_are_counted_and_ignored(packet: Packet, v5_answer: list[Packet]) -> None:
    for version, answer in ((V311, []), (V5, v5_answer)):
        conn = open_server(version)
        hear(conn, packet)
        assert conn.next_batch(1.0) == []
        assert said(conn) == answer
        assert conn.strays == 1


@pytest.mark.parametrize(("qos", "wrong"), [(1, PubRec(1)), (1, PubComp(1)), (2, PubAck(1)), (2, PubComp(1))])
def test_c8_an_acknowledgement_of_the_wrong_type_is_an_error_in_mqtt_5_only(qos: int, wrong: Packet) -> None:
    conn = open_server(V311)
    conn.publish([(message(1, qos), "token")])
    hear(conn, wrong)
    assert conn.next_batch(1.0) == []
    assert conn.strays == 1
    assert conn.session.outgoing
    conn = open_server(V5)
    conn.publish([(message(1, qos), "token")])
    hear(conn, wrong)
    with pytest.raises(RemoteProtocolError, match="wrong step") as caught:
        conn.next_batch(1.0)
    assert caught.value.reason is ReasonCode.PROTOCOL_ERROR


def test_the_quota_is_the_peer_s_receive_maximum_less_what_is_in_flight() -> None:
    conn = open_client(terms=Properties(receive_maximum=2))
    assert conn.send_quota == 2
    conn.publish([(message(0, 0), None)] * 5)
    assert conn.send_quota == 2
    conn.publish([(message(1), 1), (message(2, 2), 2), (message(0, 0), None)])
    assert conn.send_quota == 0
    hear(conn, PubRec(2))
    conn.next_batch(1.0)
    assert conn.send_quota == 0  # until PUBCOMP
    hear(conn, PubComp(2), PubAck(1))
    conn.next_batch(1.0)
    assert conn.send_quota == 2


def test_more_than_the_quota_is_our_bug_and_nothing_of_it_is_sent() -> None:
    conn = open_client(terms=Properties(receive_maximum=2))
    with pytest.raises(LocalProtocolError):
        conn.publish([(message(number), number) for number in range(3)])
    assert conn.data_to_send() == b""
    assert not conn.session.outgoing


def test_without_a_receive_maximum_packet_identifiers_are_the_quota() -> None:
    conn = open_client(V311)
    conn.publish([(message(1), 1)] * 65_535)
    assert conn.send_quota == 0


def test_nothing_can_be_published_before_the_connection_is_accepted() -> None:
    conn = greeted_server()
    assert conn.send_quota == 0
    with pytest.raises(LocalProtocolError):
        conn.publish([(message(0, 0), None)])


def test_after_the_end_qos_0_is_lost_and_more_is_our_bug() -> None:
    conn = open_server()
    conn.disconnect(SUCCESS)
    last_words = conn.data_to_send()
    assert last_words
    assert conn.publish([(message(0, 0), "token")]) == Sent(["token"], [])
    assert conn.data_to_send() == b""
    with pytest.raises(LocalProtocolError):
        conn.publish([(message(1), 1)])


def test_h3_a_message_larger_than_the_peer_takes_is_given_back() -> None:
    conn = open_client(terms=Properties(maximum_packet_size=20))
    fits, large = Message("t", b"x" * 12, 1), Message("t", b"x" * 13, 1)
    assert conn.publish([(large, 1), (fits, 2), (Message("t", b"x" * 20), 3)]) == Sent([], [1, 3])
    assert [item[1] for item in conn.session.outgoing.values()] == [2]
    data = conn.data_to_send()
    assert len(data) == 20


def test_h3_a_message_is_made_less_where_the_server_takes_less() -> None:
    conn = open_client(terms=Properties(maximum_qos=1, retain_available=0))
    conn.publish([(message(1, 2, retain=True), "token")])
    assert said(conn) == [as_publish(1, 1)]
    conn = open_client(terms=Properties(maximum_qos=0))
    assert conn.publish([(message(1, 2), "token")]) == Sent(["token"], [])


def a_session(*numbers: int, qos: int = 1) -> SessionState:
    session = SessionState()
    session.outgoing = {number: (message(number, qos), number) for number in numbers}
    return session


@both_versions
def test_a_kept_session_is_sent_again_with_the_same_identifiers_and_dup(version: ProtocolVersion) -> None:
    session = a_session(7, 3, 5, qos=2)
    session.released = {3}
    conn = open_client(version, session=session, session_present=True)
    assert conn.send_quota == 0
    assert conn.resume() == Sent([], [])
    assert said(conn) == [PubRel(3), as_publish(7, 7, 2, dup=True), as_publish(5, 5, 2, dup=True)]


@both_versions
def test_a_lost_session_is_sent_as_new(version: ProtocolVersion) -> None:
    session = a_session(7, 3, qos=2)
    session.released = {3}
    session.incoming_qos2 = {1}
    conn = open_client(version, session=session, session_present=False)
    conn.resume()
    assert said(conn) == [as_publish(7, 7, 2), as_publish(3, 3, 2)]
    assert not session.incoming_qos2


def test_what_is_over_a_lower_receive_maximum_is_sent_first_as_room_is_made() -> None:
    conn = open_client(session=a_session(1, 2, 3, 4), session_present=True, terms=Properties(receive_maximum=2))
    conn.resume()
    assert said(conn) == [as_publish(1, 1, dup=True), as_publish(2, 2, dup=True)]
    assert conn.send_quota == 0
    hear(conn, PubAck(1))
    conn.next_batch(1.0)
    assert said(conn) == [as_publish(3, 3, dup=True)]
    assert conn.send_quota == 0
    hear(conn, PubAck(2), PubAck(3))
    conn.next_batch(1.0)
    assert said(conn) == [as_publish(4, 4, dup=True)]
    assert conn.send_quota == 1


def test_releasing_counts_against_the_receive_maximum_but_never_waits_for_it() -> None:
    session = a_session(1, 2, 3, qos=2)
    session.released = {1, 2}
    conn = open_client(session=session, session_present=True, terms=Properties(receive_maximum=1))
    conn.resume()
    assert said(conn) == [PubRel(1), PubRel(2)]
    hear(conn, PubComp(1), PubComp(2))
    conn.next_batch(1.0)
    assert said(conn) == [as_publish(3, 3, 2, dup=True)]


def test_an_acknowledgement_for_what_is_not_sent_again_yet_is_ignored() -> None:
    session = a_session(1, 2, qos=1)
    conn = open_client(session=session, session_present=True, terms=Properties(receive_maximum=1))
    hear(conn, PubAck(1), PubRec(1), PubComp(1))
    assert conn.next_batch(1.0) == []
    conn.resume()
    hear(conn, PubAck(2))
    assert conn.next_batch(1.0) == []
    assert conn.strays == 4
    assert list(session.outgoing) == [1, 2]
    conn = open_client(session=a_session(1, 2, qos=2), session_present=True, terms=Properties(receive_maximum=1))
    conn.resume()
    hear(conn, PubRec(2))
    assert conn.next_batch(1.0) == []
    assert not conn.session.released


def test_h3_a_session_meets_a_server_that_came_back_with_lower_limits() -> None:
    session = a_session(1, qos=2)
    session.outgoing[2] = Message("t", b"x" * 100, 1), 2
    terms = Properties(maximum_qos=0, maximum_packet_size=50)
    conn = open_client(session=session, session_present=True, terms=terms)
    assert conn.resume() == Sent([1], [2])
    assert said(conn) == [as_publish(1, 0, 0)]
    assert not session.outgoing
    assert conn.send_quota == 65_535


def test_resuming_twice_sends_nothing_twice() -> None:
    conn = open_client(session=a_session(1), session_present=True)
    conn.resume()
    conn.data_to_send()
    conn.resume()
    assert conn.data_to_send() == b""


@both_versions
def test_a_session_put_back_after_a_restart_is_sent_again_in_order(version: ProtocolVersion) -> None:
    session = SessionState()
    outgoing = {number: (message(number, qos), number) for number, qos in ((9, 2), (4, 1), (5, 2), (2, 2))}
    session.restore(outgoing, {9, 5}, ())
    conn = open_server(version, session=session)
    [_, *again] = said(conn)
    assert again == [PubRel(9), PubRel(5), as_publish(4, 4, dup=True), as_publish(2, 2, 2, dup=True)]
    conn.publish([(message(1), 1)])
    assert said(conn) == [as_publish(1, 3)]


def test_what_is_sent_again_tells_what_is_left_of_its_life() -> None:
    session = SessionState()
    interval = Properties(message_expiry_interval=10)
    outgoing = [timed(Message("t", b"%d" % number, 1, False, interval), -7.5 * number) for number in (0, 1, 2)]
    session.restore({n + 1: (item, n) for n, item in enumerate(outgoing)}, (), ())
    session.outgoing[4] = Timed("t", b"3", 1, expires_at=-1.0), 3
    conn = open_server(session=session)
    left = [packet.properties.message_expiry_interval for packet in said(conn) if isinstance(packet, Publish)]
    assert left == [10, 3, 1, None]  # what is over too, because its delivery has begun


def test_a_server_sends_again_behind_connack() -> None:
    conn = open_server(session=a_session(1, 2), properties=Properties(receive_maximum=1))
    assert said(conn)[1:] == [as_publish(1, 1, dup=True)]


def test_explanations_are_left_out_where_the_device_does_not_want_them() -> None:
    why = Properties(reason_string="no", user_properties=(("policy", "p"),))
    conn = open_server(V5, properties=Properties(request_problem_information=0))
    hear(conn, Publish("t", b"", 1, packet_id=1))
    conn.next_batch(1.0)
    conn.acknowledge(1, 1, ReasonCode.PAYLOAD_FORMAT_INVALID, why)
    assert said(conn) == [PubAck(1, ReasonCode.PAYLOAD_FORMAT_INVALID)]
    assert not conn.wants_problem_information


def test_explanations_are_left_out_where_they_make_a_packet_too_large() -> None:
    conn = open_server(V5, properties=Properties(maximum_packet_size=128))
    hear(conn, Publish("t", b"", 1, packet_id=1), Publish("t", b"", 1, packet_id=2))
    conn.next_batch(1.0)
    invalid = ReasonCode.PAYLOAD_FORMAT_INVALID
    conn.acknowledge(1, 1, invalid, Properties(reason_string="no", user_properties=(("p", "x" * 120),)))
    conn.acknowledge(2, 1, invalid, Properties(reason_string="n" * 130, user_properties=(("p", "x"),)))
    assert said(conn) == [PubAck(1, invalid, Properties(reason_string="no")), PubAck(2, invalid)]


def test_what_is_to_be_sent_is_given_once() -> None:
    conn = ServerConnection(ServerLimits(), 0.0)
    assert conn.state is State.AWAITING_CONNECT
    assert conn.data_to_send() == b""
    conn = open_server()
    conn.publish([(message(0, 0), None)])
    assert conn.data_to_send()
    assert conn.data_to_send() == b""


def a_doubtful_session() -> SessionState:
    session = SessionState()
    session.doubt()
    return session


@both_versions
def test_a_doubtful_identifier_is_released_before_its_first_use_at_qos_2(version: ProtocolVersion) -> None:
    session = a_doubtful_session()
    conn = open_client(version, session=session, session_present=True)
    conn.publish([(message(1, 1), 1), (message(2, 2), 2), (message(3, 0), None), (message(4, 2), 4)])
    assert said(conn) == [
        *(PubRel(2), PubRel(3)),
        *(as_publish(1, 1), as_publish(2, 2, 2), as_publish(3, 0, 0), as_publish(4, 3, 2)),
    ]
    hear(conn, PubComp(2), PubRec(2), PubRec(3), PubComp(2), PubComp(3))
    assert [event.token for event in conn.next_batch(1.0) if isinstance(event, Settled)] == [2, 4]
    assert conn.strays == 0
    assert said(conn) == [PubRel(2), PubRel(3)]
    session.outgoing.clear()
    session.last_packet_id = 0
    conn.publish([(message(number, 2), number) for number in (5, 6)])
    assert said(conn) == [PubRel(1), as_publish(5, 1, 2), as_publish(6, 2, 2)]  # only at QoS 2, and only once


def test_an_unknown_identifier_is_as_good_as_a_released_one() -> None:
    conn = open_client(session=a_doubtful_session(), session_present=True)
    conn.publish([(message(1, 2), 1)])
    hear(conn, PubComp(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))
    assert conn.next_batch(1.0) == []
    hear(conn, PubComp(1))
    with pytest.raises(RemoteProtocolError):
        conn.next_batch(1.0)


def test_what_was_sent_under_a_doubtful_identifier_and_not_answered_is_released_again_before_it_is_sent_again() -> None:
    session = a_doubtful_session()
    conn = open_client(session=session, session_present=True)
    conn.publish([(message(number, 2), number) for number in (1, 2)])
    hear(conn, PubComp(1))
    conn.next_batch(1.0)
    conn = open_client(session=session, session_present=True)
    conn.resume()
    assert said(conn) == [PubRel(2), as_publish(1, 1, 2, dup=True), as_publish(2, 2, 2, dup=True)]
    conn = open_client(session=session, session_present=False)
    conn.resume()
    assert said(conn) == [as_publish(1, 1, 2), as_publish(2, 2, 2)]


def test_what_is_too_large_releases_nothing_and_a_release_makes_nothing_too_large() -> None:
    terms = Properties(maximum_packet_size=10)
    conn = open_client(session=a_doubtful_session(), session_present=True, terms=terms)
    assert conn.publish([(Message("t", b"12", 2), 1), (Message("t", b"x" * 9, 2), 2)]) == Sent([], [2])
    assert [type(packet) for packet in said(conn)] == [PubRel, Publish]


def lost_with(qos: int, count: int) -> SessionState:
    """Return a session of a link that was lost with messages in flight: packet identifiers 1, 2, …"""
    session = SessionState()
    open_client(session=session, session_present=True).publish(
        [(message(number, qos), number) for number in range(1, count + 1)]
    )
    return session


@pytest.mark.parametrize(("qos", "answers"), [(1, (PubAck,)), (2, (PubRec, PubComp))])
def test_what_must_go_alone_goes_alone_in_its_order(
    qos: int, answers: tuple[type[PubAck | PubRec | PubComp], ...]
) -> None:
    conn = open_client(session=lost_with(qos, 4), session_present=True)
    conn.alone = {2, 3}
    conn.resume()
    for expected in ([1], [2], [3], [4]):
        publishes = [packet for packet in said(conn) if isinstance(packet, Publish)]
        assert [packet.packet_id for packet in publishes] == expected
        assert conn.in_flight == expected
        assert conn.is_careful == (expected != [4])
        assert conn.send_quota == (0 if expected != [4] else PACKET_ID_MAX - 1)
        for answer in answers:
            hear(conn, answer(expected[0]))
            conn.next_batch(1.0)
    assert not conn.session.outgoing


def test_nothing_new_goes_while_the_last_that_must_go_alone_is_in_flight() -> None:
    conn = open_client(session=lost_with(1, 1), session_present=True)
    conn.alone = {1}
    conn.resume()
    assert conn.send_quota == 0
    with pytest.raises(LocalProtocolError):
        conn.publish([(message(9, 1), None)])
    hear(conn, PubAck(1))
    conn.next_batch(1.0)
    assert conn.send_quota == PACKET_ID_MAX
    assert not conn.is_careful


def test_what_has_pubrec_is_not_in_flight_any_more_and_counts_as_taken_once() -> None:
    conn = open_client()
    conn.publish([(message(1, 2), 1), (message(2, 2), 2)])
    hear(conn, PubRec(1), PubRec(1))
    conn.next_batch(1.0)
    assert conn.in_flight == [2]
    assert conn.releases == 1


@pytest.mark.parametrize("qos", [1, 2])
def test_the_identifier_of_a_message_that_was_given_up_is_in_doubt_at_qos_2(qos: int) -> None:
    session = lost_with(qos, 2)
    assert session.give_up(1) == (message(1, qos), 1)
    conn = open_client(session=session, session_present=True)
    conn.resume()
    assert said(conn) == [as_publish(2, 2, qos, dup=True)]
    session.last_packet_id = 0
    conn.publish([(message(3, 2), 3)])
    # The peer may hold the other one under this identifier, and would take the new one for it.
    assert said(conn) == [*([PubRel(1)] if qos == 2 else []), as_publish(3, 1, 2)]
