"""Compare what the spool could be kept in, on this disk: `python -m bench.spool_stores`.

One thread writes, and everything that waits goes into the next commit, which is durable before its messages count. So
many messages as `--waiting` says are outstanding at any time: each that is committed is at once replaced by a new one.
What was committed is taken note of and deleted four times a second, as destinations that keep up would have it.

Candidates take turns, each measurement in a process and a folder of its own; the tables have medians. LMDB is measured
where the package `lmdb` is installed; the project does not ask for it.
"""

import argparse
import json
import math
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from attrs import define, field, frozen

from bench.stores import CANDIDATES, NOTHING, Store, make, unframed

HERE: Final = Path(__file__).parent
BASELINE: Final = "segments"  # the best of those whose names begin so
WAITING: Final = (10, 100, 1000, 10_000)
CATCH_UP_WAITING: Final = 100
DELETE_EVERY: Final = 0.25  # seconds
WARM_UP: Final = 0.3
CHUNK: Final = 64 * 1024  # bytes that a destination that lags reads at once, about
PROBES: Final = 500
PAYLOAD: Final = b'{"c":17,"s":123456,"t":1764348000123,"temp":21.375,"unit":"C","p":"%s"}' % (b"x" * 24)
TOPICS: Final = [f"site-07/line-{n % 10}/meter-{n:04}" for n in range(1000)]


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the spool keeps of a message."""

    number: int
    topic: str
    payload: bytes
    qos: int
    arrived_ms: int
    client_id: str
    expiry: int | None = None
    properties: tuple[tuple[str, str], ...] = ()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Message).decode


@define
class Bench:
    """One store under load. The writer's part runs in a thread, one commit at a time."""

    store: Store
    waiting: int
    number: int = 0  # of the newest message that was made
    committed: int = 0
    cursor: int | None = None  # of a destination that lags; None: it follows right behind
    writer_cpu: float = 0.0  # seconds
    latencies: list[float] = field(factory=list)  # seconds, of the first message of each commit
    limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1))
    next_deletion: float = 0.0

    def new_batch(self, count: int) -> list[Message]:
        """Make the messages that take the place of the committed ones."""
        first = self.number + 1
        self.number += count
        topics = TOPICS
        return [
            Message(number, topics[number % 1000], PAYLOAD, 1, 1764348000123, "meter-0042")
            for number in range(first, first + count)
        ]

    def commit(self, batch: list[Message]) -> None:
        """Encode and write one run of messages, and now and then what was delivered. In the writer's thread."""
        began = time.thread_time()
        records = [(record := _encode(message), zlib.crc32(record)) for message in batch]
        delivered = None
        if (now := time.monotonic()) >= self.next_deletion:
            self.next_deletion = now + DELETE_EVERY
            delivered = self.committed if self.cursor is None else self.cursor
        self.store.append(batch[0].number, records, delivered)
        self.writer_cpu += time.thread_time() - began

    async def keep_writing(self, seconds: float) -> None:
        """Keep so many messages outstanding for so long."""
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            began = time.perf_counter()
            batch = self.new_batch(self.waiting)
            await trio.to_thread.run_sync(self.commit, batch, limiter=self.limiter)
            self.committed = batch[-1].number
            self.latencies.append(time.perf_counter() - began)

    async def catch_up(self) -> int:
        """Read after the cursor, chunk by chunk in a thread, until what is newest; returns how many messages."""
        reader = self.store.reader()
        limiter = trio.CapacityLimiter(1)

        def read(after: int) -> tuple[int, int]:
            count = 0
            for run in reader(after, CHUNK):
                for record in unframed(run):
                    message = _decode(record)
                    if message.number > after:
                        after, count = message.number, count + 1
            return after, count

        done, after = 0, self.cursor or 0
        while self.committed - after > 2 * self.waiting:
            after, count = await trio.to_thread.run_sync(read, after, limiter=limiter)
            done += count
            self.cursor = after
        self.cursor = None
        return done


