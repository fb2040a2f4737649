"""Configuration texts, and what is said about them."""

from collections.abc import Callable
from pathlib import Path

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import parse_config
from mqttproxy.config.model import ProxyConfig

BASE = Path("/etc/mqttproxy")

UPSTREAM = '[[upstreams]]\nname = "a"\nurl = "mqtt://127.0.0.1:1901"\n'


def parse(text: str, missing: str = "") -> ProxyConfig:
    """Return the settings of a text in BASE, where every file can be read except the one named `missing`."""
    return parse_config(
        text, "proxy.toml", BASE, unreadable=lambda path: "no such file" if path.name == missing else None
    )


def faults(text: str, missing: str = "") -> list[str]:
    """Return all faults as people read them, without the name of the file."""
    outcome = attempt(lambda: parse(text, missing))
    return [str(fault).removeprefix("proxy.toml: ") for fault in outcome.faults] if outcome else []


def attempt(read: Callable[[], ProxyConfig]) -> ConfigError | None:
    """Return the ConfigError of reading a configuration, or None: it was read. Anything else is raised."""
    try:
        config = read()
    except ConfigError as error:
        return error
    assert isinstance(config, ProxyConfig)
    return None
