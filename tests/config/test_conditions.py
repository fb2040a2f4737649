"""Globs and comparisons: what fits, and that no text can make them slow."""

import fnmatch
import time

import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.conditions import Comparison, Glob, parse_condition, parse_version


@pytest.mark.parametrize(
    ("glob", "good", "bad"),
    [
        ("tx-*", ["tx-", "tx-1", "tx-a-b"], ["tx", "atx-1", "TX-1"]),
        ("*", ["", "a", "a/b", "+"], []),
        ("?", ["a", "+", "ä"], ["", "ab"]),
        ("a*b*c", ["abc", "aXbYc", "abbcc"], ["ab", "acb", "abcd"]),
        ("plant-?", ["plant-1"], ["plant-", "plant-12"]),
        ("[ab]", ["[ab]"], ["a", "b"]),
        ("**a**", ["a", "bab"], ["b"]),
        ("", [""], ["a"]),
    ],
)
def test_a_glob_fits_what_it_stands_for(glob: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in (*good, *bad) if Glob(glob).fits(text)] == good


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_globs_agree_with_the_standard_library(glob: str, text: str) -> None:
    assert Glob(glob).fits(text) == fnmatch.fnmatchcase(text, glob)


def test_no_text_makes_a_glob_slow() -> None:
    began = time.perf_counter()
    assert not Glob("*a" * 20 + "b").fits("a" * 20_000)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        (">=2.1", ["2.1", "2.1.0", "2.10", "v3", "10"], ["2.0.9", "2", "1.99", "2.1-rc1", "", "new", "2.", "2..1"]),
        (">2.1", ["2.1.1", "2.2"], ["2.1", "2.1.0"]),
        ("<3", ["2.9", "3-rc1", "0"], ["3", "3.0.0", "3.1"]),
        ("=2", ["2", "2.0", "v2.0.0", "2+build5"], ["2.0.1", "2-rc"]),
        ("!=2", ["1", "2.1"], ["2", "2.0", "two"]),
        (">=2.1, <3", ["2.1", "2.99.1"], ["2", "3"]),
        ("<=1.0.0-rc.2", ["1.0.0-rc.2", "1.0.0-rc.1", "1.0.0-beta", "0.9"], ["1.0.0-rc.10", "1.0.0"]),
    ],
)
def test_versions_are_compared_part_by_part(condition: str, good: list[str], bad: list[str]) -> None:
    found = parse_condition(condition)
    assert isinstance(found, Comparison)
    assert [text for text in (*good, *bad) if found.fits(text)] == good


@pytest.mark.parametrize("text", ["", ">", ">=", ">= new", ">=1,", ">=1, 2", "~1 ,>", "=>1", "<1 <2"])
def test_what_begins_like_a_comparison_must_be_one(text: str) -> None:
    found = parse_condition(text)
    assert found is None or found == Glob(text)
    assert (found is None) == (text[:1] in {"", ">", "<", "="})


@pytest.mark.parametrize("text", ["9" * 16, "1." * 40 + "1", "\u0661", "1\n", " 1", "-1", "1-", "0x10"])
def test_odd_texts_are_no_versions(text: str) -> None:
    assert parse_version(text) in {None, parse_version("1")}


@given(st.text(max_size=80), st.sampled_from([">=1", "<2.3-rc.1", "!=0"]))
def test_any_text_can_be_compared(text: str, condition: str) -> None:
    found = parse_condition(condition)
    assert found is not None
    assert found.fits(text) in {True, False}
