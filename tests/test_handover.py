from collections import deque
from collections.abc import Callable, Sequence

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from mqttproxy.config.model import (
    Ack,
    Count,
    ProxyConfig,
    Quorum,
    RouteSettings,
    Seconds,
    SpoolSettings,
    TopicFilter,
    UpstreamSettings,
)
from mqttproxy.handover import Item, Lane, SpoolLanes, Ticket, make_plan, release
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.spool import Spool
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation.identity import Identity
from tests.fake_rooms import FakeJournal


class FakeOrigin:
    def __init__(self) -> None:
        self.identity = Identity("d", None, "127.0.0.1", "plain")
        self.pending: deque[Ticket] = deque()
        self.unacknowledged = 0
        self.acknowledged = 0

    def acknowledge(self, now: float) -> None:
        self.acknowledged += 1

    def promise(self, packet_id: int) -> None: ...

    def disconnect(self, reason: ReasonCode, words: str) -> None: ...


class FakeDestination:
    """An outbox of `room` messages that nobody empties but the test."""

    def __init__(self, room: int, *, live: bool = True) -> None:
        self.settings = UpstreamSettings(name="a", url="mqtt://a", qos0_patience=Seconds(0.1))
        self.taken: list[Item] = []
        self.room = room
        self.is_live = live
        self.dropped: dict[str, int] = {}
        self._more = trio.Event()

    def make_room(self, room: int) -> None:
        self.room += room
        self._more.set()
        self._more = trio.Event()

    def offer(self, items: Sequence[tuple[Message, object]]) -> int:
        taken = items[: self.room]
        self.room -= len(taken)
        self.taken.extend(taken)  # type: ignore[arg-type] # the test gives tickets
        return len(taken)

    def force_oldest(
        self, items: Sequence[tuple[Message, object]], may_drop: Callable[[tuple[Message, object]], bool]
    ) -> list[object]:
        gone, self.taken = self.taken[: len(items)], self.taken[len(items) :]
        self.taken.extend(items)  # type: ignore[arg-type] # as above
        return [token for _, token in gone]

    def count_dropped(self, messages: int, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + messages

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.room:
            await self._more.wait()


def ticket(origin: FakeOrigin, needed: int, open_: int) -> Ticket:
    return Ticket(origin, 1, 1, 0, 0.0, needed, open_)


def items(count: int, qos: int = 1) -> list[Item]:
    origin = FakeOrigin()
    return [(Message(f"t/{n}", b"", qos), ticket(origin, 1, 1) if qos else None) for n in range(count)]


class TestTicket:
    @given(st.integers(1, 5), st.sampled_from(["all", "any"]), st.data())
    def test_it_is_done_exactly_once_when_enough_destinations_have_it_or_none_is_left(
        self, width: int, ack: str, data: st.DataObject
    ) -> None:
        needed = width if ack == "all" else 1
        one = ticket(FakeOrigin(), needed, width)
        settled = gone = told = 0
        for _ in range(width):
            if data.draw(st.booleans()):
                settled += 1
                told += one.settle()
            else:
                gone += 1
                told += one.give_up()
            has_enough = settled == width if ack == "all" else settled >= 1
            is_over = has_enough or settled + gone == width
            assert one.done is is_over
            assert told == is_over

    async def test_released_tickets_acknowledge_each_device_once(self) -> None:
        origin = FakeOrigin()
        release([ticket(origin, 1, 1), ticket(origin, 1, 1)])
        assert origin.acknowledged == 1


class TestLane:
    async def test_exactly_what_fits_is_taken_and_the_rest_waits(self) -> None:
        lane = Lane(destination := FakeDestination(3))
        rest, dropped = lane.place(items(5), "wait")
        assert (len(destination.taken), len(rest), list(dropped), lane.waiting) == (3, 2, [], 2)

    async def test_what_waited_is_placed_in_order_when_there_is_room(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        lane = Lane(destination := FakeDestination(1))
        rest, _ = lane.place(items(4), "wait")
        nursery.start_soon(lane.wait_and_place, rest)
        await trio.sleep(5)
        assert lane.waiting == 3
        destination.make_room(2)
        await trio.sleep(5)
        assert lane.waiting == 1
        destination.make_room(2)
        await trio.sleep(5)
        assert lane.waiting == 0
        assert [message.topic for message, _ in destination.taken] == ["t/0", "t/1", "t/2", "t/3"]

    async def test_drop_newest_drops_what_does_not_fit_and_counts_it(self) -> None:
        lane = Lane(destination := FakeDestination(1))
        rest, dropped = lane.place(items(3), "drop_newest")
        assert (list(rest), len(list(dropped))) == ([], 2)
        assert destination.dropped == {"queue_full": 2}

    async def test_drop_oldest_takes_the_new_and_returns_the_tickets_of_the_old(self) -> None:
        lane = Lane(destination := FakeDestination(2))
        old = items(2)
        lane.place(old, "drop_oldest")
        rest, dropped = lane.place(items(1), "drop_oldest")
        assert not rest
        assert list(dropped) == [old[0][1]]
        assert len(destination.taken) == 2

    async def test_qos_0_waits_no_longer_than_its_patience_and_qos_1_stays(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        lane = Lane(destination := FakeDestination(0))
        rest, _ = lane.place([*items(2, qos=0), *items(1)], "wait")
        nursery.start_soon(lane.wait_and_place, rest)
        await trio.sleep(0.05)
        assert lane.waiting == 3
        await trio.sleep(0.1)
        assert lane.waiting == 1
        assert destination.dropped == {"queue_full": 2}
        destination.make_room(1)
        await trio.sleep(1)
        assert [message.topic for message, _ in destination.taken] == ["t/0"]

    async def test_once_patience_ran_out_qos_0_is_dropped_at_once_until_there_is_room(
        self, autojump_clock: MockClock
    ) -> None:
        lane = Lane(destination := FakeDestination(0))
        rest, _ = lane.place(items(1, qos=0), "wait")
        await lane.wait_and_place(rest)
        assert trio.current_time() == pytest.approx(0.1)
        assert lane.place(items(5, qos=0), "wait") == ([], ())
        assert destination.dropped == {"queue_full": 6}
        destination.make_room(5)
        lane.place(items(1, qos=0), "wait")
        assert len(destination.taken) == 1

    async def test_qos_0_does_not_wait_for_a_link_that_is_down(self) -> None:
        lane = Lane(destination := FakeDestination(0, live=False))
        rest, _ = lane.place(items(3, qos=0), "wait")
        assert not rest
        assert destination.dropped == {"queue_full": 3}

    async def test_what_a_lost_device_left_waiting_is_counted(self, autojump_clock: MockClock) -> None:
        lane = Lane(destination := FakeDestination(0))
        rest, _ = lane.place(items(3), "wait")
        with trio.move_on_after(1):
            await lane.wait_and_place(rest)
        assert lane.waiting == 0
        assert destination.dropped == {"connection_lost": 3}


def config(ack: Ack, *, home: str | None = None, to: tuple[str, ...] = ("a", "b")) -> ProxyConfig:
    upstreams = tuple(UpstreamSettings(name=name, url="mqtt://x", queue_messages=Count(1)) for name in ("a", "b"))
    route = RouteSettings(topics=(TopicFilter("t/#"),), to=to, ack=ack, home=home)
    return ProxyConfig(upstreams=upstreams, routes=(route,))


def spool() -> SpoolLanes:
    return SpoolLanes(Spool(FakeJournal(), SpoolSettings()))


class TestPlan:
    @pytest.mark.parametrize(
        ("ack", "needed", "width"),
        [("all", 2, 2), ("any", 1, 2), (Quorum(2), 2, 2), (Quorum(1), 1, 2), ("spool", 1, 1), ("memory", 0, 2)],
    )
    def test_the_route_says_how_many_must_acknowledge(self, ack: Ack, needed: int, width: int) -> None:
        lanes = {name: Lane(FakeDestination(1)) for name in ("a", "b")}
        plan = make_plan("t/1", RouteTable(config(ack)), lanes, spool(), drop_unrouted=False)
        assert (plan.needed, plan.width, plan.local, plan.special) == (needed, width, False, False)
        assert (plan.spool is None) == (ack == "memory")

    def test_any_needs_the_commit_only_where_the_topic_is_at_home_here(self) -> None:
        lanes = {name: Lane(FakeDestination(1)) for name in ("a", "b")}
        plan = make_plan("t/1", RouteTable(config("any", home="local")), lanes, spool(), drop_unrouted=False)
        assert (plan.needed, plan.local, plan.names) == (1, True, ("a", "b", "local"))

    def test_a_topic_without_a_route_is_refused_or_dropped_as_the_settings_say(self) -> None:
        routes = RouteTable(config("all"))
        refused = make_plan("other", routes, {}, spool(), drop_unrouted=False)
        assert (refused.special, refused.drop, refused.refusal) == (True, False, ReasonCode.TOPIC_NAME_INVALID)
        dropped = make_plan("other", routes, {}, spool(), drop_unrouted=True)
        assert (dropped.special, dropped.drop, dropped.refusal) == (True, True, ReasonCode.SUCCESS)

    def test_topics_of_servers_are_refused_wherever_they_would_go(self) -> None:
        plan = make_plan("$SYS/x", RouteTable(ProxyConfig()), {}, spool(), drop_unrouted=True)
        assert (plan.special, plan.refusal) == (True, ReasonCode.NOT_AUTHORIZED)
