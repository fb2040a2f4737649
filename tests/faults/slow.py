"""Thousands of slow connections, and what good clients notice of them: `python -m tests.faults.slow`.

    python -m tests.faults.slow                                    everything, in about 15 minutes
    python -m tests.faults.slow --kinds tls-half --from each       one kind, each connection from an address of its own

A real proxy with the settings that it has by default, and one process that attacks it from loopback: see `attackers`
for the kinds, which come from one address, from one that may have as many as it likes (`nat`), from a hundred, or each
from its own. Meanwhile new clients come by the same listener: half of them from 127.0.0.1, where others have come in
before, and each of the strangers from an address that nobody has ever come from. A table tells how long they waited,
how much memory the proxy took, and whether all was given back. Exit code 1: a promise was broken.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio
from attrs import asdict, frozen

from mqttproxy.transport.dial import dial
from tests.bad_input.wire import V5, connect, publish
from tests.faults.attackers import BUSY, KINDS, Kind
from tests.faults.guests import PATIENCE, Guests
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.waiting import wait_until

ORIGINS: Final = {"one": 1, "nat": 1, "hundred": 100, "each": 0}  # addresses; 0: one for each
NAT: Final = "connections_per_address = 100000\n"
LISTENERS: Final = ("tcp", "tls", "ws")
SETTLED: Final = 40.0  # seconds within which everything must have been given back; the longest wait of a default is 30
SPARE_DESCRIPTORS: Final = 4  # those of a page that is being asked, and of a database
LOOK: Final = 0.2
BUSY_PAYLOAD: Final = bytes(1024)  # each goes to ten thousand devices
BUSY_EVERY: Final = 1.0  # seconds


@frozen(kw_only=True)
class Plan:
    """How an attack goes.

    Attributes:
        kind: of connection, by its name.
        origin: where they come from, by its name.
        count: how many there are at once.
        rate: how many are opened in a second at most.
        seconds: how long it lasts.
        guests: good clients that come in a second; half of them are strangers.

    """

    kind: str
    origin: str = "hundred"
    count: int = 10_000
    rate: float = 1000.0
    seconds: float = 20.0
    guests: float = 10.0

    @property
    def what(self) -> Kind:
        return KINDS[self.kind]


@frozen(kw_only=True)
class Result:
    """What came of it. Times in seconds, sizes in bytes; `attacks` and `most_open` are connections."""

    plan: Plan
    most_open: int
    attacks: int
    served: int
    known_worst: float
    known_p99: float
    strangers_worst: float
    strangers_p99: float
    acknowledged_worst: float
    failures: tuple[str, ...]
    memory_before: int
    memory_most: int
    memory_after: int
    descriptors_before: int
    descriptors_most: int
    descriptors_after: int
    left: dict[str, float]
    freed_after: float
    log_lines: int
    processor: float

    def check(self, *, within: float, memory: int) -> None:
        """Fail if a promise was broken: nobody waited longer, nothing took more, and all of it was given back."""
        assert not self.failures, f"{len(self.failures)} were not served: {self.failures[:5]}"
        assert self.known_worst <= within, f"CONNACK after {self.known_worst:.2f} s"
        assert self.strangers_worst <= within, f"CONNACK for a stranger after {self.strangers_worst:.2f} s"
        assert self.memory_most <= memory, f"{self.memory_most / 1e6:.0f} MB"
        assert not self.left, f"not given back: {self.left}"
        assert self.descriptors_after <= self.descriptors_before + SPARE_DESCRIPTORS, (
            f"{self.descriptors_before} descriptors before, {self.descriptors_after} after"
        )
        # A line a second for each kind of trouble; there are about five.
        assert self.log_lines <= 8 * (self.plan.seconds + SETTLED), f"{self.log_lines} lines of log"


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def processor_seconds(pid: int) -> float:
    """Return how long a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def left_over(proxy: RunningProxy) -> dict[str, float]:
    """Return the numbers that must be zero when nobody is there, where they are not."""
    return {
        ":".join([name, *(text for _, text in sorted(labels))]): value
        for (name, labels), value in proxy.metrics().items()
        if value and name in {"mqtt_proxy_handshakes", "mqtt_proxy_handshakes_waiting", "mqtt_active_connections"}
    }


