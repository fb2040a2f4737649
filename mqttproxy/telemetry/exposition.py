"""Tells `Metrics` to Prometheus: a collector over plain ints, rendered by prometheus_client."""

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from mqttproxy.telemetry.counting import Histogram
from mqttproxy.telemetry.destination import BreakerState, DestinationSnapshot
from mqttproxy.telemetry.light import light_imports
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.telemetry.told import Told

with light_imports():
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_BREAKER_STATES: Final[tuple[BreakerState, ...]] = ("closed", "open", "half-open")

# Families with one sample for each destination: an attribute of its snapshot, name without `_total`, meaning.
_DESTINATION_COUNTERS: Final = (
    ("delivered", "mqtt_messages_forwarded", "messages that the destination has acknowledged; QoS 0: written"),
    ("offered", "mqtt_proxy_destination_offered", "messages accepted into the outbox"),
    (
        "refused",
        "mqtt_proxy_destination_refused",
        "messages answered negatively by the destination, or too large for it",
    ),
    ("reconnects", "mqtt_proxy_destination_reconnects", "links made after the first"),
    ("pauses", "mqtt_proxy_destination_pauses", 'times that the destination said "not now" to a message'),
    ("put_back", "mqtt_proxy_destination_put_back", "messages it said so of, which wait to be sent again"),
    ("poisoned", "mqtt_proxy_destination_poisoned", "of those refused, taken out because they kill every link"),
    ("unplaced", "mqtt_proxy_destination_unplaced", "messages it sent whose topics have no name here"),
    ("unclaimed", "mqtt_proxy_destination_unclaimed", "messages it sent that nobody here waited for"),
)
_DESTINATION_GAUGES: Final = (
    ("spooled", "mqtt_proxy_spooled_messages", "messages in the spool that are not in its outbox yet"),
    ("spooled_bytes", "mqtt_proxy_spooled_bytes", "payload bytes of the spool that it has not acknowledged"),
    ("lagging", "mqtt_proxy_destination_lagging", "1: it could not keep up, and is fed from the disk"),
    ("queued", "mqtt_proxy_outbox_messages", "messages that wait for the link"),
    ("queued_bytes", "mqtt_proxy_outbox_bytes", "payload bytes that wait for the link"),
    ("in_flight", "mqtt_proxy_in_flight_messages", "messages sent and not yet acknowledged"),
    (
        "breaker_next_trial",
        "mqtt_proxy_breaker_next_trial_seconds",
        "seconds until an open breaker lets a trial go",
    ),
    ("suspects", "mqtt_proxy_suspect_messages", "messages that go one by one, because links were lost with them"),
    ("paused", "mqtt_proxy_destination_paused", '1: nothing is published for a while, the destination said "not now"'),
    ("contested", "mqtt_proxy_destination_contested", "1: somebody else uses our client identifier there"),
    ("insecure", "mqtt_proxy_destination_insecure", "1: the certificate of the destination is not checked"),
)


class Exposition:
    """Renders the metrics of this process in Prometheus' text format, with those of Python and of the process."""

    def __init__(self, metrics: Metrics) -> None:
        """Make one with a registry of its own: nothing that a library registers globally is shown."""
        self._registry: Final = CollectorRegistry(auto_describe=False)
        self._registry.register(MetricsCollector(metrics))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return all metrics as text. Call it in the Trio thread only: between two batches the books balance."""
        return generate_latest(self._registry)


class MetricsCollector(Collector):
    """Gives every family of one process, in the order of the page of metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Return nothing: without this, registering would collect once to learn the names."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return all families with their samples."""
        for refresh in self._metrics.refresh:
            refresh()
        yield from _general(self._metrics)
        yield from _told_attributes(self._metrics)
        yield from _destinations(list(self._metrics.destinations()))


