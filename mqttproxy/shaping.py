"""What a configuration makes of messages on their way to each upstream, and the key of its masks."""

from attrs import frozen

from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.load import read_secret
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.transform_checks import SHORTEST_KEY
from mqttproxy.mqtt.packets import Message
from mqttproxy.upstream.callbacks import Shape, Unshaped
from mqttproxy.validation.transforms import TopicCarrier, TransformError
from mqttproxy.validation.transforms.carrying import carrier_of


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


def shapes_of(config: ProxyConfig, key: bytes) -> dict[str, Shape]:
    """Return what shapes the messages of each upstream that has transforms."""
    return {
        upstream.name: _Shaper(carrier_of(upstream.transforms, key, config.payload, config.limits)).shape
        for upstream in config.upstreams
        if upstream.transforms
    }


@frozen
class _Shaper:
    carrier: TopicCarrier

    def shape(self, message: Message) -> Message | Unshaped:
        try:
            return self.carrier.carry(message)
        except TransformError as error:
            first = error.failures[0]
            return Unshaped(first.pointer, first.message)
