"""`mqttproxy backtest --policy new.toml --since 24h`: what new rules would have done to recorded messages."""

import json as jsonlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from mqttproxy.cli.candidate import load_candidate
from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import say
from mqttproxy.cli.recorded_options import FAULTY, UsageError, begin_of, check_topics, told
from mqttproxy.config.load import load_config
from mqttproxy.explain import Backtest, backtest as judge_twice
from mqttproxy.recorder.reading import Playback
from mqttproxy.validation import build_generation
from mqttproxy.validation.comparison import AXES, Cell, Counts, Sample

ROWS: Final = 10  # of each axis, for people
SAMPLES: Final = 5  # of each cell, for people

_FILE: Final = Path("proxy.toml")
_NAMES: Final[Mapping[Cell, str]] = {
    "both_pass": "pass both",
    "would_break": "WOULD BREAK",
    "would_heal": "would heal",
    "both_fail": "fail both",
}
_TITLES: Final = {
    "policy": "by policy",
    "pointer": "by place in the payload",
    "device": "by device",
    "attribute": "by attribute",
}


def backtest(
    *,
    policy: Annotated[Path, Parameter(name="--policy")],
    config: Annotated[Path, Parameter(name="--config")] = _FILE,
    since: str = "24h",
    topic: Annotated[tuple[str, ...], Parameter(negative=())] = ("#",),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Judge recorded messages by the rules in force and by new ones, and tell which of them these would break or heal.

    The exit code is 0 if nothing would break, 1 if something would, 2 if a file is faulty or nothing was recorded.

    Args:
        policy: the new rules: a file with nothing but `[[policies]]`, which take the place of those of the same name
            or come behind the others; or a whole configuration. Paths are relative to the folder of the other file.
        config: the configuration in force.
        since: how far back, such as 24h.
        topic: only messages on these topics: a filter; may be given several times.
        json: one JSON object, for programs.

    """
    with told(config):
        begin = begin_of(since)
        check_topics(topic)
        settings = load_config(config)
        now, then = build_generation(0, settings), build_generation(1, load_candidate(policy, config))
        with Playback(settings.proxy.data_dir) as playback:
            result = judge_twice(playback.since(begin, topic), settings, now, then)
            left_out = playback.left_out(max(begin, result.first or begin))
        if not result.messages:
            raise UsageError(f"{config}: nothing was recorded within {since} on these topics")
        if json:
            say(jsonlib.dumps(_document(result, left_out), indent=2))
        else:
            for line in _lines(result, left_out):
                say(printable(line))
        return 1 if result.comparison.total.would_break else 0
    return FAULTY


def _lines(result: Backtest, left_out: Mapping[str, int]) -> Iterator[str]:
    yield from _about(result, left_out)
    comparison = result.comparison
    total = comparison.total
    yield ""
    yield f"{'':<16}{'new: pass':>14}{'new: fail':>14}"
    yield f"{'now: pass':<16}{total.both_pass:>14}{total.would_break:>14}"
    yield f"{'now: fail':<16}{total.would_heal:>14}{total.both_fail:>14}"
    for axis in AXES:
        table = comparison.tables[axis]
        rows = [(key, counts) for key, counts in table.worst(len(table.rows)) if counts.messages > counts.both_pass]
        if rows:
            yield ""
            yield f"{_TITLES[axis]:<40}{'break':>8}{'heal':>8}{'fail both':>11}{'pass both':>11}"
            yield from (_row(_key(axis, key), counts) for key, counts in rows[:ROWS])
            if len(rows) > ROWS:
                yield f"  and {len(rows) - ROWS} more"
            if table.other.messages:
                yield _row("beyond the first rows", table.other)
    for cell in ("would_break", "would_heal"):
        samples = comparison.samples(cell)[-SAMPLES:]
        if samples:
            yield ""
            yield f"{_NAMES[cell]}, for example:"
            yield from (line for sample in samples for line in _sample_lines(sample))


def _about(result: Backtest, left_out: Mapping[str, int]) -> Iterator[str]:
    assert result.first is not None  # noqa: S101 # for mypy: there are messages
    assert result.last is not None  # noqa: S101 # as above
    yield f"{result.messages} recorded messages, from {_time(result.first)} to {_time(result.last)}"
    passed_over = sum(count for reason, count in left_out.items() if reason != "topic")
    if passed_over:
        reasons = ", ".join(f"{reason} {count}" for reason, count in left_out.items() if reason != "topic")
        yield f"{passed_over} messages of that time, on any topic of the recorder, were not recorded: {reasons}"
    if result.hidden:
        yield f"{result.hidden} of them are masked as a whole and were not judged"
    if result.masked:
        yield f"{result.masked} of them have masked values: what depends on these may be judged wrongly"
    if result.without_plugins:
        yield "plug-in checks are not asked here: both sides take their messages for good"
    if result.otherwise:
        words = "masks, another configuration, or behaviour rules, which are not asked here"
        yield f"{result.otherwise} of them were judged otherwise when they came: {words}"


def _row(key: str, counts: Counts) -> str:
    cells = f"{counts.would_break:>8}{counts.would_heal:>8}{counts.both_fail:>11}{counts.both_pass:>11}"
    return f"  {key[:37]:<38}{cells}"


def _key(axis: str, key: str) -> str:
    if axis == "policy":
        return key or "topic rules and default"
    return key or ("the whole payload" if axis == "pointer" else "(none)")


def _sample_lines(sample: Sample) -> Iterator[str]:
    yield f"  {sample.id}  {sample.device} on {sample.topic}"
    for failure in sample.outcome.failures[:3]:
        yield f"    {f'at {failure.pointer} ' if failure.pointer else ''}({failure.keyword}): {failure.message}"


def _document(result: Backtest, left_out: Mapping[str, int]) -> dict[str, Any]:
    return {
        "recorded": result.messages,
        "judged": result.comparison.total.messages,
        "masked": result.masked,
        "hidden": result.hidden,
        "without_plugins": result.without_plugins,
        "judged_otherwise_before": result.otherwise,
        "left_out": dict(left_out),
        "from": _time(result.first) if result.first is not None else None,
        "to": _time(result.last) if result.last is not None else None,
        **result.comparison.as_document(),
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
