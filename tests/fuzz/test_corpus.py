"""fuzz/: the kept corpus holds the invariants; `make fuzz` looks for new inputs."""

from importlib import import_module
from typing import cast

import pytest

from fuzz import run
from fuzz.session import HERE, Target


@pytest.mark.parametrize("name", run.TARGETS)
def test_the_kept_corpus_holds_the_invariant_of_its_target(name: str) -> None:
    target = cast("Target", import_module(f"fuzz.{name}"))
    kept = sorted((HERE / "corpus" / name).iterdir())
    assert kept
    for path in kept:
        target.check(path.read_bytes())
