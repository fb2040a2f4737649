"""Who is it: a device's credentials before the gate, and what is known of it once it may come in."""

from typing import Final, NoReturn

from attrs import define

from mqttproxy.access import UnsafeAttributeError, attributes_of
from mqttproxy.access.credentials import Allowed, Credentials, Denied
from mqttproxy.config.topic_templates import UnsafeValueError, safe_value
from mqttproxy.downstream.premises import Premises
from mqttproxy.downstream.refusing import note_connect, note_refused, rule_of, shown_name
from mqttproxy.downstream.unwelcome import NotWelcome, read_early
from mqttproxy.mqtt.packets import Auth, Connect, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.transport.stream import ByteStream, Peer
from mqttproxy.validation import Identity

# What is wrong with whom, when something cannot be used in topics. Of attributes, their authenticator is to blame.
_UNSAFE: Final[dict[str, ReasonCode]] = {
    "client_id": ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    "username": ReasonCode.BAD_USER_NAME_OR_PASSWORD,
}

# What says nothing of anybody: no credentials were shown, or in a way that nobody knows.
_PLAIN: Final = frozenset({ReasonCode.NOT_AUTHORIZED, ReasonCode.BAD_AUTHENTICATION_METHOD})
_OUTCOMES: Final = {ReasonCode.SERVER_UNAVAILABLE: "down", ReasonCode.CONNECTION_RATE_EXCEEDED: "throttled"}


@define
class Arrival:
    """A device that has said CONNECT: who stands before the door."""

    premises: Premises
    stream: ByteStream
    connection: ServerConnection
    connect: Connect
    identity: Identity  # as far as it is known; with the client identifier that it was given, if it has none

    def refuse(self, reason: ReasonCode, rule: str, words: str, *, label: str = "") -> NoReturn:
        """Turn it away, and tell it and the audit trail why. `rule`: what says so, such as a setting."""
        note_connect(self.premises, self.identity, reason, rule, words)
        self.answer(reason, words, (("rule", rule),), label)

    def answer(
        self, reason: ReasonCode, words: str | None, facts: tuple[tuple[str, str], ...] = (), label: str = ""
    ) -> NoReturn:
        """Say so to the device, as far as it can be told."""
        self.connection.refuse(reason, words, Properties(user_properties=facts))
        self.stream.send_nowait(self.connection.data_to_send())
        raise NotWelcome(label or reason.name.lower())

    async def admit(self) -> Allowed:
        """Ask the gate about it, before anything is done for it; then its identity is known.

        Raises:
            NotWelcome: it may not come in, and was told so.

        """
        premises, listener = self.premises, self.identity.listener
        self.refuse_revoked()
        credentials = credentials_of(self.connect, self.identity.client_id, listener, self.stream.peer)
        answer = await premises.gate.check(credentials, premises.access, self._ask)
        if premises.gate.chains.of(listener).links:
            premises.metrics.authentications.add(_outcome(answer))
        if isinstance(answer, Denied):
            self._deny(credentials, answer)
        self.identity = self._known(credentials, answer)
        self.refuse_unless_owner(answer)
        if answer.by and premises.pipeline.audits_all:
            audit(premises, credentials, "allowed", answer.by, "")
        return answer

    def refuse_unless_owner(self, allowed: Allowed) -> None:
        """Turn it away if its client identifier is in use by another user, or has a session that is another user's.

        What is nobody's, any user may have, once nobody is connected by it (`BAD-INPUT` D5).

        Raises:
            NotWelcome: it was told so.

        """
        premises, client_id, owner = self.premises, self.identity.client_id, owner_of(allowed)
        device, session = premises.devices.get(client_id), premises.sessions.get(client_id)
        if device is not None and owner_of(device.admission) != owner:
            words = "a device of another user is connected by this client identifier"
        elif session is not None and session.owner not in (None, owner):
            words = "the session of this client identifier is another user's"
        else:
            return
        credentials = credentials_of(self.connect, client_id, self.identity.listener, self.stream.peer)
        tell_denied(premises, credentials, Denied(allowed.by, words, ReasonCode.NOT_AUTHORIZED), str(self.stream.peer))
        self.answer(ReasonCode.NOT_AUTHORIZED, None, label="another_user")

    def refuse_revoked(self) -> None:
        """Turn it away if its listener's `crl` does not let in the certificate that it has shown.

        Those that a load balancer passes on nobody else looks up; those of our own handshakes OpenSSL has, but another
        list may have come in force since.

        Raises:
            NotWelcome: it was told so.

        """
        premises, peer = self.premises, self.stream.peer
        revoked = premises.revoked.get(self.identity.listener)
        if revoked is None or not peer.shows_certificate:
            return
        if (why := revoked.why_not(peer.der, premises.gate.wall())) is not None:
            premises.alerts.warning(
                "certificate_refused", "certificate_refused", why=why, certificate=peer.certificate, peer=str(peer),
                client_id=self.identity.client_id,
            )  # fmt: skip
            self.refuse(ReasonCode.NOT_AUTHORIZED, "listeners.crl", why, label="certificate_refused")

    async def _ask(self, challenge: bytes) -> bytes:
        """Send a challenge, and return what the device answers. Raises NotWelcome, TransportError."""
        method = self.connect.properties.authentication_method
        properties = Properties(authentication_method=method, authentication_data=challenge)
        self.connection.challenge(Auth(ReasonCode.CONTINUE_AUTHENTICATION, properties))
        self.stream.send_nowait(self.connection.data_to_send())
        answer = await read_early(self.premises, self.stream, self.connection)
        if not isinstance(answer, Auth):
            raise NotWelcome("disconnect")
        return answer.properties.authentication_data or b""

    def _known(self, credentials: Credentials, allowed: Allowed) -> Identity:
        """Return what is known of a device, all of it fit to be used in topics."""
        premises, listener = self.premises, credentials.listener
        for name, value in allowed.attributes.items():
            if not safe_value(value):
                words = f"attribute {name} cannot be used in topics"
                self._deny(credentials, Denied(allowed.by, words, ReasonCode.NOT_AUTHORIZED))
        try:
            attributes = attributes_of(
                premises.access,
                {**allowed.attributes, **dict(premises.labels.get(listener, ()))}.items(),
                credentials.client_id,
                allowed.username,
                self.connect.properties.user_properties,
            )
        except UnsafeAttributeError as error:
            self.refuse(error.reason, "access.attributes", str(error), label="unsafe_attribute")
        identity = Identity(
            credentials.client_id,
            allowed.username,
            credentials.address,
            listener,
            attributes,
            allowed.grants,
            is_authenticated=bool(allowed.by),
        )
        acl = premises.pipeline.ruleset.acl
        try:
            if acl is not None:
                acl.make_rights(identity)
        except UnsafeValueError as error:
            reason = _UNSAFE.get(error.name, ReasonCode.NOT_AUTHORIZED)
            self.refuse(reason, "access.rules", str(error), label="unsafe_attribute")
        return identity

    def _deny(self, credentials: Credentials, denied: Denied) -> NoReturn:
        """Turn it away. Why, it is told only where that tells nothing of who is there."""
        if not denied.by and denied.reason in _PLAIN:
            self.refuse(denied.reason, "access", denied.why)
        tell_denied(self.premises, credentials, denied, str(self.stream.peer))
        self.answer(denied.reason, None)


