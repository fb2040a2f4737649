"""Target `client_machine`: any bytes from a server give events or a RemoteProtocolError, and never another exception.

Besides: what is stored and what waits stays in its bounds, each token comes back at most once, what is said is whole
packets and nothing after the last words.

Input: one byte of choices (see `machine.py`), then the stream.
"""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.machine import ALIASES, AWAITING_RELEASE, LARGEST, PACKET_SIZE, RECEIVE_MAXIMUM, Choices, Program, streams
from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.packets import ConnAck, Connect, Message, Packet, ProtocolVersion, Subscription
from mqttproxy.mqtt.session_state import SessionState
from tests.mqtt.strategies import connacks

__all__ = ["LARGEST", "check", "strategy"]

LIMITS = ClientLimits(
    packet_size=PACKET_SIZE,
    payload_size=256,
    topic_bytes=64,
    topic_levels=8,
    user_properties=4,
    receive_maximum=RECEIVE_MAXIMUM,
    qos2_awaiting_release=AWAITING_RELEASE,
    topic_alias_maximum=2,
    topic_aliases_to_server=ALIASES,
)


def _greetings(version: ProtocolVersion) -> SearchStrategy[Packet]:
    return st.one_of(st.builds(ConnAck, session_present=st.booleans()), connacks(version))


strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=100), streams({version: _greetings(version) for version in ProtocolVersion})
)


class Client(Program):
    """Resumes its session, and subscribes."""

    def handle(self, event: object) -> None:
        """Begin when accepted; all else is as with a server."""
        if isinstance(event, ConnAck) and not event.reason.is_failure:
            assert isinstance(self.conn, ClientConnection)
            sent = self.conn.resume()
            self.unsettled -= {*sent.done, *sent.too_large}
            self.conn.subscribe([Subscription("a/+", 1), Subscription("b")], 7)
            self.conn.unsubscribe(["a/+"])
        super().handle(event)

    def aliases_taken(self) -> int:
        """Return what CONNACK said, and no more than we may use."""
        assert isinstance(self.conn, ClientConnection)
        return min(self.conn.server.topic_alias_maximum, ALIASES)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: last events, error, state."""
    choices = Choices(data[0] if data else 0)
    session = SessionState()
    if choices.has_session:
        outgoing = {number: (Message("t", b"x", 1 + number % 2), number) for number in (1, 2, 3)}
        session.restore(outgoing, released={1}, incoming_qos2={2})
    connect = Connect(client_id="c", version=choices.version, clean_start=not choices.has_session, keep_alive=60)
    conn = ClientConnection(connect, session, LIMITS, now=0.0)
    conn.data_to_send()
    return Client(conn, choices).run(data[1:])
