"""What a generation means: who comes in and what for, how messages are judged, and where they go."""

from collections.abc import Mapping

from attrs import field, frozen

from mqttproxy.access import NO_CHAINS, Acl, Chains
from mqttproxy.config.model import ProxyConfig
from mqttproxy.upstream.callbacks import Shape
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import Generation
from mqttproxy.validation.files import SchemaFolder
from mqttproxy.validation.transforms import NO_MASKS, Masker


@frozen
class Ruleset:
    """See the module. Immutable."""

    config: ProxyConfig
    generation: Generation
    routes: RouteTable
    shapes: Mapping[str, Shape] = field(factory=dict)  # of upstreams that do not get messages as they came
    masker: Masker = NO_MASKS
    acl: Acl | None = None  # what devices may do; None: everything
    chains: Chains = NO_CHAINS  # who says who they are
    schemas: SchemaFolder | None = None  # that its contracts are from; it knows which of them are in force
