"""Wills: when they are published, when not, how fast, and what a restart makes of them."""

from collections.abc import Sequence

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from trio.testing import MockClock

from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties, Publish, Will
from mqttproxy.sessions import wills as module
from mqttproxy.sessions.wills import NEVER, OVERHEAD, PendingWill, Wills, as_published, delay_of


def pending(client_id: str = "d", delay: float = 0.0, payload: bytes = b"gone") -> PendingWill:
    return PendingWill(client_id, "user", "192.0.2.1", "plain", Will("t", payload, 1), delay)


class Shelf:
    """Wills with a clock of their own, a publisher that remembers, and a record that survives."""

    def __init__(self, *, per_second: int = 1000, most: int = 1000, most_bytes: int = 10**9) -> None:
        self.now = 100.0
        self.fired: list[PendingWill] = []
        self.record: dict[int, PendingWill] = {}
        self.limits = {"per_second": per_second, "most": most, "most_bytes": most_bytes}
        self.settles = True
        self.wills = self.start()

    def start(self) -> Wills:
        return Wills(fire=self.fire, grace=30.0, note=self.note, now=lambda: self.now, **self.limits)

    def fire(self, wills: Sequence[PendingWill]) -> None:
        self.fired += wills
        if self.settles:
            for will in wills:
                self.wills.settled(will)

    def note(self, number: int, will: PendingWill | None) -> None:
        if will is None:
            del self.record[number]
        else:
            self.record[number] = will

    def on_record(self) -> list[str]:
        return [will.client_id for will in self.record.values()]

    def restart(self, after: float = 0.0) -> None:
        self.now += after
        self.wills = self.start()
        self.wills.restore(list(self.record.values()))

    def at(self, now: float) -> list[str]:
        """Let time pass; return the client identifiers whose wills came then."""
        before = len(self.fired)
        self.now = now
        self.wills.fire_due()
        return [will.client_id for will in self.fired[before:]]


