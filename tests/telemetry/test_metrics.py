from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.metrics import Metrics


def test_the_books_balance_when_every_message_is_counted_once() -> None:
    metrics = Metrics()
    metrics.received_by_qos[0] += 4
    metrics.received_by_qos[1] += 20
    metrics.received_by_qos[2] += 6
    metrics.routed += 10
    metrics.held += 5
    metrics.refused.add("policy", 2)
    metrics.refused.add("topic", 1)
    metrics.dropped.add("outbox_full", 4)
    metrics.waiting += 8
    assert metrics.received == 30
    assert metrics.books() == (30, 30)


def test_a_destination_has_books_of_its_own() -> None:
    snapshot = DestinationSnapshot(
        name="a",
        kind="mqtt",
        connected=True,
        offered=15,
        delivered=5,
        queued=4,
        in_flight=3,
        refused=2,
        dropped={"drop_oldest": 1},
    )
    assert snapshot.books() == (15, 15)


def test_uptime_counts_from_the_making_on_the_given_clock() -> None:
    clock = iter([100.0, 107.5])
    assert Metrics(now=lambda: next(clock)).uptime == 7.5
