"""The table of faults tells the truth: a row that claims a test has one of its name, and no other has."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.faults.rows import ROWS

TESTS: Final = Path(__file__).parent.parent
NAME: Final = re.compile(r"^\s*(?:async )?def test_([A-Z]\d+)_", re.MULTILINE)


def named() -> dict[str, set[str]]:
    """Return for each row the files that have tests of its name."""
    found: dict[str, set[str]] = {}
    for file in TESTS.rglob("test_*.py"):
        for row in NAME.findall(file.read_text()):
            found.setdefault(row, set()).add(file.relative_to(TESTS).as_posix())
    return found


@pytest.mark.parametrize("name", ROWS)
def test_a_row_names_exactly_the_files_that_test_it(name: str) -> None:
    assert named().get(name, set()) == set(ROWS[name].where)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_tests_says_so(name: str) -> None:
    assert ROWS[name].where or ROWS[name].lacks


def test_what_only_the_long_form_does_is_in_the_table() -> None:
    longer = {
        file.relative_to(TESTS).as_posix()
        for file in TESTS.rglob("test_*.py")
        if re.search(r"\b(LONG|in_long_form)\b", file.read_text()) and "def test_X" in file.read_text()
    }
    told = {file for row in ROWS.values() if row.long for file in row.where}
    assert longer - {"faults/test_rows.py"} <= told
    assert all(longer & set(row.where) for row in ROWS.values() if row.long)


def test_no_test_is_named_after_a_row_that_is_not_in_the_table() -> None:
    assert {row for row in named() if row.startswith("X")} <= set(ROWS)


def test_the_table_is_that_of_the_catalogue() -> None:
    assert list(ROWS) == [f"X{number}" for number in [*range(1, 26), *range(30, 34)]]
