"""Run fuzz targets: `python fuzz/run.py --seconds 60 [TARGET...]`.

Each target runs in a process of its own. It is first replayed on its corpus, then fed from its hypothesis strategy,
then from mutations of the corpus,
until its seconds or its inputs are over. An input with an outcome not seen before joins
the mutations, and with `--keep` the corpus. With `--guided` Atheris chooses the inputs, by the lines that they reach.

With `--report FILE` the row of each target is written to the table in a file as soon as the target is done. A run that
is interrupted (ctrl-C, SIGTERM) prints the row of the target that it was at, which is not kept, and ends.

An input that breaks the invariant, takes more than 50 ms of CPU, never ends, or ends the process is written to the
corpus, named `broken-...`, and the run ends with status 1; from then on every run replays it. So does what grows.
"""

import argparse
import importlib
import mmap
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Final, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, only this folder would be on the path

from fuzz import guided
from fuzz.mutations import LONGEST_BLOWN
from fuzz.report import add_row
from fuzz.session import HEAD, BrokenError, GrownError, Session, Summary, Target, write

TARGETS: Final = (
    "packets",
    "topic_filters",
    "server_machine",
    "client_machine",
    "proxy_headers",
    "websocket",
    "scram",
    "jwt",
    "json_gate",
    "configuration",
    "protobuf",
    "avro",
    "topic_templates",
    "spool_runs",
    "certificates",
)
NO_BOUND: Final = 10**12
INTERRUPTED: Final = 130  # status of a run that was, as shells have it
_fork: Final = multiprocessing.get_context("fork")


class LastInput:
    """What a process tried last, in memory that outlives it."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 4 + 2 * LONGEST_BLOWN)

    def put(self, data: bytes) -> None:
        """Note an input."""
        self._shared[: 4 + len(data)] = len(data).to_bytes(4) + data

    def get(self) -> bytes:
        """Return it."""
        return self._shared[4 : 4 + int.from_bytes(self._shared[:4])]


def run_target(name: str, asked: argparse.Namespace, seed: int, last: LastInput, pipe: Connection) -> None:
    """Run one target and send its summary; in a process of its own."""
    load = guided.load if asked.guided else importlib.import_module
    session = Session(
        name,
        cast("Target", load(f"fuzz.{name}")),
        random.Random(seed),  # noqa: S311 - no secret hangs on it
        seconds=asked.seconds or NO_BOUND,
        most=asked.inputs or NO_BOUND,
        keep=asked.keep,
        guided=asked.guided,
        note=last.put,
    )

    def ended(why: str, data: bytes | None = None) -> None:
        if data is not None:
            why += f", see {write(name, 'broken', data).name}"
        pipe.send(session.summary(why))

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may be told twice
        pipe.send(session.summary(is_whole=False))
        os._exit(1)

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who ends the run ends this process too
    try:
        if asked.guided:
            guided.run(session, seed, ended)
        session.run()
    except BrokenError as broken:
        traceback.print_exception(broken.__cause__ or broken)
        ended(str(broken), broken.data)
    except GrownError as grown:
        ended(str(grown))
    else:
        ended("")


def run_apart(name: str, asked: argparse.Namespace, seed: int) -> Summary:
    """Run one target in a process of its own, and say what became of it, even if that ended before its time."""
    last = LastInput()
    ours, theirs = _fork.Pipe(duplex=False)
    process = _fork.Process(target=run_target, args=(name, asked, seed, last, theirs))
    began = time.monotonic()
    process.start()
    theirs.close()
    before = [  # of who interrupts us, the process is told: it tells how far it came
        (number, signal.signal(number, lambda _number, _frame: process.terminate()))
        for number in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        summary: Summary = ours.recv()
    except EOFError:
        process.join()
        why = f"the process ended ({process.exitcode}), see {write(name, 'broken', last.get()).name}"
        summary = Summary(name, asked.guided, 0, time.monotonic() - began, 0, 0.0, 0, 0, why)
    process.join()
    for number, handler in before:
        signal.signal(number, handler)
    return summary


def main() -> int:
    """Run what the command line asks for and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", metavar="TARGET", nargs="*", help=f"{', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, help="for each target (default 60, or no bound with --inputs)")
    parser.add_argument("--inputs", type=int, help="most inputs of each target; default: no bound")
    parser.add_argument("--seed", type=int, help="of the mutations; default: another one each time")
    parser.add_argument("--keep", action="store_true", help="write inputs with new outcomes to the corpus")
    parser.add_argument("--report", type=Path, help="write the rows to the table in this file too, such as a page")
    parser.add_argument("--guided", action="store_true", help="let Atheris choose inputs by the lines that they reach")
    asked = parser.parse_args()
    names: list[str] = asked.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if asked.guided and not guided.is_there():
        parser.error("--guided needs Atheris: pip install atheris")
    if asked.seconds is None and asked.inputs is None:
        asked.seconds = 60.0
    seed: int = asked.seed if asked.seed is not None else time.time_ns() % 2**32
    print(f"seed {seed}, {time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}\n\n{HEAD}", flush=True)
    summaries = []
    for name in names:
        summaries.append(run_apart(name, asked, seed))
        print(summaries[-1], flush=True)
        if not summaries[-1].is_whole:
            return INTERRUPTED
        if asked.report is not None:
            add_row(asked.report, summaries[-1])
    return int(any(summary.finding for summary in summaries))


if __name__ == "__main__":
    sys.exit(main())
