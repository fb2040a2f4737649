"""From a byte stream to an accepted CONNECT: who is it, may it come in, and who must go for it."""

from math import ceil, inf
from typing import Final

import trio

from mqttproxy.access import connack_reason, judge_will, may_have_will
from mqttproxy.access.credentials import Allowed
from mqttproxy.config.model import LimitSettings
from mqttproxy.downstream.admission import Arrival, owner_of
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.premises import Premises
from mqttproxy.downstream.refusing import note_connect
from mqttproxy.downstream.rights import give_rights
from mqttproxy.downstream.unwelcome import NotWelcome, read_early
from mqttproxy.mqtt.packets import NO_PROPERTIES, Connect, Properties, ProtocolVersion
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.sessions import SessionsFull
from mqttproxy.transport.stream import ByteStream
from mqttproxy.validation import Identity, Verdict
from mqttproxy.validation.answers import answer_properties, reason_string
from mqttproxy.validation.plugins import Answers

__all__ = ["NotWelcome", "greet", "server_limits"]

FOR_EVER: Final = 0xFFFF_FFFF  # as a session expiry interval
PATIENCE: Final = 0.5  # of `limits.connect_deadline`: how long a CONNECT may wait for a rate


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
    identity = Identity(connect.client_id, connect.username, stream.peer.host, listener)
    arrival = Arrival(premises, stream, connection, connect, identity)
    _keep_out_banned(arrival)  # whoever it says it is: before anything is done for it
    patience = await _keep_to_rates(arrival, premises.limits.connect_deadline * PATIENCE, is_known=False)
    if not connect.client_id and connect.version is ProtocolVersion.V311 and not connect.clean_start:
        words = "a session that is kept needs a client identifier"
        arrival.refuse(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "protocol", words)  # [MQTT-3.1.3-8]
    client_id = connect.client_id or premises.new_client_id()
    arrival.identity = Identity(client_id, connect.username, stream.peer.host, listener)
    chains = premises.gate.chains
    allowed = await arrival.admit()
    _keep_out_banned(arrival)  # whoever it is
    await _judge_will(arrival)
    await _keep_to_rates(arrival, patience, is_known=True)
    # While the disk fails, what is withheld makes devices come again: that is our fault, not theirs.
    is_ours = premises.sessions.ledger.journal.trouble is not None
    if not is_ours and (seconds := premises.flapping.admit(client_id, trio.current_time())) is not None:
        premises.alerts.warning("flapping", "flapping", client_id=client_id, peer=str(stream.peer), seconds=seconds)
        words = f"it connects too often: wait {ceil(seconds)} s"
        arrival.refuse(ReasonCode.BANNED, "limits.flapping_connects", words)
    await _take_over(arrival, allowed)
    if premises.gate.chains is not chains:
        arrival.refuse(ReasonCode.SERVER_BUSY, "access", "other settings came in force meanwhile: come again")
    _keep_out_banned(arrival)  # who was banned meanwhile
    arrival.refuse_revoked()
    return _enter(arrival, allowed)  # at once, before another can


def _enter(arrival: Arrival, allowed: Allowed) -> Device:
    """Give the device its session, kept or new, and tell it. Nobody is connected by this client identifier."""
    premises, stream, connection = arrival.premises, arrival.stream, arrival.connection
    connect, identity = arrival.connect, arrival.identity
    client_id, cap = identity.client_id, premises.limits.session_expiry
    wanted = wanted_expiry(connect, cap)
    try:
        session, is_present = premises.sessions.open(
            client_id, clean_start=connect.clean_start, expiry=min(wanted, cap), owner=owner_of(allowed)
        )
    except SessionsFull:
        premises.alerts.warning("too_many_sessions", "too_many_sessions", client_id=client_id, peer=str(stream.peer))
        words = "there is no room for another session"
        arrival.refuse(ReasonCode.QUOTA_EXCEEDED, "limits.sessions", words, label="too_many_sessions")
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


def _keep_out_banned(arrival: Arrival) -> None:
    ban = arrival.premises.bans.against(arrival.identity, arrival.premises.pipeline.refusal.wall())
    if ban is not None:
        arrival.refuse(ReasonCode.BANNED, ban.rule, ban.words)


async def _keep_to_rates(arrival: Arrival, patience: float, *, is_known: bool) -> float:
    """Refuse a device that exceeds a rate of connections, or have it wait: not so long that others cannot come in.

    Args:
        arrival: of the device.
        patience: for how many seconds it may wait.
        is_known: who it is has been proven.

    Returns:
        For how many seconds it may wait later.

    """
    premises = arrival.premises
    rule, seconds = premises.rates.connect(arrival.identity, trio.current_time(), patience, is_known=is_known)
    if rule is not None:
        words = f"{rule.words}: wait {ceil(seconds)} s"
        arrival.refuse(ReasonCode.CONNECTION_RATE_EXCEEDED, f"rate {rule.name}", words)
    if seconds > 0:
        await trio.sleep(seconds)
    return patience - seconds


async def _judge_will(arrival: Arrival) -> None:
    """Refuse a device whose will would be held or refused if it were published now."""
    premises, will = arrival.premises, arrival.connect.will
    refusal, identity = premises.pipeline.refusal, arrival.identity
    if will is None:
        return
    verdict = may_have_will(will, identity, premises.pipeline.ruleset.acl)
    if verdict is not None:
        premises.metrics.access_denied.add("will")
    elif not refusal.dry_run:
        verdict = await _verdict(arrival)
    if verdict is not None:
        refusal.decided("refused", identity, will, verdict=verdict)
        reason = connack_reason(verdict, is_5=arrival.connect.version is ProtocolVersion.V5)
        rule = f"policy {verdict.policy}" if verdict.policy else "topic rules"
        facts = answer_properties(verdict).user_properties
        words = f"will: {reason_string(refusal.masker.verdict(verdict, will.topic))}"
        note_connect(premises, identity, reason, rule, words)
        arrival.answer(reason, f"will: {reason_string(verdict)}", (("rule", rule), *facts), "will_refused")


async def _verdict(arrival: Arrival) -> Verdict | None:
    """Return what policies say against a will, None: nothing. Plug-ins are asked as long as they are missing."""
    pipeline, answers, will = arrival.premises.pipeline, Answers(), arrival.connect.will
    assert will is not None  # noqa: S101 # which is why this is asked
    verdict = judge_will(will, arrival.identity, pipeline.ruleset.generation, answers)
    while answers.missing:
        await pipeline.asking.ask(answers)
        verdict = judge_will(will, arrival.identity, pipeline.ruleset.generation, answers)
    return verdict


async def _take_over(arrival: Arrival, allowed: Allowed) -> None:
    """End the connection that has this client identifier, wholly, before the new one begins. [MQTT-3.1.4-3]."""
    devices, client_id = arrival.premises.devices, arrival.identity.client_id
    arrival.refuse_unless_owner(allowed)  # again: others may have come since it was asked who it is
    while (other := devices.get(client_id)) is not None:
        other.disconnect(ReasonCode.SESSION_TAKEN_OVER)
        await other.gone.wait()
        arrival.refuse_unless_owner(allowed)
