"""Measure the memory of mqttproxy on this machine: `python bench/memory.py`.

Resident memory of the process (VmRSS) as `mqttproxy run` starts it, a few seconds after `ready`, on the second start,
so that compiled modules and the quarantine's tables are there. Upstreams are links to another mqttproxy: a broker.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

HERE: Final = Path(__file__).parent
SETTLE_SECONDS: Final = 3.0
IDLE: Final = 1000  # connections
AT_REST: Final = 50_000_000 / 1024  # KiB, the most that a proxy at rest may take
EACH_UPSTREAM: Final = 10_000_000 / 1024
MOST_UPSTREAMS: Final = 3
SCHEMA: Final = HERE.parent / "examples/quickstart/schemas/temperature/1.json"
POLICY: Final = '[[policies]]\nname = "temperature"\ntopics = ["sensor/+/temperature"]\nschema = "temperature@1"\n'


@frozen
class Proxy:
    """One that runs. `port` is its listener's, `metrics` an address."""

    pid: int
    port: int
    metrics: str

    def rss(self) -> int:
        """Return its resident memory in KiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@contextmanager
def running(folder: Path, more: str = "") -> Iterator[Proxy]:
    """Run a proxy on free ports until the block is left; begun when it is ready and has settled."""
    folder.mkdir(exist_ok=True)
    (folder / "schemas/temperature").mkdir(parents=True, exist_ok=True)
    (folder / "schemas/temperature/1.json").write_bytes(SCHEMA.read_bytes())
    file = folder / "proxy.toml"
    file.write_text(
        '[[listeners]]\nname = "plain"\nbind = "127.0.0.1:0"\n[access]\nallow_anonymous = true\n'
        f'[limits]\nconnections_per_address = {2 * IDLE}\n[telemetry]\nmetrics_bind = "127.0.0.1:0"\n'
        f'log_format = "json"\n{more}'
    )
    command = [sys.executable, "-m", "mqttproxy", "run", str(file)]
    with subprocess.Popen(command, cwd=HERE.parent, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "ready":
                break
        else:
            raise RuntimeError("the proxy did not start")
        time.sleep(SETTLE_SECONDS)
        yield Proxy(process.pid, int(event["listeners"]["plain"].rpartition(":")[2]), event["metrics"])
        process.send_signal(signal.SIGTERM)
        process.stderr.read()


def upstreams(count: int, port: int) -> str:
    """Return the tables of some upstreams, all of them the broker at this port."""
    return "".join(f'[[upstreams]]\nname = "u{n}"\nurl = "mqtt://127.0.0.1:{port}"\n' for n in range(count))


def hold_idle(proxy: Proxy) -> int:
    """Hold idle connections, and return the resident memory meanwhile, in KiB."""
    command = [str(HERE / "load/build/mqttload"), "conn", "--port", str(proxy.port), "--connections", str(IDLE)]
    command += ["--connect-parallel", "50", "--hold", "3", "--pid", str(proxy.pid)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    if result["connect"]["ok"] != IDLE or result["connect"]["lost"]:
        raise RuntimeError(f"not all connections were held: {result['connect']}")
    return int(result["sut"]["rss_end_kib"])


def scrape(proxy: Proxy) -> None:
    """Read /metrics, as Prometheus does."""
    with urllib.request.urlopen(f"http://{proxy.metrics}/metrics", timeout=10) as answer:
        answer.read()


def report(what: str, kib: float, most: float | None = None) -> bool:
    """Print one line of the table; return whether it is more than it may be."""
    bound = "told" if most is None else f"at most {most:,.0f}"
    print(f"| {what} | {kib:,.0f} | {bound} |", flush=True)
    return most is not None and kib > most


def main() -> int:
    """Measure and print; exit 1 if a bound is broken."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    subprocess.run(["make", "-s", "-C", str(HERE / "load")], check=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | KiB | bound |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with running(folder / "a", POLICY) as proxy:
            report("the very first start", proxy.rss())
        with running(folder / "a", POLICY) as proxy:
            rest = proxy.rss()
            broken = report("at rest, a broker by itself, one policy", rest, AT_REST)
            for _ in range(3):
                scrape(proxy)
            report("and after its metrics were read", proxy.rss())
            before = proxy.rss()
            each = (hold_idle(proxy) - before) / IDLE
            report(f"each of {IDLE:,} idle connections", each)
        with running(folder / "bare") as broker:
            report("at rest, without policies", broker.rss())
            for count in range(1, MOST_UPSTREAMS + 1):
                with running(folder / f"u{count}", POLICY + upstreams(count, broker.port)) as proxy:
                    broken |= report(f"with {count} upstream(s)", proxy.rss(), AT_REST + count * EACH_UPSTREAM)
    return int(broken)


if __name__ == "__main__":
    raise SystemExit(main())
