"""Messages from the peer: each to the caller once, acknowledged in order, never more than was agreed."""

import pytest

from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import LocalProtocolError, RemoteProtocolError
from mqttproxy.mqtt.packets import (
    Disconnect,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    SubAck,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits, State
from mqttproxy.mqtt.session_state import SessionState
from tests.mqtt.machines import V5, V311, hear, message, open_client, open_server, publish, said

NOT_FOUND = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
both_versions = pytest.mark.parametrize("version", [V311, V5])


@both_versions
def test_qos_1_is_handed_out_and_acknowledged_in_order(version: ProtocolVersion) -> None:
    conn = open_server(version)
    hear(conn, publish(5), publish(9), publish(2))
    assert conn.next_batch(1.0) == [publish(5), publish(9), publish(2)]
    assert conn.unacknowledged == 3
    conn.acknowledge_all([(5, 1), (9, 1), (2, 1)])
    assert conn.unacknowledged == 0
    assert said(conn) == [PubAck(5), PubAck(9), PubAck(2)]


def test_a_mixed_batch_is_acknowledged_in_the_order_of_its_arrival() -> None:
    conn = open_server()
    hear(conn, publish(1), publish(2, 2), publish(3))
    conn.next_batch(1.0)
    assert conn.unacknowledged == 3
    conn.acknowledge_all([(1, 1), (2, 2), (3, 1)])
    assert said(conn) == [PubAck(1), PubRec(2), PubAck(3)]


def test_a_refusal_tells_its_reason_in_mqtt_5_and_nothing_in_3_1_1() -> None:
    why = Properties(reason_string="no temperature", user_properties=(("policy", "p"),))
    invalid = ReasonCode.PAYLOAD_FORMAT_INVALID
    conn = open_server(V5)
    hear(conn, publish(1), publish(2, 2))
    conn.next_batch(1.0)
    conn.acknowledge(1, 1, invalid, why)
    conn.acknowledge(2, 2, invalid, why)
    assert said(conn) == [PubAck(1, invalid, why), PubRec(2, invalid, why)]
    assert not conn.session.incoming_qos2  # a negative PUBREC ends the exchange

    conn = open_server(V311)
    hear(conn, publish(1), publish(2, 2))
    conn.next_batch(1.0)
    conn.acknowledge(1, 1, invalid, why)
    conn.acknowledge(2, 2, invalid, why)
    assert said(conn) == [PubAck(1), PubRec(2)]
    assert conn.session.incoming_qos2 == {2}


def test_a_reason_below_0x80_keeps_a_qos_2_exchange_going() -> None:
    conn = open_server()
    hear(conn, publish(2, 2))
    conn.next_batch(1.0)
    conn.acknowledge(2, 2, ReasonCode.NO_MATCHING_SUBSCRIBERS)
    assert conn.session.incoming_qos2 == {2}


@both_versions
def test_c6_a_repeated_qos_2_publish_is_answered_again_and_not_handed_out_again(version: ProtocolVersion) -> None:
    conn = open_server(version)
    hear(conn, publish(7, 2))
    assert len(conn.next_batch(1.0)) == 1
    hear(conn, publish(7, 2, dup=True))
    assert conn.next_batch(1.0) == []
    assert said(conn) == []  # not acknowledged yet: the acknowledgement to come answers both
    conn.acknowledge_all([(7, 2)])
    assert said(conn) == [PubRec(7)]
    hear(conn, publish(7, 2, dup=True))
    assert conn.next_batch(1.0) == []
    assert said(conn) == [PubRec(7)]
    hear(conn, PubRel(7))
    assert conn.next_batch(1.0) == []
    assert said(conn) == [PubComp(7)]
    hear(conn, publish(7, 2))
    assert len(conn.next_batch(1.0)) == 1  # after PUBREL the identifier means a new message


@both_versions
@pytest.mark.parametrize("dup", [False, True])
def test_c6_until_pubrel_an_identifier_means_the_same_message_over_connections_and_restarts(
    version: ProtocolVersion, dup: bool
) -> None:
    # Whatever DUP says: the receiver goes by the packet identifier alone. [MQTT-4.3.3-10], [MQTT-4.1.0-1]
    session = SessionState()
    conn = open_server(version, session=session)
    hear(conn, publish(7, 2))
    conn.acknowledge_all([(packet.packet_id, 2) for packet in conn.next_batch(1.0)])  # type: ignore[union-attr]  # Publish
    restarted = SessionState()
    restarted.restore({}, (), session.incoming_qos2)
    for kept in (session, restarted):
        conn = open_server(version, session=kept)
        hear(conn, publish(7, 2, dup=dup))
        assert conn.next_batch(1.0) == []
        assert said(conn) == [PubRec(7)]
        hear(conn, PubRel(7), publish(7, 2))
        assert len(conn.next_batch(1.0)) == 1
        assert said(conn) == [PubComp(7)]


def test_each_step_of_qos_2_is_told_to_the_session_once() -> None:
    class Noting(SessionState):
        __slots__ = ("notes",)

        def __init__(self) -> None:
            super().__init__()
            self.notes: list[tuple[str, int]] = []

        def keep(self, packet_id: int) -> None:
            super().keep(packet_id)
            self.notes.append(("keep", packet_id))

        def forget(self, packet_id: int) -> None:
            super().forget(packet_id)
            self.notes.append(("forget", packet_id))

        def release(self, packet_id: int) -> None:
            super().release(packet_id)
            self.notes.append(("release", packet_id))

    session = Noting()
    conn = open_server(session=session)
    hear(conn, publish(7, 2), publish(8, 2), publish(9))
    conn.next_batch(1.0)
    conn.acknowledge_all([(7, 2), (8, 2), (9, 1)])
    hear(conn, publish(7, 2, dup=True), PubRel(7), PubRel(7))
    conn.next_batch(1.0)
    conn.publish([(message(1, 2), None)])
    hear(conn, PubRec(1), PubRec(1), PubComp(1))
    conn.next_batch(1.0)
    assert session.notes == [("keep", 7), ("keep", 8), ("forget", 7), ("release", 1)]


def test_c8_a_pubrel_for_nothing_is_answered_so_that_the_peer_can_end_its_exchange() -> None:
    for version, answer in ((V311, PubComp(3)), (V5, PubComp(3, NOT_FOUND))):
        conn = open_server(version)
        hear(conn, PubRel(3))
        assert conn.next_batch(1.0) == []
        assert said(conn) == [answer]
        assert conn.strays == 1


def test_a_pubrel_that_does_not_wait_for_pubrec_is_an_error() -> None:
    conn = open_server()
    hear(conn, publish(3, 2), PubRel(3))
    assert len(conn.next_batch(1.0)) == 1
    with pytest.raises(RemoteProtocolError, match="PUBREL before PUBREC"):
        conn.next_batch(1.0)


@pytest.mark.parametrize("qos", [1, 2])
def test_c5_more_than_the_receive_maximum_is_an_error_in_mqtt_5(qos: int) -> None:
    conn = open_server(V5, limits=ServerLimits(receive_maximum=3))
    hear(conn, *(publish(number, qos) for number in range(1, 5)))
    assert len(conn.next_batch(1.0)) == 3
    with pytest.raises(RemoteProtocolError) as caught:
        conn.next_batch(1.0)
    assert caught.value.reason is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


def test_c5_both_qos_share_the_receive_maximum_until_puback_and_pubcomp() -> None:
    conn = open_server(V5, limits=ServerLimits(receive_maximum=3))
    hear(conn, publish(1), publish(2, 2), publish(3, 2))
    conn.next_batch(1.0)
    conn.acknowledge_all([(1, 1), (2, 2), (3, 2)])
    hear(conn, publish(4))  # PUBREL has not come: two are still counted
    assert len(conn.next_batch(1.0)) == 1
    conn.acknowledge_all([(4, 1)])
    hear(conn, PubRel(2), publish(5), publish(6))
    assert len(conn.next_batch(1.0)) == 2
    hear(conn, publish(7))
    with pytest.raises(RemoteProtocolError):
        conn.next_batch(1.0)


def test_c5_mqtt_3_1_1_has_no_receive_maximum_but_the_caller_sees_how_much_is_open() -> None:
    conn = open_server(V311, limits=ServerLimits(receive_maximum=3))
    hear(conn, *(publish(number) for number in range(1, 11)))
    assert len(conn.next_batch(1.0)) == 10
    assert conn.unacknowledged == 10


def test_c7_messages_that_are_never_released_are_bounded() -> None:
    conn = open_server(V311, limits=ServerLimits(qos2_awaiting_release=2))
    for packet_id in (1, 2):
        hear(conn, publish(packet_id, 2))
        conn.next_batch(1.0)
        conn.acknowledge_all([(packet_id, 2)])
    hear(conn, publish(3, 2))
    with pytest.raises(RemoteProtocolError) as caught:
        conn.next_batch(1.0)
    assert caught.value.reason is ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


def test_c7_a_device_within_its_receive_maximum_is_not_closed_for_releasing_late() -> None:
    conn = open_server(V5, limits=ServerLimits(qos2_awaiting_release=2, receive_maximum=4))
    hear(conn, *(publish(number, 2) for number in range(1, 5)))
    conn.acknowledge_all([(packet.packet_id, 2) for packet in conn.next_batch(1.0)])  # type: ignore[union-attr]  # all Publish
    hear(conn, PubRel(1), publish(5, 2))
    assert len(conn.next_batch(1.0)) == 1


def test_an_acknowledgement_nobody_waits_for_is_our_bug() -> None:
    conn = open_server()
    for qos in (1, 2):
        with pytest.raises(LocalProtocolError):
            conn.acknowledge_all([(1, qos)])
    conn = open_server()
    for qos in (1, 2):
        with pytest.raises(LocalProtocolError):
            conn.acknowledge(1, qos, ReasonCode.QUOTA_EXCEEDED)


def test_good_packets_before_a_bad_one_are_handed_out_first() -> None:
    conn = open_server()
    hear(conn, publish(1), PingReq(), publish(2), SubAck(1, (ReasonCode.SUCCESS,)), publish(3))
    assert conn.next_batch(1.0) == [publish(1), publish(2)]
    assert said(conn) == [PingResp()]
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="SubAck while open"):
            conn.next_batch(1.0)


