"""The `$SYS` tree: the numbers of the house as topics, under the names that dashboards for Mosquitto read.

At each tick all values are worked out, some sixty short texts in a fraction of a millisecond, and kept: a device that
subscribes gets them at once (`match`), as if they were retained, and afterwards those that changed. That is cheaper
than to keep track of who subscribes to what in order to work out less. Messages are made only of values that changed
and somebody is subscribed to. They never see the retained store, the journal or an upstream.

They are meant to be delivered with QoS 0: the next tick brings newer numbers, so none is worth keeping for a device
that is away.

This room knows no packets: values are pairs of topic and text, and who wires it makes messages of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import frozen

from mqttproxy.telemetry.metrics import Metrics

ROOT: Final = "$SYS/broker/"
PERIODS: Final = (("1min", 60.0), ("5min", 300.0), ("15min", 900.0))
_UNSAYABLE: Final = frozenset("+#/\0")  # in a level of a topic name

Value = tuple[str, str]  # topic and text


@frozen(kw_only=True)
class Kept:
    """What sessions keep, as far as `Metrics` does not know it."""

    disconnected: int = 0  # sessions whose device is not connected
    expired: int = 0  # sessions that ended because their device stayed away, since the start
    messages: int = 0  # that wait for devices
    message_bytes: int = 0
    shared_subscriptions: int = 0


def nothing_kept() -> Kept:
    """Stand in until the sessions are there."""
    return Kept()


def _connects(metrics: Metrics) -> int:
    """Return how many connections were let in since the start."""
    return metrics.active_connections.total() + metrics.connections_closed.total()


# We count messages, not packets: for `messages` and `publish` the numbers are the same.
_LOADS: Final[tuple[tuple[str, Callable[[Metrics], int]], ...]] = (
    ("bytes/received", lambda metrics: metrics.bytes_in),
    ("bytes/sent", lambda metrics: metrics.bytes_out),
    ("connections", _connects),
    ("messages/received", lambda metrics: metrics.received),
    ("messages/sent", lambda metrics: metrics.delivered_down),
    ("publish/dropped", lambda metrics: metrics.dropped_down.total()),
    ("publish/received", lambda metrics: metrics.received),
    ("publish/sent", lambda metrics: metrics.delivered_down),
    ("sockets", lambda metrics: metrics.connections_opened.total()),
)


class Load:
    """How much a count grows in a minute, as averages that forget at the pace of each of the periods."""

    __slots__ = ("averages", "last")

    def __init__(self, count: int) -> None:
        self.last = count
        self.averages = [0.0] * len(PERIODS)

    def grow(self, count: int, elapsed: float) -> None:
        """Take in what the count is now, `elapsed` seconds after the last time."""
        if elapsed <= 0:
            return
        rate = (count - self.last) * 60.0 / elapsed
        self.last = count
        for index, (_, period) in enumerate(PERIODS):
            self.averages[index] = rate + math.exp(-elapsed / period) * (self.averages[index] - rate)


def sys_values(metrics: Metrics, kept: Kept, most_connected: int) -> Iterator[Value]:
    """Yield all values but the loads.

    Args:
        metrics: freshly refreshed.
        kept: what sessions keep.
        most_connected: devices at once, since the start.

    """
    connected = metrics.active_connections.total()
    stored = metrics.retained_messages + kept.messages
    dropped = metrics.dropped_down.total()
    numbers = {
        "bytes/received": metrics.bytes_in,
        "bytes/sent": metrics.bytes_out,
        "clients/active": connected,
        "clients/connected": connected,
        "clients/disconnected": kept.disconnected,
        "clients/expired": kept.expired,
        "clients/inactive": kept.disconnected,
        "clients/maximum": most_connected,
        "clients/total": connected + kept.disconnected,
        "messages/received": metrics.received,
        "messages/sent": metrics.delivered_down,
        "messages/stored": stored,
        "publish/messages/dropped": dropped,
        "publish/messages/received": metrics.received,
        "publish/messages/sent": metrics.delivered_down,
        "retained messages/count": metrics.retained_messages,
        "shared_subscriptions/count": kept.shared_subscriptions,
        "store/messages/bytes": metrics.retained_bytes + kept.message_bytes,
        "store/messages/count": stored,
        "subscriptions/count": metrics.subscriptions,
    }
    yield f"{ROOT}version", f"mqttproxy version {metrics.version}"
    yield f"{ROOT}uptime", f"{int(metrics.uptime)} seconds"
    for name, number in numbers.items():
        yield ROOT + name, str(number)
    for destination in metrics.destinations():
        if destination.kind != "local" and _UNSAYABLE.isdisjoint(destination.name):
            yield f"{ROOT}connection/{destination.name}/state", str(int(destination.connected))


class SysTree:
    """The tree of one process. Tick it once before the doors open, then every `telemetry.sys_interval`."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        deliver: Callable[[Sequence[Value]], None],
        is_wanted: Callable[[str], bool],
        matches: Callable[[str, str], bool],
        kept: Callable[[], Kept] = nothing_kept,
    ) -> None:
        """Make it; it has no values before the first tick.

        Args:
            metrics: of this process.
            deliver: gives values to whoever is subscribed to their topics.
            is_wanted: tells whether anybody is subscribed to a topic name.
            matches: tells whether a topic filter matches a topic name (`mqtt.topics.matches`).
            kept: what sessions keep now.

        """
        self._metrics = metrics
        self._deliver = deliver
        self._is_wanted = is_wanted
        self._matches = matches
        self._kept = kept
        self._loads = [(name, count, Load(0)) for name, count in _LOADS]
        self._last = metrics.started
        self._most_connected = 0
        self._values: dict[str, str] = {}

    def tick(self, now: float) -> None:
        """Work out all values, and deliver those that changed and are wanted.

        Args:
            now: seconds by the clock of the metrics.

        """
        metrics = self._metrics
        for refresh in metrics.refresh:
            refresh()
        self._most_connected = max(self._most_connected, metrics.active_connections.total())
        elapsed, self._last = now - self._last, now
        before, values = self._values, dict(sys_values(metrics, self._kept(), self._most_connected))
        for name, count, load in self._loads:
            load.grow(count(metrics), elapsed)
            for (period, _), average in zip(PERIODS, load.averages, strict=True):
                values[f"{ROOT}load/{name}/{period}"] = f"{average:.2f}"
        self._values = values
        changed = [value for value in values.items() if before.get(value[0]) != value[1] and self._is_wanted(value[0])]
        if changed:
            self._deliver(changed)

    def match(self, topic_filter: str) -> Iterator[Value]:
        """Yield the values of the last tick that a filter, not shared, matches: as if they were retained."""
        if topic_filter.startswith("$SYS/"):  # no wildcard matches that level [MQTT-4.7.2-1]
            for topic, text in self._values.items():
                if self._matches(topic_filter, topic):
                    yield topic, text
