"""The configuration that is simulated: three upstreams, a route for each way to acknowledge."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson
from attrs import frozen

from mqttproxy.config.load import parse_config
from mqttproxy.config.model import ProxyConfig
from mqttproxy.ruleset import Ruleset
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from tests.fake_rooms import Shelf
from tests.faults.simulation.ledger import MEMORY

_SCHEMAS: Final = {"order/1.json": {"type": "object", "required": ["n"]}}
_LOCAL: Final = -2  # `needed` of what local sessions must keep: not in the spool


@frozen
class Route:
    """One route: topics `<name>/...`. `needed` as in `Sent`; below 0 nothing is known when the device is told."""

    name: str
    to: tuple[str, ...]
    ack: str
    needed: int
    form: bytes = b"%b"
    bad_form: bytes = b"%b"


ROUTES: Final = (
    Route("s", ("a", "b", "c"), '"spool"', 0),
    Route("all", ("a", "b"), '"all"', 2),
    Route("any", ("b", "c"), '"any"', 1),
    Route("q", ("a", "b", "c"), "{ quorum = 2 }", 2),
    Route("m", ("a",), '"memory"', MEMORY),
    Route("n", ("a", "c"), '"spool"', 0, b'{"n": "%b"}', b'{"x": "%b"}'),
    Route("l", ("local",), '"spool"', _LOCAL),
)

_FOLDERS: Final[list[TemporaryDirectory[str]]] = []

QUEUE: Final = 20
IN_FLIGHT: Final = 8
SPOOL_QUEUE: Final = 40
RECEIVE_MAXIMUM: Final = 15

_HEAD: Final = f"""
[proxy]
id = "gw"
drain_grace = "60s"
[access]
allow_anonymous = true
[limits]
receive_maximum = {RECEIVE_MAXIMUM}
flapping_connects = 0
connections_per_address = 10000
[spool]
queue_messages = {SPOOL_QUEUE}
[telemetry]
sys_interval = 0
[[policies]]
name = "orders"
topics = ["n/#"]
schema = "order@1"
"""

_UPSTREAM: Final = """
[[upstreams]]
name = "{0}"
url = "mqtt://{0}"
version = "{1}"
keep_alive = {4}
connect_timeout = 3
ack_timeout = 4
in_flight = {2}
queue_messages = {3}
backoff_first = 0.5
backoff_ceiling = 3
backoff_reset = 3
breaker_open = 2
"""


def text_of(queue: int, keep_alive: int = 10) -> str:
    """Return the file."""
    upstreams = [("a", "5"), ("b", "5"), ("c", "3.1.1")]
    text = _HEAD + "".join(_UPSTREAM.format(*one, IN_FLIGHT, queue, keep_alive) for one in upstreams)
    for route in ROUTES:
        to = ", ".join(f'"{name}"' for name in route.to)
        text += f'[[routes]]\ntopics = ["{route.name}/#"]\nto = [{to}]\nack = {route.ack}\n'
    return text


def write_files(folder: Path, text: str) -> Path:
    """Write the file, and the schemas that it names; returns its path."""
    for name, schema in _SCHEMAS.items():
        (folder / "schemas" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "schemas" / name).write_bytes(orjson.dumps(schema))
    (folder / "proxy.toml").write_text(text)
    return folder / "proxy.toml"


@cache
def files_of(queue: int, keep_alive: int) -> Path:
    """Return a file with other settings. It stays until the process ends."""
    folder = TemporaryDirectory()
    _FOLDERS.append(folder)
    return write_files(Path(folder.name), text_of(queue, keep_alive))


def make_config() -> ProxyConfig:
    """Return the settings."""
    return parse_config(text_of(QUEUE), "proxy.toml", Path("/"), unreadable=lambda _: None)


CONFIG: Final = make_config()
RULESET: Final = Ruleset(CONFIG, build_generation(1, CONFIG, Shelf(_SCHEMAS)), RouteTable(CONFIG))
