"""Compare mqttproxy, as the broker itself, with Mosquitto as a plain broker: `python -m bench.devices [ROW ...]`.

Fan-out and fan-in, latency of delivery, memory of connections and sessions, and storms of devices that come back. Both
have the same load from `bench/load/mqttload`, in turns, each pinned to one core with the load on another. Mosquitto
judges nothing; mqttproxy judges every payload under `load/` by a JSON Schema. The table shows ratios, because machines
differ and are noisy.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from bench.speed import HERE, free_ports, machine, mosquitto, proxy_config, started

LOAD: Final = HERE / "load/build/mqttload"
DEVICES: Final = 10_000
SESSIONS: Final = 100_000
PERSISTENT: Final = ("--proto", "5", "--clean", "0", "--session-expiry", "3600")
SECONDS: Final = "5"  # that a rate or a latency is measured
PATIENCE: Final = "180"  # seconds for a storm to be over

Figures = dict[str, float]  # what was measured, in words with its unit, and how much it was


@frozen(kw_only=True)
class Broker:
    """One of the two, with a folder, files of settings and a port that it keeps when it is started again."""

    command: list[str]
    port: int

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run it on a core of its own until the block is left; yields its process identifier."""
        with started(self.command, self.port, 0 if pinned() else None) as process:
            yield process.pid

    def load(self, mode: str, *options: str) -> list[str]:
        """Return the command that puts load on it."""
        pin = ["taskset", "-c", "1"] if pinned() else []
        return [*pin, str(LOAD), mode, "--port", str(self.port), *options]

    def loaded(self, mode: str, *options: str) -> dict[str, Any]:
        """Run it, put load on it, and return what mqttload says."""
        with self.running() as pid:
            return last_line(popen(self.load(mode, *options, "--pid", str(pid))))

    def timed(self, *options: str) -> dict[str, Any]:
        """Run it with publishers and subscribers for some seconds, and return what mqttload says."""
        return self.loaded("e2e", *options, "--warmup", "1", "--duration", SECONDS)


def pinned() -> bool:
    """Return whether there are cores to choose from."""
    return (os.cpu_count() or 1) > 1


