"""The devices' side of the proxy in one trio loop: real door, devices, pipeline and refusal; fakes around them.

    async with open_house('[[upstreams]]\nname = "a"\nurl = "mqtt://a"') as house:
        device = await house.connect("d")
        device.publish(Message("t", b"1", 1))
        await house.settle()
        house.upstreams["a"].settle()

Streams are in memory, destinations and the quarantine answer when the test says so, and at the end all books must
balance. No thread runs, so `MockClock` may be used.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import orjson
import trio
import trio.testing
from attrs import define, field

from mqttproxy.config.load import parse_config
from mqttproxy.config.model import Address, ListenerSettings, UpstreamSettings
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.door import Door
from mqttproxy.downstream.premises import Premises
from mqttproxy.handover import Item, Lane, Ticket
from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    ProtocolVersion,
    Publish,
    SubAck,
    Subscription,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.pipeline import Pipeline, Ruleset
from mqttproxy.quarantine.model import Held
from mqttproxy.refusal import HeldTicket, Refusal
from mqttproxy.sessions import RetainedStore, SubscriptionTable
from mqttproxy.telemetry.audit import AuditTrail
from mqttproxy.telemetry.logs import RateLimited
from mqttproxy.telemetry.metrics import DestinationSnapshot, Metrics
from mqttproxy.transport.listen import Listener
from mqttproxy.transport.stream import TransportError
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from tests.bad_input.wire import frames
from tests.fakes import MemoryByteStream, memory_pair

V311: Final = ProtocolVersion.V311
V5: Final = ProtocolVersion.V5
WALL: Final = 1_700_000_000.0
HOST: Final = "192.0.2.7"


class FakeUpstream:
    """A destination whose outbox nobody empties but the test, and a broker that subscribes to whatever it is asked.

    Attributes:
        bound: messages that it takes until the test lets some go.
        taken: what it holds, in order.
        ever_taken, settled, refusals, forced_out: payloads, by what became of them.
        wanted: filters that devices want, and how many.
        answers: what the broker says to a filter instead of success; None: nothing.

    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self.name = settings.name
        self.settings = settings
        self.is_live = True
        self.bound = 1000
        self.taken: list[Item] = []
        self.carried: list[str] = []  # topics that went away from here, as they went
        self.ever_taken: set[bytes] = set()
        self.settled: set[bytes] = set()
        self.refusals: set[bytes] = set()
        self.forced_out: set[bytes] = set()
        self.offered = self.delivered = self.refused = 0
        self.dropped: Counter[str] = Counter()
        self.wanted: Counter[str] = Counter()
        self.answers: dict[str, ReasonCode | None] = {}
        self._house: House
        self._room = trio.Event()

    @property
    def topics(self) -> list[str]:
        return [message.topic for message, _ in self.taken]

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message, _ in self.taken]

    # As the pipeline sees it.

    def offer(self, items: Sequence[tuple[Message, object]]) -> int:
        some = items[: max(0, self.bound - len(self.taken))]
        self._add(some)
        self.offered += len(some)
        return len(some)

    def force_oldest(self, items: Sequence[tuple[Message, object]]) -> list[object]:
        self._add(items)
        self.offered += len(items)
        gone = self._take(range(len(self.taken) - self.bound))
        self.forced_out |= {message.payload for message, _ in gone}
        self.dropped["drop_oldest"] += len(gone)
        return [token for _, token in gone if token is not None]

    def count_dropped(self, messages: int, reason: str) -> None:
        self.offered += messages
        self.dropped[reason] += messages

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.taken) >= self.bound:
            await self._room.wait()

    # As subscriptions see it.

    def subscribe(self, topic_filter: str, qos: int) -> None:
        self.wanted[topic_filter] += 1

    def unsubscribe(self, topic_filter: str) -> None:
        self.wanted[topic_filter] -= 1
        assert self.wanted[topic_filter] >= 0
        self.wanted += Counter()  # without what is zero

    async def wait_subscribed(self, topic_filter: str) -> ReasonCode:
        await trio.lowlevel.checkpoint()
        answer = self.answers.get(topic_filter, ReasonCode.SUCCESS)
        if answer is None:
            await trio.sleep_forever()
            raise AssertionError
        return answer

    # What the test does with it.

    def settle(self, *positions: int) -> None:
        """Acknowledge what it holds: all, or those at these positions, in the order given, in one read of the link."""
        gone = self._take(positions or range(len(self.taken)))
        self.delivered += len(gone)
        self.settled |= {message.payload for message, _ in gone}
        self._house.pipeline.settled(self.name, [ticket for _, ticket in gone if ticket is not None])

    def refuse(self, reason: ReasonCode, *positions: int) -> None:
        """Answer what it holds, or some of it, in the negative."""
        gone = self._take(positions or range(len(self.taken)))
        self.refused += len(gone)
        self.refusals |= {message.payload for message, _ in gone}
        self._house.refusal.refused_by(self.name, [(ticket, message, reason) for message, ticket in gone])

    def send(self, *publishes: Publish) -> None:
        """Let the broker send messages."""
        self._house.pipeline.carry_down(self.name, [(publish, None) for publish in publishes])

    def snapshot(self, waiting: int) -> DestinationSnapshot:
        return DestinationSnapshot(
            name=self.name,
            kind="mqtt",
            connected=self.is_live,
            in_flight=len(self.taken),
            waiting=waiting,
            offered=self.offered + waiting,
            delivered=self.delivered,
            refused=self.refused,
            dropped=self.dropped,
        )

    def make_room(self, messages: int) -> None:
        """Take so many messages more."""
        self.bound += messages
        self._tell_room()

    def _add(self, items: Sequence[tuple[Message, object]]) -> None:
        self.taken += cast("Sequence[Item]", items)
        self.ever_taken |= {message.payload for message, _ in items}

    def _take(self, positions: Iterable[int]) -> list[Item]:
        chosen = list(positions)
        gone = [self.taken[position] for position in chosen]
        self.taken = [item for position, item in enumerate(self.taken) if position not in set(chosen)]
        self.carried += [message.topic for message, _ in gone]
        self._tell_room()
        return gone

    def _tell_room(self) -> None:
        self._room.set()
        self._room = trio.Event()