class TestWhen:
    def test_without_a_delay_it_is_due_when_the_connection_ends(self) -> None:
        shelf = Shelf()
        shelf.wills.arm(pending())
        assert shelf.at(100.0) == ["d"]
        assert (shelf.wills.pending, shelf.wills.size, shelf.record) == (0, 0, {})

    def test_with_a_delay_it_comes_at_its_end_and_once(self) -> None:
        shelf = Shelf()
        shelf.wills.arm(pending(delay=10))
        assert shelf.wills.fire_due() == 110.0
        assert shelf.at(109.9) == []
        assert shelf.at(110.0) == ["d"]
        assert shelf.at(200.0) == []

    def test_the_end_of_the_session_comes_first_if_it_is_sooner(self) -> None:
        will = Will("t", b"", 0, properties=Properties(will_delay_interval=60))
        assert delay_of(will, expiry=10) == 10
        assert delay_of(will, expiry=100) == 60
        assert delay_of(will, expiry=float("inf")) == 60
        assert delay_of(Will("t", b""), expiry=100) == 0

    def test_a_device_that_resumes_its_session_in_time_cancels_it(self) -> None:
        shelf = Shelf()
        shelf.wills.arm(pending(delay=10))
        shelf.now = 109.0
        shelf.wills.back("d", resumed=True)
        assert shelf.at(200.0) == []
        assert (shelf.wills.cancelled, shelf.wills.pending, shelf.record) == (1, 0, {})

    def test_a_device_that_comes_back_with_a_clean_start_makes_it_due(self) -> None:
        shelf = Shelf()
        shelf.wills.arm(pending(delay=10))
        shelf.wills.back("d", resumed=False)
        assert shelf.at(100.0) == ["d"]
        assert shelf.at(200.0) == []

    def test_the_end_of_a_session_makes_it_due(self) -> None:
        shelf = Shelf()
        shelf.wills.arm(pending(delay=10))
        shelf.wills.end("d")
        shelf.wills.back("d", resumed=False)  # told twice: nothing more
        assert shelf.at(100.0) == ["d"]

    def test_takeover_without_a_delay_publishes_it_though_the_session_goes_on(self) -> None:
        shelf = Shelf()
        shelf.wills.arm(pending())
        shelf.wills.back("d", resumed=True)  # in the same moment
        assert shelf.at(100.0) == ["d"]

    def test_a_will_that_waits_only_for_its_turn_is_not_cancelled(self) -> None:
        shelf = Shelf(per_second=1)
        shelf.wills.arm(pending("first"))
        shelf.wills.arm(pending("second"))
        assert shelf.at(100.0) == ["first"]
        shelf.wills.cancel("second")
        assert shelf.at(101.0) == ["second"]

    def test_a_goodbye_forgets_it(self) -> None:
        shelf = Shelf()
        shelf.wills.hold(pending())
        assert shelf.record[1].due == NEVER
        shelf.wills.cancel("d")
        assert shelf.record == {}
        assert shelf.at(1000.0) == []

    def test_the_wills_of_two_connections_of_one_device_both_come(self) -> None:
        shelf = Shelf(per_second=1)
        shelf.wills.arm(pending("other"))
        shelf.wills.arm(pending(payload=b"1"))
        assert shelf.at(100.0) == ["other"]
        shelf.wills.back("d", resumed=True)
        shelf.wills.hold(pending(payload=b"2"))
        shelf.wills.arm(pending(payload=b"2"))
        shelf.at(101.0)
        shelf.at(102.0)
        assert [will.message.payload for will in shelf.fired[1:]] == [b"1", b"2"]
        assert shelf.record == {}

    def test_what_is_published_has_no_delay_and_keeps_its_expiry(self) -> None:
        will = Will("t", b"x", 2, True, Properties(will_delay_interval=5, message_expiry_interval=7))
        assert as_published(will) == Publish("t", b"x", 2, True, Properties(message_expiry_interval=7))
        only_delay = Will("t", b"x", properties=Properties(will_delay_interval=5))
        assert as_published(only_delay).properties is NO_PROPERTIES
        assert as_published(Will("t", b"x")).properties is NO_PROPERTIES


class TestStorm:
    async def test_ten_thousand_at_once_are_published_at_the_pace_in_small_handfuls(
        self, autojump_clock: MockClock
    ) -> None:
        handfuls: list[tuple[float, int]] = []

        def fire(batch: Sequence[PendingWill]) -> None:
            handfuls.append((trio.current_time(), len(batch)))
            for will in batch:
                wills.settled(will)

        wills = Wills(fire=fire, per_second=1000, most=100_000, most_bytes=10**9, grace=30.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wills.run)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(10_000):
                wills.arm(pending(str(number)))
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert sum(count for _, count in handfuls) == 10_000
        assert max(count for _, count in handfuls) == 50
        assert handfuls[0][0] == 0.0
        assert 9.9 <= handfuls[-1][0] <= 11.0
        assert wills.pending == 0

    async def test_a_lone_one_does_not_wait(self, autojump_clock: MockClock) -> None:
        times: list[float] = []
        wills = Wills(
            fire=lambda _: times.append(trio.current_time()), per_second=1, most=9, most_bytes=10**9, grace=30.0
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wills.run)
            await trio.sleep(7)
            wills.arm(pending("far", delay=100))
            wills.arm(pending("near"))
            await trio.sleep(200)
            nursery.cancel_scope.cancel()
        assert times == [7.0, 107.0]

    @pytest.mark.parametrize(("most", "most_bytes"), [(2, 10**9), (1000, 2 * (OVERHEAD + 10))])
    def test_one_more_than_the_bound_is_published_at_once(self, most: int, most_bytes: int) -> None:
        shelf = Shelf(most=most, most_bytes=most_bytes)
        for name in ("a", "b", "c"):
            shelf.wills.hold(pending(name, delay=50))
            shelf.wills.arm(pending(name, delay=50))
        assert [will.client_id for will in shelf.fired] == ["c"]
        assert (shelf.wills.early, shelf.wills.pending, shelf.on_record()) == (1, 2, ["a", "b"])
        shelf.wills.cancel("a")
        shelf.wills.arm(pending("d", delay=50))
        assert shelf.wills.pending == 2

    def test_what_is_not_settled_counts_against_the_bound_and_stays_on_record(self) -> None:
        shelf = Shelf(most=1)
        shelf.settles = False
        shelf.wills.arm(pending("a"))
        assert shelf.at(100.0) == ["a"]
        assert (shelf.wills.pending, shelf.on_record()) == (1, ["a"])
        shelf.wills.arm(pending("a", payload=b"newer"))
        assert shelf.wills.early == 1
        assert [will.message.payload for will in shelf.record.values()] == [b"gone"]
        shelf.wills.settled(shelf.fired[0])
        shelf.wills.settled(shelf.fired[0])
        assert (shelf.wills.pending, shelf.wills.size, shelf.record) == (0, 0, {})

    def test_many_that_are_cancelled_leave_nothing_behind(self) -> None:
        shelf = Shelf()
        for _ in range(10 * module.SPARE):
            shelf.wills.arm(pending(delay=1e6))
            shelf.wills.back("d", resumed=True)
        assert len(shelf.wills._heap) <= module.SPARE + 1
        assert (shelf.wills.pending, shelf.wills.size, len(shelf.wills._armed)) == (0, 0, 0)