def credentials_of(
    connect: Connect, client_id: str, listener: str, peer: Peer, *, data: bytes | None = None
) -> Credentials:
    """Return what a device shows. `data`: if it authenticates anew."""
    return Credentials(
        client_id=client_id,
        username=connect.username,
        password=connect.password,
        listener=listener,
        address=peer.host,
        certificate=peer.der,
        common_name=peer.told_name,
        method=connect.properties.authentication_method,
        data=(connect.properties.authentication_data or b"") if data is None else data,
    )


def owner_of(allowed: Allowed) -> str | None:
    """Return the user whose a session is that is opened by this; None: nobody's, for nobody vouches for the name."""
    return allowed.username if allowed.by else None


def _outcome(answer: Allowed | Denied) -> str:
    if isinstance(answer, Allowed):
        return "allowed" if answer.by else "anonymous"
    return _OUTCOMES.get(answer.reason, "denied")


def tell_denied(premises: Premises, credentials: Credentials, denied: Denied, peer: str) -> None:
    """Count, log and write down that a device did not come in. The device itself is told nothing of why."""
    name = shown_name(credentials.username)
    premises.alerts.warning(
        "authentication", "authentication_failed", why=denied.why, authenticator=denied.by,
        client_id=credentials.client_id, username=name, peer=peer, listener=credentials.listener,
    )  # fmt: skip
    who = Identity(credentials.client_id, name, credentials.address, credentials.listener)
    note_refused(premises, who, denied.reason, rule_of(denied.by), denied.why)
    if denied.reason is not ReasonCode.CONNECTION_RATE_EXCEEDED:  # or whoever knocks for ever fills the trail
        audit(premises, credentials, "denied", denied.by, denied.why)


def audit(premises: Premises, credentials: Credentials, action: str, by: str, why: str) -> None:
    """Write an audit line about a device at the gate."""
    premises.pipeline.refusal.audit.write(
        {
            "event": "authentication",
            "action": action,
            "authenticator": by,
            "why": why,
            "client_id": credentials.client_id,
            "username": shown_name(credentials.username),
            "address": credentials.address,
            "listener": credentials.listener,
        }
    )
