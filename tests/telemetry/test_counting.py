from time import thread_time
from timeit import repeat

import pytest
from hypothesis import given, strategies as st

from mqttproxy.telemetry.counting import OTHER, BoundedCounter, Histogram
from mqttproxy.telemetry.metrics import LATENCY_BUCKETS, VALIDATION_BUCKETS


def test_G11_the_first_labels_are_told_apart_and_all_others_together() -> None:
    counter = BoundedCounter(limit=3)
    for label in ("a", "b", "c", "d", "e", "a"):
        counter.add(label)
    assert counter == {"a": 2, "b": 1, "c": 1, OTHER: 2}
    assert counter.total() == 6


def test_sixty_four_labels_are_told_apart_by_default() -> None:
    counter = BoundedCounter()
    for number in range(1000):
        counter.add(f"client-{number}")
    assert len(counter) == 65
    assert counter[OTHER] == 1000 - 64


def test_a_gauge_goes_down_under_the_label_under_which_it_went_up() -> None:
    gauge = BoundedCounter(limit=1)
    for n in (1, -1):
        gauge.add("plain", n)
        gauge.add("tls", n)
    assert gauge == {"plain": 0, OTHER: 0}


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 1000))))
def test_a_histogram_counts_everything_once_and_below_the_right_bounds(observed: list[tuple[float, int]]) -> None:
    histogram = Histogram(LATENCY_BUCKETS)
    for value, n in observed:
        histogram.observe(value, n)
    for bound, count in histogram.cumulative():
        assert count == sum(n for value, n in observed if value <= bound)
    assert histogram.count() == sum(n for _, n in observed)
    assert histogram.total == pytest.approx(sum(value * n for value, n in observed))


@pytest.mark.parametrize("bounds", [(), (2.0, 1.0), (1.0, 1.0)])
def test_bounds_must_rise(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        Histogram(bounds)


def test_observing_costs_about_a_microsecond() -> None:
    histogram = Histogram(VALIDATION_BUCKETS)
    # Less than one; on a busy machine some more.
    assert min(repeat(lambda: histogram.observe(3e-6, 50), number=10_000, repeat=5, timer=thread_time)) / 10_000 < 4e-6
