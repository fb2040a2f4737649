"""Compare mqttproxy with a Mosquitto bridge on this machine: `python bench/speed.py`.

Both carry the same messages to the same fake upstream (`bench/load/mqttload`, built on first use), in turns, each
pinned to one core with the load on another. Mosquitto judges nothing; mqttproxy judges every message by a JSON Schema,
with `ack = "all"`, audit and metrics on. The table shows ratios, because machines differ and are noisy.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

HERE: Final = Path(__file__).parent
SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["c", "s", "t", "temp"],
    "properties": {
        "c": {"type": "integer", "minimum": 0},
        "s": {"type": "integer", "minimum": 0},
        "t": {"type": "integer"},
        "temp": {"type": "number", "minimum": -40, "maximum": 85},
        "unit": {"enum": ["C", "F"]},
        "p": {"type": "string"},
    },
}
BAD: Final = '{"c":%C,"s":%S,"t":%T,"temp":"warm","unit":"C","p":"xxxxxxxxxxxx"}\n'


@frozen(kw_only=True)
class Row:
    """One line of the table. `target` is a ratio, or for latency milliseconds; None: told only."""

    name: str
    load: tuple[str, ...]
    figure: str = "acked_per_s"  # of mqttload's `measured`, or p99_ms
    target: float | None = None
    sinks: int = 1
    bridge: bool = True  # measured beside the bridge
    bad: bool = False


ROWS: Final = {
    "window": Row(
        name="10 publishers, window 100, QoS 1",
        load=("--connections", "10", "--window", "100", "--qos", "1"),
        target=2.5,
    ),
    "qos0": Row(
        name="10 publishers, QoS 0, full speed",
        load=("--connections", "10", "--window", "100", "--qos", "0"),
        figure="delivered_per_s",
        target=1.5,
    ),
    "thousand": Row(
        name="1,000 publishers, window 1, QoS 1",
        load=("--connections", "1000", "--window", "1", "--qos", "1"),
        target=0.5,
    ),
    "ten": Row(
        name="10 publishers, window 1, QoS 1", load=("--connections", "10", "--window", "1", "--qos", "1"), target=0.6
    ),
    "open": Row(
        name="1,000 connections, 10,000 msg/s in all, open loop, QoS 1: p99 to acknowledgement",
        load=("--connections", "1000", "--rate", "10000", "--qos", "1"),
        figure="p99_ms",
        target=5.0,
    ),
    "invalid": Row(
        name="first row with 5 % invalid, held in quarantine",
        load=("--connections", "10", "--window", "100", "--qos", "1", "--proto", "5", "--bad-ratio", "0.05"),
        bridge=False,
        bad=True,
    ),
    "three": Row(
        name="first row with 3 upstreams",
        load=("--connections", "10", "--window", "100", "--qos", "1"),
        sinks=3,
        bridge=False,
    ),
}


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def proxy_config(folder: Path, port: int, metrics: int, sinks: list[int], ack: str = "all") -> Path:
    """Write what mqttproxy runs with, and return the file. No sinks: it is the broker itself."""
    (folder / "schemas/load").mkdir(parents=True)
    (folder / "schemas/load/1.json").write_text(json.dumps(SCHEMA))
    names = [f"u{index}" for index in range(len(sinks))]
    upstreams = "\n".join(
        f'[[upstreams]]\nname = "{name}"\nurl = "mqtt://127.0.0.1:{sink}"\nversion = "5"\n'
        for name, sink in zip(names, sinks, strict=True)
    )
    routes = f'[[routes]]\ntopics = ["#"]\nto = {json.dumps(names)}\nack = "{ack}"' if sinks else ""
    text = f"""
