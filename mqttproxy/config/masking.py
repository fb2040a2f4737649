"""The key of hashes, wherever `[masking]` keeps it."""

from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.load import read_secret
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.transform_checks import SHORTEST_KEY


def key_of(config: ProxyConfig, file: str = "proxy.toml") -> bytes:
    """Return the key of `[masking]`, empty if there is none.

    Raises:
        ConfigError: its file cannot be read, or holds too few bytes.

    """
    masking = config.masking
    if masking.key_file is None:
        return (masking.key or "").encode()
    try:
        key = read_secret(masking.key_file)
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror or error})"
        raise ConfigError([Fault(file, "masking.key_file", found, "a readable file")]) from error
    if len(key) < SHORTEST_KEY:
        raise ConfigError(
            [Fault(file, "masking.key_file", f"a file of {len(key)} bytes", f"at least {SHORTEST_KEY} bytes")]
        )
    return key
