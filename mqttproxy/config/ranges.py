"""How small and how large a number may be, where its type alone does not say it. Part of the reference page."""

from typing import Any, Final, get_args

from attrs import frozen

from mqttproxy.config.model import Bytes, Seconds
from mqttproxy.config.units import write_duration, write_size

_16_BIT: Final = 65_535  # two bytes in a packet
_28_BIT: Final = 268_435_455  # a variable byte integer
CENTURY: Final = 36_500 * 86_400.0  # seconds; no wait needs more, and no timer overflows


@frozen
class Range:
    """Lowest and highest value; `above`: the lowest itself is too low."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        """Tell whether the value is within."""
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def words(self, kind: Any) -> str:
        """Return the range as it is said of a setting of this type."""
        low, high = (number_words(end, kind) for end in (self.low, self.high))
        return f"more than {low} and at most {high}" if self.above else f"{low} to {high}"


_OF_TYPE: Final[dict[Any, Range]] = {
    Seconds: Range(0, CENTURY, above=True),
    Bytes: Range(1, 2**50),
}

_OF_SETTING: Final = {
    ("proxy", "hop_limit"): Range(0, 1000),
    ("proxy", "drain_grace"): Range(0, CENTURY),
    ("listeners.proxy_protocol", "header_bytes"): Range(256, 65_551),  # as long as one can be
    ("access.passwords.postgresql", "connect_timeout"): Range(2, 60),  # libpq takes less than two seconds for two
    ("access.passwords.postgresql", "statement_timeout"): Range(0.1, 60),
    ("overload", "sustained"): Range(0, CENTURY),
    ("overload", "memory"): Range(0, 1, above=True),
    ("overload", "descriptors"): Range(0, 1, above=True),
    ("limits", "packet_size"): Range(16, _28_BIT),
    ("limits", "packet_size_before_connect"): Range(16, _28_BIT),
    ("limits", "payload_size"): Range(1, _28_BIT),
    ("limits", "topic_bytes"): Range(1, _16_BIT),
    ("limits", "topic_levels"): Range(1, _16_BIT),
    ("limits", "client_id_bytes"): Range(1, _16_BIT),
    ("limits", "keep_alive"): Range(1, _16_BIT),
    ("limits", "receive_maximum"): Range(1, _16_BIT),
    ("limits", "qos2_awaiting_release"): Range(1, _16_BIT),
    ("limits", "topic_alias_maximum"): Range(0, _16_BIT),
    ("limits", "topic_aliases_to_device"): Range(0, _16_BIT),
    ("limits", "will_grace"): Range(0, CENTURY),
    ("limits", "flapping_connects"): Range(0, 1_000_000),
    ("limits", "session_expiry"): Range(0, 2**32 - 2),  # the highest would say: never
    ("policies", "priority"): Range(-1_000_000, 1_000_000),
    ("policies", "percent"): Range(0, 100),
    ("policies.shadow", "percent"): Range(0, 100, above=True),
    ("shadow", "time_percent"): Range(0, 50, above=True),
    ("shadow", "queue_messages"): Range(1, 1_000_000),
    ("shadow", "rows"): Range(1, 10_000),
    ("shadow", "samples"): Range(1, 1000),
    ("policies.require", "min_bytes"): Range(0, _28_BIT),
    ("policies.require", "max_bytes"): Range(1, _28_BIT),
    ("behaviours", "window"): Range(0.001, CENTURY),
    ("behaviours", "every"): Range(1, CENTURY),  # there is a look each second
    ("behaviours", "wrap"): Range(2, 2**62),
    ("payload", "json_depth"): Range(1, 1000),  # what walks a payload may do so by recursion
    ("upstreams", "keep_alive"): Range(1, _16_BIT),
    ("upstreams", "session_expiry"): Range(0, 2**32 - 1),
    ("upstreams", "receive_maximum"): Range(1, _16_BIT),
    ("upstreams", "in_flight"): Range(1, _16_BIT),
    ("upstreams", "qos0_patience"): Range(0, CENTURY),
    ("upstreams", "backoff_reset"): Range(0, CENTURY),
    ("upstreams", "breaker_ratio"): Range(0, 1, above=True),
    ("quarantine", "client_share"): Range(0, 1, above=True),
    ("quarantine", "keep_free"): Range(0, 2**50),
    ("quarantine", "inline_bytes"): Range(0, 2**30),
    ("recorder", "percent"): Range(0, 100),
    ("recorder", "keep_free"): Range(0, 2**50),
    ("telemetry", "sys_interval"): Range(0, CENTURY),
}


def range_of(table: str, key: str, kind: Any) -> Range | None:
    """Return what a setting must be within, or None: its type says it all."""
    return own_range(table, key) or next((_OF_TYPE[part] for part in (kind, *get_args(kind)) if part in _OF_TYPE), None)


def own_range(table: str, key: str) -> Range | None:
    """Return the range of a setting that has another one than its type."""
    return _OF_SETTING.get((table, key))


def number_words(value: float, kind: Any) -> str:
    """Return a number with the unit of its type."""
    if Seconds in (kind, *get_args(kind)):
        return write_duration(value)
    return write_size(int(value)) if kind is Bytes else str(value)
