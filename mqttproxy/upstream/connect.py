"""From a name to a CONNACK: dial a broker and agree on a session with it."""

from collections.abc import Awaitable
from pathlib import Path
from typing import Final, Protocol

import trio
from attrs import evolve, frozen

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import ConnAck, Connect, Properties, ProtocolVersion
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import PACKET_ID_MAX, SessionState
from mqttproxy.transport.stream import ByteStream
from mqttproxy.upstream.errors import LinkError, Trouble, refusal

CLOSE_GRACE: Final = 2.0  # seconds to say goodbye
LONGEST_EXPIRY: Final = 0xFFFFFFFE  # seconds; one more means: never. [MQTT-3.1.2.11.2]
LONGEST_KEEP_ALIVE: Final = 0xFFFF  # seconds

# Settings whose change leaves the link alone; any other one asks for a new link.
_SOFT: Final = (
    "queue_messages", "queue_bytes", "in_flight", "in_flight_bytes", "qos0_patience", "ack_timeout",
    "backoff_first", "backoff_ceiling", "backoff_reset", "breaker_failures", "breaker_ratio", "breaker_open",
    "transforms",
)  # fmt: skip


class Dial(Protocol):
    """`transport.dial`, or a fake."""

    def __call__(
        self,
        url: str,
        *,
        ca: Path | None,
        certificate: Path | None,
        private_key: Path | None,
        insecure_skip_verify: bool,
        write_timeout: float,
    ) -> Awaitable[ByteStream]:
        """Return a stream to the broker; the caller gives the deadline.

        The stream's `run` fails when the broker takes no byte for `write_timeout` seconds.
        """


@frozen
class Account:
    """Who we are at the broker."""

    client_id: str
    password: bytes | None = None


@frozen
class Opened:
    """A link that was just agreed on."""

    stream: ByteStream
    conn: ClientConnection
    connack: ConnAck
    early: list[Event]  # what came in the same read after CONNACK: a broker that kept our session sends at once

    async def close(self, reason: ReasonCode = ReasonCode.SUCCESS) -> None:
        """Say goodbye if the broker still listens, and close. Never raises; takes at most CLOSE_GRACE."""
        self.conn.disconnect(reason)
        with trio.move_on_after(CLOSE_GRACE, shield=True):
            self.stream.send_nowait(self.conn.data_to_send())
            await self.stream.aclose()


def account_of(settings: UpstreamSettings, proxy_id: str) -> Account:
    """Return who we are at this broker; reads the password file.

    Raises:
        OSError: the password file cannot be read.

    """
    password = settings.password.encode() if settings.password is not None else None
    if settings.password_file is not None:
        password = settings.password_file.read_bytes().rstrip(b"\r\n")
    return Account(settings.client_id or f"{proxy_id}-{settings.name}", password)


async def connect(
    settings: UpstreamSettings, account: Account, session: SessionState, dial: Dial, *, knows_session: bool | None
) -> Opened:
    """Dial and agree on a session.

    Args:
        settings: which broker, and how.
        account: who we are there.
        dial: `transport.dial`, or a fake.
        session: what is in flight; it goes on where the last link ended, if the broker kept its side.
        knows_session: False: what the broker may keep under our name is not the session that we have, and is to be
            forgotten. None: we have had none yet, and go on with what an earlier process has left there.

    Raises:
        LinkError: the broker refused, or hung up before it answered.
        trio.TooSlowError: not done within `connect_timeout`, name look-up included.
        OSError, RemoteProtocolError: see `LINK_FAILURES`.

    """
    with trio.fail_after(settings.connect_timeout):
        opened = await _open(settings, account, session, dial, clean_start=settings.clean_start)
        if knows_session or not opened.connack.session_present:
            return opened
        if knows_session is None:
            # We were restarted. A client without session state has to hang up here [MQTT-3.2.2-4]; but what waits there
            # is for sessions of devices, which we have kept. So we count as our state an empty one, of which everything
            # is in doubt: `SessionState` looks after packet identifiers, `Interest` after subscription identifiers.
            session.doubt()
            return opened
        # The settings lead elsewhere now, and our exchanges belong to another session: its packet identifiers could
        # swallow our QoS 2 messages, its subscriptions are nobody's. [MQTT-3.2.2-4]
        await opened.close()
        opened = await _open(settings, account, session, dial, clean_start=True)
        if settings.version == "3.1.1" and not opened.connack.session_present:
            # A clean session of MQTT 3.1.1 ends with the connection; ask for one that stays.
            await opened.close()
            opened = await _open(settings, account, session, dial, clean_start=False)
        if opened.connack.session_present:
            await opened.close()
            raise LinkError(Trouble.LOST, "the broker does not forget a session that it was told to forget")
        return opened


async def _open(
    settings: UpstreamSettings, account: Account, session: SessionState, dial: Dial, *, clean_start: bool
) -> Opened:
    stream = await dial(
        settings.url,
        ca=settings.ca,
        certificate=settings.certificate,
        private_key=settings.private_key,
        insecure_skip_verify=settings.insecure_skip_verify,
        write_timeout=settings.ack_timeout,
    )
    try:
        packet = connect_packet(settings, account, clean_start=clean_start)
        limits = ClientLimits(receive_maximum=settings.receive_maximum, qos2_awaiting_release=PACKET_ID_MAX)
        conn = ClientConnection(packet, session, limits, trio.current_time())
        stream.send_nowait(conn.data_to_send())
        await stream.wait_drained(0)
        connack, early = await _receive_connack(stream, conn)
    except BaseException:
        stream.abort()
        raise
    return Opened(stream, conn, connack, early)


async def _receive_connack(stream: ByteStream, conn: ClientConnection) -> tuple[ConnAck, list[Event]]:
    while True:
        data = await stream.receive()
        if not data:
            raise LinkError(Trouble.LOST, "the broker hung up instead of answering CONNECT")
        now = trio.current_time()
        conn.receive_data(data, now)
        events = conn.next_batch(now)
        for number, event in enumerate(events):
            if isinstance(event, ConnAck):
                if event.reason.is_failure:
                    raise refusal(event.reason, event.properties)
                return event, events[number + 1 :]


def connect_packet(settings: UpstreamSettings, account: Account, *, clean_start: bool) -> Connect:
    """Return the CONNECT that these settings ask for."""
    version = ProtocolVersion.V5 if settings.version == "5" else ProtocolVersion.V311
    properties = Properties()
    if version is ProtocolVersion.V5:
        properties = Properties(session_expiry_interval=min(int(settings.session_expiry), LONGEST_EXPIRY))
    return Connect(
        client_id=account.client_id,
        version=version,
        clean_start=clean_start,
        keep_alive=min(int(settings.keep_alive), LONGEST_KEEP_ALIVE),
        username=settings.username,
        password=account.password,
        properties=properties,
    )


def suits_the_same_link(settings: UpstreamSettings, before: UpstreamSettings) -> bool:
    """Say whether a link that was made with other settings may stay under these."""
    return evolve(settings, **{name: getattr(before, name) for name in _SOFT}) == before
