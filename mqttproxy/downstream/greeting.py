"""From a byte stream to an accepted CONNECT: who is it, may it come in, and who must go for it."""

from math import ceil, inf
from typing import Final, NoReturn

import trio
from attrs import define

from mqttproxy.access import UnsafeAttributeError, attributes_of, connack_reason, judge_will, may_connect
from mqttproxy.config.model import LimitSettings
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.premises import Premises, forget_frames
from mqttproxy.downstream.refusing import note_connect
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import NO_PROPERTIES, Connect, Properties, ProtocolVersion
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.sessions import SessionsFull
from mqttproxy.transport.stream import ByteStream
from mqttproxy.validation import Identity
from mqttproxy.validation.answers import answer_properties, reason_string
from mqttproxy.validation.plugins import Answers

FOR_EVER: Final = 0xFFFF_FFFF  # as a session expiry interval
PATIENCE: Final = 0.5  # of `limits.connect_deadline`: how long a CONNECT may wait for a rate


class NotWelcome(Exception):  # noqa: N818 # not an error of ours: the device is told, and counted by `label`
    """This connection ends before it has begun."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


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
    connect = await _read_connect(premises, stream, connection)
    door = _Door(
        premises, stream, connection, Identity(connect.client_id, connect.username, stream.peer.host, listener)
    )
    _keep_out_banned(door)  # whoever it is: before anything is done for it
    reason, words = may_connect(connect, premises.access)
    if reason.is_failure:
        door.refuse(reason, "access", words)
    if not connect.client_id and connect.version is ProtocolVersion.V311 and not connect.clean_start:
        words = "a session that is kept needs a client identifier"
        door.refuse(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "protocol", words)  # [MQTT-3.1.3-8]
    client_id = connect.client_id or premises.new_client_id()
    try:
        attributes = attributes_of(
            premises.access,
            premises.labels.get(listener, ()),
            client_id,
            connect.username,
            connect.properties.user_properties,
        )
    except UnsafeAttributeError as error:
        door.refuse(error.reason, "access.attributes", str(error), label="unsafe_attribute")
    door.identity = Identity(client_id, connect.username, stream.peer.host, listener, attributes)
    await _judge_will(door, connect)
    await _keep_to_rates(door)
    # While the disk fails, what is withheld makes devices come again: that is our fault, not theirs.
    is_ours = premises.sessions.ledger.journal.trouble is not None
    if not is_ours and (seconds := premises.flapping.admit(client_id, trio.current_time())) is not None:
        premises.alerts.warning("flapping", "flapping", client_id=client_id, peer=str(stream.peer), seconds=seconds)
        door.refuse(ReasonCode.BANNED, "limits.flapping_connects", f"it connects too often: wait {ceil(seconds)} s")
    await _take_over(premises, client_id)
    _keep_out_banned(door)  # who was banned meanwhile; and for all that is known now
    return _enter(door, connect)  # at once, before another can


def _enter(door: "_Door", connect: Connect) -> Device:
    """Give the device its session, kept or new, and tell it. Nobody is connected by this client identifier."""
    premises, stream, connection, identity = door.premises, door.stream, door.connection, door.identity
    client_id, cap = identity.client_id, premises.limits.session_expiry
    wanted = wanted_expiry(connect, cap)
    try:
        session, is_present = premises.sessions.open(
            client_id, clean_start=connect.clean_start, expiry=min(wanted, cap)
        )
    except SessionsFull:
        premises.alerts.warning("too_many_sessions", "too_many_sessions", client_id=client_id, peer=str(stream.peer))
        words = "there is no room for another session"
        door.refuse(ReasonCode.QUOTA_EXCEEDED, "limits.sessions", words, label="too_many_sessions")
    device = Device(premises, stream, connection, identity, session)
    terms = Properties(session_expiry_interval=int(cap)) if wanted > cap else NO_PROPERTIES
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


async def _read_connect(premises: Premises, stream: ByteStream, connection: ServerConnection) -> Connect:
    while True:
        data = await stream.receive()
        if not data:
            raise NotWelcome("closed_before_connect")
        premises.metrics.bytes_in += len(data)
        connection.receive_data(data, trio.current_time())
        try:
            batch = connection.next_batch(trio.current_time())
        except RemoteProtocolError as error:
            connection.fail(error)
            stream.send_nowait(connection.data_to_send())
            premises.metrics.protocol_errors.add(error.reason.name.lower())
            premises.alerts.info("bad_connect", "bad_connect", peer=str(stream.peer), error=str(error))
            forget_frames(error)
            raise NotWelcome(error.reason.name.lower()) from None
        if batch:
            connect = batch[0]
            assert isinstance(connect, Connect)  # noqa: S101 # the state machine lets nothing else be the first
            return connect


def _keep_out_banned(door: "_Door") -> None:
    premises = door.premises
    ban = premises.bans.against(door.identity, premises.pipeline.refusal.wall())
    if ban is not None:
        door.refuse(ReasonCode.BANNED, f"ban of {ban.kind} {ban.value}", ban.words)


async def _keep_to_rates(door: "_Door") -> None:
    """Refuse a device that exceeds a rate of connections, or have it wait: not so long that others cannot come in."""
    premises = door.premises
    now, patience = trio.current_time(), premises.limits.connect_deadline * PATIENCE
    rule, seconds = premises.rates.connect(door.identity, now, patience)
    if rule is not None:
        words = f"{rule.words}: wait {ceil(seconds)} s"
        door.refuse(ReasonCode.CONNECTION_RATE_EXCEEDED, f"rate {rule.name}", words)
    if seconds > 0:
        await trio.sleep(seconds)


async def _judge_will(door: "_Door", connect: Connect) -> None:
    """Refuse a device whose will would be held or refused if it were published now."""
    premises, identity = door.premises, door.identity
    refusal = premises.pipeline.refusal
    if connect.will is None or refusal.dry_run:
        return
    pipeline, answers = premises.pipeline, Answers()
    verdict = judge_will(connect.will, identity, pipeline.ruleset.generation, answers)
    while answers.missing:  # plug-ins must be asked
        await pipeline.asking.ask(answers)
        verdict = judge_will(connect.will, identity, pipeline.ruleset.generation, answers)
    if verdict is not None:
        refusal.decided("refused", identity, connect.will, verdict=verdict)
        reason = connack_reason(verdict, is_5=connect.version is ProtocolVersion.V5)
        rule = f"policy {verdict.policy}" if verdict.policy else "topic rules"
        facts = answer_properties(verdict).user_properties
        words = f"will: {reason_string(refusal.masker.verdict(verdict, connect.will.topic))}"
        note_connect(premises, identity, reason, rule, words)
        door.answer(reason, f"will: {reason_string(verdict)}", (("rule", rule), *facts), "will_refused")


@define
class _Door:
    """Who stands before it."""

    premises: Premises
    stream: ByteStream
    connection: ServerConnection
    identity: Identity  # as far as it is known

    def refuse(self, reason: ReasonCode, rule: str, words: str, *, label: str = "") -> NoReturn:
        """Turn it away, and tell it and the audit trail why. `rule`: what says so, such as a setting."""
        note_connect(self.premises, self.identity, reason, rule, words)
        self.answer(reason, words, (("rule", rule),), label)

    def answer(self, reason: ReasonCode, words: str, facts: tuple[tuple[str, str], ...], label: str = "") -> NoReturn:
        """Say so to the device, as far as it can be told."""
        self.connection.refuse(reason, words, Properties(user_properties=facts))
        self.stream.send_nowait(self.connection.data_to_send())
        raise NotWelcome(label or reason.name.lower())


async def _take_over(premises: Premises, client_id: str) -> None:
    """End the connection that has this client identifier, wholly, before the new one begins. [MQTT-3.1.4-3]."""
    while (other := premises.devices.get(client_id)) is not None:
        other.disconnect(ReasonCode.SESSION_TAKEN_OVER)
        await other.gone.wait()
