"""The settings of what operators see: `[telemetry]` and `[audit]`. Part of the model."""

from typing import Literal

from attrs import frozen

from mqttproxy.config.kinds import Address, Bytes, Count, Seconds, setting


@frozen(kw_only=True)
class TelemetrySettings:
    """`[telemetry]`: what operators see."""

    metrics_bind: Address | None = setting(
        Address("127.0.0.1:9100"), "host:port of /metrics, /health, /ready and /status; empty string: not opened"
    )
    sys_interval: Seconds = setting(Seconds(10.0), "how often the `$SYS` topics get new values; 0: there are none")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "least severe event that is logged")
    log_format: Literal["auto", "console", "json"] = setting("auto", "auto: console on a terminal, JSON otherwise")


@frozen(kw_only=True)
class AuditSettings:
    """`[audit]`: the trail of decisions, as JSON lines in <data_dir>/audit."""

    decisions: Literal["exceptions", "all"] = setting("exceptions", "all: plain forwards are written too")
    payload: bool = setting(False, "true: the payload (at most 4 KiB of it, base64) stands in the line")
    rotate_bytes: Bytes = setting(Bytes(64 * 1024 * 1024), "a file is closed and a new one begun at this size")
    keep_files: Count = setting(Count(10), "closed files that are kept")
