"""Buckets against a count of all that went through."""

from hypothesis import given, strategies as st

from mqttproxy.limiting.buckets import Bucket, Window

WINDOWS = st.lists(
    st.builds(Window, st.integers(1, 12), st.sampled_from([0.5, 1.0, 3.0, 60.0])), min_size=1, max_size=3
)
PAUSES = st.sampled_from([0.0, 0.01, 0.1, 0.7, 1.0, 2.0, 10.0, 61.0])
STEPS = st.lists(st.tuples(PAUSES, st.integers(1, 4)), max_size=60)


def gone_through(events: list[tuple[float, int]], since: float, until: float) -> int:
    return sum(units for at, units in events if since < at <= until)


@given(WINDOWS, STEPS)
def test_what_fits_a_strict_count_goes_through_and_no_time_sees_more_than_amount_and_refill(
    windows: list[Window], steps: list[tuple[float, int]]
) -> None:
    bucket, now = Bucket(windows), 1000.0
    events: list[tuple[float, int]] = []
    for pause, units in steps:
        now += pause
        fits = all(gone_through(events, now - one.seconds, now) + units <= one.amount for one in windows)
        goes = bucket.room(now) >= units
        assert goes or not fits
        if goes:
            bucket.take(now, units)
            events.append((now, units))
    for index, (since, _) in enumerate(events):
        for until, _ in events[index:]:
            went = sum(units for at, units in events if since <= at <= until)
            for window in windows:
                assert went <= window.amount + (until - since) / window.each + 1e-3


@given(WINDOWS, STEPS)
def test_after_the_wait_there_is_room_and_not_before(windows: list[Window], steps: list[tuple[float, int]]) -> None:
    bucket, now = Bucket(windows), 1000.0
    for pause, wanted in steps:
        now += pause
        units = min(wanted, *(one.amount for one in windows))
        seconds = bucket.wait(now, units)
        assert bucket.room(now + seconds + 1e-6) >= units
        if seconds > 1e-3:
            assert bucket.room(now + seconds - 1e-3 * min(one.each for one in windows)) < units
        bucket.take(now, units)


@given(WINDOWS)
def test_who_waits_is_counted_at_once_so_the_next_waits_longer(windows: list[Window]) -> None:
    bucket = Bucket(windows)
    waits = []
    for _ in range(20):
        waits.append(bucket.wait(0.0))
        bucket.take(0.0)
    assert waits == sorted(waits)
    assert waits[-1] > 0


def test_ten_a_second_and_three_hundred_a_minute() -> None:
    bucket = Bucket([Window(10, 1.0), Window(300, 60.0)])
    went = 0
    for tenth in range(1200):
        if bucket.room(tenth / 10) >= 1:
            bucket.take(tenth / 10)
            went += 1
    assert 300 <= went <= 300 + 600 + 10  # five a second on average, once the first 300 are used up


def test_what_never_fits_goes_when_all_is_free_and_is_paid_for_afterwards() -> None:
    bucket = Bucket([Window(10, 1.0)])
    assert bucket.wait(0.0, 50) == 0
    bucket.take(0.0, 50)
    assert bucket.room(0.0) < 0
    assert abs(bucket.wait(0.0) - 4.1) < 1e-3
    assert not bucket.is_full(4.9)
    assert bucket.is_full(5.0)
