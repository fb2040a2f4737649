"""`mqttproxy status FILE [--json]`: asks the proxy that runs on this file how it is."""

import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from mqttproxy.cli.output import complain, say, tell
from mqttproxy.cli.status_output import tabulate
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.model import TelemetrySettings

PATIENCE: Final = 5.0  # seconds for the connection, and for each part of the answer
LARGEST: Final = 4 * 1024 * 1024  # bytes of an answer
# An address to listen on that stands for all of the machine's is asked for here.
_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # not bound to


class UnreachableError(Exception):
    """Nobody answers, or not as a proxy does; in words."""


def status(file: Path, /, *, json: bool = False) -> int:
    """Ask the proxy that runs on a configuration whether it is ready, and how each destination is.

    The exit code is 0 if it is ready, 1 if it is not or does not answer.

    Args:
        file: the configuration, see `proxy.toml.example`.
        json: print the answer as it came, for programs.

    """
    try:
        config = load_config(file)
        document = _ask(config.telemetry, config.proxy.id)
    except ConfigError as error:
        return tell(error)
    except UnreachableError as error:
        complain(f"{file}: {error}")
        return 1
    if json:
        say(_dumps(document))
    else:
        for line in tabulate(document):
            say(line)
    return 0 if document["ready"] is True else 1


def _ask(telemetry: TelemetrySettings, node: str) -> dict[str, Any]:
    bind = telemetry.metrics_bind
    if bind is None:
        raise UnreachableError("telemetry.metrics_bind is empty, so a proxy that runs cannot be asked")
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    if not int(port):
        raise UnreachableError("telemetry.metrics_bind has port 0: only the log of the proxy tells which one it took")
    connection = HTTPConnection(_EVERYWHERE.get(host, host), int(port), timeout=PATIENCE)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        body = response.read(LARGEST)
    except (OSError, HTTPException) as error:
        raise UnreachableError(f"no proxy answers at {bind}: {_words(error)}") from error
    finally:
        connection.close()
    document = _document(response.status, body, bind)
    if document["node"] != node:
        raise UnreachableError(f"another proxy answers at {bind}: {document['node']!r}, not {node!r}")
    return document


def _document(code: int, body: bytes, bind: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if code != 200 or not isinstance(document, dict) or not {"node", "ready"} <= document.keys():
        raise UnreachableError(f"what answers at {bind} is no mqttproxy of this version (HTTP {code})")
    return document


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {PATIENCE:g} s"
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else repr(error)


def _dumps(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2)
