"""A run with one upstream down: load, an outage, a kill at its end, and the way back to all being well."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio
from attrs import define, field, frozen

from tests.faults.clocked import Clocked, Phase, percentiles, processor_time, resident
from tests.faults.killing import READY, Run
from tests.faults.systems import Proxy
from tests.harness import RunningProxy
from tests.scenarios.mosquitto import Mosquitto

# The breaker stays shut, so that what is measured is not how long it waits.
LINKS: Final = """
backoff_first = "100ms"
backoff_ceiling = "8s"
breaker_failures = 1000000
breaker_ratio = 1.0
"""
LOOK: Final = 0.5  # seconds between looks at the metrics
SAMPLE: Final = 1.0  # seconds between looks at the memory
BEHIND: Final = 0.05  # seconds by which a load that keeps up may be behind
CALM: Final = 30.0  # seconds after which a load that is still behind is taken as it is


@frozen(kw_only=True)
class Restart:
    """One kill -9 of the proxy, with so many messages in the spool for the upstream that goes down.

    Attributes:
        ready: seconds from the kill until the log says `ready`.
        served: to the first acknowledgement.
        processor: seconds of processor time it had used when it was ready, however busy the machine is.

    """

    spooled: int
    ready: float
    served: float
    processor: float


@frozen(kw_only=True)
class CatchUp:
    """How the spool was drained into the upstream that came back.

    Attributes:
        behind: messages in the spool for it when the first one arrived.
        waited: seconds from its start to that.
        seconds: from then until it was no longer fed from the disk.
        delivered: what arrived there meanwhile.
        live: messages acknowledged meanwhile.

    """

    behind: int
    waited: float
    seconds: float
    delivered: int
    live: int


@define(eq=False)
class Outage(Run):
    """See the module. The first upstream is the one that goes down.

    Attributes:
        down_for: seconds of the outage.
        steady: seconds of each phase that others are compared with.
        kill: whether the proxy is killed: once with nothing in the spool, for comparison, and at the outage's end.

    """

    proxy: Proxy = field(kw_only=True)
    clocked: Clocked = field(init=False)
    down_for: float = field(kw_only=True)
    steady: float = field(default=10.0, kw_only=True)
    kill: bool = field(default=True, kw_only=True)
    phases: list[Phase] = field(factory=list)
    restarts: list[Restart] = field(factory=list)
    caught_up: CatchUp | None = None
    _memory: int = 0
    _late: int = 0
    _began: tuple[float, float, float] = 0.0, 0.0, 0.0

    def __attrs_post_init__(self) -> None:
        self.new_ledger = Clocked
        super().__attrs_post_init__()
        assert isinstance(self.ledger, Clocked)
        self.clocked = self.ledger

    async def _trouble(self) -> None:
        name, broker = next(iter(self._mosquittos().items()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load)
            nursery.start_soon(self._sample)
            await trio.sleep(self.steady)
            if self.kill:
                await self._restart(name)
                await trio.sleep(self.steady)
            await self._calm()
            with self._phase("all up"):
                await trio.sleep(self.steady)
            self.ledger.incident()
            broker.kill()
            with self._phase(f"{name} down"):
                await trio.sleep(self.down_for)
            if self.kill:
                with self._phase("restart"):
                    await self._restart(name)
                with self._phase(f"{name} still down"):
                    await trio.sleep(self.steady)
            with self._phase("catching up"):
                await self._catch_up(name, broker)
            with self._phase("all up again"):
                await trio.sleep(self.steady)
            nursery.cancel_scope.cancel()
        await self._empty_spool()

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Note what is measured in one stretch."""
        self.clocked.take_times()
        process, (began, *used) = self._process().pid, self._used()
        self._memory = self._late = 0
        yield
        self._look()
        answers, arrivals = self.clocked.take_times()
        ended, *now = self._used()
        if self._process().pid != process:  # all of its time is this phase's
            used[0] = 0.0
        seconds = ended - began
        ours, theirs = ((after - before) / seconds for before, after in zip(used, now, strict=True))
        phase = Phase(
            name=name,
            seconds=seconds,
            rate=len(answers) / seconds,
            acknowledged=percentiles(answers),
            arrived=percentiles(arrivals),
            memory=self._memory,
            late=self._late,
            processor=(ours, theirs),
            machine=os.getloadavg()[0],
        )
        self.phases.append(phase)
        self.tell(f"{name}: {seconds:.1f} s, {phase.rate:,.0f} msg/s, p99 {phase.acknowledged[1] * 1e3:.0f} ms")

    async def _restart(self, name: str) -> None:
        """Kill the proxy and start it, and wait until the load has made up for that."""
        spooled = int(await self._metric("spooled_messages", name))
        before, killed_at = self._process(), trio.current_time()
        self.ledger.incident()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kill_system, killed_at)
            await self._wait(lambda: self._says_ready(before), "ready")
            ready, used = trio.current_time() - killed_at, processor_time(self._process().pid)
        self.restarts.append(Restart(spooled=spooled, ready=ready, served=self.served[-1], processor=used))
        self.tell(f"ready after {ready:.2f} s, served after {self.served[-1]:.2f} s, {spooled:,} in the spool")
        await self._calm()

    async def _calm(self) -> None:
        """Wait until what was due is published, and no upstream that is up lags."""
        names = [name for name, broker in self._mosquittos().items() if broker.is_running]
        end = trio.current_time() + CALM
        while trio.current_time() < end:
            await trio.sleep(LOOK)
            lag = sum([await self._metric("destination_lagging", name) for name in names])
            if not lag and self._due < self.plan.rate * BEHIND:
                return

    def _says_ready(self, before: RunningProxy) -> bool:
        running = self.proxy.running
        return running is not None and running is not before and bool(running.log("ready"))

    async def _catch_up(self, name: str, broker: Mosquitto) -> None:
        """Start the upstream again, and wait until it is no longer fed from the disk."""
        self.ledger.incident()
        arrived, started = self.clocked.arrived, trio.current_time()
        before = arrived[name]
        await trio.to_thread.run_sync(broker.start)
        await self._wait(lambda: arrived[name] > before, f"the first message at {name}")
        began, live = trio.current_time(), self._acknowledged
        behind = left = int(await self._metric("spooled_messages", name))
        end = began + READY + 3 * self.down_for
        while await self._metric("destination_lagging", name):
            left = int(await self._metric("spooled_messages", name))
            if trio.current_time() > end:
                self.faults.append(f"{name} does not catch up: {behind} were in the spool, and now {left}")
                break
            await trio.sleep(LOOK)
        self.caught_up = CatchUp(
            behind=behind,
            waited=began - started,
            seconds=trio.current_time() - began,
            delivered=arrived[name] - before,
            live=self._acknowledged - live,
        )

    async def _empty_spool(self) -> None:
        """Without load, wait until nothing is in the spool for anybody."""
        end = trio.current_time() + READY
        while left := sum([await self._metric("spooled_messages", name) for name in self.brokers]):
            if trio.current_time() > end:
                self.faults.append(f"{left:.0f} messages stay in the spool")
                return
            await trio.sleep(LOOK)

    async def _metric(self, name: str, destination: str) -> float:
        running = self._process()
        return await trio.to_thread.run_sync(
            lambda: running.metric(f"mqtt_proxy_{name}", destination=destination), abandon_on_cancel=True
        )

    async def _sample(self) -> None:
        while True:
            self._look()
            await trio.sleep(SAMPLE)

    def _look(self) -> None:
        self._late = max(self._late, int(self._due))
        if self.proxy.running is not None:
            self._memory = max(self._memory, resident(self.proxy.running.pid))

    def _used(self) -> tuple[float, float, float]:
        """Return the time, and the processor time of the proxy and of this process."""
        return time.perf_counter(), processor_time(self._process().pid), time.process_time()

    def _process(self) -> RunningProxy:
        assert self.proxy.running is not None
        return self.proxy.running
