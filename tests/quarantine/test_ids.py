from hypothesis import given, strategies as st

from mqttproxy.quarantine.ids import IdFactory


def test_an_identifier_is_a_ulid_of_the_time_and_chance() -> None:
    new_id = IdFactory(lambda: 1469918176.385, lambda count: b"\x00" * count)
    assert new_id() == "01ARYZ6S410000000000000000"  # the time part of the ULID specification's example


def test_within_one_millisecond_the_next_one_is_larger_by_one() -> None:
    new_id = IdFactory(lambda: 1.0, lambda count: b"\x00" * (count - 1) + b"\x1f")
    assert [new_id()[-2:] for _ in range(2)] == ["0Z", "10"]


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=20))
def test_they_increase_whatever_the_clock_does(times: list[float]) -> None:
    clock = iter(times)
    new_id = IdFactory(lambda: next(clock))
    made = [new_id() for _ in times]
    assert made == sorted(set(made))
    assert {len(one) for one in made} == {26}