def _general(metrics: Metrics) -> Iterable[Metric]:
    info = GaugeMetricFamily("mqtt_proxy_info", "this node, always 1", labels=("node", "version"))
    info.add_metric((metrics.node, metrics.version), 1)
    yield info
    yield GaugeMetricFamily("mqtt_proxy_uptime_seconds", "seconds since the start", value=metrics.uptime)
    received, became = metrics.books()
    yield GaugeMetricFamily(
        "mqtt_proxy_books_difference",
        "received less routed, held, refused, dropped and waiting; anything but 0 is a bug",
        value=received - became,
    )
    received, became = metrics.books_down()
    yield GaugeMetricFamily(
        "mqtt_proxy_down_books_difference",
        "received from upstreams less carried, held, refused and waiting; anything but 0 is a bug",
        value=received - became,
    )


def _told_attributes(metrics: Metrics) -> Iterable[Metric]:
    families: dict[str, Metric] = {}
    for numbers in (metrics, *metrics.more):
        for attribute in attrs.fields(type(numbers)):
            told = attribute.metadata.get("told")
            if told is not None:
                _add(families, told, getattr(numbers, attribute.name))
    return families.values()


def _add(families: dict[str, Metric], told: Told, value: object) -> None:
    if isinstance(value, Histogram):
        buckets = [(f"{bound:g}" if bound != float("inf") else "+Inf", count) for bound, count in value.cumulative()]
        families[told.name] = HistogramMetricFamily(told.name, told.text, buckets=buckets, sum_value=value.total)
        return
    family = families.get(told.name)
    if family is None:
        kind = CounterMetricFamily if told.kind == "counter" else GaugeMetricFamily
        family = families[told.name] = kind(told.name, told.text, labels=told.labels)
    assert isinstance(family, (CounterMetricFamily, GaugeMetricFamily))  # noqa: S101  # for mypy; see two lines up
    for label, number in _samples(told, value):
        family.add_metric(label, number)


def _samples(told: Told, value: object) -> Iterable[tuple[tuple[str, ...], int]]:
    if isinstance(value, Mapping):
        return [(key if isinstance(key, tuple) else (str(key),), number) for key, number in value.items()]
    if isinstance(value, list):
        return [((str(index),), number) for index, number in enumerate(value)]
    if isinstance(value, int):
        return [(() if told.label is None else (told.value,), value)]
    raise TypeError(f"{told.name}: {value!r} cannot be told")


def _destinations(snapshots: list[DestinationSnapshot]) -> Iterable[Metric]:
    for attribute, name, text in _DESTINATION_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=("destination",))
        for snapshot in snapshots:
            counter.add_metric((snapshot.name,), getattr(snapshot, attribute))
        yield counter
    for attribute, name, text in _DESTINATION_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=("destination",))
        for snapshot in snapshots:
            gauge.add_metric((snapshot.name,), getattr(snapshot, attribute))
        yield gauge
    yield from _states_of_destinations(snapshots)


def _states_of_destinations(snapshots: list[DestinationSnapshot]) -> Iterable[Metric]:
    dropped = CounterMetricFamily(
        "mqtt_proxy_destination_dropped",
        "messages accepted for the destination, then given up",
        labels=("destination", "reason"),
    )
    status = GaugeMetricFamily("mqtt_broker_connection_status", "1: connected to the broker", labels=("broker",))
    breaker = GaugeMetricFamily(
        "mqtt_proxy_breaker_state", "1: the breaker is in this state", labels=("destination", "state")
    )
    trouble = GaugeMetricFamily(
        "mqtt_proxy_destination_trouble",
        "1: links fail, the last one in this way, which is also why a breaker is open",
        labels=("destination", "kind"),
    )
    difference = GaugeMetricFamily(
        "mqtt_proxy_destination_books_difference",
        "offered less delivered, waiting, in flight, refused and dropped; anything but 0 is a bug",
        labels=("destination",),
    )
    for snapshot in snapshots:
        for reason, number in snapshot.dropped.items():
            dropped.add_metric((snapshot.name, reason), number)
        if snapshot.kind != "local":
            status.add_metric((snapshot.name,), int(snapshot.connected))
            for state in _BREAKER_STATES:
                breaker.add_metric((snapshot.name, state), int(snapshot.breaker_state == state))
        if snapshot.trouble:
            trouble.add_metric((snapshot.name, snapshot.trouble), 1)
        offered, became = snapshot.books()
        difference.add_metric((snapshot.name,), offered - became)
    return dropped, status, breaker, trouble, difference
