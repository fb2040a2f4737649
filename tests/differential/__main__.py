"""Hold made-up conversations with the proxy and with Mosquitto for a while: `python -m tests.differential`.

Clients speak in turn and at the same time, well-formed and bent. Every difference must be one that `rules.py` knows.
One that is not is shortened and told with its steps and its seed, and the run goes on, to end with status 1. The rows
that are printed at the end tell how often which known difference was there.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

from attrs import define, field
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from hypothesis.errors import HypothesisException

from tests.differential.talking import Ports, UnexplainedError, make_up, running_both

ROUND = 20  # conversations of one seed
MOST_TOLD = 5  # findings after which a run ends


@define
class Tally:
    """What has been so far."""

    conversations: int = 0
    steps: int = 0
    packets: int = 0  # heard of each of both
    known: Counter[str] = field(factory=Counter)
    unexplained: list[str] = field(factory=list)


def play_round(ports: Ports, number: int, tally: Tally, *, survey: bool) -> None:
    """Hold the conversations that a seed gives."""

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate,) if survey else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(st.data())
    def converse(data: st.DataObject) -> None:
        try:
            conversation = make_up(ports, data)
        except UnexplainedError as error:
            if not survey:
                raise
            tally.conversations += 1
            tally.unexplained.append(error.words)
            print(f"\nUNEXPLAINED, seed {number}: {error.words}", flush=True)
            return
        tally.conversations += 1
        tally.steps += len(conversation.steps)
        tally.packets += conversation.ours.packets
        tally.known.update(conversation.known)

    try:
        converse()
    except (AssertionError, OSError, HypothesisException) as error:
        tally.unexplained.append(f"seed {number}: {error}")
        print(f"\nUNEXPLAINED, seed {number}:\n", *traceback.format_exception(error)[-40:], sep="", flush=True)


def main() -> int:
    """Run for as long as was asked for and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--seed", type=int, help=f"of the first {ROUND} conversations; the next ones have the next seed"
    )
    parser.add_argument("--survey", action="store_true", help="tell what is unexplained as it stands, and go on")
    asked = parser.parse_args()
    first: int = asked.seed if asked.seed is not None else time.time_ns() % 2**32
    tally = Tally()
    print(f"seed {first}, {time.strftime('%Y-%m-%d')}", flush=True)
    began = time.monotonic()
    number = first
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt), running_both(Path(folder)) as ports:
        while time.monotonic() < began + asked.seconds and (asked.survey or len(tally.unexplained) < MOST_TOLD):
            play_round(ports, number, tally, survey=asked.survey)
            number += 1
    print(
        f"{tally.conversations} conversations, {tally.steps} steps, {tally.packets} packets heard of each,"
        f" {time.monotonic() - began:.0f} s, seeds {first} to {number - 1}, {len(tally.unexplained)} unexplained"
    )
    for why, times in tally.known.most_common():
        print(f"| {why} | {times} |")
    return bool(tally.unexplained)


if __name__ == "__main__":
    sys.exit(main())