def test_an_error_behind_packets_without_an_event_is_raised_at_once() -> None:
    conn = open_server()
    conn.receive_data(encode(PingReq(), V5) + b"\x00\x00", 1.0)  # a reserved packet type
    with pytest.raises(RemoteProtocolError):
        conn.next_batch(1.0)
    assert said(conn) == [PingResp()]


def test_nothing_behind_a_disconnect_is_looked_at() -> None:
    conn = open_server()
    hear(conn, publish(1), Disconnect(), publish(2))
    assert conn.next_batch(1.0) == [publish(1), Disconnect()]
    assert conn.state is State.CLOSED
    hear(conn, publish(3))
    assert conn.next_batch(1.0) == []


def test_time_is_noted_of_bytes_and_of_packets() -> None:
    conn = open_server()
    ping = encode(PingReq(), V5)
    conn.receive_data(ping[:1], 5.0)
    conn.next_batch(5.0)
    assert (conn.last_received, conn.last_packet) == (5.0, 0.0)
    conn.receive_data(ping[1:], 6.0)
    conn.next_batch(6.0)
    assert (conn.last_received, conn.last_packet) == (6.0, 6.0)


def test_an_acknowledgement_after_the_end_is_kept_for_the_next_connection() -> None:
    session = SessionState()
    conn = open_server(session=session)
    hear(conn, publish(1), publish(2, 2))
    conn.next_batch(1.0)
    conn.disconnect(ReasonCode.SESSION_TAKEN_OVER)
    conn.data_to_send()
    conn.acknowledge_all([(1, 1), (2, 2)])
    assert conn.data_to_send() == b""

    later = open_server(session=session)
    hear(later, publish(2, 2, dup=True))
    assert later.next_batch(1.0) == []
    assert said(later) == [PubRec(2)]


