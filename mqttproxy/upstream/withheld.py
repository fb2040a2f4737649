"""Bytes to a broker that must not leave before a commit: what they follow from is on disk by then.

The session says which, see `SessionState`: before PUBLISH at QoS 2 its packet identifier, before PUBREL the PUBREC.
"""

from collections import deque
from itertools import islice

from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.stream import ByteStream
from mqttproxy.upstream.errors import FIRST_FAILURE


class Withheld:
    """Of one link."""

    def __init__(self, session: SessionState, stream: ByteStream) -> None:
        self._session = session
        self._stream = stream
        self._held: deque[tuple[int, bytes | bytearray]] = deque()  # after how many commits

    def send(self, data: bytes | bytearray) -> None:
        """Write bytes, or keep them for the commit that they and all behind them must wait for."""
        session = self._session
        if self._held or session.committed < session.holds:
            self._held.append((session.holds, data))
        else:
            self._stream.send_nowait(data)

    def let_go(self) -> None:
        """Write what has waited long enough."""
        held, committed = self._held, self._session.committed
        while held and held[0][0] <= committed:
            self._stream.send_nowait(held.popleft()[1])


def note_begun(session: SessionState, added: int) -> None:
    """Have the packet identifiers of the newest messages put on record, as far as they are of QoS 2."""
    if session.is_durable:
        newest = list(islice(reversed(session.outgoing.items()), added))
        session.begin([packet_id for packet_id, (message, _) in reversed(newest) if message.qos == 2])


def note_ended(session: SessionState, settled: list[Settled]) -> None:
    """Have it noted which exchanges of QoS 2 are over."""
    if not session.is_durable:
        return
    for accepted in (True, False):
        over = [e.packet_id for e in settled if e.message.qos == 2 and (e.reason < FIRST_FAILURE) is accepted]
        if over:
            session.end(over, accepted=accepted)
