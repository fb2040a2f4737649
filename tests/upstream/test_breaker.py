from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqttproxy.upstream.breaker import Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def make(failures: int = 5) -> Breaker:
    return Breaker(failures=failures, ratio=0.5, open_for=30.0)


def test_failures_in_a_row_open_it_and_it_says_why() -> None:
    breaker = make()
    for now in range(4):
        breaker.failed(now, "no")
        assert breaker.admit(now)
    breaker.failed(4, "connection refused")
    assert not breaker.admit(4)
    status = breaker.status()
    assert (status.state, status.reason, status.next_trial) == (OPEN, "connection refused", 34)


def test_a_success_in_between_begins_the_row_anew() -> None:
    breaker = make()
    for now in range(8):
        breaker.failed(now, "no")
        if now == 3:
            breaker.succeeded(now)
    assert breaker.state is CLOSED


def test_half_of_twenty_within_thirty_seconds_open_it() -> None:
    breaker = make(failures=100)
    for number in range(10):
        breaker.succeeded(number)
        breaker.failed(number, "no")
        assert (breaker.state is OPEN) == (number == 9)


def test_nineteen_are_not_enough_and_old_ones_do_not_count() -> None:
    breaker = make(failures=100)
    for _ in range(19):
        breaker.failed(0, "no")
    assert breaker.state is CLOSED
    breaker.failed(30, "no")  # those at 0 are out of the window now
    assert breaker.state is CLOSED


def test_one_trial_is_made_when_the_time_has_come() -> None:
    breaker = make(failures=1)
    breaker.failed(0, "no")
    assert breaker.admits_at(0) == 30
    assert not breaker.admit(29.9)
    assert breaker.admit(30)
    assert breaker.state is HALF_OPEN
    assert not breaker.admit(30)
    assert not breaker.admit(80)


def test_failed_trials_double_the_time_up_to_five_minutes_and_a_good_one_resets_it() -> None:
    breaker = make(failures=1)
    now, waits = 0.0, []
    breaker.failed(now, "no")
    for _ in range(6):
        waits.append(breaker.admits_at(now) - now)
        now = breaker.admits_at(now)
        assert breaker.admit(now)
        breaker.failed(now, "no")
    assert waits == [30, 60, 120, 240, 300, 300]
    now = breaker.admits_at(now)
    assert breaker.admit(now)
    breaker.succeeded(now)
    assert breaker.state is CLOSED
    breaker.failed(now, "no")
    assert breaker.admits_at(now) - now == 30


def test_a_trial_that_comes_to_no_end_has_failed_after_a_minute() -> None:
    breaker = make(failures=1)
    breaker.failed(0, "no")
    assert breaker.admit(30)
    assert breaker.trial_ends == 90
    assert not breaker.admit(90)
    assert breaker.state is OPEN
    assert breaker.admits_at(90) == 90 + 60


def test_a_broker_that_only_refuses_us_is_there() -> None:
    breaker = make(failures=2)
    breaker.failed(0, "no")
    breaker.answered()
    breaker.failed(1, "no")  # a refusal in between is no success
    assert breaker.state is OPEN
    assert breaker.admit(31)
    breaker.answered()
    assert breaker.state is CLOSED
    assert breaker.status().reason is None


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens: it opens as told, admits one trial at a time, and never stays shut for more than 300 s."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = make(failures=3)
        self.now = 0.0
        self.in_a_row = 0
        self.trying = False

    @rule(seconds=st.floats(0, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.trying)
    @rule()
    def a_link_is_tried(self) -> None:
        was_open = self.breaker.state is OPEN
        due = self.breaker.admits_at(self.now)
        self.trying = self.breaker.admit(self.now)
        assert self.trying == (due <= self.now)
        if was_open and self.trying:
            assert not self.breaker.admit(self.now)

    @precondition(lambda self: self.trying)
    @rule()
    def it_fails(self) -> None:
        self.in_a_row += 1
        self.breaker.failed(self.now, "no")
        self.trying = False
        if self.in_a_row >= 3:
            assert self.breaker.state is OPEN

    @precondition(lambda self: self.trying)
    @rule()
    def it_succeeds(self) -> None:
        self.in_a_row = 0
        self.breaker.succeeded(self.now)
        self.trying = False
        assert self.breaker.state is CLOSED

    @invariant()
    def the_next_try_is_near(self) -> None:
        assert self.breaker.admits_at(self.now) <= self.now + 300


TestAnyHistory = AnyHistory.TestCase
