"""The short form of `python -m tests.faults.reloads`."""

from pathlib import Path

import trio

from tests.faults.reloads import Run, check


def test_X21_reloads_under_load_half_of_them_broken_disconnect_nobody_lose_nothing_and_mix_nothing(
    tmp_path: Path,
) -> None:
    outcome = trio.run(Run(tmp_path, reloads=8, rate=100.0, devices=4).go)
    check(outcome)
    assert outcome.refused == 4
    assert outcome.generations_seen > 1
