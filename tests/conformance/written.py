"""Writes docs/conformance.md from the lists of statements and from what the tests say they hold.

`python -m tests.conformance.written` in the top folder; a test fails when the page is stale.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.conformance import statements_5, statements_311
from tests.conformance.statements import HELD, Statement, Version

PAGE: Final = Path("docs/conformance.md")
FOLDER: Final = Path(__file__).parent
DIFFERENCES: Final = FOLDER / "differences.md"  # the end of the page, written by hand
LISTS: Final[dict[Version, tuple[Statement, ...]]] = {
    "5.0": statements_5.STATEMENTS,
    "3.1.1": statements_311.STATEMENTS,
}
_STANDARDS: Final[dict[Version, str]] = {
    "5.0": "https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html",
    "3.1.1": "https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html",
}
_SHOWN: Final = 4  # tests of a statement that the table names; the rest is counted

_HEAD: Final = """\
# Conformance

<!-- Written by `python -m tests.conformance.written` from tests/conformance: change the statements and tests there. -->

The OASIS standards number what they ask for. This page lists every such statement of MQTT 5.0 and MQTT 3.1.1, with the
tests that hold it, or the reason why there is none. The tests stand in `tests/conformance/`, in the order of the
standard's chapters: each starts from raw bytes on a socket of the running proxy, reads raw bytes back, and names the
statements that it holds. Every packet that the proxy sends in any of them is checked for its form: minimal lengths,
reserved bits, packet identifiers, reason codes that belong to it.

The sentences here are short and our own: the standard's count. Statements that bind only a client are listed too; where
a test is named, it shows what the proxy does with a client that does not keep to them.
"""


def collect() -> None:
    """Import every module of tests here, so that `HELD` is complete."""
    for file in sorted(FOLDER.glob("test_*.py")):
        importlib.import_module(f"tests.conformance.{file.stem}")


def render() -> str:
    """Return the page."""
    collect()
    tables = "".join(part for version in LISTS for part in _table(version))
    return _HEAD + _summary() + tables + DIFFERENCES.read_text(encoding="utf-8")


def is_answered(version: Version, statement: Statement) -> bool:
    """Say whether a statement has what the page promises: a test, or a reason."""
    return bool(HELD.get((version, statement.number)) or statement.also or statement.why)


def _summary() -> str:
    rows = "".join(_summary_row(version, statements) for version, statements in LISTS.items())
    return (
        "\n| version | statements | that bind a server | of them held by tests | by a reason only |\n"
        f"|---|---|---|---|---|\n{rows}"
    )


def _summary_row(version: Version, statements: tuple[Statement, ...]) -> str:
    binding = [one for one in statements if one.binds != "client"]
    held = [one for one in binding if HELD.get((version, one.number)) or one.also]
    return f"| {version} | {len(statements)} | {len(binding)} | {len(held)} | {len(binding) - len(held)} |\n"


def _table(version: Version) -> Iterator[str]:
    chapter = ""
    for statement in LISTS[version]:
        if (found := statement.number.partition("-")[0].split(".")[0]) != chapter:
            if not chapter:
                yield f"\n## MQTT {version}\n\nNumbers are those of the [standard]({_STANDARDS[version]}).\n"
            chapter = found
            yield f"\n### Chapter {chapter} of {version}\n\n| number | what it asks for | binds | held by |\n"
            yield "|---|---|---|---|\n"
        words = statement.words.replace("|", "&#124;")
        yield f"| {statement.number} | {words} | {statement.binds} | {_held_by(version, statement)} |\n"


def _held_by(version: Version, statement: Statement) -> str:
    tests = list(dict.fromkeys(HELD.get((version, statement.number), ())))
    named = [_named(test) for test in tests[:_SHOWN]]
    if len(tests) > _SHOWN:
        named.append(f"{len(tests) - _SHOWN} more")
    named += [f"`{path}`" for path in statement.also]
    if statement.why:
        named.append(statement.why)
    return "; ".join(named) or "binds the client only"


def _named(test: str) -> str:
    file, _, name = test.partition("::")
    return f"{name.removeprefix('test_').replace('_', ' ')} (`{file}`)"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
