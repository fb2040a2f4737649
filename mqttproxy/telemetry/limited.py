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
    overload_level: int = field(
        default=0,
        metadata=gauge(
            "mqtt_proxy_overload_level",
            "what is shed: 0: nothing, 1: live feeds, 2: and new connections, 3: and QoS 0, 4: and the heaviest "
            "publishers' reads, 5: and those of all publishers",
        ),
    )
    overload_pressure: dict[str, float] = field(
        factory=dict,
        metadata=gauge("mqtt_proxy_overload_pressure", "what was measured, as a share of its bound", "measure"),
    )
    overload_rises: int = field(
        default=0, metadata=counter("mqtt_proxy_overload_rises", "times that more was shed than before")
    )
    overload_waiting: int = field(
        default=0, metadata=gauge("mqtt_proxy_overload_waiting", "publishers that are not read because of overload")
    )
    thread_waits: int = field(
        default=0,
        metadata=counter("mqtt_proxy_thread_waits", "times that no thread could be started, and what needed it waited"),
    )
    bans: int = field(default=0, metadata=gauge("mqtt_proxy_bans", "bans by `mqttproxy ban` that are in force"))
    refused_clients: int = field(
        default=0, metadata=gauge("mqtt_proxy_refused_clients", "clients of which is kept why they were refused")
    )
    refused_forgotten: int = field(
        default=0,
        metadata=counter("mqtt_proxy_refused_clients_forgotten", "of those, forgotten because there were too many"),
    )
    rate_keys: int = field(
        default=0, metadata=gauge("mqtt_proxy_rate_keys", "clients, addresses and so on that rates remember")
    )
    rate_forgotten: int = field(
        default=0,
        metadata=counter("mqtt_proxy_rate_forgotten", "of those, forgotten too early because there were too many"),
    )