@contextmanager
def attackers(plan: Plan, port: int, output: Path) -> Iterator[None]:
    """Let them attack; at the end they close what is open."""
    command = [sys.executable, "-m", "tests.faults.attackers", plan.kind, "--port", str(port)]
    command += ["--count", str(plan.count), "--rate", str(plan.rate)]
    command += ["--sources", str(ORIGINS[plan.origin] or plan.count)]
    with output.open("wb") as told, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told) as process:
        try:
            yield
            assert process.poll() is None, "the attackers have ended by themselves"
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                assert process.wait(60) == 0
            finally:
                process.kill()


class Siege:
    """One attack on a proxy that runs."""

    def __init__(self, proxy: RunningProxy, plan: Plan, folder: Path) -> None:
        self._proxy, self._plan, self._folder = proxy, plan, folder
        ca = proxy.file.parent / "tls" / "ca.pem"
        url, ca_or_none = proxy.url(plan.what.listener), ca if ca.exists() else None
        self._known = Guests(url, ca_or_none, "known")
        strangers = (f"127.200.{number >> 8}.{number & 255}" for number in range(1, 65536))
        self._strangers = Guests(url, ca_or_none, "stranger", strangers)
        self._memory: list[int] = []
        self._descriptors: list[int] = []

    async def go(self) -> Result:
        """Attack, and wait until all is over."""
        proxy, plan, known, strangers = self._proxy, self._plan, self._known, self._strangers
        for _ in range(3):
            await known.visit()  # what is made once is there from then on
        known.connected.clear()
        await trio.to_thread.run_sync(lambda: wait_until(lambda: not left_over(proxy), "a proxy at rest"))
        memory, handles = proxy.rss(), descriptors(proxy.pid)
        lines, computed = len(proxy.log()), processor_seconds(proxy.pid)
        told = self._folder / "attackers.jsonl"
        with attackers(plan, proxy.port(plan.what.listener), told):
            await trio.to_thread.run_sync(lambda: wait_until(told.read_bytes, "an attack"))
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                if plan.kind == "never-reads":
                    nursery.start_soon(self._be_busy)
                async with trio.open_nursery() as visits:
                    visits.start_soon(known.run, plan.guests / 2, plan.seconds)
                    visits.start_soon(strangers.run, plan.guests / 2, plan.seconds)
                nursery.cancel_scope.cancel()
            computed = (processor_seconds(proxy.pid) - computed) / (trio.current_time() - began)
        freed = await self._wait_freed(handles)
        attack = [json.loads(line) for line in told.read_text().splitlines()]
        return Result(
            plan=plan,
            most_open=max(one["open"] for one in attack),
            attacks=attack[-1]["opened"],
            served=len(known.connected) + len(strangers.connected),
            known_worst=_share(known.connected, 1.0),
            known_p99=_share(known.connected, 0.99),
            strangers_worst=_share(strangers.connected, 1.0),
            strangers_p99=_share(strangers.connected, 0.99),
            acknowledged_worst=_share(known.acknowledged + strangers.acknowledged, 1.0),
            failures=tuple(known.failures + strangers.failures),
            memory_before=memory,
            memory_most=max(self._memory, default=memory),
            memory_after=proxy.rss(),
            descriptors_before=handles,
            descriptors_most=max(self._descriptors, default=handles),
            descriptors_after=descriptors(proxy.pid),
            left=left_over(proxy),
            freed_after=freed,
            log_lines=len(proxy.log()) - lines,
            processor=computed,
        )

    async def _watch(self) -> None:
        while True:
            self._memory.append(self._proxy.rss())
            self._descriptors.append(descriptors(self._proxy.pid))
            await trio.sleep(LOOK)

    async def _be_busy(self) -> None:
        """Publish to those who never read."""
        async with trio.open_nursery() as nursery:
            stream = await dial(self._proxy.url())
            stream.flush_with(nursery.start_soon)
            stream.send_nowait(connect(V5, "busy"))
            try:
                while True:
                    stream.send_nowait(publish(V5, BUSY, BUSY_PAYLOAD))
                    await trio.sleep(BUSY_EVERY)
            finally:
                stream.abort()

    async def _wait_freed(self, handles: int) -> float:
        """Wait until nobody is there; return how long that took, or the longest that is waited for."""
        began = trio.current_time()
        with trio.move_on_after(SETTLED):
            while descriptors(self._proxy.pid) > handles + SPARE_DESCRIPTORS or left_over(self._proxy):  # noqa: ASYNC110 # another process: nothing tells us
                await trio.sleep(LOOK)
        return trio.current_time() - began


