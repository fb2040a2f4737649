"""The devices' side of the proxy in one trio loop: real door, devices, pipeline and refusal; fakes around them.

    async with open_house('[[upstreams]]\nname = "a"\nurl = "mqtt://a"') as house:
        device = await house.connect("d")
        device.publish(Message("t", b"1", 1))
        await house.settle()
        house.upstreams["a"].settle()

Streams are in memory, destinations and the quarantine answer when the test says so, and at the end all books must
balance. No thread runs, so `MockClock` may be used.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import orjson
import trio
import trio.testing
from attrs import define, field

from mqttproxy.access import make_acl
from mqttproxy.access.building import make_chains
from mqttproxy.access.gate import Gate
from mqttproxy.config.load import parse_config
from mqttproxy.config.masking import key_of
from mqttproxy.downstream.departed import Publisher
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.door import Door
from mqttproxy.downstream.flapping import Flapping
from mqttproxy.downstream.premises import Premises
from mqttproxy.handover import Lane, Ticket
from mqttproxy.holding import HeldTicket
from mqttproxy.mqtt.packets import Connect, Properties, ProtocolVersion
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.pipeline import Pipeline
from mqttproxy.refusal import Refusal
from mqttproxy.ruleset import Ruleset
from mqttproxy.sessions import RetainedStore, Session, Sessions, SubscriptionTable
from mqttproxy.sessions.wills import Wills
from mqttproxy.shaping import shapes_of
from mqttproxy.spool import Feeding, Spool
from mqttproxy.telemetry.audit import AuditTrail
from mqttproxy.telemetry.logs import RateLimited
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.transport.listen import Listener
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from mqttproxy.validation.transforms import make_masker
from tests.client import Client
from tests.fake_rooms import (
    FakeJournal,
    FakeListener,
    FakeLog,
    FakeQuarantine,
    FakeUpstream,
    MemoryReader,
    Shelf,
    in_place,
)
from tests.fakes import MemoryByteStream, memory_pair

V311: Final = ProtocolVersion.V311
V5: Final = ProtocolVersion.V5
WALL: Final = 1_700_000_000.0
HOST: Final = "192.0.2.7"


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
    journal: FakeJournal
    feeding: Feeding
    ports: int = field(default=50_000)

    def arrive(self, host: str = HOST) -> MemoryByteStream:
        """Open a connection that has said nothing yet; returns the device's end."""
        self.ports += 1
        theirs, ours = memory_pair(host=host, port=self.ports)
        theirs.flush_with(self.nursery.start_soon)
        self.listener.arrive(ours)
        return theirs

    def device(
        self,
        client_id: str = "d",
        version: ProtocolVersion = V5,
        *,
        session: SessionState | None = None,
        acknowledges: bool = True,
        host: str = HOST,
        **connect: Any,
    ) -> Client:
        """Open a connection and send CONNECT. `session`: what the device has kept of its own."""
        wanted = Connect(client_id=client_id, version=version, **connect)
        return Client(self.arrive(host), wanted, self.nursery, session=session, acknowledges=acknowledges)

    async def connect(self, client_id: str = "d", version: ProtocolVersion = V5, **how: Any) -> Client:
        """Connect a device as `device` does; it must be accepted."""
        client = self.device(client_id, version, **how)
        await self.settle()
        assert client.connack is not None
        assert client.connack.reason is ReasonCode.SUCCESS
        return client

    async def keep(self, client_id: str = "d", version: ProtocolVersion = V5, **how: Any) -> Client:
        """Connect a device to a session that is kept."""
        if version is V5:
            how.setdefault("properties", Properties(session_expiry_interval=1000))
        return await self.connect(client_id, version, clean_start=False, **how)

    def inside(self, client_id: str = "d") -> Device:
        """Return our end of a connected device."""
        device = self.premises.devices[client_id]
        assert isinstance(device, Device)
        return device

    def session(self, client_id: str = "d") -> Session:
        """Return the session of a client, whether it is connected or not."""
        session = self.premises.sessions.get(client_id)
        assert session is not None
        return session

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
        for received, became in (self.metrics.books(), self.metrics.books_down()):
            assert received == became
        for name, upstream in self.upstreams.items():
            waiting = self.lanes[name].waiting + self.pipeline.spool.feeds[name].on_disk
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
    key = key_of(config)
    ruleset = Ruleset(
        config,
        build_generation(1, config, Shelf(NUMBERS if files is None else files)),
        RouteTable(config),
        shapes_of(config, key),
        make_masker(config, key),
        make_acl(config.access),
        make_chains(config, to_thread=in_place, wall=lambda: WALL + trio.current_time()),
    )
    metrics = Metrics(now=trio.current_time)
    audit = AuditTrail(Path("unused"))
    quarantine, table, log, journal = FakeQuarantine(), SubscriptionTable(), FakeLog(), FakeJournal()
    alerts = RateLimited(log=log, now=trio.current_time)
    numbers = iter(range(1_000_000))
    spool = Spool(journal, config.spool)
    refusal = Refusal(
        table=table,
        quarantine=quarantine,
        spool=spool,
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
        journal=journal,
        spool=spool,
    )
    feeding = Feeding(spool, journal, MemoryReader(journal), to_thread=in_place, rest=0.0)
    feeding.use(upstreams, dict.fromkeys(upstreams, "account"))
    sessions = Sessions(
        table=table,
        journal=journal,
        limits=limits,
        now=trio.current_time,
        wall=lambda: WALL + trio.current_time(),
        dropped=metrics.dropped_down.add,
    )
    publisher = Publisher(pipeline)
    wills = Wills(
        fire=publisher.fire,
        per_second=limits.wills_per_second,
        most=limits.wills_pending,
        most_bytes=limits.wills_bytes,
        grace=limits.will_grace,
    )
    publisher.settled = wills.settled
    premises = Premises(
        limits=limits,
        access=config.access,
        pipeline=pipeline,
        upstreams=upstreams,
        sessions=sessions,
        wills=wills,
        publisher=publisher,
        flapping=Flapping.by(limits),
        metrics=metrics,
        log=log,
        alerts=alerts,
        new_client_id=lambda: f"auto-{next(numbers)}",
        sys_messages=lambda _: iter(()),
        server_reference=config.proxy.server_reference,
        gate=Gate(lambda: WALL + trio.current_time()),
    )
    door, listener = Door(premises), FakeListener()
    door.add(cast("Listener", listener))
    house = House(
        nursery, metrics, audit, quarantine, upstreams, lanes, refusal, pipeline, premises, door, listener, log,
        journal, feeding,
    )  # fmt: skip
    quarantine.house = house
    for upstream in upstreams.values():
        upstream.house = house
    return house


