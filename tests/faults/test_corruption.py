"""Flipped bytes and cut files: nothing is lost in silence. All: `python -m tests.faults.corruption`."""

from pathlib import Path

import pytest

from tests.faults.corruption import SWEEPS, prepare


@pytest.mark.parametrize(("of", "every"), [("log", 2531), ("tables", 397)])
def test_X15_whatever_is_flipped_or_cut_nothing_is_lost_or_altered_in_silence(
    tmp_path: Path, of: str, every: int
) -> None:
    for figures in SWEEPS[of](prepare(tmp_path), every):
        assert figures.tried > 10
        assert not figures.faults, figures.row()
