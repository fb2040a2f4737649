"""The settings of what operators see: `[telemetry]`, `[audit]` and `[recorder]`. Part of the model."""

from typing import Literal

from attrs import frozen

from mqttproxy.config.kinds import Address, Bytes, Count, Seconds, TopicFilter, setting


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


@frozen(kw_only=True)
class RecorderSettings:
    """`[recorder]`: recent messages from devices, in <data_dir>/recorder, to look at and to try new rules on.

    What masks name is masked before it is written. Whatever is in its way, a message that cannot be recorded is
    only counted: traffic never waits for the recorder.
    """

    enabled: bool = setting(False, "true: messages are recorded")
    topics: tuple[TopicFilter, ...] = setting((TopicFilter("#"),), "on which topics; `#` does not cover `$` topics")
    percent: float = setting(100.0, "share of the messages on these topics, chosen by chance")
    messages_per_second: Count = setting(Count(100), "most messages that are recorded in a second, on average")
    max_bytes: Bytes = setting(
        Bytes(256 * 1024 * 1024), "bytes kept in all, with what is told of each message; the oldest go first"
    )
    max_age: Seconds = setting(Seconds(86_400.0), "how long a message is kept")
    keep_free: Bytes = setting(
        Bytes(512 * 1024 * 1024), "free space on the disk that is left to what must not be lost; below it, no recording"
    )
    queue_messages: Count = setting(Count(10_000), "messages that may wait for the disk; more are not recorded")
    queue_bytes: Bytes = setting(Bytes(16 * 1024 * 1024), "the same in payload bytes")
