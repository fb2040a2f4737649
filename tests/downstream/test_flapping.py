"""Flapping: who connects too often is kept out for a while, and nobody else is."""

from hypothesis import given, strategies as st

from mqttproxy.downstream.flapping import Flapping


def times(flapping: Flapping, client_id: str, count: int, now: float) -> list[float | None]:
    return [flapping.admit(client_id, now) for _ in range(count)]


def test_so_many_in_a_window_are_welcome_and_one_more_is_not() -> None:
    flapping = Flapping(connects=3, window=60, ban=300)
    assert times(flapping, "d", 3, 0.0) == [None] * 3
    assert flapping.admit("d", 59.9) == 300
    assert (flapping.bans, flapping.banned) == (1, 1)


def test_a_new_window_begins_anew() -> None:
    flapping = Flapping(connects=3, window=60)
    times(flapping, "d", 3, 0.0)
    assert times(flapping, "d", 3, 60.0) == [None] * 3
    assert flapping.admit("d", 119.0) is not None


def test_others_are_not_concerned() -> None:
    flapping = Flapping(connects=1)
    times(flapping, "d", 2, 0.0)
    assert flapping.admit("e", 0.0) is None


def test_trying_during_the_ban_does_not_prolong_it() -> None:
    flapping = Flapping(connects=2, window=60, ban=300)
    times(flapping, "d", 3, 10.0)
    for now in range(11, 310):
        assert flapping.admit("d", float(now)) == 310.0 - now
    assert times(flapping, "d", 2, 310.0) == [None, None]
    assert flapping.bans == 1


def test_whoever_goes_on_after_the_ban_is_banned_again() -> None:
    flapping = Flapping(connects=2, ban=300)
    assert times(flapping, "d", 3, 0.0)[-1] == 300
    assert times(flapping, "d", 3, 300.0)[-1] == 300
    assert flapping.bans == 2


def test_zero_lets_everybody_in_and_remembers_nobody() -> None:
    flapping = Flapping(connects=0)
    assert times(flapping, "d", 1000, 0.0) == [None] * 1000
    assert not flapping._seen


def test_beyond_the_bound_the_oldest_are_forgotten_but_a_ban_is_not_washed_out_by_new_names() -> None:
    flapping = Flapping(connects=2, ban=300, most=10)
    times(flapping, "banned", 3, 0.0)
    times(flapping, "counted", 2, 0.0)
    for number in range(100):
        assert flapping.admit(str(number), 1.0) is None
    assert len(flapping._seen) == 10
    assert flapping.forgotten == 91
    assert flapping.admit("banned", 2.0) == 298
    assert flapping.admit("counted", 2.0) is None


def test_bans_are_bounded_too() -> None:
    flapping = Flapping(connects=1, most=10)
    for number in range(20):
        times(flapping, str(number), 2, 0.0)
    assert (flapping.banned, flapping.forgotten) == (10, 10)


def test_after_a_flood_the_memory_is_given_back() -> None:
    flapping = Flapping(connects=1, window=60, ban=300)
    for number in range(1000):
        times(flapping, str(number), 2 - number % 2, 0.0)
    for _ in range(600):
        flapping.admit("d", 1000.0)
    assert len(flapping._seen) + flapping.banned <= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50)), max_size=200), st.integers(1, 5))
def test_it_decides_as_the_plainest_account_does(arrivals: list[tuple[str, float]], connects: int) -> None:
    flapping = Flapping(connects=connects, window=60, ban=300)
    windows: dict[str, list[float]] = {}
    until: dict[str, float] = {}
    now = 0.0
    for name, passed in arrivals:
        now += passed
        window = windows.setdefault(name, [])
        if window and now - window[0] >= 60:
            window.clear()
        if now < until.get(name, 0.0):
            wanted = True
        elif len(window) >= connects:
            wanted = True
            until[name] = now + 300
            window.clear()
        else:
            wanted = False
            window.append(now)
        assert (flapping.admit(name, now) is not None) == wanted
