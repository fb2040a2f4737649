"""A run of kills: load, kill -9 at random moments, start again, and at the end wait for all that can arrive."""

import statistics
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import trio
from attrs import asdict, define, field, frozen

from tests.faults.ledger import Ledger, Report
from tests.faults.peers import Device, Ear
from tests.faults.receivers import Receiver
from tests.faults.systems import System
from tests.scenarios.mosquitto import Mosquitto

TICK: Final = 0.005  # seconds between turns of the load
READY: Final = 60.0  # seconds after which a system that serves nobody has failed
QUIET: Final = 10.0  # seconds without any arrival, after which nothing more is expected
DRAIN: Final = 1200.0  # seconds at most for all to drain, while something arrives


@frozen(kw_only=True)
class Plan:
    """What a run does.

    Attributes:
        kills: how many, between which so many seconds of load pass after all is well again.
        rate: messages a second in all, due whether or not there is room for them.
        victim: which processes are killed: "proxy" (what stands in its place too), "broker", or "both" in turn.

    """

    kills: int = 200
    rate: float = 5000.0
    devices: int = 48
    victim: str = "proxy"
    between: tuple[float, float] = (1.5, 4.0)
    seed: int = 1


@define(kw_only=True)
class Outcome:
    """What came of a run. Times in seconds.

    Attributes:
        ready: of each kill of what devices talk to: from the kill to the first CONNACK.
        served: of each kill: to the first acknowledgement after it.
        forgotten: sessions of devices that were not there any more.
        late: messages that were due and had not been published when the load ended.
        faults: what no run may have, in words: protocol errors, errors in the log, what did not come back.

    """

    name: str
    settings: str
    report: Report
    kills: int
    seconds: float
    ready: list[float]
    served: list[float]
    forgotten: int
    late: int
    faults: list[str]

    def check(self, *, repeats: tuple[int, ...] = ()) -> None:
        """Fail if a promise was broken."""
        assert not self.faults, self.faults
        self.report.check(repeats=repeats)

    def to_json(self) -> dict[str, object]:
        """Return it for a machine."""
        return asdict(self)


Brokers = Mapping[str, Mosquitto | Receiver]


