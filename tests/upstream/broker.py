"""A broker of our own for the tests of this room: `ServerConnection` behind memory streams, with knobs."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Connect,
    Disconnect,
    Message,
    Packet,
    Properties,
    ProtocolVersion,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits, State
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.stream import TransportError
from mqttproxy.upstream.callbacks import Arrival, Callbacks, Done, Refusal
from mqttproxy.upstream.supervisor import Upstream
from tests.fakes import MemoryByteStream, memory_pair


@define(eq=False)
class Line:
    """One connection that the broker has accepted."""

    stream: MemoryByteStream
    theirs: MemoryByteStream
    conn: ServerConnection
    withheld: list[Publish] = field(factory=list)


class FakeBroker:
    """Knobs may be turned at any time.

    Attributes:
        unreachable: dialling fails with these words.
        hangs: dialling never ends.
        refuse_with: CONNACK's reason instead of success.
        answer_connect_with: bytes instead of CONNACK.
        is_mute: PUBLISH is not acknowledged, but kept in `Line.withheld`.
        is_deaf: nothing is read after CONNACK.
        rejects: topic to the reason of the negative acknowledgement.
        grant: the reason of SUBACK, from filter and QoS.
        messages, accepted: every PUBLISH that came; the topics of those acknowledged.
        settled: what became of what it sent at QoS 1 and 2.
        sends_at_once: messages in the same write as CONNACK.
        keeps_sessions: False: a session ends with its connection.

    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.limits = ServerLimits(receive_maximum=65_535, qos2_awaiting_release=65_535)
        self.extra = NO_PROPERTIES
        self.unreachable: str | None = None
        self.hangs = False
        self.refuse_with: ReasonCode | None = None
        self.refusal_properties = NO_PROPERTIES
        self.answer_connect_with: bytes | None = None
        self.is_mute = False
        self.is_deaf = False
        self.grant: Callable[[str, int], ReasonCode] = lambda _, qos: ReasonCode(qos)
        self.rejects: dict[str, ReasonCode] = {}
        self.keeps_sessions = True
        self.sends_at_once: list[Message] = []
        self.kernel_bytes = 64 * 1024
        self.dials: list[tuple[float, dict[str, Any]]] = []
        self.connects: list[Connect] = []
        self.packets: list[Packet] = []
        self.messages: list[Publish] = []
        self.accepted: list[str] = []
        self.ends: list[Disconnect] = []
        self.settled: list[Settled] = []
        self.lines: list[Line] = []
        self.sessions: dict[str, SessionState] = {}

    async def dial(self, url: str, **options: Any) -> MemoryByteStream:
        self.dials.append((trio.current_time(), {"url": url, **options}))
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.unreachable is not None:
            raise TransportError(self.unreachable)
        theirs, ours = memory_pair(kernel_bytes=self.kernel_bytes)
        theirs.write_timeout = options["write_timeout"]
        line = Line(ours, theirs, ServerConnection(self.limits, trio.current_time()))
        self.lines.append(line)
        self._nursery.start_soon(self._serve, line)
        return theirs

    @property
    def line(self) -> Line:
        """The newest connection."""
        return self.lines[-1]

    @property
    def asked(self) -> list[str]:
        """Every filter of every SUBSCRIBE."""
        return [
            one.topic_filter for packet in self.packets if isinstance(packet, Subscribe) for one in packet.subscriptions
        ]

    @property
    def unasked(self) -> list[str]:
        """Every filter of every UNSUBSCRIBE."""
        return [name for packet in self.packets if isinstance(packet, Unsubscribe) for name in packet.topic_filters]

    @property
    def topics(self) -> list[str]:
        return [message.topic for message in self.messages]

    def kill(self) -> None:
        """As kill -9: every connection is cut."""
        for line in self.lines:
            line.stream.abort()

    def forget(self) -> None:
        self.sessions.clear()

    def end(self, reason: ReasonCode, properties: Properties = NO_PROPERTIES) -> None:
        """Send DISCONNECT."""
        self.line.conn.disconnect(reason, None, properties)
        self._flush(self.line)
        self._nursery.start_soon(self.line.stream.aclose)

    def push(self, *messages: Message) -> None:
        """Send messages to the newest connection, in one write."""
        self.line.conn.publish([(message, None) for message in messages])
        self._flush(self.line)

    def release(self, count: int | None = None) -> None:
        """Acknowledge what was withheld on the newest connection."""
        line = self.line
        now, line.withheld = line.withheld[:count], line.withheld[len(line.withheld[:count]) :]
        self.accepted += [publish.topic for publish in now]
        line.conn.acknowledge_all([(publish.packet_id, publish.qos) for publish in now])
        self._flush(line)

    def write(self, data: bytes) -> None:
        """Send raw bytes."""
        self.line.stream.send_nowait(data)

    async def _serve(self, line: Line) -> None:
        async with trio.open_nursery() as nursery:
            line.stream.flush_with(nursery.start_soon)
            try:
                await self._read(line)
            except TransportError:
                pass
            finally:
                await line.stream.aclose()
                self._forget_ephemeral(line.conn)
                nursery.cancel_scope.cancel()

    async def _read(self, line: Line) -> None:
        while data := await line.stream.receive():
            now = trio.current_time()
            line.conn.receive_data(data, now)
            while events := line.conn.next_batch(now):
                for event in events:
                    if isinstance(event, Settled):
                        self.settled.append(event)
                    else:
                        self._react(line, event)
            self._flush(line)
            if line.conn.state is State.CLOSED:
                return
            if self.is_deaf:
                await trio.sleep_forever()

    def _react(self, line: Line, packet: Packet) -> None:
        self.packets.append(packet)
        match packet:
            case Connect() if self.answer_connect_with is not None:
                self.connects.append(packet)
                line.stream.send_nowait(self.answer_connect_with)
            case Connect():
                self._greet(line.conn, packet)
            case Publish():
                self.messages.append(packet)
                self._answer(line, packet)
            case Subscribe():
                reasons = tuple(self.grant(one.topic_filter, one.qos) for one in packet.subscriptions)
                line.conn.send(SubAck(packet.packet_id, reasons))
            case Unsubscribe():
                line.conn.send(UnsubAck(packet.packet_id, tuple(ReasonCode.SUCCESS for _ in packet.topic_filters)))
            case Disconnect():
                self.ends.append(packet)

    def _greet(self, conn: ServerConnection, connect: Connect) -> None:
        self.connects.append(connect)
        if self.refuse_with is not None:
            conn.refuse(self.refuse_with, None, self.refusal_properties)
            return
        if connect.clean_start or not self.keeps_sessions:
            self.sessions.pop(connect.client_id, None)
        present = connect.client_id in self.sessions
        session = self.sessions.setdefault(connect.client_id, SessionState())
        conn.accept(session, session_present=present, client_id=connect.client_id, extra=self.extra)
        if self.sends_at_once:
            conn.publish([(message, None) for message in self.sends_at_once])

    def _answer(self, line: Line, publish: Publish) -> None:
        if not publish.qos:
            return
        if self.is_mute:
            line.withheld.append(publish)
        else:
            reason = self.rejects.get(publish.topic, ReasonCode.SUCCESS)
            self.accepted += [] if reason.is_failure else [publish.topic]
            line.conn.acknowledge(publish.packet_id, publish.qos, reason)

    def _forget_ephemeral(self, conn: ServerConnection) -> None:
        connect = conn.connect
        if connect is None:
            return
        is_clean = connect.version is ProtocolVersion.V311 and connect.clean_start
        is_expired = connect.version is ProtocolVersion.V5 and not connect.properties.session_expiry_interval
        if (is_clean or is_expired) and self.sessions.get(connect.client_id) is conn.session:
            del self.sessions[connect.client_id]

    def _flush(self, line: Line) -> None:
        if data := line.conn.data_to_send():
            line.stream.send_nowait(data)


