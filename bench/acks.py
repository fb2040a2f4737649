"""Compare the acknowledgement policies of mqttproxy with each other: `python -m bench.acks`.

What an acknowledgement that means "on disk" costs: the same load, in turns, with `ack = "memory"`, `"spool"` and
`"all"` (which is on disk too), and "spool" with bare segment files instead of SQLite, which no store of ours could
outdo. The ratio is to `memory` in the same turn, because machines differ and are noisy.
"""

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.speed import HERE, Row, machine, measure

POLICIES: Final = {  # label: policy, and the command line
    "memory": ("memory", "mqttproxy"),
    "spool": ("spool", "mqttproxy"),
    "spool, bare segments": ("spool", "bench.segments"),
    "all": ("all", "mqttproxy"),
}
TARGET: Final = 0.7  # of `spool`, at 100 connections
ROWS: Final = (
    Row(name="100 publishers, window 100, QoS 1", load=("--connections", "100", "--window", "100", "--qos", "1")),
    Row(name="100 publishers, window 10, QoS 1", load=("--connections", "100", "--window", "10", "--qos", "1")),
)


def main() -> int:
    """Measure and print; exit 1 if the target is missed in the first row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="length of one measurement")
    parser.add_argument("--repeat", type=int, default=5, help="turns; the table has medians")
    arguments = parser.parse_args()
    subprocess.run(["make", "-s", "-C", str(HERE / "load")], check=True)
    load = HERE / "load/build/mqttload"
    print(f"{machine()}\n\n| work | ack | messages/s | of memory | CPU µs a message | p50 / p99 ms to PUBACK | lost |")
    print("|---|---|---|---|---|---|---|")
    reached = []
    for row in ROWS:
        turns: list[dict[str, dict[str, Any]]] = []
        for _ in range(arguments.repeat):
            turn = {}
            for label, (ack, module) in POLICIES.items():
                with tempfile.TemporaryDirectory() as folder:
                    turn[label] = measure(
                        row, "mqttproxy", load, arguments.seconds, Path(folder), ack=ack, module=module
                    )
            turns.append(turn)
        for ack in POLICIES:
            ratio = statistics.median(_rate(turn[ack]) / _rate(turn["memory"]) for turn in turns)
            print(_line(row, ack, [turn[ack] for turn in turns], ratio), flush=True)
            if ack == "spool":
                reached.append(ratio)
        of_segments = statistics.median(_rate(turn["spool"]) / _rate(turn["spool, bare segments"]) for turn in turns)
        print(f"{row.name}: SQLite has {of_segments:.2f} of bare segments", flush=True)
    return int(reached[0] < TARGET)


def _rate(result: dict[str, Any]) -> float:
    return float(result["measured"]["acked_per_s"])


def _line(row: Row, ack: str, results: list[dict[str, Any]], ratio: float) -> str:
    rate = statistics.median(map(_rate, results))
    cpu = statistics.median(float(result["sut"]["cpu_us_per_msg"]) for result in results)
    p50, p99 = (
        statistics.median(float(result["ack_us"][part]) / 1000 for result in results) for part in ("p50", "p99")
    )
    lost = sum(int(result["lost"]) for result in results)
    return f"| {row.name} | `{ack}` | {rate:,.0f} | {ratio:.2f} | {cpu:.1f} | {p50:.1f} / {p99:.1f} | {lost} |"


if __name__ == "__main__":
    raise SystemExit(main())
