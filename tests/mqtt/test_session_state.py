"""What outlives a connection."""

import pytest

from mqttproxy.mqtt.errors import LocalProtocolError
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState

ITEM = Message("t", b"", 1), None


def test_packet_identifiers_go_round_from_1_to_65535() -> None:
    session = SessionState()
    assert [session.allocate(()) for _ in range(PACKET_ID_MAX)] == list(range(1, 65_536))
    assert session.allocate(()) == 1


def test_a_packet_identifier_in_use_is_skipped() -> None:
    session = SessionState()
    session.outgoing = {1: ITEM, 2: ITEM, 4: ITEM}
    assert session.allocate({3}) == 5


def test_the_last_free_packet_identifier_is_found_and_then_none() -> None:
    session = SessionState()
    session.outgoing = dict.fromkeys(range(1, PACKET_ID_MAX), ITEM)
    assert session.allocate(()) == PACKET_ID_MAX
    session.outgoing[PACKET_ID_MAX] = ITEM
    with pytest.raises(LocalProtocolError):
        session.allocate(())


def test_forgetting_progress_keeps_what_is_to_be_sent_in_its_order() -> None:
    session = SessionState()
    session.outgoing = {7: ITEM, 3: ITEM}
    session.released = {7}
    session.incoming_qos2 = {1}
    session.forget_progress()
    assert list(session.outgoing) == [7, 3]
    assert not session.released
    assert not session.incoming_qos2


def test_each_connection_gets_the_next_number() -> None:
    session = SessionState()
    assert [session.attach(), session.attach()] == [1, 2]
    assert repr(session) == "<SessionState outgoing=0 released=0 incoming_qos2=0>"


def test_a_restored_session_goes_on_where_it_stood() -> None:
    session = SessionState()
    session.restore({7: ITEM, 9: ITEM}, [9], [3])
    assert list(session.outgoing) == [7, 9]
    assert session.released == {9}
    assert session.incoming_qos2 == {3}
    assert session.allocate(()) == 10