@define(eq=False)
class Heard:
    """What the pipeline would have been told."""

    tokens: list[object] = field(factory=list)
    refused: list[Refusal] = field(factory=list)
    dropped: list[object] = field(factory=list)
    arrived: list[Arrival] = field(factory=list)
    withholds: bool = False  # what was received is not done before the test says so
    undone: list[Done] = field(factory=list)
    calls: int = 0

    def callbacks(self) -> Callbacks:
        return Callbacks(
            settled=self._settled,
            refused=self._refused,
            dropped=lambda _, tokens: self.dropped.extend(tokens),
            received=self._received,
        )

    @property
    def publishes(self) -> list[Publish]:
        return [arrival.publish for arrival in self.arrived]

    @property
    def filters(self) -> list[tuple[str, ...] | None]:
        return [arrival.filters for arrival in self.arrived]

    def _settled(self, _name: str, tokens: list[object]) -> None:
        self.calls += 1
        self.tokens += tokens

    def _refused(self, _name: str, refused: list[Refusal]) -> None:
        self.calls += 1
        self.refused += refused

    def _received(self, _name: str, arrived: Sequence[Arrival], done: Done) -> None:
        self.calls += 1
        self.arrived += arrived
        if self.withholds:
            self.undone.append(done)
        else:
            done()


