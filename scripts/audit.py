"""Ask whether any package of a lock file has a known vulnerability: python scripts/audit.py PIP_AUDIT LOCK...

pip-audit ends in the same way whether it has found one or could not look; here that is told apart, because a check
that could not be made is no good news. Exit code 0: nothing is known. 1: something is. 2: the database could not be
asked, or not about all packages.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

SECONDS: Final = 600  # for one lock file
OPTIONS: Final = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json")


class NotAskedError(Exception):
    """pip-audit could not look; in its words."""


def ask(pip_audit: str, lock: Path) -> list[dict[str, Any]]:
    """Return what pip-audit says of each package of a lock file.

    Raises:
        NotAskedError: it says nothing, as when there is no network.

    """
    command = [pip_audit, *OPTIONS, "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 # ours
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAskedError(str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}, without a word"]
        raise NotAskedError(last[0]) from error
    return packages


def faults(packages: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each vulnerability."""
    for package in packages:
        for known in package.get("vulns", ()):
            mended = ", ".join(known["fix_versions"]) or "none yet"
            names = ", ".join([known["id"], *known.get("aliases", ())])
            yield f"{package['name']} {package['version']}: {names}; mended in {mended}"


def skipped(packages: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each package that was not looked up."""
    return [f"{one['name']}: {one['skip_reason']}" for one in packages if "skip_reason" in one]


def main(arguments: Sequence[str]) -> int:
    """Look at all of them, say what was found, and return the exit code."""
    pip_audit, *locks = arguments
    found = unknown = False
    for lock in map(Path, locks):
        try:
            packages = ask(pip_audit, lock)
        except NotAskedError as error:
            print(f"*** {lock}: NOT CHECKED: the vulnerability database could not be asked: {error}", file=sys.stderr)
            unknown = True
            continue
        bad, missed = list(faults(packages)), skipped(packages)
        for line in bad:
            print(f"*** {lock}: VULNERABLE: {line}", file=sys.stderr)
        for line in missed:
            print(f"*** {lock}: NOT CHECKED: {line}", file=sys.stderr)
        print(f"{lock}: {len(packages) - len(missed)} packages, {len(bad)} known vulnerabilities")
        found, unknown = found or bool(bad), unknown or bool(missed)
    return 1 if found else 2 if unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
