"""From a byte stream to an accepted CONNECT: who is it, may it come in, and who must go for it."""

from math import inf
from typing import Final

import trio

from mqttproxy.access import connack_reason, judge_will, may_have_will
from mqttproxy.access.credentials import Allowed
from mqttproxy.config.model import LimitSettings
from mqttproxy.downstream.admission import Arrival
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.premises import Premises
from mqttproxy.downstream.rights import give_rights
from mqttproxy.downstream.unwelcome import NotWelcome, read_early, refuse
from mqttproxy.mqtt.packets import NO_PROPERTIES, Connect, Properties, ProtocolVersion
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.sessions import SessionsFull
from mqttproxy.transport.stream import ByteStream
from mqttproxy.validation import Identity
from mqttproxy.validation.answers import reason_string

__all__ = ["NotWelcome", "greet", "server_limits"]

FOR_EVER: Final = 0xFFFF_FFFF  # as a session expiry interval


def server_limits(limits: LimitSettings) -> ServerLimits:
    """Return what the state machine needs of `[limits]`."""
    return ServerLimits(
        packet_size_before_connect=limits.packet_size_before_connect,
        packet_size=limits.packet_size,
        payload_size=limits.payload_size,
        topic_bytes=limits.topic_bytes,
        topic_levels=limits.topic_levels,
        client_id_bytes=limits.client_id_bytes,
        user_properties=limits.user_properties,
        receive_maximum=limits.receive_maximum,
        bears_more_than_receive_maximum=limits.receive_maximum_exceeded == "wait",
        qos2_awaiting_release=limits.qos2_awaiting_release,
        topic_alias_maximum=limits.topic_alias_maximum,
        topic_aliases_to_device=limits.topic_aliases_to_device,
        keep_alive=limits.keep_alive,
    )


async def greet(premises: Premises, stream: ByteStream, listener: str) -> Device:
    """Read CONNECT, decide, take over the client identifier, send CONNACK. The caller gives the deadline.

    Raises:
        NotWelcome: it was refused, and told so as far as MQTT allows.
        TransportError: the connection broke.

    """
    connection = ServerConnection(server_limits(premises.limits), trio.current_time())
    connect = await read_early(premises, stream, connection)
    assert isinstance(connect, Connect)  # noqa: S101 # the state machine lets nothing else be the first
    if not connect.client_id and connect.version is ProtocolVersion.V311 and not connect.clean_start:
        refuse(stream, connection, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)  # [MQTT-3.1.3-8]
    client_id = connect.client_id or premises.new_client_id()
    chains = premises.gate.chains
    allowed, identity = await Arrival(premises, stream, connection, connect, client_id, listener).admit()
    _judge_will(premises, stream, connection, connect, identity)
    # While the disk fails, what is withheld makes devices come again: that is our fault, not theirs.
    is_ours = premises.sessions.ledger.journal.trouble is not None
    if not is_ours and (seconds := premises.flapping.admit(client_id, trio.current_time())) is not None:
        premises.alerts.warning("flapping", "flapping", client_id=client_id, peer=str(stream.peer), seconds=seconds)
        refuse(stream, connection, ReasonCode.BANNED)
    await _take_over(premises, client_id)
    if premises.gate.chains is not chains:  # others are in force since the device was looked at
        refuse(stream, connection, ReasonCode.SERVER_BUSY)
    return _enter(premises, stream, connection, connect, (allowed, identity))  # at once, before another can


def _enter(
    premises: Premises,
    stream: ByteStream,
    connection: ServerConnection,
    connect: Connect,
    who: tuple[Allowed, Identity],
) -> Device:
    """Give the device its session, kept or new, and tell it. Nobody is connected by this client identifier."""
    allowed, identity = who
    client_id, cap = identity.client_id, premises.limits.session_expiry
    wanted = wanted_expiry(connect, cap)
    try:
        session, is_present = premises.sessions.open(
            client_id, clean_start=connect.clean_start, expiry=min(wanted, cap)
        )
    except SessionsFull:
        premises.alerts.warning("too_many_sessions", "too_many_sessions", client_id=client_id, peer=str(stream.peer))
        refuse(stream, connection, ReasonCode.QUOTA_EXCEEDED, label="too_many_sessions")
    give_rights(premises, session, identity)
    device = Device(premises, stream, connection, identity, session)
    device.admission = allowed
    method = connect.properties.authentication_method
    terms = NO_PROPERTIES
    if wanted > cap or method is not None:
        terms = Properties(
            session_expiry_interval=int(cap) if wanted > cap else None,
            authentication_method=method,  # [MQTT-4.12.0-5]
            authentication_data=allowed.data,
        )
    try:
        sent = connection.accept(session.state, session_present=is_present, client_id=client_id, extra=terms)
        device.begin(sent, is_present=is_present)
    except BaseException:  # our bug; whoever comes next by this client identifier must not wait for this one to go
        session.device = None
        premises.sessions.close(session)
        raise
    premises.devices[client_id] = device
    return device


def wanted_expiry(connect: Connect, cap: float) -> float:
    """Return how many seconds a device wants its session kept; infinity: for ever. MQTT 3.1.1 only says yes or no."""
    if connect.version is ProtocolVersion.V311:
        return 0.0 if connect.clean_start else float(cap)
    seconds = connect.properties.session_expiry_interval or 0
    return inf if seconds == FOR_EVER else float(seconds)


def _judge_will(
    premises: Premises, stream: ByteStream, connection: ServerConnection, connect: Connect, identity: Identity
) -> None:
    """Refuse a device whose will would be held or refused if it were published now."""
    refusal, ruleset = premises.pipeline.refusal, premises.pipeline.ruleset
    if connect.will is None:
        return
    verdict = may_have_will(connect.will, identity, ruleset.acl)
    if verdict is not None:
        premises.metrics.access_denied.add("will")
    elif not refusal.dry_run:
        verdict = judge_will(connect.will, identity, ruleset.generation)
    if verdict is not None:
        refusal.decided("refused", identity, connect.will, verdict=verdict)
        reason = connack_reason(verdict, is_5=connect.version is ProtocolVersion.V5)
        refuse(stream, connection, reason, f"will: {reason_string(verdict)}", "will_refused")


async def _take_over(premises: Premises, client_id: str) -> None:
    """End the connection that has this client identifier, wholly, before the new one begins. [MQTT-3.1.4-3]."""
    while (other := premises.devices.get(client_id)) is not None:
        other.disconnect(ReasonCode.SESSION_TAKEN_OVER)
        await other.gone.wait()
