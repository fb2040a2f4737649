from collections.abc import Callable

import attrs
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.exposition import Exposition
from mqttproxy.telemetry.metrics import Metrics


def families(metrics: Metrics) -> dict[str, Metric]:
    text = Exposition(metrics).render().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(metrics: Metrics, sample_name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name == sample_name
    }


BUSY = DestinationSnapshot(
    name="a",
    kind="mqtt",
    connected=True,
    breaker_state="half-open",
    breaker_reason="5 failures in a row",
    queued=4,
    queued_bytes=400,
    in_flight=3,
    offered=15,
    delivered=5,
    refused=2,
    dropped={"drop_oldest": 1},
    reconnects=7,
    insecure=True,
)
LOCAL = DestinationSnapshot(name="local", kind="local", connected=True, offered=2, delivered=2)


def in_use() -> Metrics:
    metrics = Metrics(node="gw-1", version="0.1.0", destinations=lambda: [BUSY, LOCAL])
    metrics.received_by_qos[1] += 20
    metrics.valid += 12
    metrics.invalid += 8
    metrics.routed += 10
    metrics.held += 5
    metrics.refused.add("policy", 2)
    metrics.dropped.add("outbox_full", 2)
    metrics.waiting += 1
    metrics.listening["plain"] = 1
    metrics.shadowed["temperature", "would_break"] = 7
    metrics.active_connections.add("plain", 3)
    metrics.validation_seconds.observe(3e-6, 20)
    metrics.latency_seconds.observe(0.002, 10)
    return metrics


# The names of the original documents, with a sample as it must stand on the page.
@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("mqtt_proxy_messages_total", ("valid",), 12),
        ("mqtt_proxy_messages_total", ("invalid",), 8),
        ("mqtt_proxy_validation_duration_seconds_count", (), 20),
        ("mqtt_proxy_quarantine_size_bytes", (), 0),
        ("mqtt_proxy_connection_status", ("plain",), 1),
        ("mqtt_messages_received_total", ("1",), 20),
        ("mqtt_messages_forwarded_total", ("a",), 5),
        ("mqtt_message_latency_seconds_count", (), 10),
        ("mqtt_active_connections", ("plain",), 3),
        ("mqtt_broker_connection_status", ("a",), 1),
        ("mqtt_proxy_breaker_state", ("a", "half-open"), 1),
        ("mqtt_proxy_breaker_state", ("a", "closed"), 0),
        ("mqtt_proxy_outbox_messages", ("a",), 4),
        ("mqtt_proxy_outbox_bytes", ("a",), 400),
        ("mqtt_proxy_in_flight_messages", ("a",), 3),
        ("mqtt_proxy_destination_dropped_total", ("a", "drop_oldest"), 1),
        ("mqtt_proxy_destination_insecure", ("a",), 1),
        ("mqtt_proxy_info", ("gw-1", "0.1.0"), 1),
        ("mqtt_proxy_shadow_messages_total", ("would_break", "temperature"), 7),
    ],
)
def test_a_number_stands_under_its_name(name: str, labels: tuple[str, ...], value: float) -> None:
    assert values(in_use(), name)[labels] == value


def test_uptime_is_told() -> None:
    clock = [100.0]
    metrics = Metrics(now=lambda: clock[0])
    clock[0] = 160.0
    assert values(metrics, "mqtt_proxy_uptime_seconds") == {(): 60.0}


def test_every_number_of_the_metrics_is_told_and_no_name_twice() -> None:
    told = [attribute.metadata["told"] for attribute in attrs.fields(Metrics) if "told" in attribute.metadata]
    untold = {attribute.name for attribute in attrs.fields(Metrics) if "told" not in attribute.metadata}
    assert untold == {"node", "version", "now", "started", "destinations", "refresh", "more"}
    assert len({(one.name, one.value) for one in told}) == len(told)
    shown = families(in_use())
    for one in told:
        assert shown[one.name].type == one.kind
        assert shown[one.name].documentation == one.text


def test_an_operator_can_check_the_identity_on_the_page() -> None:
    metrics = in_use()

    def total(name: str) -> float:
        return sum(values(metrics, name).values())

    assert total("mqtt_messages_received_total") == (
        total("mqtt_proxy_messages_routed_total")
        + total("mqtt_proxy_messages_held_total")
        + total("mqtt_proxy_messages_refused_total")
        + total("mqtt_proxy_messages_dropped_total")
        + total("mqtt_proxy_messages_waiting")
    )
    assert total("mqtt_proxy_books_difference") == 0
    assert values(metrics, "mqtt_proxy_destination_books_difference") == {("a",): 0, ("local",): 0}


def test_books_that_do_not_balance_show() -> None:
    metrics = in_use()
    metrics.routed -= 3
    assert values(metrics, "mqtt_proxy_books_difference") == {(): 3}


def test_the_local_destination_has_no_broker_and_no_breaker() -> None:
    metrics = in_use()
    assert set(values(metrics, "mqtt_broker_connection_status")) == {("a",)}
    assert {labels[0] for labels in values(metrics, "mqtt_proxy_breaker_state")} == {"a"}


def test_G11_a_flood_of_labels_stays_bounded_on_the_page() -> None:
    metrics = Metrics()
    for number in range(10_000):
        metrics.connections_closed.add(f"reason-{number}")
    assert len(values(metrics, "mqtt_proxy_connections_closed_total")) == 65


def test_buckets_are_cumulative_and_end_in_infinity() -> None:
    metrics = Metrics()
    metrics.latency_seconds.observe(0.0001, 2)
    metrics.latency_seconds.observe(99.0)
    buckets = values(metrics, "mqtt_message_latency_seconds_bucket")
    assert buckets["0.0001",] == 2
    assert buckets["30",] == 2
    assert buckets["+Inf",] == 3
    assert values(metrics, "mqtt_message_latency_seconds_sum") == {(): pytest.approx(99.0002)}


def test_numbers_kept_elsewhere_are_copied_in_before_each_rendering() -> None:
    metrics = Metrics()

    def copy() -> None:
        metrics.subscriptions += 5

    refresh: Callable[[], None] = copy
    metrics.refresh.append(refresh)
    assert values(metrics, "mqtt_proxy_subscriptions") == {(): 5}
    assert values(metrics, "mqtt_proxy_subscriptions") == {(): 10}


def test_the_process_is_told_too() -> None:
    assert values(Metrics(), "process_resident_memory_bytes")[()] > 1_000_000


def test_G11_hostile_text_in_a_label_is_escaped() -> None:
    metrics = Metrics()
    metrics.refused.add('a"b\\c\nd')
    assert values(metrics, "mqtt_proxy_messages_refused_total") == {('a"b\\c\nd',): 1}
