"""One device of a fleet: connects, sends, hears answers; comes again after a while when it is sent away."""

from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from random import Random
from typing import Final

import trio
from attrs import frozen

from mqttproxy.access import error_topic
from mqttproxy.mqtt.client import ClientConnection, ClientLimits, State
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import ConnAck, Connect, Disconnect, Message, ProtocolVersion, Publish, Subscription
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.sim.faults import bad
from mqttproxy.sim.instances import Maker, encoded
from mqttproxy.sim.tally import Quality, Tally, count
from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream, Spawn, TransportError

CONNECT_SECONDS: Final = 10.0  # from the look-up to CONNACK
ANSWER_SECONDS: Final = 10.0  # at the end, for what has no answer yet
BACKOFF: Final = (1.0, 30.0)  # seconds: first and longest wait before a device comes again
KEEP_ALIVE: Final = 60
MOST_UNANSWERED: Final = 100  # messages of a device
MOST_UNSENT: Final = 1024 * 1024  # bytes of a device that wait for its connection
TOO_LARGE: Final = "larger_than_the_server_takes"
AT_ONCE: Final = 100  # messages in one write, if more than one is due


@frozen(kw_only=True)
class Orders:
    """What all devices do. `rate`: messages of one device in a second."""

    url: str
    topic: str  # with `{device}` and `{number}`
    version: ProtocolVersion
    qos: int
    rate: float
    bad_share: float
    username: str | None = None
    password: bytes | None = None
    ca: Path | None = None
    insecure_skip_verify: bool = False
    hears_errors: bool = True


@frozen
class Identity:
    """Who a device is. `number` from 1."""

    number: int
    client_id: str
    certificate: Path | None = None
    private_key: Path | None = None


class RefusedError(Exception):
    """The server does not let the device in."""


# What a server can do to a device. Whatever is not here is our bug.
FAILURES: Final = (OSError, RemoteProtocolError, RefusedError, trio.TooSlowError)


