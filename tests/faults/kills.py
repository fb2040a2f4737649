"""Kill the proxy, or brokers, with -9 under load and count what is lost: `python -m tests.faults.kills --kills 200`.

    python -m tests.faults.kills --kills 20 --victim both
    python -m tests.faults.kills --kills 200 --bridge       the same against a Mosquitto bridge, for its figures

Real processes on loopback: Mosquitto as each upstream, and the proxy. Devices and receivers live in this process, which
is not killed, and so does the ledger. Exit code 1: a message was lost, out of order, corrupted or a ghost.

What Mosquitto may lose is not counted against the proxy: see `systems.start_brokers` for how a killed broker can be
asked what it had. A broker that is killed does forget the exchanges of QoS 2 that are not over, so that with `--victim
broker` messages of QoS 2 may arrive there twice; with `--victim proxy` they may not.
"""

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import trio

from tests.faults.killing import HEADS, Brokers, Outcome, Plan, Run, line
from tests.faults.receivers import Receiver
from tests.faults.systems import SAVES, Bridge, Proxy, System, start_brokers


def kill_proxy(
    folder: Path, plan: Plan, upstreams: int = 3, ack: str = "all", *, tells: bool = False, receivers: bool = False
) -> Outcome:
    """Run the plan against the proxy."""
    with ExitStack() as stack:
        brokers = _brokers(folder, upstreams, stack, receivers=receivers)
        system = Proxy(folder / "proxy", brokers, ack)
        return _run(Run(plan, system, brokers, _tell if tells else _ignore), system)


def kill_bridge(
    folder: Path, plan: Plan, upstreams: int = 3, saves: str = "second", *, tells: bool = False, receivers: bool = False
) -> Outcome:
    """Run the plan against a Mosquitto bridge."""
    with ExitStack() as stack:
        brokers = _brokers(folder, upstreams, stack, receivers=receivers)
        system = Bridge(folder / "bridge", brokers, saves)
        return _run(Run(plan, system, brokers, _tell if tells else _ignore), system)


def _brokers(folder: Path, count: int, stack: ExitStack, *, receivers: bool) -> Brokers:
    if receivers:
        return {name: Receiver(name) for name in (f"up{number}" for number in range(count))}
    return start_brokers(folder, count, stack)


def _run(run: Run, system: System) -> Outcome:
    try:
        return trio.run(run.go)
    finally:
        system.kill()


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _ignore(_: str) -> None:
    """Tell nobody."""


def table(outcomes: list[Outcome]) -> str:
    """Return the figures, a column for each system, and what each ran with."""
    rows = zip(HEADS, *(line(outcome) for outcome in outcomes), strict=True)
    first, *others = [f"| {' | '.join(row)} |" for row in rows]
    settings = [f"{outcome.name}: {outcome.settings}" for outcome in outcomes]
    return "\n".join([first, "|---" * (len(outcomes) + 1) + "|", *others, "", *settings])


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5000, help="messages a second in all, open loop")
    parser.add_argument("--devices", type=int, default=48)
    parser.add_argument("--upstreams", type=int, default=3)
    parser.add_argument("--victim", choices=["proxy", "broker", "both"], default="proxy")
    parser.add_argument("--between", type=float, nargs=2, default=(1.5, 4.0), help="seconds of load between kills")
    parser.add_argument("--ack", default="all", help="acknowledgement policy of the proxy's route")
    parser.add_argument("--bridge", action="store_true", help="then the same against a Mosquitto bridge")
    parser.add_argument("--bridge-saves", choices=list(SAVES), default="second", help="when the bridge writes to disk")
    parser.add_argument(
        "--receivers", action="store_true", help="brokers of our own, not Mosquitto, which keep the ledger"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep data and logs here; by default they go")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or what was started would outlive this
    if asked.receivers and asked.victim != "proxy":
        parser.error("--receivers are in this process, and cannot be killed")
    plan = Plan(
        kills=asked.kills,
        rate=asked.rate,
        devices=asked.devices,
        victim=asked.victim,
        between=tuple(asked.between),
        seed=asked.seed,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        ours = kill_proxy(folder / "ours", plan, asked.upstreams, asked.ack, tells=True, receivers=asked.receivers)
        outcomes = [ours]
        if asked.bridge:
            theirs = folder / "theirs"
            saves = asked.bridge_saves
            outcomes.append(kill_bridge(theirs, plan, asked.upstreams, saves, tells=True, receivers=asked.receivers))
    print(json.dumps([one.to_json() for one in outcomes]) if asked.json else table(outcomes))
    for fault in (*ours.faults, *ours.report.examples):
        _tell(fault)
    report = ours.report
    return int(bool(ours.faults or report.lost or report.inversions or report.ghosts or report.corrupted))


if __name__ == "__main__":
    sys.exit(main())
