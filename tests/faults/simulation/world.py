"""The world of one seed: the proxy with its disk, brokers and devices around it, and one process after the other."""

import sys
import traceback
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

import structlog
import trio

from mqttproxy.app import Proxy
from mqttproxy.mqtt.packets import ProtocolVersion
from mqttproxy.outside import Outside
from mqttproxy.sqlite import DISK_TROUBLE
from tests.faults.simulation.brokers import Broker, dial_any
from tests.faults.simulation.chance import chance_of, part_of
from tests.faults.simulation.devices import Device
from tests.faults.simulation.disk import Disk, Mount
from tests.faults.simulation.ledger import Ledger
from tests.faults.simulation.network import LISTENER, Network
from tests.faults.simulation.routes import CONFIG, IN_FLIGHT, QUEUE, RECEIVE_MAXIMUM, RULESET, SPOOL_QUEUE

WALL: Final = 1_800_000_000.0
RESTART: Final = 0.5  # seconds until a process that ended is started again
LOOK_EVERY: Final = 0.5


class Incarnation:
    """One process of the proxy, from its start to its end."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.mount = Mount(world.disk)
        self.scope = trio.CancelScope()
        self.serving: trio.CancelScope | None = None  # set while the door is open
        self.tasks: trio.Nursery | None = None  # what ends with the serving, as signals do
        self.is_crashed = self.is_stopping = False
        self.ended = trio.Event()
        chance = part_of(world.chance)
        outside = Outside(
            wall=lambda: WALL + trio.current_time(),
            now=trio.current_time,
            chance=chance.random,
            draw=chance.randbytes,
            dial=dial_any(world.brokers, self),
            listen=self._listen,
            to_thread=self.mount.to_thread,
            run_apart=_checked,
            make_store=self.mount.make_store,
            make_reader=self.mount.make_reader,
            make_writer=self.mount.make_writer,
            make_audit_files=self.mount.make_audit_files,
            configure_logging=lambda *_: None,
        )
        self.proxy = Proxy(Path("/proxy.toml"), CONFIG, RULESET, dry_run=False, outside=outside)

    async def _listen(self, *_: Any, **__: Any) -> Any:
        return await self.world.network.listen(self, LISTENER)

    async def run(self) -> None:
        """Be the process. Returns when it has ended; the world starts another one."""
        proxy = self.proxy
        try:
            with self.scope:
                async with trio.open_nursery() as background:
                    proxy.pipeline.at_end_of_turn = _turns(background)
                    await proxy.open_rooms(background)
                    await proxy.door.open(CONFIG.listeners)
                    async with trio.open_nursery() as serving:
                        self.serving, self.tasks = serving.cancel_scope, serving
                        serving.start_soon(proxy.door.run)
                        self.world.tell("ready")
                    background.cancel_scope.cancel()
        except* DISK_TROUBLE as group:
            if self.serving is not None:
                raise
            self.world.tell("cannot start", repr(group.exceptions))
        finally:
            if not self.is_crashed:
                self.world.network.drop(self, silently=False)
            self.ended.set()

    def crash(self, *, silently: bool) -> None:
        """Be killed: nothing of it reaches disk or network any more, whatever its tasks still do."""
        self.is_crashed = True
        self.mount.is_dead = True
        self.world.network.drop(self, silently=silently)
        self.scope.cancel()

    def check(self, fault: Callable[[str], None]) -> None:
        """Look at what must be true at any moment: books and bounds."""
        proxy = self.proxy
        for name, (received, became) in {"up": proxy.metrics.books(), "down": proxy.metrics.books_down()}.items():
            if received != became:
                fault(f"books {name}: {received} received, {became} accounted for")
        for snapshot in proxy.pool.snapshots():
            offered, gone = snapshot.books()
            if offered != gone:
                fault(f"books of {snapshot.name}: {offered} offered, {gone} accounted for")
            # What a broker has refused for now goes back to the outbox from what was in flight.
            if snapshot.queued + snapshot.in_flight > QUEUE + IN_FLIGHT or snapshot.in_flight > IN_FLIGHT:
                fault(f"{snapshot.name} holds {snapshot.queued} and {snapshot.in_flight} messages")
        if proxy.keeping.spool.pending > SPOOL_QUEUE + RECEIVE_MAXIMUM * len(self.world.devices):
            fault(f"{proxy.keeping.spool.pending} messages wait for the disk")
        for device in proxy.door.premises.devices.values():
            if len(device.pending) > RECEIVE_MAXIMUM:  # type: ignore[attr-defined] # a `Device`
                fault(f"{device} has {len(device.pending)} messages unacknowledged")  # type: ignore[attr-defined] # as above

    @property
    def is_drained(self) -> bool:
        """Nothing waits anywhere."""
        proxy = self.proxy
        return (
            self.serving is not None
            and not proxy.keeping.spool.messages
            and not proxy.keeping.spool.pending
            and not proxy.quarantine.pending
            and not any(upstream.queued or upstream.in_flight for upstream in proxy.pool.values())
        )

    def left(self) -> str:
        """Say in words what waits."""
        proxy = self.proxy
        return f"{proxy.keeping.spool!r}, {list(proxy.pool.values())}, quarantine {proxy.quarantine.pending}"


class World:
    """See the module.

    Attributes:
        faults: what was found wrong that no message is to blame for.

    """

    def __init__(self, seed: int, nursery: trio.Nursery, say: Callable[[str], None] | None = None) -> None:
        self.chance = chance_of(seed)
        self.nursery = nursery
        self.say = say
        self.trace = blake2b(digest_size=8)
        self.ledger = Ledger(self.tell)
        self.disk = Disk(part_of(self.chance))
        self.network = Network(part_of(self.chance))
        self.brokers: dict[str, Broker] = {}
        for name in ("a", "b", "c"):
            chance = part_of(self.chance)
            self.brokers[name] = Broker(name, self.network, self.ledger, chance, nursery)
        self.devices = [self._device(number) for number in range(self.chance.randint(2, 5))]
        self.subscriber = self._device(0, "subscriber", messages=0, listens="l/#")
        self.is_over = False
        _configure_logging(self)
        self.incarnations: list[Incarnation] = []
        self._begin()

    def _begin(self) -> None:
        self.incarnation = Incarnation(self)
        self.incarnations.append(self.incarnation)

    @property
    def damaged(self) -> int:
        """How many records all processes have told of."""
        return sum(one.proxy.keeping.feeding.damaged_total for one in self.incarnations)

    def _device(self, number: int, name: str = "", messages: int | None = None, listens: str = "") -> Device:
        chance = part_of(self.chance)
        version = ProtocolVersion.V5 if chance.random() < 0.6 else ProtocolVersion.V311
        count = chance.randint(10, 40) if messages is None else messages
        return Device(
            name or f"d{number}",
            version,
            network=self.network,
            disk=self.disk,
            ledger=self.ledger,
            chance=chance,
            messages=count,
            listens=listens,
        )

    def tell(self, what: str, *more: object) -> None:
        """Add a line to the trace, whose hash shows that a seed plays out the same each time."""
        line = f"{trio.current_time():10.4f} {what} {' '.join(map(str, more))}"
        self.trace.update(line.encode())
        if self.say is not None:
            self.say(line)

    async def keep_running(self) -> None:
        """Run one process after the other, as a service manager would."""
        while not self.is_over:
            self.nursery.start_soon(self.incarnation.run)
            while not self.incarnation.is_crashed and not self.incarnation.ended.is_set():
                with trio.move_on_after(LOOK_EVERY):
                    await self.incarnation.ended.wait()
                if not self.incarnation.is_crashed:
                    self.incarnation.check(self.ledger.fault)
            if self.is_over:
                return
            await trio.sleep(RESTART)
            self._begin()

    def crash(self, *, silently: bool) -> None:
        """Kill the process that runs."""
        self.ledger.is_volatile = True
        self.incarnation.crash(silently=silently)

    def heal(self) -> None:
        """Let everything work from now on."""
        self.disk.heal()
        self.network.shape = lambda _: None
        for broker in self.brokers.values():
            broker.heal()
        for wire in self.network.open_wires():
            wire.stall(stalled=False)
            wire.delay(0.0)
        for device in (*self.devices, self.subscriber):
            device.is_away = False

    @property
    def is_drained(self) -> bool:
        return all(device.is_done for device in self.devices) and self.incarnation.is_drained and not self.missing()

    def missing(self) -> list[Any]:
        self.ledger.hold(self.disk.held.values())
        return [one for one in self.ledger.missing() if not one[0].damaged]


def _turns(nursery: trio.Nursery) -> Callable[[Callable[[], None]], bool]:
    """Return what stands in for the poller: a turn is what all devices do before any goes on."""
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

    return at_end_of_turn


async def _checked(*_: str, seconds: float) -> CompletedProcess[bytes]:  # as `run_apart`
    await trio.lowlevel.checkpoint()
    return CompletedProcess([], 0, b"", b"")


def _configure_logging(world: World) -> None:
    """Hear what the proxy logs: it goes to the trace, and a bug is a fault."""

    def hear(_log: object, method: str, event: Any) -> Any:
        name = event.pop("event")
        if name == "internal_error":
            world.ledger.fault(f"internal error: {event} {''.join(traceback.format_exception(sys.exc_info()[1]))}")
        world.tell(f"{method}: {name}", *(f"{key}={value}" for key, value in event.items() if key != "exc_info"))
        raise structlog.DropEvent

    structlog.configure(processors=[partial(hear)], cache_logger_on_first_use=False)