class FakeQuarantine:
    """Commits when the test says so, or at once. `bound` messages may wait."""

    def __init__(self) -> None:
        self.bound = 1000
        self.waiting: list[tuple[Held, object]] = []
        self.kept: list[Held] = []
        self._house: House
        self._room = trio.Event()

    def hold_nowait(self, held: Held, token: object) -> None:
        if len(self.waiting) >= self.bound:
            raise trio.WouldBlock
        self.waiting.append((held, token))

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.waiting) >= self.bound:
            await self._room.wait()

    def commit(self, count: int | None = None) -> None:
        """Say that what waits, or the first of it, is on disk."""
        now, self.waiting = self.waiting[:count], self.waiting[len(self.waiting[:count]) :]
        self.kept += [held for held, _ in now]
        self._room.set()
        self._room = trio.Event()
        self._house.refusal.committed([token for _, token in now])


class FakeLog:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def debug(self, event: str, /, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})

    info = warning = error = exception = debug

    def bind(self, **fields: Any) -> "FakeLog":
        return self

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


class FakeListener:
    """Accepts what the test connects. `patience`: seconds that its handshake takes."""

    def __init__(self) -> None:
        self.settings = ListenerSettings(name="plain", bind=Address("127.0.0.1:0"))
        self.patience = 0.0
        self.failure: str | None = None
        self.closed = False
        self._send, self._receive = trio.open_memory_channel[MemoryByteStream](1_000_000)

    def arrive(self, stream: MemoryByteStream) -> None:
        self._send.send_nowait(stream)

    async def accept(self) -> MemoryByteStream:
        return await self._receive.receive()

    async def handshake(self, raw: MemoryByteStream) -> MemoryByteStream:
        await trio.sleep(self.patience)
        if self.failure is not None:
            raise TransportError(self.failure)
        return raw

    def close(self) -> None:
        self.closed = True


