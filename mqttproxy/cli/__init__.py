"""The command line. Exit codes: 0 done, 1 what was asked about is faulty, 2 used wrongly.

Each command is imported when it is called, so that help is quick and `run` does not carry what only others need.
"""

import os
import sys
from typing import Final

from cyclopts import App

from mqttproxy import __version__

app: Final = App(
    name="mqttproxy",
    version=__version__,
    help="A governance proxy between MQTT devices and brokers. Exit codes: 0 done, 1 faulty, 2 used wrongly.",
)
app.command("mqttproxy.cli.run:run", name="run", help="Run the proxy until SIGTERM or SIGINT.")
app.command("mqttproxy.cli.check:check", name="check", help="Check a configuration file and tell all its faults.")
app.command(
    "mqttproxy.cli.quarantine:quarantine_app",
    name="quarantine",
    help="Look at the messages that were held, and why; export or purge them.",
)


def main() -> None:
    """Do what the command line says, and exit with its code."""
    try:
        app(sys.argv[1:])
    except BrokenPipeError:  # whoever read our output has seen enough, such as `head`
        # the interpreter flushes stdout once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
