"""The numbers of rates, bans and overload, told behind those of the house."""

from attrs import define, field

from mqttproxy.telemetry.counting import BoundedCounter
from mqttproxy.telemetry.told import counter, gauge


@define(eq=False, kw_only=True)
class LimitingMetrics:
    """See `Metrics.more`."""

    rate_pauses: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=counter("mqtt_proxy_rate_pauses", "times that a device had to wait, by the rate it exceeded", "rule"),
    )
    rate_refused: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=counter("mqtt_proxy_rate_refused", "messages and connections refused by a rate", "rule"),
    )
    rate_keys: int = field(
        default=0, metadata=gauge("mqtt_proxy_rate_keys", "clients, addresses and so on that rates remember")
    )
    rate_forgotten: int = field(
        default=0,
        metadata=counter("mqtt_proxy_rate_forgotten", "of those, forgotten too early because there were too many"),
    )
