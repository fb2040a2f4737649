"""BAD-INPUT D10: whoever keeps failing waits, longer each time, and nobody else does."""

import pytest
from hypothesis import given, strategies as st

from mqttproxy.access.throttle import Throttle


def throttle(most: int = 100) -> Throttle:
    return Throttle(failures=3, window=60.0, ban=10.0, most=most)


def fail(subject: Throttle, times: int, address: str = "192.0.2.1", now: float = 0.0) -> None:
    for _ in range(times):
        subject.failed(address, now)


def test_a_few_failures_cost_nothing() -> None:
    subject = throttle()
    fail(subject, 2)
    assert subject.wait_of("192.0.2.1", 0.0) == 0


@pytest.mark.parametrize(("failures", "seconds"), [(3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (7, 10.0), (5000, 10.0)])
def test_the_wait_doubles_up_to_its_bound(failures: int, seconds: float) -> None:
    subject = throttle()
    fail(subject, failures)
    assert subject.wait_of("192.0.2.1", 0.0) == seconds
    assert subject.wait_of("192.0.2.1", seconds - 0.25) == 0.25
    assert subject.wait_of("192.0.2.1", seconds) == 0


def test_other_addresses_do_not_wait() -> None:
    subject = throttle()
    fail(subject, 9)
    assert subject.wait_of("192.0.2.2", 0.0) == 0


def test_failures_are_forgotten_after_a_window_without_one() -> None:
    subject = throttle()
    fail(subject, 3)
    fail(subject, 1, now=61.0)  # the wait of a second counts too
    assert subject.wait_of("192.0.2.1", 61.0) == 0


def test_all_addresses_of_one_ipv6_network_wait_together() -> None:
    subject = throttle()
    for number in range(3):
        fail(subject, 1, f"2001:db8::{number}")
    assert subject.wait_of("2001:db8::ffff", 0.0) == 1.0
    assert subject.wait_of("2001:db8:0:1::", 0.0) == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1000)), max_size=300))
def test_memory_is_bounded_whoever_comes(attempts: list[tuple[int, float]]) -> None:
    subject = throttle(most=50)
    now = 0.0
    for number, later in attempts:
        now += later
        subject.failed(f"10.0.0.{number}", now)
        assert len(subject) <= 50
