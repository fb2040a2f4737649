import pytest

from mqttproxy.clock import SteadyWall


class Clocks:
    def __init__(self) -> None:
        self.now = 100.0
        self.ahead = 1_700_000_000.0

    def wall(self) -> float:
        return self.now + self.ahead


@pytest.mark.parametrize("step", [3600.0, -3600.0, 0.5])
def test_a_small_step_is_followed(step: float) -> None:
    clocks = Clocks()
    steady = SteadyWall(clocks.wall, lambda: clocks.now)
    clocks.now += 10
    clocks.ahead += step
    assert steady() == clocks.wall()


@pytest.mark.parametrize("years", [10, -10])
def test_X22_a_step_by_years_is_not(years: int) -> None:
    clocks = Clocks()
    steady = SteadyWall(clocks.wall, lambda: clocks.now)
    clocks.ahead += years * 365 * 86_400.0
    clocks.now += 60
    assert steady() == 1_700_000_000.0 + 160
    clocks.ahead -= years * 365 * 86_400.0  # it is set right again
    assert steady() == clocks.wall()
