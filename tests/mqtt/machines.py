"""The two machines with a peer made of plain packets, and with each other."""

from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.flow import Flow
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    ConnAck,
    Connect,
    Message,
    Packet,
    Properties,
    ProtocolVersion,
    Publish,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.mqtt.session_state import SessionState

V311 = ProtocolVersion.V311
V5 = ProtocolVersion.V5


def hear(conn: Flow, *packets: Packet, now: float = 1.0) -> None:
    """Let the peer of `conn` send packets."""
    conn.receive_data(b"".join(encode(packet, conn.version) for packet in packets), now)


def said(conn: Flow) -> list[Packet]:
    """Take what `conn` wrote, as packets."""
    decoder = Decoder(version=conn.version, max_packet_size=2**28, limits=DecodeLimits(client_id_bytes=65_535))
    decoder.feed(conn.data_to_send())
    packets = decoder.packets()
    assert not decoder.buffered
    return packets


def greeted_server(connect: Connect | None = None, limits: ServerLimits | None = None) -> ServerConnection:
    """Return a server that has to decide."""
    conn = ServerConnection(limits or ServerLimits(), now=0.0)
    connect = connect or Connect(client_id="d", keep_alive=60)
    conn.receive_data(encode(connect, connect.version), 0.0)
    assert conn.next_batch(0.0) == [connect]
    return conn


def open_server(
    version: ProtocolVersion = V5,
    *,
    limits: ServerLimits | None = None,
    session: SessionState | None = None,
    properties: Properties = NO_PROPERTIES,
) -> ServerConnection:
    """Return a server that has accepted and whose CONNACK is taken; with a session the device resumes it."""
    connect = Connect(client_id="d", version=version, clean_start=session is None, keep_alive=60, properties=properties)
    conn = greeted_server(connect, limits)
    conn.accept(session or SessionState(), session_present=session is not None, client_id="d")
    if session is None or not session.outgoing:
        conn.data_to_send()
    return conn


def new_client(
    version: ProtocolVersion = V5,
    *,
    session: SessionState | None = None,
    limits: ClientLimits | None = None,
    properties: Properties = NO_PROPERTIES,
    keep_alive: int = 60,
) -> ClientConnection:
    """Return a client whose CONNECT is taken."""
    connect = Connect(
        client_id="c", version=version, clean_start=session is None, keep_alive=keep_alive, properties=properties
    )
    conn = ClientConnection(connect, session or SessionState(), limits or ClientLimits(), now=0.0)
    conn.data_to_send()
    return conn


def open_client(
    version: ProtocolVersion = V5,
    *,
    session: SessionState | None = None,
    session_present: bool = False,
    terms: Properties = NO_PROPERTIES,
    limits: ClientLimits | None = None,
) -> ClientConnection:
    """Return a client that was accepted, before `resume`."""
    conn = new_client(version, session=session, limits=limits)
    hear(conn, ConnAck(ReasonCode.SUCCESS, session_present, terms), now=0.0)
    assert len(conn.next_batch(0.0)) == 1
    return conn


def message(number: int, qos: int = 1, topic: str = "t", retain: bool = False) -> Message:
    """Return a message that can be told from others."""
    return Message(topic, b"%d" % number, qos, retain)


def publish(packet_id: int, qos: int = 1, *, dup: bool = False, payload: bytes = b"p") -> Publish:
    """Return a PUBLISH."""
    return Publish("t", payload, qos, packet_id=packet_id, dup=dup)
