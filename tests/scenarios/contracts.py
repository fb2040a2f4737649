"""The contract that scenarios judge by, and two upstreams, as they stand in a file."""

import json
from pathlib import Path
from typing import Any, Final

from tests.harness import write_settings
from tests.scenarios.devices import Transport

POLICY: Final = """
[[policies]]
name = "temperature"
topics = ["sensor/+/temperature"]
schema = "temperature@1"
"""
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["celsius"],
    "properties": {"celsius": {"type": "number"}},
}
TOPIC: Final = "sensor/{}/temperature"


def write_schema(folder: Path, schema: object = SCHEMA, *, version: int = 1) -> Path:
    """Write `temperature@version` into the folder of a proxy."""
    file = folder / "schemas" / "temperature" / f"{version}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(schema))
    return file


def upstream(name: str, url: str, more: str = "") -> str:
    """Return the table of an upstream."""
    return f'[[upstreams]]\nname = "{name}"\nurl = "{url}"\n{more}\n'


def route(topics: str, *to: str, more: str = "") -> str:
    """Return the table of a route."""
    return f'[[routes]]\ntopics = ["{topics}"]\nto = {json.dumps(to)}\n{more}\n'


def write_proxy(
    folder: Path, more: str = "", *, transports: tuple[Transport, ...] = ("tcp",), grace: str = "2s"
) -> Path:
    """Write a proxy with the contract, and return its file."""
    folder.mkdir(exist_ok=True)
    file = write_settings(folder, POLICY + more, transports=transports)
    file.write_text(file.read_text().replace('drain_grace = "2s"', f'drain_grace = "{grace}"'))
    write_schema(folder)
    return file