def _share(seconds: list[float], share: float) -> float:
    """Return what so many were served within; if nobody was, infinity."""
    return sorted(seconds)[int(share * (len(seconds) - 1))] if seconds else float("inf")


def besiege(folder: Path, plan: Plan, limits: str = "") -> Result:
    """Start a proxy with these lines of `[limits]`, attack it, and tell what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if plan.origin == "nat":
        limits += NAT
    with running_proxy(write_settings(folder, f"[limits]\n{limits}", transports=LISTENERS)) as proxy:
        return trio.run(Siege(proxy, plan, folder).go)


HEADS: Final = (
    "kind", "from", "connections", "opened", "clients served", "CONNACK, known: p99 / worst", "strangers",
    "PUBACK worst",
    "memory before / most / after", "descriptors before / most / after", "freed after", "lines of log", "processor",
)  # fmt: skip


def cells(result: Result) -> tuple[str, ...]:
    """Return the row of a table."""
    memory = (result.memory_before, result.memory_most, result.memory_after)
    handles = (result.descriptors_before, result.descriptors_most, result.descriptors_after)
    return (
        result.plan.kind,
        result.plan.origin,
        f"{result.most_open:,}",
        f"{result.attacks:,}",
        f"{result.served} of {result.served + len(result.failures)}",
        f"{result.known_p99:.2f} / {result.known_worst:.2f} s",
        f"{result.strangers_p99:.2f} / {result.strangers_worst:.2f} s",
        f"{result.acknowledged_worst:.2f} s",
        f"{' / '.join(f'{size / 1e6:.0f}' for size in memory)} MB",
        " / ".join(f"{count:,}" for count in handles),
        f"{result.freed_after:.1f} s" if not result.left else f"not: {result.left}",
        str(result.log_lines),
        f"{result.processor:.0%}",
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plans(asked: argparse.Namespace) -> list[Plan]:
    """Return what the command line asks for."""
    found = []
    for kind in asked.kinds:
        origins = ["hundred"] if KINDS[kind].hangs_up else asked.origins
        rate = asked.flood_rate if KINDS[kind].hangs_up else asked.rate
        seconds = asked.flood_seconds if KINDS[kind].hangs_up else asked.count / rate + asked.seconds
        found += [Plan(kind=kind, origin=one, count=asked.count, rate=rate, seconds=seconds) for one in origins]
    return found


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--from", dest="origins", nargs="+", choices=ORIGINS, default=list(ORIGINS), metavar="ORIGIN")
    parser.add_argument("--count", type=int, default=10_000, help="connections at once")
    parser.add_argument("--rate", type=float, default=1000, help="connections that stay are opened in a second at most")
    parser.add_argument("--flood-rate", type=float, default=5000, help="the same for those that hang up")
    parser.add_argument("--seconds", type=float, default=10, help="of an attack by those that stay, once all are there")
    parser.add_argument("--flood-seconds", type=float, default=30, help="of each by connections that hang up")
    parser.add_argument("--connect-deadline", help="limits.connect_deadline, such as 30s; by default the product's")
    parser.add_argument("--folder", type=Path, help="keep data and logs here; by default they go")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or what was started would outlive this
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < asked.count + 1000:
        parser.error(f"--count {asked.count}: a process may have {most} descriptors here")
    if not asked.json:
        print(_row(HEADS) + "\n" + "|---" * len(HEADS) + "|", flush=True)
    limits = f'connect_deadline = "{asked.connect_deadline}"\n' if asked.connect_deadline else ""
    is_broken = False
    with tempfile.TemporaryDirectory() as temporary:
        for number, plan in enumerate(plans(asked)):
            result = besiege((asked.folder or Path(temporary)) / str(number), plan, limits)
            print(json.dumps(asdict(result)) if asked.json else _row(cells(result)), flush=True)
            try:
                # A flood is to be survived: everybody is served.
                result.check(within=PATIENCE if plan.what.hangs_up else 1.0, memory=1_000_000_000)
            except AssertionError as error:
                is_broken = True
                print(f"{plan.kind} from {plan.origin}: {error}", file=sys.stderr, flush=True)
    return is_broken


if __name__ == "__main__":
    sys.exit(main())
