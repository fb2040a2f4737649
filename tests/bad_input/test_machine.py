"""Every row that ends its connection, against the server's state machine: it says the same however its bytes arrive."""

import pytest

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import Connect
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.mqtt.session_state import SessionState
from tests.bad_input.conftest import check_answer
from tests.bad_input.every_row import CUT_BYTES, ROWS
from tests.bad_input.rows import METHOD, Row
from tests.bad_input.wire import connect, frames, publish

BY_ID = {identifier: [row for row in ROWS if row.id == identifier] for identifier in {row.id for row in ROWS}}


def last_words(row: Row, step: int) -> list[bytes] | None:
    """Give the machine a row, so many bytes at a time; return what it says at its end, None: it has not ended."""
    machine = ServerConnection(ServerLimits(), 0.0)
    if row.state == "open":
        machine.receive_data(connect(row.version), 0.0)
        assert isinstance(machine.next_batch(0.0)[0], Connect)
        machine.accept(SessionState(), session_present=False, client_id="row")
        machine.receive_data(publish(row.version, "good"), 0.0)
        assert len(machine.next_batch(0.0)) == 1
        machine.data_to_send()
    try:
        for start in range(0, len(row.send), step):
            machine.receive_data(row.send[start : start + step], 0.0)
            while machine.next_batch(0.0):
                pass
    except RemoteProtocolError as error:
        machine.fail(error)
        return frames(bytes(machine.data_to_send()))
    return None


@pytest.mark.parametrize("identifier", sorted(BY_ID))
def test_a_row_ends_as_it_should_whole_and_byte_by_byte(identifier: str) -> None:
    faults = []
    for row in BY_ID[identifier]:
        if row.expected == "answer" or row.reasons[:1] == (METHOD,):
            continue  # whether a method is served is a matter of the settings: those above the machine know
        for step in (len(row.send), 1) if len(row.send) < CUT_BYTES else (len(row.send),):
            try:
                words = last_words(row, step)
                assert words is not None, "it has not ended"
                check_answer(row, words)
            except AssertionError as error:
                faults.append(f"{row}, {step} bytes at a time: {error}")
    assert not faults, "\n".join(faults)
