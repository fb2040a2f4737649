"""Take an upstream down for minutes under load, and see what it costs: `python -m tests.faults.outage --minutes 10`.

    python -m tests.faults.outage --minutes 10 --rate 2000 --upstreams 3
    python -m tests.faults.outage --minutes 2 --no-kill     without killing the proxy

Real processes on loopback, as in `tests.faults.kills`: Mosquitto as each upstream, and the proxy with `ack = "spool"`.
The first upstream is killed, and started again when the minutes are over; the others go on. Before that, at the end of
the outage, the proxy is killed, with all that the upstream has missed in its spool; it is killed once before the outage
too, to show what a start takes with an empty one.

What is in flight at QoS 1 when somebody is killed may arrive twice. At QoS 2 it may where the upstream was killed: it
forgets the exchanges that are not over (see `systems.start_brokers`). Exit code 1: a message was lost, out of order,
corrupted, a ghost, or twice although it must not be.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import trio
from attrs import asdict, define

from tests.faults.clocked import Phase
from tests.faults.killing import Outcome, Plan
from tests.faults.lagging import LINKS, CatchUp, Outage, Restart
from tests.faults.systems import Proxy, start_brokers


@define(kw_only=True)
class Result:
    """What came of a run.

    Attributes:
        wrong: messages of QoS 2 that came twice at upstreams that were not killed.

    """

    outcome: Outcome
    plan: Plan
    down_for: float
    phases: dict[str, Phase]
    restarts: list[Restart]
    caught_up: CatchUp
    wrong: int

    def check(self) -> None:
        """Fail if a promise was broken. How fast and how small it was is for a person to judge."""
        self.outcome.check(repeats=(1, 2))
        assert not self.wrong, f"{self.wrong} messages of QoS 2 came twice at upstreams that stayed up"


def take_down(
    folder: Path,
    plan: Plan,
    *,
    down_for: float,
    upstreams: int = 3,
    kill: bool = True,
    steady: float = 10.0,
    tell: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run it. Times in seconds."""
    with ExitStack() as stack:
        brokers = start_brokers(folder, upstreams, stack)
        proxy = Proxy(folder / "proxy", brokers, "spool", LINKS)
        stack.callback(proxy.kill)
        run = Outage(plan, proxy, brokers, tell, proxy=proxy, down_for=down_for, steady=steady, kill=kill)
        outcome = trio.run(run.go)
    assert run.caught_up is not None
    _, *others = brokers
    return Result(
        outcome=outcome,
        plan=plan,
        down_for=down_for,
        phases={phase.name: phase for phase in run.phases},
        restarts=run.restarts,
        caught_up=run.caught_up,
        wrong=sum(run.clocked.twice[name, 2] for name in others),
    )


def table(result: Result) -> str:
    """Return the figures beside what is wanted, and what was measured in each phase."""
    phases, caught_up, report = result.phases, result.caught_up, result.outcome.report
    before, down, catching = phases["all up"], phases["up0 down"], phases["catching up"]
    most = max(phase.memory for phase in phases.values())
    rows = [
        ("sent and acknowledged", "", f"{report.sent:,} / {report.acknowledged:,}"),
        ("lost, out of order, ghosts, corrupted", "0",
         f"{report.lost}, {report.inversions}, {report.ghosts}, {report.corrupted}"),
        ("twice: QoS 1, QoS 2, and QoS 2 at upstreams that stayed up", "-, -, 0",
         f"{report.duplicated[1]:,}, {report.duplicated[2]:,}, {result.wrong}"),
        ("growth of memory in the outage", "at most 50 MB",
         f"{_mb(down.memory - before.memory)} MB, from {_mb(before.memory)} to {_mb(down.memory)}"),
        ("growth until the end, starts and catching up included", "", f"{_mb(most - before.memory)} MB"),
    ]  # fmt: skip
    rows += [
        (f"kill -9 with {restart.spooled:,} in the spool: ready, first acknowledgement", "at most 5 s",
         f"{restart.ready:.2f} s ({restart.processor:.2f} s of processor time), {restart.served:.2f} s")
        for restart in result.restarts
    ]  # fmt: skip
    delivered, live = caught_up.delivered / caught_up.seconds, caught_up.live / caught_up.seconds
    p99s = catching.acknowledged[1], before.acknowledged[1]
    arrivals = catching.arrived[1], before.arrived[1]
    rows += [
        ("the upstream is back: to its first message", "", f"{caught_up.waited:.2f} s"),
        (f"to catch up with {caught_up.behind:,}", "", f"{caught_up.seconds:.1f} s"),
        ("messages a second it gets meanwhile, of those sent live", "at least 2",
         f"{delivered:,.0f} / {live:,.0f} = {delivered / live:.2f}"),
        ("devices' p99 meanwhile, of that before", "at most 2", _ratio(*p99s)),
        ("p99 of arrivals at an upstream that stayed up, the same", "at most 2", _ratio(*arrivals)),
    ]  # fmt: skip
    heads = "what", "wanted", "found"
    return f"{_grid(heads, rows)}\n\n{_grid(HEADS, [_cells(phase) for phase in phases.values()])}"


HEADS = (
    "phase",
    "seconds",
    "msg/s acknowledged",
    "acknowledged after, p50 / p99",
    "arrived after, p50 / p99",
    "memory",
    "messages late",
    "processor: proxy / load",
    "load average",
)


def _cells(phase: Phase) -> tuple[str, ...]:
    return (
        phase.name,
        f"{phase.seconds:.1f}",
        f"{phase.rate:,.0f}",
        " / ".join(f"{each * 1e3:.1f} ms" for each in phase.acknowledged),
        " / ".join(f"{each * 1e3:.1f} ms" for each in phase.arrived),
        f"{_mb(phase.memory)} MB",
        f"{phase.late:,}",
        " / ".join(f"{each:.0%}" for each in phase.processor),
        f"{phase.machine:.1f}",
    )


def _grid(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    first, *others = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return "\n".join([first, "|---" * len(heads) + "|", *others])


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _ratio(now: float, before: float) -> str:
    return f"{now * 1e3:.1f} ms / {before * 1e3:.1f} ms = {now / before:.2f}"


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long the upstream is down")
    parser.add_argument("--rate", type=float, default=2000, help="messages a second in all, open loop")
    parser.add_argument("--devices", type=int, default=48)
    parser.add_argument("--upstreams", type=int, default=3)
    parser.add_argument("--kill", action=argparse.BooleanOptionalAction, default=True, help="kill the proxy too")
    parser.add_argument("--steady", type=float, default=10, help="seconds of the phases to compare with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep data and logs here; by default they go")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.upstreams < 2:
        parser.error("--upstreams: one goes down and the others go on, so at least 2")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or what was started would outlive this
    plan = Plan(kills=0, rate=asked.rate, devices=asked.devices, victim="broker", seed=asked.seed)
    with tempfile.TemporaryDirectory() as temporary:
        result = take_down(
            asked.folder or Path(temporary),
            plan,
            down_for=asked.minutes * 60,
            upstreams=asked.upstreams,
            kill=asked.kill,
            steady=asked.steady,
            tell=_tell,
        )
    print(json.dumps(asdict(result)) if asked.json else table(result))
    for fault in (*result.outcome.faults, *result.outcome.report.examples):
        _tell(fault)
    try:
        result.check()
    except AssertionError as error:
        _tell(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