@frozen
class Meter:
    """What the process had used at one moment: seconds, and bytes it caused to be written."""

    wall: float
    cpu: float
    trio_cpu: float
    written: int

    @classmethod
    def read(cls) -> "Meter":
        """Read the meters now, in trio's thread."""
        lines = Path("/proc/self/io").read_text().splitlines()
        written = next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
        return cls(time.perf_counter(), time.process_time(), time.thread_time(), written)


async def measure_writing(bench: Bench, seconds: float) -> dict[str, float]:
    """Measure a store whose destinations keep up."""
    await bench.keep_writing(WARM_UP)
    bench.latencies.clear()
    bench.writer_cpu = 0.0
    first, before = bench.number, Meter.read()
    await bench.keep_writing(seconds)
    return figures(bench, bench.number - first, before, Meter.read())


def figures(bench: Bench, count: int, before: Meter, after: Meter) -> dict[str, float]:
    """Return what one measurement gave. Times of CPU in µs a message, latencies in ms."""
    wall = after.wall - before.wall
    order = sorted(bench.latencies)
    size = len(_encode(bench.new_batch(1)[0]))
    return {
        "messages_per_s": count / wall,
        "commits_per_s": len(order) / wall,
        "cpu": (after.cpu - before.cpu) / count * 1e6,
        "cpu_trio": (after.trio_cpu - before.trio_cpu) / count * 1e6,
        "cpu_writer": bench.writer_cpu / count * 1e6,
        "p50": order[len(order) // 2] * 1e3,
        "p99": order[int(len(order) * 0.99)] * 1e3,
        "amplification": (after.written - before.written) / (count * size),
    }


async def measure_catching_up(bench: Bench, backlog: int, seconds: float) -> dict[str, float]:
    """Measure the writer alone above a backlog, then with a destination that reads it."""
    bench.cursor = 0
    while bench.committed < backlog:
        await bench.keep_writing(0.1)
    bench.latencies.clear()
    first, before = bench.number, Meter.read()
    await bench.keep_writing(seconds)
    alone = figures(bench, bench.number - first, before, Meter.read())
    bench.latencies.clear()
    first, before = bench.number, Meter.read()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.keep_writing, 60)
        with trio.move_on_after(30):
            read = await bench.catch_up()
        if bench.cursor is not None:
            raise RuntimeError("the reader never caught up")
        after = Meter.read()
        beside = figures(bench, bench.number - first, before, after)
        nursery.cancel_scope.cancel()
    return {
        "read_per_s": read / (after.wall - before.wall),
        "alone": alone["messages_per_s"],
        "alone_p99": alone["p99"],
        "beside": beside["messages_per_s"],
        "beside_p99": beside["p99"],
    }


def measure_here(arguments: argparse.Namespace) -> None:
    """Measure one candidate once, in this process, and print the figures as JSON."""
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        bench = Bench(make(arguments.one, Path(folder)), arguments.waiting[0])
        if arguments.backlog:
            result = trio.run(measure_catching_up, bench, arguments.backlog, arguments.seconds)
        else:
            result = trio.run(measure_writing, bench, arguments.seconds)
        bench.store.close()
    print(json.dumps(result))


def measure(arguments: argparse.Namespace, name: str, waiting: int, *more: str) -> dict[str, float]:
    """Measure one candidate once, in a process of its own."""
    command = [sys.executable, "-m", "bench.spool_stores", "--one", name, "--waiting", str(waiting), *more]
    command += ["--seconds", str(arguments.seconds), "--dir", str(arguments.dir.resolve())]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def probe(folder: Path) -> str:
    """Return what fdatasync of a small append costs here, and of a small write over old bytes."""
    figures = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for what in ("append", "overwrite"):
            times = []
            for index in range(PROBES):
                began = time.perf_counter()
                os.pwrite(file.fileno(), b"x" * 200, index * 200)
                os.fdatasync(file.fileno())
                times.append((time.perf_counter() - began) * 1e6)
            times.sort()
            figures.append(f"{what} p50 {times[PROBES // 2]:.0f} µs, p99 {times[PROBES * 99 // 100]:.0f} µs")
    return f"200 bytes and fdatasync: {'; '.join(figures)}"


