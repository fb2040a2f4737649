"""Writes docs/bad-input.md, and the summary in docs/security.md, from what pytest collects.

`python -m tests.bad_input.listing` in the top folder; a test fails when they are stale. A test says by its name which
rows it holds. Over which transports and versions: by its parameters `transport`, `version` and `plays`, else by the
marker `wire`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import define, field, frozen

from mqttproxy.mqtt.packets import ProtocolVersion
from tests.bad_input.catalogue import CATALOGUE, PARTS, Entry
from tests.bad_input.every_row import ROWS, VERSIONS

PAGE: Final = Path("docs/bad-input.md")
SECURITY: Final = Path("docs/security.md")
BEGIN: Final = "<!-- Between here and the end: written by `python -m tests.bad_input.listing`. -->\n"
END: Final = "<!-- The end of what is written. -->\n"

_NAME: Final = re.compile(r"test_((?:[A-H]\d+_)+)")
_CASE: Final = re.compile(r"([A-H]\d+)-")
_TRANSPORTS: Final = ("tcp", "tls", "ws", "wss")
# As tests give them; other things have versions too.
_VERSIONS: Final[Mapping[Any, str]] = {
    **VERSIONS,
    **{name: name for name in VERSIONS.values()},
    ProtocolVersion.V311: "3.1.1",
    ProtocolVersion.V5: "5",
}
_SHOWN: Final = 3  # tests of a row that the table names; the rest is counted

_HEAD: Final = """\
# Bad input

<!-- Written by `python -m tests.bad_input.listing` from tests/bad_input/catalogue.py and from what pytest collects. -->

What broken and hostile peers send, gathered from advisories about brokers and from their tests, and the tests that hold
what becomes of it. Each test is named after its row, such as `test_A1_…`. Reasons in hexadecimal are those of MQTT 5.0;
a 3.1.1 device is just closed, but for the codes of its CONNACK. Where no transport or version stands, the test stands
below connections, or they do not matter.

Rows of A to C have byte-exact cases besides, {count} in all: what is sent in which state, and which bytes must come
back. They go to one running proxy over TCP, TLS and WebSocket, whole and byte by byte: those by hand every way, those
that are made by rule (each flag, each length, each identifier, each character) spread over all ways, and with
`make bad-input` every way too. Each of them is also held against the state machine alone, whole and byte by byte.
"""


@frozen
class Held:
    """A test that holds a row, with all of its cases.

    Attributes:
        name: the function.
        file: from the top folder.
        spoken: transports and versions.
        cases: how many pytest runs.

    """

    name: str
    file: str
    spoken: frozenset[str]
    cases: int


@define
class _Collected:
    """A plug-in of pytest that notes what was collected."""

    items: list[pytest.Item] = field(factory=list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


def collect() -> dict[str, list[Held]]:
    """Return the tests of each row. It asks pytest, so do not call it from a test."""
    files = [str(file) for file in sorted(Path("tests").rglob("test_*.py")) if _NAME.search(file.read_text())]
    collected = _Collected()
    with redirect_stdout(StringIO()) as told:
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *files], plugins=[collected])
    assert code is pytest.ExitCode.OK, told.getvalue()
    return held_by(collected.items)


def held_by(items: Sequence[pytest.Item]) -> dict[str, list[Held]]:
    """Return which of these tests hold each row."""
    spoken: dict[tuple[str, str, str], set[str]] = {}
    cases: Counter[tuple[str, str, str]] = Counter()
    for item in items:
        for row in rows_of(item.name):
            key = row, item.nodeid.partition("::")[0], item.name.partition("[")[0]
            cases[key] += 1
            spoken.setdefault(key, set()).update(spoken_by(item))
    held: dict[str, list[Held]] = {}
    for (row, file, name), count in cases.items():
        held.setdefault(row, []).append(Held(name, file, frozenset(spoken[row, file, name]), count))
    return held


def rows_of(name: str) -> list[str]:
    """Return the rows that a test names, in its own name or in that of its case."""
    function, _, case = name.partition("[")
    found = _NAME.match(function)
    rows = found[1].strip("_").split("_") if found else []
    if in_case := _CASE.match(case):
        rows.append(in_case[1])
    return rows


def spoken_by(item: pytest.Item) -> Iterator[str]:
    """Give the transports and versions of one case."""
    params: Mapping[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    marker = item.get_closest_marker("wire")
    said = set(marker.args) if marker else set()
    transports = {str(params["transport"])} if "transport" in params else said & set(_TRANSPORTS)
    if "plays" in params:
        versions = {VERSIONS[play.row.version] for play in params["plays"]}
    elif params.get("version") in _VERSIONS:
        versions = {_VERSIONS[params["version"]]}
    else:
        versions = said - set(_TRANSPORTS)
    yield from transports | versions


def render(held: Mapping[str, Sequence[Held]]) -> str:
    """Return the page."""
    return _HEAD.format(count=f"{len(ROWS):,}") + "".join(_part(letter, held) for letter in PARTS) + _left()


def render_security(text: str, held: Mapping[str, Sequence[Held]]) -> str:
    """Return the page of security with a fresh summary, and what holds each row where."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    cases = Counter(row.id[0] for row in ROWS)
    lines = ["| part | rows | tests | byte-exact cases | rows with something open |\n", "|---|---|---|---|---|\n"]
    for letter, name in PARTS.items():
        entries = [entry for entry in CATALOGUE if entry.part == letter]
        tests = {(one.file, one.name) for entry in entries for one in held.get(entry.id, ())}
        left = " ".join(entry.id for entry in entries if entry.open)
        count = f"{cases[letter]:,}" if cases[letter] else ""
        lines.append(f"| {letter}: {name} | {len(entries)} | {len(tests)} | {count} | {left} |\n")
    lines += ["\n| row | tests, in all their cases | over | versions |\n", "|---|---|---|---|\n"]
    lines += [_short_row(entry, held.get(entry.id, ())) for entry in CATALOGUE]
    return before + BEGIN + "\n" + "".join(lines) + "\n" + END + after