class TestRestart:
    def test_devices_that_were_connected_get_the_grace_to_come_back(self) -> None:
        shelf = Shelf()
        for name in ("stays away", "comes back", "comes back to nothing"):
            shelf.wills.hold(pending(name))
        shelf.restart(after=500.0)
        shelf.wills.back("comes back", resumed=True)
        shelf.wills.back("comes back to nothing", resumed=False)  # it had a session that ends with the connection
        assert shelf.at(629.9) == []
        assert shelf.at(630.0) == ["stays away"]
        assert shelf.record == {}

    def test_a_longer_delay_than_the_grace_is_kept(self) -> None:
        shelf = Shelf()
        shelf.wills.hold(pending(delay=90))
        shelf.restart()
        assert shelf.wills.fire_due() == 190.0

    def test_one_whose_delay_had_begun_goes_on_but_leaves_time_to_come_back(self) -> None:
        shelf = Shelf()
        shelf.wills.arm(pending("soon", delay=10))
        shelf.wills.arm(pending("late", delay=1000))
        shelf.restart(after=500.0)
        assert shelf.at(629.9) == []
        assert shelf.at(630.0) == ["soon"]
        assert shelf.at(1100.0) == ["late"]

    def test_one_that_was_due_before_is_published_at_once(self) -> None:
        shelf = Shelf()
        shelf.settles = False
        shelf.wills.arm(pending())
        shelf.at(100.0)
        shelf.settles = True
        shelf.restart(after=1.0)
        shelf.wills.back("d", resumed=True)
        assert shelf.at(101.0) == ["d"]
        assert shelf.record == {}

    def test_while_the_process_ends_they_are_left_to_the_next_one(self) -> None:
        shelf = Shelf()
        shelf.wills.hold(pending("held"))
        shelf.wills.defer()
        shelf.wills.arm(pending("held"))
        shelf.wills.arm(pending("not held"))
        assert shelf.at(200.0) == []
        assert shelf.wills.fire_due() == NEVER
        shelf.restart()
        shelf.wills.back("held", resumed=False)
        assert shelf.at(230.0) == ["not held"]


NAMES = st.sampled_from(["a", "b", "c"])


