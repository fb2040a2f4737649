"""What a configuration makes of messages on their way to each upstream."""

from attrs import frozen

from mqttproxy.config.model import ProxyConfig
from mqttproxy.mqtt.packets import Message
from mqttproxy.upstream.callbacks import Shape, Unshaped
from mqttproxy.validation.transforms import TopicCarrier, TransformError
from mqttproxy.validation.transforms.carrying import carrier_of


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
