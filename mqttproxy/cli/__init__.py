"""The command line. Exit codes: 0 done, 1 what was asked about is faulty, 2 used wrongly."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_DRY_RUN: Final = "--dry-run"
_INTERRUPTED: Final = 130  # as shells say it: 128 and the number of SIGINT


def main() -> None:
    """Do what the command line says, and exit with its code."""
    try:
        if (file := file_to_run(sys.argv[1:])) is not None:
            _run(file, dry_run=_DRY_RUN in sys.argv)
        from mqttproxy.cli.commands import app  # noqa: PLC0415 - not for `run`, see there

        app(sys.argv[1:])
    except BrokenPipeError:  # whoever read our output has seen enough, such as `head`
        # the interpreter flushes stdout once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def file_to_run(arguments: Sequence[str]) -> str | None:
    """Return FILE if the arguments are plainly `run FILE`, with `--dry-run` before or behind it.

    A proxy lives for months: it need not carry what reads command lines (3 MB). Every other form, right or wrong, is
    for cyclopts to read, which would read these the same way.

    """
    match arguments:
        case ["run", file] | ["run", "--dry-run", file] | ["run", file, "--dry-run"] if not file.startswith("-"):
            return file
    return None


def _run(file: str, *, dry_run: bool) -> None:
    from mqttproxy.cli.run import run  # noqa: PLC0415 - only when it is called, as every command

    try:
        sys.exit(run(Path(file), dry_run=dry_run))
    except KeyboardInterrupt:  # before the proxy looked for signals
        sys.exit(_INTERRUPTED)