class Model(RuleBasedStateMachine):
    """Wills against the plainest account of them: a list, looked through at every step."""

    @initialize(per_second=st.sampled_from([20, 1000]), most=st.sampled_from([2, 100]))
    def begin(self, per_second: int, most: int) -> None:
        self.shelf = Shelf(per_second=per_second, most=most)
        self.serial = 0
        self.connected: dict[str, PendingWill] = {}
        self.waiting: list[PendingWill] = []  # armed, with due
        self.published: list[PendingWill] = []
        self.ours: set[bytes] = set()  # payloads of wills whose connection a restart has ended

    def _arm(self, will: PendingWill, due: float) -> None:
        armed = replace(will, due=due)
        if len(self.waiting) >= self.shelf.limits["most"]:
            self.published.append(armed)
        else:
            self.waiting.append(armed)

    def _of(self, name: str) -> PendingWill | None:
        """Return the will that could be cancelled: the last one armed, if it is not due."""
        mine = [will for will in self.waiting if will.client_id == name]
        return mine[-1] if mine and mine[-1].due > self.shelf.now else None

    @rule(name=NAMES, delay=st.sampled_from([0.0, 5.0, 50.0]), resumed=st.booleans(), has_will=st.booleans())
    def connect(self, name: str, delay: float, resumed: bool, has_will: bool) -> None:
        if name in self.connected:
            self.lose(name)
        self.shelf.wills.back(name, resumed=resumed)
        if (will := self._of(name)) is not None:
            self.waiting.remove(will)
            if not resumed and will.message.payload not in self.ours:
                self._arm(will, self.shelf.now)
        if has_will:
            self.serial += 1
            self.connected[name] = pending(name, delay, b"%d" % self.serial)
            self.shelf.wills.hold(self.connected[name])

    @rule(name=NAMES)
    def lose(self, name: str) -> None:
        if (will := self.connected.pop(name, None)) is not None:
            self.shelf.wills.arm(will)
            self._arm(will, self.shelf.now + will.delay)

    @rule(name=NAMES)
    def goodbye(self, name: str) -> None:
        if self.connected.pop(name, None) is not None:
            self.shelf.wills.cancel(name)

    @rule(passed=st.sampled_from([0.0, 0.01, 1.0, 5.0, 30.0]))
    def time_passes(self, passed: float) -> None:
        self.shelf.now += passed
        before = len(self.shelf.fired)
        self.shelf.wills.fire_due()
        fired = self.shelf.fired[before:]
        due = sorted((will for will in self.waiting if will.due <= self.shelf.now), key=lambda will: will.due)
        assert [will.due for will in fired] == [will.due for will in due[: len(fired)]]
        assert len(fired) == len(due) or fired or passed < 0.05  # something, if there was time for one
        for will in fired:
            self.waiting.remove(next(due for due in self.waiting if due.message == will.message))
        self.published += fired

    @rule(after=st.sampled_from([0.0, 40.0]))
    def the_process_dies(self, after: float) -> None:
        before, connected = self.waiting, list(self.connected.values())
        now = self.shelf.now + after
        self.waiting = []
        self.connected.clear()
        self.ours = {will.message.payload for will in connected}
        last = {noted.client_id: noted.message for noted in self.shelf.record.values()}
        with_due = {
            will.message: max(will.due, now + 30.0) if will.delay and last[will.client_id] is will.message else now
            for will in before
        }
        with_due |= {will.message: now + max(will.delay, 30.0) for will in connected}
        for noted in self.shelf.record.values():
            self._arm(noted, with_due.pop(noted.message))
        assert not with_due
        self.shelf.restart(after)

    @invariant()
    def what_came_is_what_should(self) -> None:
        if hasattr(self, "shelf"):
            assert [will.message for will in self.shelf.fired] == [will.message for will in self.published]
            assert self.shelf.wills.pending == len(self.waiting)
            assert (self.shelf.wills.size == 0) == (not self.waiting)

    @invariant()
    def what_is_not_published_is_on_record(self) -> None:
        if hasattr(self, "shelf"):
            wanted = [will.message.payload for will in (*self.waiting, *self.connected.values())]
            assert sorted(will.message.payload for will in self.shelf.record.values()) == sorted(wanted)


TestModel = Model.TestCase