def popen(command: list[str]) -> "subprocess.Popen[bytes]":
    """Start mqttload."""
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def next_line(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for the next thing that mqttload says."""
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline() or b"{}")
    return line


def last_line(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for the end of mqttload, and return its result."""
    out, _ = process.communicate()
    if not out.strip():
        raise RuntimeError("mqttload gave no result")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def rate(result: dict[str, Any]) -> Figures:
    """Return deliveries a second, the CPU time of one, and how many were lost."""
    delivered, seconds = result["measured"]["delivered_per_s"], result["measured"]["seconds"]
    cpu = result["sut"]["cpu_user_s"] + result["sut"]["cpu_sys_s"]
    figures = {"deliveries/s": delivered, "CPU µs a delivery": cpu * 1e6 / max(delivered * seconds, 1)}
    return figures | ({"% lost": 100 * result["lost"] / result["expected"]} if result["lost"] else {})


def latency(result: dict[str, Any]) -> Figures:
    """Return the time from when a message was due to its delivery."""
    if result["unsent"] or result["lost"]:
        raise RuntimeError(f"it does not keep up: {result['unsent']} unsent, {result['lost']} lost")
    return {"p50 ms": result["e2e_us"]["p50"] / 1000, "p99 ms": result["e2e_us"]["p99"] / 1000}


def fan_out(broker: Broker, qos: str) -> Figures:
    """One publisher, a thousand subscribers."""
    return rate(broker.timed("--qos", qos, "--subscribers", "1000", "--window", "20"))


def fan_in(broker: Broker, qos: str) -> Figures:
    """A thousand publishers, one subscriber."""
    return rate(broker.timed("--qos", qos, "--connections", "1000", "--window", "1"))


def one_to_one(broker: Broker) -> Figures:
    """Latency when each message goes to one subscriber."""
    return latency(broker.timed("--qos", "1", "--connections", "100", "--rate", "2000"))


def one_to_many(broker: Broker) -> Figures:
    """Latency when each message goes to a thousand."""
    return latency(broker.timed("--qos", "1", "--subscribers", "1000", "--rate", "10"))


def idle(broker: Broker) -> Figures:
    """Memory of connections that do nothing."""
    options = ["--connections", str(DEVICES), "--connect-timeout", PATIENCE, "--hold", "3"]
    return memory(broker.loaded("conn", *options), DEVICES)


def absent(broker: Broker) -> Figures:
    """Memory of persistent sessions with one subscription, whose devices are gone."""
    options = [*PERSISTENT, "--filter", "devices/%c/commands", "--qos", "1", "--leave", "1", "--hold", "5"]
    options += ["--connections", str(SESSIONS), "--connect-timeout", "600"]
    return memory(broker.loaded("conn", *options), SESSIONS)


def memory(result: dict[str, Any], wanted: int) -> Figures:
    """Return what each took, and how quickly they came."""
    connect = result["connect"]
    if connect["ok"] != wanted or connect["lost"]:
        raise RuntimeError(f"not all came in: {connect}")
    return {"KiB each": result["sut"]["kib_per_connection"], "connects/s": connect["per_s"]}


def cut(broker: Broker) -> Figures:
    """All connections but those of some steady devices are lost at the same moment, and come back at once."""
    steady = ["--client-prefix", "steady", "--qos", "1", "--connections", "100", "--rate", "200"]
    with broker.running(), crowd(broker) as devices:
        before = last_line(popen(broker.load("e2e", *steady, "--duration", SECONDS)))
        meanwhile = popen(broker.load("e2e", *steady, "--duration", PATIENCE, "--warmup", "1"))
        time.sleep(1.5)  # they are connected, and the storm is what they see from now on
        devices.send_signal(signal.SIGUSR1)
        storm = back(devices)
        meanwhile.send_signal(signal.SIGINT)
        during = last_line(meanwhile)
    return {
        **storm,
        "p99 ms of 100 steady devices before": before["e2e_us"]["p99"] / 1000,
        "p99 ms meanwhile": during["e2e_us"]["p99"] / 1000,
        "longest ms meanwhile": during["e2e_us"]["max"] / 1000,
    }


def restart(broker: Broker) -> Figures:
    """The broker is stopped with all devices connected, and started again."""
    with ExitStack() as stack:
        with broker.running():
            devices = stack.enter_context(crowd(broker))
        with broker.running():
            return back(devices)


@contextmanager
def crowd(broker: Broker) -> Iterator["subprocess.Popen[bytes]"]:
    """Connect devices with persistent sessions, which come back when they are cut, until the block is left."""
    options = [*PERSISTENT, "--filter", "devices/%c/commands", "--qos", "1", "--come-back-ms", "1000"]
    options += ["--connections", str(DEVICES), "--connect-parallel", str(DEVICES), "--connect-timeout", PATIENCE]
    with popen(broker.load("conn", *options, "--hold", PATIENCE)) as process:
        try:
            line = next_line(process)
            if line.get("connected") != DEVICES:
                raise RuntimeError(f"the devices did not come in: {line}")
            yield process
        finally:
            process.kill()


def back(devices: "subprocess.Popen[bytes]") -> Figures:
    """Wait until all are back, and return how long that was."""
    storm = next_line(devices)["come_back"]
    if storm["back"] != DEVICES or storm["sessions_present"] < DEVICES:
        raise RuntimeError(f"not all came back to their sessions: {storm}")
    return {
        "s until all are back": storm["all_back_s"],
        "s of that without anybody": storm["first_back_s"],
        "s until half are": storm["away_us"]["p50"] / 1e6,
        "attempts": storm["attempts"],
    }


ROWS: Final[dict[str, tuple[str, Callable[[Broker], Figures]]]] = {
    "out0": ("1 publisher, 1,000 subscribers, QoS 0", lambda broker: fan_out(broker, "0")),
    "out1": ("1 publisher, 1,000 subscribers, QoS 1", lambda broker: fan_out(broker, "1")),
    "in0": ("1,000 publishers, 1 subscriber, QoS 0", lambda broker: fan_in(broker, "0")),
    "in1": ("1,000 publishers, 1 subscriber, QoS 1", lambda broker: fan_in(broker, "1")),
    "latency": ("100 publishers, 2,000 msg/s in all, 1 subscriber, QoS 1: to delivery", one_to_one),
    "latency-out": ("1 publisher, 10 msg/s, 1,000 subscribers, QoS 1: to delivery", one_to_many),
    "idle": (f"memory of {DEVICES:,} idle connections", idle),
    "absent": (f"memory of {SESSIONS:,} persistent sessions, devices gone, one subscription each", absent),
    "cut": (f"{DEVICES:,} devices are cut and come back at once", cut),
    "restart": (f"{DEVICES:,} devices come back after a restart", restart),
}


def proxy(folder: Path) -> Broker:
    """Return mqttproxy, not started."""
    port, metrics = free_ports(2)
    command = [sys.executable, "-m", "mqttproxy", "run", str(proxy_config(folder, port, metrics, []))]
    return Broker(command=command, port=port)


def plain_mosquitto(folder: Path) -> Broker:
    """Return Mosquitto, not started. It is given what helps it: no limits, no delayed writes."""
    (port,) = free_ports(1)
    file = folder / "mosquitto.conf"
    file.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
        f"set_tcp_nodelay true\nlog_type error\nuser root\npersistence true\npersistence_location {folder}/\n"
    )
    return Broker(command=[mosquitto(), "-c", str(file)], port=port)


SYSTEMS: Final = {"Mosquitto": plain_mosquitto, "mqttproxy": proxy}


def report(name: str, results: dict[str, list[Figures]]) -> None:
    """Print the lines of one row: medians, and their ratio."""
    labels = dict.fromkeys(label for runs in results.values() for figures in runs for label in figures)
    for label in labels:
        ours, theirs = (
            statistics.median(figures.get(label, 0.0) for figures in results[system])
            for system in ("mqttproxy", "Mosquitto")
        )
        ratio = f"{ours / theirs:.2f}" if theirs else ""
        print(f"| {name} | {label} | {written(ours)} | {written(theirs)} | {ratio} |", flush=True)
        name = ""


def written(figure: float) -> str:
    """Write a figure with as many digits as mean something."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"what to measure (all): {', '.join(ROWS)}")
    parser.add_argument("--repeat", type=int, default=1, help="measurements of each, in turns; the table has medians")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    subprocess.run(["make", "-s", "-C", str(HERE / "load")], check=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # those that are started have it from here
    print(f"{machine()}\n\n| work | figure | mqttproxy | Mosquitto | ratio |\n|---|---|---|---|---|")
    for key in arguments.rows or ROWS:
        name, measure = ROWS[key]
        results: dict[str, list[Figures]] = {system: [] for system in SYSTEMS}
        for _ in range(arguments.repeat):
            for system, broker in SYSTEMS.items():
                with tempfile.TemporaryDirectory() as folder:
                    results[system].append(measure(broker(Path(folder))))
        report(name, results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
