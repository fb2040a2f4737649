"""`mqttproxy shadow FILE`: asks the proxy that runs on it what the candidates for its policies would change."""

import json as json_module
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say
from mqttproxy.cli.running import NotRunningError, ask_running

ROWS: Final = 10  # of each table
SAMPLES: Final = 3  # of each outcome
_CELLS: Final = {
    "both_pass": "both pass",
    "would_break": "would break",
    "would_heal": "would heal",
    "both_fail": "both fail",
}
_MEANING: Final = {
    "would_break": "pass now, would fail with the candidate",
    "would_heal": "fail now, would pass with the candidate",
}
_AXES: Final = ("attribute", "pointer", "device")  # that of policies has one row: each candidate has a policy
_LEFT_OUT: Final = {
    "left_out": "left out by percent",
    "dropped": "for which there was no room",
    "raised": "that raised an error",
}


def shadow(file: Path, /, *, policy: str | None = None, rows: int = ROWS, json: bool = False) -> int:
    """Tell what candidates, `[policies.shadow]`, say of the messages that policies judge: what would break, and heal.

    The exit code is 0, or 1: no proxy runs on the file, or there is no such candidate.

    Args:
        file: the configuration that the proxy was started with.
        policy: only the candidate for this one.
        rows: how many devices, pointers and attributes are told, those that would break most first.
        json: print the answer as it came, for programs.

    """
    try:
        answer = ask_running(file, "shadow", policy=policy, rows=rows)
    except NotRunningError as error:
        complain(str(error))
        return 1
    shadows = answer.get("shadows")
    if shadows is None:
        complain(f"{file}: the proxy that runs is of another version: {'; '.join(answer.get('faults', ()))}")
        return 1
    if json:
        say(json_module.dumps(answer, indent=2))
    else:
        for line in tabulate(shadows):
            say(line)
    if shadows:
        return 0
    complain(f"{file}: no candidate is judged{'' if policy is None else f' for policy {policy}'}")
    return 1


def tabulate(shadows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return the lines for what the proxy tells of all its candidates."""
    for index, one in enumerate(shadows):
        if index:
            yield ""
        for line in _told(one):
            yield printable(line).rstrip()


def _told(one: Mapping[str, Any]) -> Iterator[str]:
    since = datetime.fromtimestamp(one["since"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    yield f"policy {one['policy']}, candidate {one['candidate']}: {one['messages']} messages since {since} UTC"
    width = max(len(str(one[cell])) for cell in _CELLS)
    for cell, words in _CELLS.items():
        yield f"  {words:<11}  {one[cell]:>{width}}  {_MEANING.get(cell, '')}"
    if left := [f"{count} {_LEFT_OUT[why]}" for why, count in one["not_judged"].items() if count]:
        yield f"  not judged: {', '.join(left)}"
    for axis in _AXES:
        yield from _table(axis, one["by"][axis])
    for cell in ("would_break", "would_heal", "both_fail"):
        yield from _samples(_CELLS[cell], one["samples"][cell][-SAMPLES:])


def _table(axis: str, table: Mapping[str, Any]) -> Iterator[str]:
    rows = [(row["key"] or "whole", row) for row in table["rows"]]
    if any(table["other"].values()):
        rows.append(("all others", table["other"]))
    if not rows:
        return
    yield ""
    width = max(len(axis), *(len(key) for key, _ in rows))
    yield "  ".join([f"  {axis:<{width}}", *(f"{words:>11}" for words in _CELLS.values())])
    for key, row in rows:
        yield "  ".join([f"  {key:<{width}}", *(f"{row[cell]:>11}" for cell in _CELLS)])


def _samples(words: str, samples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if samples:
        yield ""
        yield f"  {words}, the newest:"
    for sample in reversed(samples):
        yield f"    {sample['device']} on {sample['topic']}: {sample.get('payload', '')}"
        for failure in sample["failures"]:
            yield f"      {failure['pointer'] or 'whole'}: {failure['keyword']}: {failure['message']}"
