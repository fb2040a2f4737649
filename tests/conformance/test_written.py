"""The page of conformance is fresh, and keeps its promise: a test or a reason for every statement."""

from pathlib import Path

import pytest

from tests.conformance.statements import HELD, Version
from tests.conformance.written import LISTS, PAGE, collect, is_answered, render

TOP = Path(__file__).parents[2]
VERSIONS = pytest.mark.parametrize("version", LISTS)


def test_the_page_is_fresh() -> None:
    advice = "stale: run `python -m tests.conformance.written` in the top folder"
    assert (TOP / PAGE).read_text() == render(), advice


@VERSIONS
def test_every_statement_that_binds_a_server_has_a_test_or_a_reason(version: Version) -> None:
    collect()
    left = [one.number for one in LISTS[version] if one.binds != "client" and not is_answered(version, one)]
    assert left == []


@VERSIONS
def test_a_statement_with_a_reason_for_no_test_has_none(version: Version) -> None:
    collect()
    both = [one.number for one in LISTS[version] if one.why and HELD.get((version, one.number))]
    assert both == []


@VERSIONS
def test_tests_hold_statements_that_there_are(version: Version) -> None:
    collect()
    known = {one.number for one in LISTS[version]}
    assert {number for held, number in HELD if held == version} <= known


@VERSIONS
def test_statements_are_numbered_once_and_without_gaps(version: Version) -> None:
    numbers = [one.number for one in LISTS[version]]
    assert len(set(numbers)) == len(numbers)
    by_section: dict[str, list[int]] = {}
    for number in numbers:
        section, _, index = number.partition("-")
        by_section.setdefault(section, []).append(int(index))
    first = {"2.2.1": 2} if version == "5.0" else {}  # there is no 2.2.1-1 in 5.0
    for section, found in by_section.items():
        assert found == list(range(first.get(section, 1), first.get(section, 1) + len(found))), section


@VERSIONS
def test_tests_elsewhere_are_there(version: Version) -> None:
    assert all((TOP / path).exists() for one in LISTS[version] for path in one.also)