@define(eq=False)
class Run:
    """One system under load."""

    plan: Plan
    system: System
    brokers: Brokers
    tell: Callable[[str], None] = lambda _: None
    new_ledger: Callable[[list[str]], Ledger] = Ledger
    ledger: Ledger = field(init=False)
    devices: list[Device] = field(init=False)
    ears: list[Ear | Receiver] = field(init=False)
    ready: list[float] = field(factory=list)
    served: list[float] = field(factory=list)
    faults: list[str] = field(factory=list)
    _chance: Random = field(init=False)
    _due: float = 0.0
    _acknowledged: int = 0

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        self._chance = chance = Random(plan.seed)
        self.ledger = ledger = self.new_ledger(list(self.brokers))
        url = f"mqtt://127.0.0.1:{self.system.port}"
        self.devices = [
            Device(url, f"device-{number}", chance, ledger=ledger, heard=self._hear) for number in range(plan.devices)
        ]
        qos = 2 if plan.victim == "proxy" else 0
        self.ears = [
            broker.hear_for(ledger)
            if isinstance(broker, Receiver)
            else Ear(broker.url, f"ear-{name}", chance, destination=name, ledger=ledger, qos=qos)
            for name, broker in self.brokers.items()
        ]

    async def go(self) -> Outcome:
        """Do all of it. The brokers run; the system is started, and killed at the end."""
        async with trio.open_nursery() as nursery:
            for ear in self.ears:
                nursery.start_soon(ear.run)
            await self._wait(lambda: all(ear.is_listening for ear in self.ears), "the ears")
            if self.plan.victim != "proxy":
                for broker in self._mosquittos().values():
                    await trio.to_thread.run_sync(broker.save)
            await trio.to_thread.run_sync(self.system.start)
            for device in self.devices:
                nursery.start_soon(device.run)
            await self._wait(self._is_well, "the first acknowledgements", publish=True)
            began = trio.current_time()
            await self._trouble()
            seconds = trio.current_time() - began
            late = int(self._due)
            await self._drain()
            nursery.cancel_scope.cancel()
        self.faults += self.system.faults()
        self.faults += [error for client in (*self.devices, *self.ears) for error in client.errors]
        self.system.kill()
        return Outcome(
            name=self.system.name,
            settings=self.system.settings,
            report=self.ledger.report(),
            kills=self.plan.kills,
            seconds=seconds,
            ready=self.ready,
            served=self.served,
            forgotten=sum(device.forgotten for device in self.devices),
            late=late,
            faults=self.faults,
        )

    async def _trouble(self) -> None:
        """Put it under load, and kill and kill; when this returns, there is no more load."""
        plan = self.plan
        victims = {"proxy": ["proxy"], "broker": list(self.brokers), "both": ["proxy", *self.brokers]}[plan.victim]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load)
            for number in range(plan.kills):
                await trio.sleep(self._chance.uniform(*plan.between))
                victim = victims[number % len(victims)]
                self.ledger.incident()
                if victim == "proxy":
                    await self._kill_system(trio.current_time())
                else:
                    await self._kill_broker(self._mosquittos()[victim], trio.current_time())
                self.tell(f"{self.system.name}: kill {number + 1} of {plan.kills}, {victim}: {self.served[-1]:.2f} s")
            await trio.sleep(self._chance.uniform(*plan.between))
            nursery.cancel_scope.cancel()

    def _mosquittos(self) -> dict[str, Mosquitto]:
        return {name: broker for name, broker in self.brokers.items() if isinstance(broker, Mosquitto)}

    async def _kill_system(self, killed_at: float) -> None:
        connections = sum(device.connections for device in self.devices)
        self.system.kill()
        acknowledged = self._acknowledged
        await trio.to_thread.run_sync(self.system.start)
        await self._wait(lambda: sum(device.connections for device in self.devices) > connections, "the first CONNACK")
        self.ready.append(trio.current_time() - killed_at)
        await self._wait(lambda: self._acknowledged > acknowledged, "the first acknowledgement")
        self.served.append(trio.current_time() - killed_at)
        await self._wait(lambda: all(device.is_connected for device in self.devices), "all devices")

    async def _kill_broker(self, broker: Mosquitto, killed_at: float) -> None:
        ear = next(ear for ear in self.ears if ear.url == broker.url)
        connections, last = ear.connections, ear.last
        broker.kill()
        await trio.to_thread.run_sync(broker.start)
        await self._wait(lambda: ear.connections > connections and ear.last > max(last, killed_at), "its messages")
        self.served.append(trio.current_time() - killed_at)

    async def _load(self) -> None:
        """Publish what is due, as far as there is room, the devices in turn."""
        before, turn = trio.current_time(), 0
        while True:
            await trio.sleep(TICK)  # what is due comes at a rate
            now = trio.current_time()
            self._due += (now - before) * self.plan.rate
            before = now
            each = int(self._due / len(self.devices)) + 1
            for _ in range(len(self.devices)):
                if self._due < 1:
                    break
                turn = (turn + 1) % len(self.devices)
                self._due -= self.devices[turn].publish(min(each, int(self._due)))

    async def _drain(self) -> None:
        """Wait until everything acknowledged is there, or nothing more comes."""
        end = trio.current_time() + DRAIN
        quiet_since = trio.current_time()
        while trio.current_time() < end:
            last = max(quiet_since, *(ear.last for ear in self.ears))
            waiting = sum(len(device.session.outgoing) for device in self.devices)
            if not waiting and not any(self.ledger.missing):
                await trio.sleep(0.5)  # for what comes twice
                return
            if trio.current_time() - last > QUIET:
                break
            await trio.sleep(0.05)
        else:
            self.faults.append(f"after {DRAIN:g} s it still delivers: what counts as lost may be late")
        if waiting:
            self.faults.append(f"{waiting} messages are never acknowledged")

    async def _wait(self, look: Callable[[], bool], what: str, *, publish: bool = False) -> None:
        end = trio.current_time() + READY
        while not look():
            if trio.current_time() > end:
                raise trio.TooSlowError(f"{self.system.name}: waited {READY:g} s for {what}")
            if publish:
                for device in self.devices:
                    if not device.session.outgoing:
                        device.publish(1)
            await trio.sleep(TICK)

    def _is_well(self) -> bool:
        return self._acknowledged >= len(self.devices) and all(device.is_connected for device in self.devices)

    def _hear(self) -> None:
        self._acknowledged += 1


def line(outcome: Outcome) -> list[str]:
    """Return its figures as cells of a table."""
    report = outcome.report

    def times(found: list[float]) -> str:
        return f"{statistics.median(found):.2f} / {max(found):.2f}" if found else "-"

    return [
        outcome.name,
        str(outcome.kills),
        f"{report.sent / outcome.seconds:,.0f}",
        f"{report.sent:,}",
        f"{report.acknowledged:,}",
        f"{report.lost:,}",
        f"{report.duplicated[1]:,} / {report.worst[1]:,}",
        f"{report.duplicated[2]:,} / {report.worst[2]:,}",
        f"{report.inversions:,}",
        f"{report.ghosts} / {report.corrupted}",
        times(outcome.ready),
        times(outcome.served),
        str(outcome.forgotten),
    ]


HEADS: Final = (
    "system",
    "kills",
    "msg/s",
    "sent",
    "acknowledged",
    "lost",
    "QoS 1 twice: all / worst kill",
    "QoS 2 twice: all / worst kill",
    "out of order",
    "ghosts / corrupted",
    "s to CONNACK: median / max",
    "s to first acknowledgement: median / max",
    "sessions forgotten",
)
