"""Target `server_machine`: any bytes from a device give events or a RemoteProtocolError, and never another exception.

Besides: what is stored and what waits stays in its bounds, each token comes back at most once, what is said is whole
packets and nothing after the last words; and a device that does not begin with CONNECT is told nothing.

Input: one byte of choices (see `machine.py`), then the stream.
"""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.machine import ALIASES, AWAITING_RELEASE, LARGEST, PACKET_SIZE, RECEIVE_MAXIMUM, Choices, Program, streams
from mqttproxy.mqtt.packets import Connect, Message, Packet, ProtocolVersion
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.mqtt.session_state import SessionState
from tests.mqtt.strategies import connects

__all__ = ["LARGEST", "check", "strategy"]

LIMITS = ServerLimits(
    packet_size_before_connect=PACKET_SIZE,
    packet_size=PACKET_SIZE,
    payload_size=256,
    topic_bytes=64,
    topic_levels=8,
    user_properties=4,
    receive_maximum=RECEIVE_MAXIMUM,
    qos2_awaiting_release=AWAITING_RELEASE,
    topic_alias_maximum=2,
    topic_aliases_to_device=ALIASES,
)


def _greetings(version: ProtocolVersion) -> SearchStrategy[Packet]:
    return st.one_of(st.just(Connect(client_id="d", version=version, clean_start=False)), connects(version))


strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=100), streams({version: _greetings(version) for version in ProtocolVersion})
)


class Server(Program):
    """Accepts whoever connects, or refuses."""

    def handle(self, event: object) -> None:
        """Answer CONNECT as chosen; all else is as with a client."""
        if isinstance(event, Connect):
            assert isinstance(self.conn, ServerConnection)
            if not self.choices.answers_connect:
                return
            if self.choices.refuses and not self.choices.acknowledges:
                self.conn.refuse(ReasonCode.NOT_AUTHORIZED, "no")
                return
            session = SessionState()
            if self.choices.has_session and not event.clean_start:
                outgoing = {number: (Message("t", b"x", 1 + number % 2), number) for number in (1, 2, 3)}
                session.restore(outgoing, released={1}, incoming_qos2={2})
            self.unsettled = {item[1] for item in session.outgoing.values()}
            present = bool(session.outgoing)
            self.unsettled -= set(self.conn.accept(session, session_present=present, client_id="d").too_large)
        super().handle(event)

    def aliases_taken(self) -> int:
        """Return what CONNECT said, and no more than we may use."""
        assert isinstance(self.conn, ServerConnection)
        told = self.conn.connect and self.conn.connect.properties.topic_alias_maximum
        return min(told or 0, ALIASES)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: last events, error, state."""
    conn = ServerConnection(LIMITS, now=0.0)
    program = Server(conn, Choices(data[0] if data else 0))
    outcome = program.run(data[1:])
    if data[1:2] != b"\x10":
        assert not program.kinds
    return outcome