class Device:
    """See the module.

    Args:
        orders: of the fleet.
        identity: its own.
        maker: of its payloads, with a chance of its own.
        tally: of the fleet.
        take: asks whether one more message may be sent.
        stopping: set by the fleet: then it waits for its answers, and leaves.
        spawn: starts a task that writes what a connection cannot take at once; outlives the device.

    """

    def __init__(
        self,
        orders: Orders,
        identity: Identity,
        *,
        maker: Maker,
        tally: Tally,
        take: Callable[[], bool],
        stopping: trio.Event,
        spawn: Spawn,
    ) -> None:
        self.identity = identity
        self._orders = orders
        self._maker = maker
        self._chance: Random = maker.chance
        self._tally = tally
        self._may_send = take
        self._stopping = stopping
        self._spawn = spawn
        self._is_in = False  # connected
        self._topic = orders.topic.replace("{device}", identity.client_id).replace("{number}", str(identity.number))
        self._answered = trio.Event()  # set, and a new one made, whenever an answer came

    async def run(self) -> None:
        """Live until the fleet is to stop. Raises nothing that a server can cause."""
        wait = BACKOFF[0]
        while not self._stopping.is_set():
            try:
                await self._live_once()
            except* FAILURES as group:
                failed = self._tally.lost if self._is_in else self._tally.failed_connects
                for words in _words(group):
                    count(failed, words)
            if self._is_in:
                self._is_in, wait = False, BACKOFF[0]
                self._tally.connected -= 1
            with trio.move_on_after(self._chance.uniform(0, wait)):
                await self._stopping.wait()
            wait = min(2 * wait, BACKOFF[1])

    async def _live_once(self) -> None:
        with trio.fail_after(CONNECT_SECONDS):
            stream = await self._dial()
        conn = self._connection()
        try:
            stream.flush_with(self._spawn)
            async with trio.open_nursery() as nursery:
                with trio.fail_after(CONNECT_SECONDS):
                    await self._greet(stream, conn)
                nursery.start_soon(self._hear, stream, conn, nursery.cancel_scope)
                nursery.start_soon(self._keep_alive, stream, conn)
                await self._send_all(stream, conn)
                await self._leave(stream, conn)
                nursery.cancel_scope.cancel()
        finally:
            for _, token in conn.session.outgoing.values():
                self._tally.of(_token(token)[0]).unanswered += 1
            with trio.CancelScope(shield=True):
                await stream.aclose()

    async def _dial(self) -> ByteStream:
        orders, who = self._orders, self.identity
        return await dial(
            orders.url,
            ca=orders.ca,
            certificate=who.certificate,
            private_key=who.private_key,
            insecure_skip_verify=orders.insecure_skip_verify,
        )

    def _connection(self) -> ClientConnection:
        orders = self._orders
        connect = Connect(
            client_id=self.identity.client_id,
            version=orders.version,
            keep_alive=KEEP_ALIVE,
            username=orders.username,
            password=orders.password,
        )
        return ClientConnection(connect, SessionState(), ClientLimits(), trio.current_time())

    async def _greet(self, stream: ByteStream, conn: ClientConnection) -> None:
        _flush(stream, conn)
        while conn.state is State.AWAITING_CONNACK:
            data = await stream.receive()
            if not data:
                raise TransportError("hung up instead of answering CONNECT")
            now = trio.current_time()
            conn.receive_data(data, now)
            for event in conn.next_batch(now):
                if isinstance(event, ConnAck) and event.reason.is_failure:
                    raise RefusedError(event.reason.name.lower())
        conn.resume()
        self._is_in = True
        self._tally.connects += 1
        self._tally.connected += 1
        self._tally.ever_connected.add(self.identity.client_id)
        if self._orders.hears_errors:
            conn.subscribe([Subscription(error_topic(self.identity.client_id), 0)])
            _flush(stream, conn)

    async def _hear(self, stream: ByteStream, conn: ClientConnection, scope: trio.CancelScope) -> None:
        while data := await stream.receive():
            now = trio.current_time()
            conn.receive_data(data, now)
            while events := conn.next_batch(now):
                for event in events:
                    self._take(event, conn, now)
            _flush(stream, conn)
            self._answered.set()
            self._answered = trio.Event()
            if conn.state is not State.OPEN:
                break
        if not self._stopping.is_set():
            raise TransportError("the server hung up" if conn.state is State.OPEN else "the server said goodbye")
        scope.cancel()

    def _take(self, event: Event, conn: ClientConnection, now: float) -> None:
        tally = self._tally
        match event:
            case Settled():
                quality, sent_at = _token(event.token)
                outcome = tally.of(quality)
                if event.reason.is_failure:
                    count(outcome.refused, event.reason.name.lower())
                else:
                    outcome.acknowledged += 1
                tally.took(now - sent_at)
            case Publish():
                tally.told += 1
                if event.qos:
                    conn.acknowledge(event.packet_id, event.qos)
            case Disconnect():
                count(tally.lost, f"disconnected: {event.reason.name.lower()}")

    async def _keep_alive(self, stream: ByteStream, conn: ClientConnection) -> None:
        while True:
            if conn.silent_since(trio.current_time()) > 2 * KEEP_ALIVE:
                raise TransportError("the server is silent")
            await trio.sleep_until(conn.ping_due if conn.ping_due < inf else trio.current_time() + KEEP_ALIVE)
            if conn.ping_due <= trio.current_time():
                conn.ping(trio.current_time())
                _flush(stream, conn)

    async def _send_all(self, stream: ByteStream, conn: ClientConnection) -> None:
        every = 1 / self._orders.rate
        due = trio.current_time() + self._chance.uniform(0, every)  # not all devices at the same moment
        while not self._stopping.is_set():
            with trio.move_on_at(due):
                await self._stopping.wait()
                return
            behind = int((trio.current_time() - due) / every) + 1
            due += behind * every
            self._send(stream, conn, behind)

    def _send(self, stream: ByteStream, conn: ClientConnection, wanted: int) -> None:
        """Send what is due, as far as bounds and orders let it."""
        room = AT_ONCE if stream.unsent < MOST_UNSENT else 0
        if self._orders.qos:
            room = min(room, conn.send_quota, MOST_UNANSWERED - len(conn.session.outgoing))
        allowed = max(0, min(wanted, room))
        self._tally.held_back += wanted - allowed
        items: list[tuple[Message, object]] = []
        for _ in range(allowed):
            if not self._may_send():
                break
            items.append(self._message())
        if items:
            for token in conn.publish(items).too_large:
                count(self._tally.of(_token(token)[0]).refused, TOO_LARGE)
            _flush(stream, conn)

    def _message(self) -> tuple[Message, object]:
        quality: Quality = "bad" if self._chance.random() < self._orders.bad_share else "good"
        if quality == "bad":
            fault, payload = bad(self._maker)
            count(self._tally.faults, fault)
        else:
            payload = encoded(self._maker.good())
        self._tally.of(quality).sent += 1
        return Message(self._topic, payload, self._orders.qos), (quality, trio.current_time())

    async def _leave(self, stream: ByteStream, conn: ClientConnection) -> None:
        with trio.move_on_after(ANSWER_SECONDS):
            while conn.session.outgoing:
                await self._answered.wait()
        conn.disconnect()
        _flush(stream, conn)


def _token(token: object) -> tuple[Quality, float]:
    assert isinstance(token, tuple)  # noqa: S101 # of `_message`
    return token[0], token[1]


def _flush(stream: ByteStream, conn: ClientConnection) -> None:
    if data := conn.data_to_send():
        stream.send_nowait(data)


def _words(group: BaseExceptionGroup[BaseException]) -> Iterator[str]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _words(error)
        elif isinstance(error, trio.TooSlowError):
            yield "no answer in time"
        else:
            # Without the address, which is another one for each connection.
            yield str(error).rpartition(": ")[2][:80]