[proxy]
id = "bench"
[[listeners]]
name = "plain"
bind = "127.0.0.1:{port}"
[limits]
connections_per_address = 20000
[access]
allow_anonymous = true
[[policies]]
name = "load"
topics = ["load/#"]
schema = "load@1"
{upstreams}
{routes}
[telemetry]
metrics_bind = "127.0.0.1:{metrics}"
log_level = "warning"
"""
    file = folder / "proxy.toml"
    file.write_text(text)
    return file


def bridge_config(folder: Path, port: int, sink: int) -> Path:
    """Write what the Mosquitto bridge runs with, and return the file."""
    file = folder / "mosquitto.conf"
    file.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
        f"log_type error\nconnection out\naddress 127.0.0.1:{sink}\ntopic # out 1\ncleansession true\n"
        "bridge_protocol_version mqttv50\ntry_private false\nnotifications false\n"
    )
    return file


@contextmanager
def started(command: list[str], port: int, core: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block is left; started once its port answers."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    process = subprocess.Popen([*pin, *command])
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start") from None
                time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(
    row: Row, system: str, load: Path, seconds: float, folder: Path, *, ack: str = "all", module: str = "mqttproxy"
) -> dict[str, Any]:
    """Run one row once against one system; returns what mqttload says. `module`: the command line of mqttproxy."""
    port, metrics, *sinks = free_ports(2 + row.sinks)
    if system == "mqttproxy":
        command = [sys.executable, "-m", module, "run", str(proxy_config(folder, port, metrics, sinks, ack))]
    else:
        command = [mosquitto(), "-c", str(bridge_config(folder, port, sinks[0]))]
    two = (os.cpu_count() or 1) > 1
    extra = []
    if row.bad:
        (folder / "bad.txt").write_text(BAD)
        extra = ["--bad-payload-file", str(folder / "bad.txt")]
    with started(command, port, 0 if two else None) as process:
        pin = ["taskset", "-c", "1"] if two else []
        arguments = [
            *pin, str(load), "e2e", "--port", str(port), "--sink-port", ",".join(map(str, sinks)), *row.load, *extra,
            "--warmup", "1", "--duration", str(seconds), "--pid", str(process.pid), "--connect-parallel", "50",
        ]  # fmt: skip
        done = subprocess.run(arguments, stdout=subprocess.PIPE, check=False)
    if not done.stdout.strip():
        raise RuntimeError(f"no result: {' '.join(arguments)}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def mosquitto() -> str:
    """Return where Mosquitto is installed."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
    return found


def figure(row: Row, result: dict[str, Any]) -> float:
    """Return the figure of a row: messages a second settled, or milliseconds."""
    if row.figure == "p99_ms":
        return float(result["ack_us"]["p99"]) / 1000
    return float(result["measured"][row.figure])


def main() -> int:
    """Measure and print; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"what to measure (all): {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=5, help="length of one measurement")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each, in turns; the table has medians")
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    subprocess.run(["make", "-s", "-C", str(HERE / "load")], check=True)
    load = HERE / "load/build/mqttload"
    print(f"{machine()}\n\n| work | mqttproxy | bridge | ratio | target | CPU µs a message, mqttproxy / bridge |")
    print("|---|---|---|---|---|---|")
    everything: dict[str, list[dict[str, Any]]] = {}
    missed = False
    for key in arguments.rows or ROWS:
        row = ROWS[key]
        results = everything.setdefault(key, [])
        for _ in range(arguments.repeat):
            for system in ("bridge", "mqttproxy") if row.bridge else ("mqttproxy",):
                with tempfile.TemporaryDirectory() as folder:
                    results.append({"system": system, **measure(row, system, load, arguments.seconds, Path(folder))})
        missed |= report(row, results)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))
    return int(missed)


def machine() -> str:
    """Describe what this runs on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    version = subprocess.run([mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return (
        f"{model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, {version}"
    )


def report(row: Row, results: list[dict[str, Any]]) -> bool:
    """Print one line of the table; returns whether its target is missed."""
    ours = median(results, "mqttproxy", lambda result: figure(row, result))
    theirs = median(results, "bridge", lambda result: figure(row, result)) if row.bridge else None
    cpu = [
        f"{median(results, system, lambda result: float(result['sut']['cpu_us_per_msg'])):.1f}"
        for system in ("mqttproxy", "bridge")[: 1 + row.bridge]
    ]
    if row.figure == "p99_ms":
        cells = [f"{ours:.2f} ms", f"{theirs:.2f} ms", "", f"below {row.target:g} ms"]
        missed = row.target is not None and ours >= row.target
    else:
        ratio = ours / theirs if theirs else None
        cells = [
            f"{ours:,.0f} /s",
            f"{theirs:,.0f} /s" if theirs else "",
            f"{ratio:.2f}" if ratio else "",
            f"at least {row.target}" if row.target else "told",
        ]
        missed = row.target is not None and ratio is not None and ratio < row.target
    print(f"| {row.name} | {' | '.join(cells)} | {' / '.join(cpu)} |", flush=True)
    return missed


def median(results: list[dict[str, Any]], system: str, value: Callable[[dict[str, Any]], float]) -> float:
    """Return the median of a figure over the measurements of one system."""
    return statistics.median(value(result) for result in results if result["system"] == system)


if __name__ == "__main__":
    raise SystemExit(main())
