"""How commands talk to people: results on stdout, faults on stderr, one line each."""

import sys

from mqttproxy.config.errors import ConfigError


def say(line: str) -> None:
    """Write a line to stdout, whatever bytes a file name in it holds."""
    sys.stdout.write(line.encode(errors="backslashreplace").decode() + "\n")


def complain(line: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{line}\n")


def tell(error: ConfigError) -> int:
    """Write all faults of a configuration to stderr, and return the exit code that goes with them."""
    for fault in error.faults:
        complain(str(fault))
    return 1
