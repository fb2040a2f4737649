"""fuzz/session.py, fuzz/run.py and fuzz/report.py: what is a finding, and what is none."""

import argparse
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import strategies as st

from fuzz import limits, run, session
from fuzz.limits import Growth
from fuzz.mutations import Mutator
from fuzz.report import add_row
from fuzz.session import HEAD, BrokenError, GrownError, Session, Summary


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(session, "HERE", tmp_path)
    folder = tmp_path / "corpus" / "fake"
    folder.mkdir(parents=True)
    (folder / "good").write_bytes(b"seed")
    return folder


def target(check: Callable[[bytes], object]) -> Any:
    made = ModuleType("fuzz.fake")
    made.check, made.strategy = check, st.binary(max_size=8)  # type: ignore[attr-defined]
    return made


def session_of(check: Callable[[bytes], object], most: int = 2_000) -> Session:
    return Session("fake", target(check), random.Random(5), seconds=1000.0, most=most)


def test_a_target_that_holds_has_so_many_inputs_and_no_finding() -> None:
    subject = session_of(len)
    subject.run()
    assert subject.runs >= 2_000
    assert subject.summary().finding == ""
    assert len(subject.outcomes) > 20


def test_an_input_that_breaks_the_invariant_is_told() -> None:
    def check(data: bytes) -> None:
        assert len(data) < 3

    with pytest.raises(BrokenError) as caught:
        session_of(check).run()
    assert len(caught.value.data) >= 3


def test_an_input_that_takes_too_long_each_time_is_a_finding_and_a_busy_moment_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent = [0.0]
    monkeypatch.setattr(session, "cpu", lambda: spent[0])
    tries = [0]

    def once(data: bytes) -> None:
        spent[0] += 0.2 if tries[0] == 3 else 0.001
        tries[0] += 1

    session_of(once).run()

    def always(data: bytes) -> None:
        spent[0] += 0.2 if data.startswith(b"s") else 0.001

    with pytest.raises(BrokenError, match="200 ms of CPU"):
        session_of(always).run()


def test_an_input_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANGS", 0.2)

    def check(data: bytes) -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:  # noqa: BLE001, S112 - what a target must not do to be found out
                continue

    with pytest.raises(BrokenError, match="HangError"):
        session_of(check).run()


def test_what_a_target_leaves_behind_is_growth() -> None:
    kept: list[object] = []
    for subject, leaks in ((Growth(1.0), True), (Growth(1.0), False)):
        for moment in range(16):
            if leaks:
                kept += [[object()] for _ in range(1_000)]
            subject.look(float(moment), own=0)
        assert bool(subject.fault()) is leaks


def test_a_run_that_grew_says_so() -> None:
    subject = session_of(len, most=10)
    subject.growth = Growth(1.0)
    subject.growth._samples = [(1_000 * moment, 0) for moment in range(16)]
    with pytest.raises(GrownError, match="objects more"):
        subject.check_growth()


def test_inputs_follow_from_the_seed_and_stay_in_their_bounds() -> None:
    def some() -> list[bytes]:
        mutator = Mutator(random.Random(7), [b"seed", b"other"], [b"word"], largest=100)
        return [mutator.next() for _ in range(20_000)]

    inputs = some()
    assert inputs == some()
    assert 50 < max(map(len, inputs)) <= 100
    assert any(b"word" in data for data in inputs)


def test_an_input_that_ends_the_process_is_written_to_the_corpus(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> None:
        if data == b"seed":
            os._exit(7)

    monkeypatch.setitem(sys.modules, "fuzz.fake", target(check))
    asked = argparse.Namespace(guided=False, seconds=10.0, inputs=100, keep=False)
    summary = run.run_apart("fake", asked, 1)
    assert summary.finding.startswith("the process ended (7)")
    (broken,) = corpus.glob("broken-*")
    assert broken.read_bytes() == b"seed"


def test_an_interrupted_run_tells_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> None:
        if data == b"seed":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setitem(sys.modules, "fuzz.fake", target(check))
    summary = run.run_apart("fake", argparse.Namespace(guided=False, seconds=10.0, inputs=100, keep=False), 1)
    assert not summary.is_whole
    assert str(summary).endswith("| none, interrupted |")


def test_the_row_of_a_target_takes_the_place_of_its_former_one_in_a_page(tmp_path: Path) -> None:
    def row(target: str, inputs: int, finding: str = "", *, guided: bool = False) -> Summary:
        return Summary(target, guided, inputs, 2.0, 3, 0.004, 0, 0, finding)

    page = tmp_path / "page.md"
    add_row(page, row("a", 1))
    add_row(page, row("b", 2))
    page.write_text(f"# Page\n\n{page.read_text()}\nwords\n")
    add_row(page, row("a", 3, "one | two\nthree"))
    add_row(page, row("a", 4, guided=True))
    rows = [row("a", 3, "one / two three"), row("b", 2), row("a", 4, guided=True)]
    assert page.read_text() == f"# Page\n\n{HEAD}\n" + "".join(f"{one}\n" for one in rows) + "\nwords\n"