@define(eq=False)
class Notes:
    """A log that remembers: (time, event, fields)."""

    events: list[tuple[float, str, dict[str, Any]]] = field(factory=list)

    def note(self, event: str, /, **fields: Any) -> None:
        self.events.append((trio.current_time(), event, fields))

    debug = info = warning = error = exception = note

    def bind(self, **_: Any) -> "Notes":
        return self

    def times(self, event: str) -> list[float]:
        return [at for at, name, _ in self.events if name == event]

    def names(self) -> list[str]:
        return [name for _, name, _ in self.events]


@define(eq=False)
class Setting:
    """A broker, an upstream that is kept linked to it, and what it told."""

    broker: FakeBroker
    upstream: Upstream
    heard: Heard
    log: Notes
    scope: trio.CancelScope

    async def settle(self) -> None:
        """Let everything that can happen without time passing happen."""
        await trio.testing.wait_all_tasks_blocked()

    async def stop(self) -> None:
        """Cancel the upstream and let it say goodbye."""
        self.scope.cancel()
        await self.settle()


def settings(**changes: Any) -> UpstreamSettings:
    return UpstreamSettings(**{"name": "a", "url": "mqtt://broker:1883", **changes})


@asynccontextmanager
async def linked(
    *, chance: float = 0.5, prepare: Callable[[FakeBroker], None] | None = None, first: int = 0, **changes: Any
) -> AsyncIterator[Setting]:
    """Run an upstream with these settings against a fake broker; the books are checked at the end.

    `first`: the number before that of the first subscription identifier.
    """
    heard, log = Heard(), Notes()
    async with trio.open_nursery() as nursery:
        broker = FakeBroker(nursery)
        if prepare is not None:
            prepare(broker)
        upstream = Upstream(
            settings(**changes),
            proxy_id="gw",
            callbacks=heard.callbacks(),
            dial=broker.dial,
            chance=lambda: chance,
            log=log,
        )
        upstream._interest._first = first
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await upstream.run()

        nursery.start_soon(run)
        setting = Setting(broker, upstream, heard, log, scope)
        await setting.settle()
        try:
            yield setting
            upstream.check_books()
            assert upstream.books.in_flight_bytes == sum(
                len(message.payload) for message, _ in upstream._session.outgoing.values()
            )
        finally:
            nursery.cancel_scope.cancel()


def messages(count: int, *, qos: int = 1, start: int = 0, payload: bytes = b"x") -> list[tuple[Message, object]]:
    """Return items with topics t/0, t/1, …; the token is the number, None at QoS 0."""
    return [(Message(f"t/{number}", payload, qos), number if qos else None) for number in range(start, start + count)]


def topics(count: int, start: int = 0) -> list[str]:
    return [f"t/{number}" for number in range(start, start + count)]
