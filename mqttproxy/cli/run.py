"""`mqttproxy run FILE [--dry-run]`."""

from pathlib import Path

import trio

from mqttproxy.app import run_proxy
from mqttproxy.cli.output import tell
from mqttproxy.config.errors import ConfigError


def run(file: Path, /, *, dry_run: bool = False) -> int:
    """Run the proxy until SIGTERM or SIGINT.

    Args:
        file: the configuration, see `proxy.toml.example`.
        dry_run: judge, count and audit every message, but forward it whatever the verdict.

    """
    try:
        return trio.run(run_proxy, file, dry_run)
    except ConfigError as error:
        return tell(error)