def play_turns(house: House, nursery: trio.Nursery) -> None:
    """Gather what devices send as under a poller: a turn is what all of them do before any goes on."""
    due: list[Callable[[], None]] = []

    def at_end_of_turn(call: Callable[[], None]) -> bool:
        if not due:
            nursery.start_soon(end_turn)
        due.append(call)
        return True

    async def end_turn() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        calls, due[:] = due[:], []
        for call in calls:
            call()

    house.pipeline.at_end_of_turn = at_end_of_turn


@asynccontextmanager
async def open_house(
    text: str = "", *, files: Mapping[str, Any] | None = None, dry_run: bool = False, turns: bool = False
) -> AsyncIterator[House]:
    """Run the devices' side with these settings; at the end the books must balance and nothing have failed.

    With `turns`, what devices send is gathered as under a poller, until every task has run.
    """
    async with trio.open_nursery() as nursery:
        house = make_house(text, nursery, files=files, dry_run=dry_run)
        if turns:
            play_turns(house, nursery)
        nursery.start_soon(house.feeding.run)
        nursery.start_soon(house.door.run)
        nursery.start_soon(house.premises.sessions.run)
        nursery.start_soon(house.premises.wills.run)
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


# A destination that must have a message before its device is acknowledged, and one that takes it past the spool.
AWAITED: Final = upstream() + route("a", more='ack = "all"')
DIRECT: Final = upstream() + route("a", more='ack = "memory"')


def ticket_of(house: House, position: int, client_id: str = "d") -> Ticket:
    """Return what waits for its acknowledgement at this position."""
    return house.inside(client_id).pending[position]
