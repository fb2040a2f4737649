"""The short form of the simulation. The long one: `python -m tests.faults.simulation --seeds 10000`."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.faults.forms import LONG
from tests.faults.simulation.play import play

SEEDS = 100 if LONG else 40
_HASHES = "from tests.faults.simulation.play import play; print([play(seed).trace for seed in (3, 4)])"


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_no_promise_is_broken_by_any_of_these_seeds(first: int) -> None:
    faults: dict[int, list[str]] = {}
    kinds = Counter[str]()
    for seed in range(first, first + 20):
        outcome = play(seed)
        kinds += outcome.kinds
        if outcome.faults:
            faults[seed] = outcome.faults
    assert not faults, f"again: python -m tests.faults.simulation --seed {next(iter(faults))} --verbose"
    assert len(kinds) >= 20, "of those that there are too few have come"


def test_a_seed_plays_out_the_same_in_every_process_whatever_strings_hash_to() -> None:
    def hashes(hash_seed: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run([sys.executable, "-c", _HASHES], check=True, capture_output=True, env=environment).stdout

    assert hashes("1") == hashes("2")
