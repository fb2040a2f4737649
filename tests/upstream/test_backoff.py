from hypothesis import given, strategies as st

from mqttproxy.upstream.backoff import Backoff


def make(chance: float = 1.0) -> Backoff:
    return Backoff(first=1.0, ceiling=120.0, reset=30.0, chance=lambda: chance)


def test_waits_double_up_to_the_ceiling() -> None:
    backoff = make()
    assert [backoff.next_delay(0) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 64, 120, 120]


def test_full_jitter_takes_any_part_of_the_wait() -> None:
    backoff = make(0.25)
    assert [backoff.next_delay(0) for _ in range(3)] == [0.25, 0.5, 1.0]
    assert make(0.0).next_delay(0) == 0


def test_it_falls_back_only_after_a_link_that_lasted() -> None:
    backoff = make()
    for _ in range(5):
        backoff.next_delay(0)
    assert backoff.next_delay(29.9) == 32
    assert backoff.next_delay(30.0) == 1
    assert backoff.next_delay(0) == 2


def test_hours_of_outage_overflow_nothing() -> None:
    backoff = make()
    assert {backoff.next_delay(0) for _ in range(5000)} == {1, 2, 4, 8, 16, 32, 64, 120}


def test_a_first_wait_above_the_ceiling_is_the_ceiling() -> None:
    backoff = Backoff(first=10.0, ceiling=3.0, reset=30.0, chance=lambda: 1.0)
    assert backoff.next_delay(0) == 3
    assert backoff.ceiling == 3


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1e9)), max_size=50))
def test_no_wait_is_negative_or_above_the_ceiling(steps: list[tuple[float, float]]) -> None:
    for chance, lasted in steps:
        assert 0 <= make(chance).next_delay(lasted) <= 120
