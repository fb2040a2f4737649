"""`mqttproxy test FILE`: the cases beside the policies, held against what would happen."""

import json as jsonlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from mqttproxy.cli.answered import answered
from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.case_files import case_files, load_cases
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.model import ProxyConfig
from mqttproxy.explain import Coverage, Premises, Tried, run
from mqttproxy.validation import Generation, build_generation

FAULTY: Final = 2


def try_cases(
    file: Path,
    /,
    *,
    cases: Annotated[Path | None, Parameter(name="--cases")] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Try the cases that stand beside the policies, and tell which rules none of them exercises.

    The exit code is 0 if all pass, 1 if some do not, 2 if the configuration or a case cannot be read.

    Args:
        file: the configuration.
        cases: another folder of cases than the one that the configuration names.
        json: one JSON object, for programs.

    """
    try:
        config = load_config(file)
        folder = cases.absolute() if cases is not None else config.tests.directory
        loaded = load_cases(config, folder)
        premises = Premises(config, build_generation(0, config))
        tried, coverage = answered(premises, lambda: run(loaded, premises))
    except ConfigError as error:
        tell(error)
        return FAULTY
    if not case_files(folder):
        complain(f"{folder}: no cases (*.toml) here")
        return FAULTY
    failed = [one for one in tried if one.problems]
    if json:
        say(jsonlib.dumps(_document(tried, coverage), indent=2))
    else:
        for line in (*_failed_lines(failed), *_summary(tried, failed, coverage)):
            say(printable(line))
    return 1 if failed else 0


def check_cases(config: ProxyConfig, generation: Generation) -> None:
    """Try the cases of a configuration.

    Raises:
        ConfigError: cases cannot be read, or expect something else than what would happen.

    """
    if cases := load_cases(config):
        premises = Premises(config, generation)
        tried, _ = answered(premises, lambda: run(cases, premises))
        if problems := [problem for one in tried for problem in one.problems]:
            raise ConfigError(problems)


def _failed_lines(failed: Sequence[Tried]) -> Iterator[str]:
    for one in failed:
        yield f"FAILED  {one.case.settings.name}  ({one.case.file}, {one.case.key})"
        for problem in one.problems:
            yield f"        {problem.key.removeprefix(one.case.key + '.')}: expected {problem.expected}"
            yield f"        {'found':>{len(problem.key) - len(one.case.key) - 1}}: {problem.found}"
    if failed:
        yield ""


def _summary(tried: Sequence[Tried], failed: Sequence[Tried], coverage: Coverage) -> Iterator[str]:
    count = f"{len(tried)} case{'s' * (len(tried) != 1)}"
    yield f"{count}: {len(tried) - len(failed)} passed, {len(failed)} failed"
    missing = list(coverage.missing())
    rules = len(coverage.policies)
    asked = sum(bool(policy.asked) for policy in coverage.policies.values())
    yield f"{asked} of {rules} policies asked" + ("; not exercised:" if missing else ", all of each exercised")
    yield from (f"  {words}" for words in missing)


def _document(tried: Sequence[Tried], coverage: Coverage) -> dict[str, Any]:
    return {
        "passed": sum(not one.problems for one in tried),
        "failed": sum(bool(one.problems) for one in tried),
        "cases": [
            {
                "file": one.case.file,
                "key": one.case.key,
                "name": one.case.settings.name,
                "verdict": one.explanation.fate if one.explanation is not None else None,
                "problems": [
                    {"key": problem.key, "expected": problem.expected, "found": problem.found}
                    for problem in one.problems
                ],
            }
            for one in tried
        ],
        "coverage": {
            "policies": [
                {
                    "name": name,
                    "level": policy.policy.level,
                    "asked": policy.asked,
                    "passed": policy.passed,
                    "failed": policy.failed,
                    "enforced": policy.enforced,
                    "observed": policy.observed,
                    "checks": [{"check": check, "failed": count} for check, count in policy.checks],
                }
                for name, policy in coverage.policies.items()
            ],
            "missing": list(coverage.missing()),
        },
    }