def _short_row(entry: Entry, tests: Sequence[Held]) -> str:
    files: Counter[str] = Counter()
    for one in tests:
        files[one.file] += one.cases
    told = ", ".join(f"{count} in `{file}`" for file, count in sorted(files.items()))
    return f"| {entry.id} | {told} | {_over(tests)} | {_of_versions(tests)} |\n"


def _over(tests: Sequence[Held]) -> str:
    spoken = frozenset[str]().union(*(one.spoken for one in tests))
    return ", ".join(name for name in _TRANSPORTS if name in spoken)


def _of_versions(tests: Sequence[Held]) -> str:
    spoken = frozenset[str]().union(*(one.spoken for one in tests))
    return ", ".join(name for name in VERSIONS.values() if name in spoken)


def _part(letter: str, held: Mapping[str, Sequence[Held]]) -> str:
    head = f"\n## {letter}: {PARTS[letter]}\n\n| row | what comes | what becomes of it | held by | over | versions |\n"
    return head + "|---|---|---|---|---|---|\n" + "".join(_row(one, held) for one in CATALOGUE if one.part == letter)


def _row(entry: Entry, held: Mapping[str, Sequence[Held]]) -> str:
    tests = sorted(held.get(entry.id, ()), key=lambda one: (not _NAME.match(one.name), -one.cases, one.file, one.name))
    named = [f"{_sentence(one.name)} (`{one.file.removeprefix('tests/')}`)" for one in tests[:_SHOWN]]
    if len(tests) > _SHOWN:
        named.append(f"{len(tests) - _SHOWN} more")
    if count := sum(row.id == entry.id for row in ROWS):
        named.append(f"{count} byte-exact cases")
    told = "; ".join(named) or "no test, see below"
    return f"| {entry.id} | {entry.words} | {entry.answer} | {told} | {_over(tests)} | {_of_versions(tests)} |\n"


def _sentence(name: str) -> str:
    return _NAME.sub("", name).removeprefix("test_").replace("_", " ")


def _left() -> str:
    rows = "".join(f"| {entry.id} | {entry.open} |\n" for entry in CATALOGUE if entry.open)
    return f"\n## What is open\n\n| row | what no test holds, and why |\n|---|---|\n{rows}"


def main() -> None:
    """Write both pages; with `--tell` only print the tests of each row as JSON."""
    held = collect()
    if "--tell" in sys.argv:
        told = {
            row: [[one.name, one.file, sorted(one.spoken), one.cases] for one in tests] for row, tests in held.items()
        }
        sys.stdout.write(json.dumps(told))
        return
    PAGE.write_text(render(held), encoding="utf-8")
    SECURITY.write_text(render_security(SECURITY.read_text(encoding="utf-8"), held), encoding="utf-8")


if __name__ == "__main__":
    main()
