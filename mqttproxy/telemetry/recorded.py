"""The numbers of the recorder, told behind those of the house."""

from attrs import define, field

from mqttproxy.telemetry.counting import BoundedCounter
from mqttproxy.telemetry.told import counter, gauge


@define(eq=False, kw_only=True)
class RecorderMetrics:
    """See `Metrics.more`; copied in from the recorder before each rendering."""

    recorded: int = field(
        default=0,
        metadata=counter("mqtt_proxy_recorder_recorded", "messages that were written by the recorder"),
    )
    left_out: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=counter(
            "mqtt_proxy_recorder_left_out",
            "messages that it did not record: topic, percent, rate: as its settings say; queue_full, disk, disk_low: "
            "it could not; error: a bug",
            "reason",
        ),
    )
    removed: dict[str, int] = field(
        factory=dict,
        metadata=counter("mqtt_proxy_recorder_removed", "recorded messages that made room for others", "bound"),
    )
    messages: int = field(default=0, metadata=gauge("mqtt_proxy_recorder_messages", "messages that it keeps"))
    size_bytes: int = field(default=0, metadata=gauge("mqtt_proxy_recorder_bytes", "bytes that it keeps"))
    pending: int = field(
        default=0, metadata=gauge("mqtt_proxy_recorder_pending", "messages that wait to be written by it")
    )
    trouble: int = field(default=0, metadata=gauge("mqtt_proxy_recorder_trouble", "1: it cannot write"))
    drift_messages: dict[str, int] = field(
        factory=dict,
        metadata=gauge(
            "mqtt_proxy_drift_messages",
            "recorded messages, at most the last 1,000, that the two below are shares of",
            "policy",
        ),
    )
    drift_unknown: dict[str, float] = field(
        factory=dict,
        metadata=gauge(
            "mqtt_proxy_drift_unknown_ratio",
            "share of them with members that the policy's JSON Schema does not name",
            "policy",
        ),
    )
    drift_failed: dict[str, float] = field(
        factory=dict,
        metadata=gauge("mqtt_proxy_drift_failed_ratio", "share of them that failed that policy", "policy"),
    )