class Client:
    """A device of the tests: `ClientConnection` over a memory stream. What it hears gathers in `events`.

    Attributes:
        ended_at: when the connection was closed by the proxy, None while it is open.
        acknowledges: False: it leaves the messages that it gets unacknowledged.

    """

    def __init__(self, stream: MemoryByteStream, connect: Connect, nursery: trio.Nursery) -> None:
        self.stream = stream
        self.connection = ClientConnection(connect, SessionState(), ClientLimits(), trio.current_time())
        self.events: list[Event] = []
        self.heard = bytearray()
        self.ended_at: float | None = None
        self.is_cut = False
        self.acknowledges = True
        self._may_read = trio.Event()
        self._may_read.set()
        self._nursery = nursery
        self.flush()
        nursery.start_soon(self._read)

    # What it does.

    def publish(self, *messages: Message) -> None:
        """Send messages in one write. Their packet identifiers count from 1."""
        self.connection.publish([(message, message.topic) for message in messages])
        self.flush()

    def subscribe(self, *filters: str | Subscription, identifier: int | None = None) -> None:
        wanted = [Subscription(one, 2) if isinstance(one, str) else one for one in filters]
        self.connection.subscribe(wanted, identifier)
        self.flush()

    def send(self, data: bytes) -> None:
        """Send bytes of any kind."""
        self.stream.send_nowait(data)

    def disconnect(self, reason: ReasonCode = ReasonCode.SUCCESS) -> None:
        self.connection.disconnect(reason)
        self.flush()

    def hang(self) -> None:
        """Take no byte more, after what is being waited for."""
        self._may_read = trio.Event()

    def go_on(self) -> None:
        """Take bytes again."""
        self._may_read.set()

    def cut(self) -> None:
        """Let the connection be lost."""
        self.stream.abort()

    def flush(self) -> None:
        if data := self.connection.data_to_send():
            self.stream.send_nowait(data)

    # What it has heard.

    def of(self, kind: type[Packet] | type[Settled]) -> list[Any]:
        """Return what came of one kind."""
        return [event for event in self.events if type(event) is kind]

    @property
    def connack(self) -> ConnAck | None:
        return next(iter(self.of(ConnAck)), None)

    @property
    def settled(self) -> list[tuple[int, int]]:
        """(packet identifier, reason) of each acknowledgement, in order."""
        return [(event.packet_id, int(event.reason)) for event in self.of(Settled)]

    @property
    def acknowledged(self) -> list[tuple[int, int]]:
        """(packet identifier, reason) of each PUBACK and PUBREC as they came; `settled` has PUBCOMP for QoS 2."""
        return [
            (int.from_bytes(packet[2:4], "big"), packet[4] if len(packet) > 4 else 0)
            for packet in frames(bytes(self.heard))
            if packet[0] in (0x40, 0x50)
        ]

    @property
    def received(self) -> list[tuple[str, bytes]]:
        return [(publish.topic, publish.payload) for publish in self.of(Publish)]

    @property
    def goodbye(self) -> ReasonCode | None:
        """Reason of the proxy's DISCONNECT."""
        return next((event.reason for event in self.of(Disconnect)), None)

    @property
    def granted(self) -> tuple[ReasonCode, ...]:
        """Reasons of the last SUBACK."""
        return cast("tuple[ReasonCode, ...]", self.of(SubAck)[-1].reasons)

    async def _read(self) -> None:
        try:
            while True:
                await self._may_read.wait()
                data = await self.stream.receive()
                if not data:
                    break
                self._take(bytes(data))
        except TransportError:
            self.is_cut = True
        self.ended_at = trio.current_time()

    def _take(self, data: bytes) -> None:
        now = trio.current_time()
        self.heard += data
        self.connection.receive_data(data, now)
        while events := self.connection.next_batch(now):
            self.events += events
            if self.acknowledges:
                self.connection.acknowledge_all(
                    [(event.packet_id, event.qos) for event in events if type(event) is Publish and event.qos]
                )
        self.flush()


class Shelf:
    """The schema folder in memory."""

    def __init__(self, files: Mapping[str, Any]) -> None:
        self._files = {path: orjson.dumps(schema) for path, schema in files.items()}

    def read(self, path: str) -> bytes:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(2, "no such file", path) from None

    def names(self) -> Iterable[str]:
        return self._files


NUMBERS: Final = {"number/1.json": {"type": "number"}}  # a schema that a payload can easily break

POLICY: Final = """
[[policies]]
name = "numbers"
topics = ["n/#"]
schema = "number@1"
"""