def test_what_was_not_acknowledged_before_the_connection_was_lost_is_handed_out_again() -> None:
    session = SessionState()
    conn = open_server(session=session)
    hear(conn, publish(2, 2))
    conn.next_batch(1.0)
    later = open_server(session=session)
    hear(later, publish(2, 2, dup=True))
    assert later.next_batch(1.0) == [publish(2, 2, dup=True)]


def test_an_old_connection_cannot_touch_the_exchanges_of_the_next_one() -> None:
    session = SessionState()
    old = open_server(session=session)
    hear(old, publish(2, 2))
    old.next_batch(1.0)
    old.disconnect(ReasonCode.SESSION_TAKEN_OVER)
    new = open_server(session=session)
    hear(new, publish(2, 2))
    new.next_batch(1.0)
    new.acknowledge_all([(2, 2)])
    hear(new, PubRel(2))
    new.next_batch(1.0)
    old.acknowledge_all([(2, 2)])  # would make the device's next message with this identifier a duplicate
    hear(new, publish(2, 2))
    assert len(new.next_batch(1.0)) == 1


def test_the_client_s_end_receives_by_the_same_rules() -> None:
    conn = open_client()
    hear(conn, publish(1, 2), publish(2), publish(1, 2, dup=True))
    assert conn.next_batch(1.0) == [publish(1, 2), publish(2)]
    conn.acknowledge_all([(1, 2), (2, 1)])
    hear(conn, PubRel(1))
    conn.next_batch(1.0)
    assert said(conn) == [PubRec(1), PubAck(2), PubComp(1)]


def test_a_machine_tells_where_it_stands() -> None:
    assert repr(ServerConnection(ServerLimits(), 0.0)) == (
        "<ServerConnection awaiting CONNECT, V5, <SessionState outgoing=0 released=0 incoming_qos2=0>>"
    )
