"""Brokers of our own that put what they receive into the ledger: for rates at which Mosquitto would not fit beside us.

They live in the process that is not killed, keep the sessions of whoever links to them over every lost connection, and
acknowledge at once. They have no subscribers.
"""

from typing import Final

import trio
from attrs import define, field

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import Connect, Disconnect, Publish
from mqttproxy.mqtt.server import ServerConnection, ServerLimits, State
from mqttproxy.mqtt.session_state import SessionState
from tests.faults.ledger import Ledger
from tests.ports import free_port

LIMITS: Final = ServerLimits(receive_maximum=65_535, qos2_awaiting_release=65_535)
READ: Final = 65_536


@define(eq=False)
class Receiver:
    """Broker and ear in one.

    Attributes:
        connections: that were accepted.
        last: when something came.
        errors: what clients did against the protocol, in words. There must be none.

    """

    name: str
    port: int = field(factory=free_port)
    ledger: Ledger | None = None
    is_listening: bool = False
    connections: int = 0
    last: float = 0.0
    errors: list[str] = field(factory=list)
    _sessions: dict[str, SessionState] = field(factory=dict)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def hear_for(self, ledger: Ledger) -> "Receiver":
        """Put into this ledger what arrives from now on."""
        self.ledger = ledger
        return self

    async def run(self) -> None:
        """Serve until cancelled."""
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.is_listening = True
        await trio.serve_listeners(self._talk, listeners)

    async def _talk(self, stream: trio.SocketStream) -> None:
        conn = ServerConnection(LIMITS, trio.current_time())
        try:
            while conn.state is not State.CLOSED and (data := await stream.receive_some(READ)):
                now = trio.current_time()
                conn.receive_data(data, now)
                while events := conn.next_batch(now):
                    if isinstance(events[0], Connect):
                        self._greet(conn, events[0])
                    self._take(conn, events)
                    if isinstance(events[-1], Disconnect):
                        break
                await stream.send_all(conn.data_to_send())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it was killed
        except RemoteProtocolError as error:
            self.errors.append(f"{self.name}: {error}")

    def _greet(self, conn: ServerConnection, connect: Connect) -> None:
        if connect.clean_start:
            self._sessions.pop(connect.client_id, None)
        present = connect.client_id in self._sessions
        session = self._sessions.setdefault(connect.client_id, SessionState())
        conn.accept(session, session_present=present, client_id=connect.client_id)
        self.connections += 1

    def _take(self, conn: ServerConnection, events: list[Event]) -> None:
        assert self.ledger is not None
        receive, name, owed = self.ledger.receive, self.name, []
        for event in events:
            if type(event) is Publish:
                receive(name, event.topic, event.payload)
                if event.qos:
                    owed.append((event.packet_id, event.qos))
        if owed:
            self.last = trio.current_time()
            conn.acknowledge_all(owed)