@define(eq=False)
class House:
    """Everything, joined."""

    nursery: trio.Nursery
    metrics: Metrics
    audit: AuditTrail
    quarantine: FakeQuarantine
    upstreams: dict[str, FakeUpstream]
    lanes: dict[str, Lane]
    refusal: Refusal
    pipeline: Pipeline
    premises: Premises
    door: Door
    listener: FakeListener
    log: FakeLog
    ports: int = field(default=50_000)

    def arrive(self, host: str = HOST) -> MemoryByteStream:
        """Open a connection that has said nothing yet; returns the device's end."""
        self.ports += 1
        theirs, ours = memory_pair(host=host, port=self.ports)
        theirs.flush_with(self.nursery.start_soon)
        self.listener.arrive(ours)
        return theirs

    def device(self, client_id: str = "d", version: ProtocolVersion = V5, **connect: Any) -> Client:
        """Open a connection and send CONNECT."""
        wanted = Connect(client_id=client_id, version=version, **connect)
        return Client(self.arrive(), wanted, self.nursery)

    async def connect(self, client_id: str = "d", version: ProtocolVersion = V5, **connect: Any) -> Client:
        """Connect a device, which must be accepted."""
        client = self.device(client_id, version, **connect)
        await self.settle()
        assert client.connack is not None
        assert client.connack.reason is ReasonCode.SUCCESS
        return client

    def inside(self, client_id: str = "d") -> Device:
        """Return our end of a connected device."""
        device = self.premises.devices[client_id]
        assert isinstance(device, Device)
        return device

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        await trio.testing.wait_all_tasks_blocked()

    @property
    def a(self) -> FakeUpstream:
        return self.upstreams["a"]

    @property
    def b(self) -> FakeUpstream:
        return self.upstreams["b"]

    def audit_lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.audit._waiting]

    def check_books(self) -> None:
        """Everything that was received is somewhere (promise P9), and so is everything meant for a destination."""
        received, became = self.metrics.books()
        assert received == became
        for name, upstream in self.upstreams.items():
            waiting = self.lanes[name].waiting
            assert waiting >= 0
            offered, gone = upstream.snapshot(waiting).books()
            assert offered == gone, name
        of_judge = [token for _, token in self.quarantine.waiting if isinstance(token, HeldTicket) and token.judged]
        assert self.metrics.waiting >= len(of_judge)
        for device in self.premises.devices.values():
            assert isinstance(device, Device)
            assert device.unacknowledged == sum(ticket.size for ticket in device.pending)
            assert len(device.pending) <= self.premises.limits.receive_maximum


def make_house(
    text: str, nursery: trio.Nursery, *, files: Mapping[str, Any] | None = None, dry_run: bool = False
) -> House:
    """Build the rooms; nothing runs yet."""
    config = parse_config(
        f"[access]\nallow_anonymous = true\n{text}", "proxy.toml", Path("/"), unreadable=lambda _: None
    )
    ruleset = Ruleset(
        config, build_generation(1, config, Shelf(NUMBERS if files is None else files)), RouteTable(config)
    )
    metrics = Metrics(now=trio.current_time)
    audit = AuditTrail(Path("unused"))
    quarantine, table, log = FakeQuarantine(), SubscriptionTable(), FakeLog()
    alerts = RateLimited(log=log, now=trio.current_time)
    numbers = iter(range(1_000_000))
    refusal = Refusal(
        table=table,
        quarantine=quarantine,
        metrics=metrics,
        audit=audit,
        alerts=alerts,
        new_id=lambda: f"id-{next(numbers)}",
        wall=lambda: WALL,
        dry_run=dry_run,
    )
    upstreams = {settings.name: FakeUpstream(settings) for settings in config.upstreams}
    lanes = {name: Lane(upstream) for name, upstream in upstreams.items()}
    limits = config.limits
    pipeline = Pipeline(
        ruleset=ruleset,
        lanes=lanes,
        table=table,
        retained=RetainedStore(max_messages=limits.retained_messages, max_bytes=limits.retained_bytes),
        refusal=refusal,
        metrics=metrics,
    )
    premises = Premises(
        limits=limits,
        access=config.access,
        pipeline=pipeline,
        upstreams=upstreams,
        metrics=metrics,
        log=log,
        alerts=alerts,
        new_client_id=lambda: f"auto-{next(numbers)}",
    )
    door, listener = Door(premises), FakeListener()
    door.listeners.append(cast("Listener", listener))
    house = House(
        nursery, metrics, audit, quarantine, upstreams, lanes, refusal, pipeline, premises, door, listener, log
    )
    quarantine._house = house
    for upstream in upstreams.values():
        upstream._house = house
    return house


@asynccontextmanager
async def open_house(
    text: str = "", *, files: Mapping[str, Any] | None = None, dry_run: bool = False
) -> AsyncIterator[House]:
    """Run the devices' side with these settings; at the end the books must balance and nothing have failed."""
    async with trio.open_nursery() as nursery:
        house = make_house(text, nursery, files=files, dry_run=dry_run)
        nursery.start_soon(house.door.run)
        await house.settle()
        yield house
        await house.settle()
        house.check_books()
        assert "internal_error" not in house.log.events(), house.log.lines
        nursery.cancel_scope.cancel()


def upstream(name: str = "a", more: str = "") -> str:
    """Return the table of an upstream."""
    return f'[[upstreams]]\nname = "{name}"\nurl = "mqtt://{name}"\n{more}\n'


def route(*to: str, more: str = "", topics: str = "#") -> str:
    """Return the table of a route."""
    return f'[[routes]]\ntopics = ["{topics}"]\nto = {list(to)}\n{more}\n'.replace("'", '"')


def ticket_of(house: House, position: int, client_id: str = "d") -> Ticket:
    """Return what waits for its acknowledgement at this position."""
    return house.inside(client_id).pending[position]