def medians(results: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def share(results: dict[str, list[dict[str, float]]], name: str) -> float:
    """Return the median, over all turns, of a candidate's throughput to that of the best segments in the same turn."""
    segments = [list_ for other, list_ in results.items() if other.startswith(BASELINE)]
    best = [max(each["messages_per_s"] for each in turn) for turn in zip(*segments, strict=True)]
    if not best:
        return math.nan
    ratios: list[float] = [own["messages_per_s"] / most for own, most in zip(results[name], best, strict=True)]
    return statistics.median(ratios)


def compare_writing(arguments: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Measure all in turns, and print a table for each number of waiting messages."""
    everything: dict[str, Any] = {}
    for waiting in arguments.waiting:
        results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(arguments.repeat):
            for name in names:
                results[name].append(measure(arguments, name, waiting))
        print(f"\n{waiting:,} waiting\n\n| store | messages/s | of the best segments | best turn | commits/s ", end="")
        print("| least CPU µs/message | median: all, trio, writer | p50 ms | p99 ms | written / stored |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for name, list_ in results.items():
            row = medians(list_)
            print(
                f"| {name} | {row['messages_per_s']:,.0f} | {share(results, name):.2f} "
                f"| {max(each['messages_per_s'] for each in list_):,.0f} | {row['commits_per_s']:,.0f} "
                f"| {min(each['cpu'] for each in list_):.2f} "
                f"| {row['cpu']:.2f}, {row['cpu_trio']:.2f}, {row['cpu_writer']:.2f} "
                f"| {row['p50']:.2f} | {row['p99']:.2f} | {row['amplification']:.1f} |",
                flush=True,
            )
        everything[str(waiting)] = results
    return everything


def compare_reading(arguments: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Measure all in turns while a destination that lags catches up, and print a table."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names if name != NOTHING}
    for _ in range(arguments.repeat):
        for name, list_ in results.items():
            list_.append(measure(arguments, name, CATCH_UP_WAITING, "--backlog", str(arguments.catch_up)))
    print(f"\n{CATCH_UP_WAITING} waiting, a destination catches up {arguments.catch_up:,} messages\n")
    print("| store | read/s | written/s, alone | p99 ms, alone | written/s beside it | p99 ms beside it |")
    print("|---|---|---|---|---|---|")
    for name, list_ in results.items():
        row = medians(list_)
        print(
            f"| {name} | {row['read_per_s']:,.0f} | {row['alone']:,.0f} | {row['alone_p99']:.2f} | "
            f"{row['beside']:,.0f} | {row['beside_p99']:.2f} |",
            flush=True,
        )
    return results


def machine() -> str:
    """Describe what this runs on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return (
        f"{model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidates", nargs="*", help=f"what to measure (all): {', '.join(CANDIDATES)}")
    parser.add_argument("--waiting", nargs="+", type=int, default=WAITING, help="messages outstanding")
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each, in turns")
    parser.add_argument("--catch-up", type=int, default=200_000, help="messages a destination lags; 0: do not measure")
    parser.add_argument("--dir", type=Path, default=Path(), help="folder on the disk to measure; not a tmpfs")
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--backlog", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.candidates) - set(CANDIDATES):
        parser.error(f"no such candidate, or not installed: {', '.join(sorted(unknown))}")
    if arguments.one:
        measure_here(arguments)
        return
    names = arguments.candidates or list(CANDIDATES)
    print(f"{machine()}\n{probe(arguments.dir)}", flush=True)
    everything = {"writing": compare_writing(arguments, names)}
    if arguments.catch_up:
        everything["reading"] = compare_reading(arguments, names)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
