"""fuzz/: the kept corpus holds the invariants; `make fuzz` looks for new inputs."""

from pathlib import Path

import pytest

from fuzz import packets, run, topic_filters


@pytest.mark.parametrize(("name", "target"), [("packets", packets), ("topic_filters", topic_filters)])
def test_the_kept_corpus_holds_the_invariant_of_its_target(name: str, target: run.Target) -> None:
    kept = sorted((Path(run.HERE) / "corpus" / name).iterdir())
    assert kept
    for path in kept:
        target.check(path.read_bytes())
