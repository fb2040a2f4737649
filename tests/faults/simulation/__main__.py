"""The script: plays seeds and prints what went wrong, with the command that plays it again."""

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.faults.simulation.play import Outcome, play


def _play(seed: int, *, verbose: bool) -> Outcome:
    try:
        return play(seed, print if verbose else None)
    except BaseException as error:  # whatever it is, it is what we look for
        if isinstance(error, KeyboardInterrupt) or (
            isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt)
        ):
            raise
        return Outcome(seed, faults=["".join(traceback.format_exception(error))])


def main() -> int:
    """Play seeds; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--verbose", action="store_true", help="print what happens")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the tenth failure")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds) if given.seed is None else (given.seed,)
    began, kinds = time.monotonic(), Counter[str]()
    failed = messages = played = 0
    for seed in seeds:
        try:
            outcome = _play(seed, verbose=given.verbose)
        except (KeyboardInterrupt, BaseExceptionGroup):  # ^C
            break
        played += 1
        kinds += outcome.kinds
        messages += outcome.messages
        if outcome.faults:
            failed += 1
            print(f"seed {seed}: {len(outcome.faults)} faults, kinds {dict(outcome.kinds)}")
            for fault in outcome.faults[:5]:
                print(f"    {fault}")
            print(f"    again: python -m tests.faults.simulation --seed {seed} --verbose", flush=True)
            if failed >= 10 and not given.keep_going:
                break
        if given.seed is not None:
            print(f"trace {outcome.trace}, {outcome.messages} messages, {outcome.simulated:.1f} s simulated, "
                  f"drained in {outcome.drained_in:.1f} s, {outcome.duplicates} duplicates")  # fmt: skip
    took = time.monotonic() - began
    print(f"{played} seeds, {failed} failed, {messages} messages, {60 * played / took:.0f} seeds a minute")
    print(f"{len(kinds)} kinds of fault: {dict(sorted(kinds.items()))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
