"""The pages about bad input are fresh, and every row of the catalogue has a test, or it is said why not."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.bad_input.catalogue import CATALOGUE, PARTS
from tests.bad_input.every_row import ROWS
from tests.bad_input.listing import PAGE, SECURITY, Held, held_by, render, render_security

TOP = Path(__file__).parents[2]
IDS = [entry.id for entry in CATALOGUE]
ADVICE = "stale: run `python -m tests.bad_input.listing` in the top folder"


@pytest.fixture(scope="module")
def held(request: pytest.FixtureRequest) -> dict[str, list[Held]]:
    """Return what pytest collects: it has done so already, or does it in a process of its own."""
    options = request.config.option
    if [Path(one) for one in request.config.args] == [TOP / "tests"] and not (options.keyword or options.markexpr):
        return held_by(request.session.items)
    command = [sys.executable, "-m", "tests.bad_input.listing", "--tell"]
    told = json.loads(subprocess.run(command, cwd=TOP, check=True, capture_output=True).stdout)
    return {
        row: [Held(name, file, frozenset(spoken), cases) for name, file, spoken, cases in tests]
        for row, tests in told.items()
    }


def test_the_pages_are_fresh(held: dict[str, list[Held]]) -> None:
    assert (TOP / PAGE).read_text() == render(held), ADVICE
    security = (TOP / SECURITY).read_text()
    assert security == render_security(security, held), ADVICE


def test_every_row_has_a_test_or_it_is_said_why_not(held: dict[str, list[Held]]) -> None:
    assert [entry.id for entry in CATALOGUE if not held.get(entry.id) and not entry.open] == []


def test_tests_name_rows_that_there_are(held: dict[str, list[Held]]) -> None:
    assert set(held) <= set(IDS)
    assert {row.id for row in ROWS} <= set(IDS)


def test_rows_are_numbered_once_and_without_gaps() -> None:
    sizes = Counter(identifier[0] for identifier in IDS)
    assert [f"{letter}{number}" for letter in PARTS for number in range(1, sizes[letter] + 1)] == IDS


def test_there_are_two_thousand_byte_exact_cases() -> None:
    """As many as the largest of such suites that we know of has, and no two of them the same."""
    assert len({(row.send, row.version, row.state) for row in ROWS}) == len(ROWS) >= 2000
