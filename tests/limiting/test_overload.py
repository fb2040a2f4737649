"""How much is shed: a step at a time, by what helps, and back when all is calm."""

import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.limiting import OverloadSettings
from mqttproxy.limiting.overload import CALM_LOOKS, Level, Measures, Pressure, State, heaviest, next_state, pressures

BOUNDS = OverloadSettings()


def pressure(value: float, highest: Level = Level.PUBLISHERS, words: str = "w") -> dict[str, Pressure]:
    return {"m": Pressure(value, highest, words)}


def after(state: State, *values: float, highest: Level = Level.PUBLISHERS) -> list[int]:
    levels = []
    for value in values:
        state = next_state(state, pressure(value, highest), 0.0, 10.0)
        levels.append(int(state.level))
    return levels


def lasting(*values: float, sustained: float = 3.0, every: float = 1.0) -> list[int]:
    """Return the levels of something that must last, which was measured again and again."""
    state, levels = State(), []
    for index, value in enumerate(values):
        state = next_state(
            state, {"m": Pressure(value, Level.PUBLISHERS, "w", must_last=True)}, index * every, sustained
        )
        levels.append(int(state.level))
    return levels


@pytest.mark.parametrize(
    ("measures", "name", "words"),
    [
        (Measures(loop_delay=1.5), "loop_delay", "the loop is 1500ms late"),
        (Measures(memory=1.35), "memory", "135% of the memory is in use"),
        (Measures(descriptors=1.35), "descriptors", "135% of the file descriptors are in use"),
        (Measures(disk_free=BOUNDS.disk_free * 2 // 3), "disk_free", "the disk has 44739242B left"),
        (Measures(commit=15.0), "commit", "a commit takes 15s"),
    ],
)
def test_each_measure_weighs_as_a_share_of_its_bound(measures: Measures, name: str, words: str) -> None:
    (found,) = pressures(measures, BOUNDS).items()
    assert found[0] == name
    assert found[1].value == pytest.approx(1.5)
    assert found[1].words == words


def test_what_could_not_be_measured_weighs_nothing_and_a_full_disk_much() -> None:
    assert pressures(Measures(), BOUNDS) == {}
    assert pressures(Measures(disk_free=0), BOUNDS)["disk_free"].value > 1


def test_of_a_small_disk_a_twentieth_may_be_used_up() -> None:
    size = 16 * 1024 * 1024
    found = pressures(Measures(disk_free=size // 2, disk_size=size), BOUNDS)["disk_free"]
    assert found.value == pytest.approx(0.1)
    assert pressures(Measures(disk_free=size // 40, disk_size=size), BOUNDS)["disk_free"].value == pytest.approx(2)
    large = Measures(disk_free=BOUNDS.disk_free, disk_size=10**12)
    assert pressures(large, BOUNDS)["disk_free"].value == pytest.approx(1)


def test_what_makes_it_slow_must_last_before_each_step() -> None:
    assert lasting(*[1.5] * 8) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert lasting(*[1.5] * 4, sustained=0) == [1, 2, 3, 4]


def test_bursts_and_single_long_pauses_shed_nothing() -> None:
    assert set(lasting(*[9.0, 0.1] * 50)) == {0}
    assert set(lasting(*[9.0, 9.0, 9.0, 0.1] * 50)) == {0}
    assert lasting(99.0, 0.0, every=1000.0) == [0, 0]


def test_slowness_that_eases_a_little_still_lasts_but_its_next_step_needs_more_than_the_bound() -> None:
    assert lasting(1.5, 0.9, 0.9, 0.9, 1.0, 0.9, 0.9, 0.9) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert lasting(0.9, 0.9, 0.9, 0.9, 1.0, 0.9, 0.9) == [0] * 7


def test_memory_and_descriptors_need_not_fall_far_for_all_is_calm() -> None:
    found = pressures(Measures(memory=0.87, descriptors=0.87), BOUNDS)
    assert all(one.value < one.calm for one in found.values())
    found = pressures(Measures(memory=0.89, descriptors=0.89), BOUNDS)
    assert all(one.calm <= one.value < 1 for one in found.values())


def test_it_rises_by_a_step_at_each_look_in_the_order_of_the_design() -> None:
    assert after(State(), 1, 1.2, 1, 5, 1, 1, 9) == [1, 2, 3, 4, 5, 5, 5]
    assert [level.words for level in Level] == [
        "nothing", "live feeds", "new connections", "messages of QoS 0", "the heaviest publishers' reads",
        "all publishers' reads",
    ]  # fmt: skip


def test_between_calm_and_the_bound_it_stays_and_falls_by_a_step_after_some_calm_looks() -> None:
    assert after(State(Level.QOS_0), 0.9, 0.8, 0.99, 0.9) == [3, 3, 3, 3]
    assert after(State(Level.QOS_0), *[0.7] * 9) == [3, 3, 2, 2, 2, 1, 1, 1, 0]
    assert after(State(Level.QOS_0), 0.7, 0.7, 0.85, 0.7, 0.7, 0.7) == [3, 3, 3, 3, 3, 2]


def test_descriptors_shed_connections_and_no_more() -> None:
    assert after(State(), *[2.0] * 5, highest=Level.CONNECTIONS) == [1, 2, 2, 2, 2]
    assert after(State(Level.PUBLISHERS), *[2.0] * 12, highest=Level.CONNECTIONS)[-1] == 2


def test_the_reason_is_the_worst() -> None:
    found = {"a": Pressure(1.1, Level.PUBLISHERS, "a"), "b": Pressure(3, Level.CONNECTIONS, "b")}
    assert next_state(State(), found, 0.0, 10.0) == State(Level.FEEDS, "b")
    assert next_state(State(Level.CONNECTIONS, "b"), found, 0.0, 10.0) == State(Level.QOS_0, "a")
    assert next_state(State(Level.FEEDS, "a", CALM_LOOKS - 1), {}, 0.0, 10.0) == State()


@given(st.lists(st.floats(0, 3), max_size=60))
def test_no_look_changes_more_than_one_step_and_nothing_is_shed_without_cause(values: list[float]) -> None:
    state, before = State(), 0
    for index, value in enumerate(values):
        state = next_state(state, pressure(value), 0.0, 10.0)
        assert abs(state.level - before) <= 1
        if state.level > before:
            assert value >= 1
        if state.level < before:
            assert max(values[index - CALM_LOOKS + 1 : index + 1]) < 0.8
        assert bool(state.reason) is bool(state.level)
        before = state.level


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 100), max_size=8))
def test_the_heaviest_sent_half_of_all_and_the_least_of_them_is_needed(taken: dict[str, int]) -> None:
    found, total = heaviest(taken), sum(taken.values())
    sent = sum(taken[name] for name in found)
    assert 2 * sent >= total
    for name in found:
        assert 2 * (sent - taken[name]) < total
        assert all(taken[other] <= taken[name] for other in taken if other not in found)
