"""Sessions in memory: opened, closed, taken up again, over."""

from typing import Any

import pytest
import trio

from mqttproxy.config.model import Bytes, Count, LimitSettings
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Properties, Subscription, Timed
from mqttproxy.sessions import Sessions, SessionsFull, SubscriptionTable
from mqttproxy.sessions.table import SharedMessage
from tests.sessions.examples import Device, House, message, topics


def test_a_session_is_present_until_its_time_is_over() -> None:
    house = House()
    session = house.away()
    house.clock.time += 59
    house.sessions.discard_due()
    again, present = house.sessions.open("a", clean_start=False, expiry=60.0)
    assert present
    assert again is session
    house.sessions.close(again)
    house.clock.time += 60
    house.sessions.discard_due()
    assert house.sessions.get("a") is None
    assert house.sessions.open("a", clean_start=False, expiry=60.0)[1] is False


def test_a_timer_of_an_earlier_end_does_not_end_a_session_that_came_back() -> None:
    house = House()
    session = house.away()
    house.clock.time += 30
    house.open()
    house.clock.time += 60
    house.sessions.discard_due()
    assert house.sessions.get("a") is session
    house.sessions.close(session)
    house.clock.time += 59
    house.sessions.discard_due()
    assert house.sessions.get("a") is session


def test_a_session_without_expiry_ends_with_its_connection_and_its_subscriptions_with_it() -> None:
    house = House()
    session = house.open(expiry=0.0)
    house.table.subscribe(session, Subscription("a/#"))
    house.sessions.close(session)
    assert len(house.sessions) == 0
    assert house.table.count == 0
    assert house.discarded == [("a", ("a/#",))]


def test_a_clean_start_discards_the_old_session() -> None:
    house = House()
    old = house.away()
    house.table.subscribe(old, Subscription("a/#"))
    new, present = house.sessions.open("a", clean_start=True, expiry=60.0)
    assert not present
    assert new is not old
    assert house.table.count == 0
    assert house.sessions.disconnected == 0


def test_the_expiry_of_a_disconnect_counts_from_then_on() -> None:
    house = House()
    house.sessions.close(house.open("short"), expiry=5.0)
    house.sessions.close(house.open("none"), expiry=0.0)
    assert house.sessions.get("none") is None
    house.clock.time += 5
    house.sessions.discard_due()
    assert house.sessions.get("short") is None


def test_a_disconnect_cannot_make_a_session_last_that_was_to_end() -> None:
    house = House()
    house.sessions.close(house.open(expiry=0.0), expiry=60.0)
    assert len(house.sessions) == 0


def test_one_session_more_than_may_be_is_refused_but_an_old_one_is_taken_up() -> None:
    house = House(sessions=Count(1))
    house.away("a")
    with pytest.raises(SessionsFull):
        house.open("b")
    house.open("a")


def test_closing_twice_or_after_the_end_does_nothing() -> None:
    house = House()
    old = house.open()
    house.sessions.close(old)
    house.sessions.close(old)
    assert house.sessions.disconnected == 1
    new = house.open(clean=True)
    house.sessions.close(old)
    assert house.sessions.get("a") is new
    assert house.sessions.disconnected == 0


def test_messages_wait_for_an_absent_device_but_not_those_of_qos_0() -> None:
    house = House()
    session = house.away()
    session.deliver([message(1), message(2, qos=0), message(3, qos=2)])
    assert house.dropped == {"offline": 1}
    assert house.sessions.ledger.queued_messages == 2
    house.open()
    assert topics(session) == ["t/1", "t/3"]


def test_qos_0_that_waits_is_dropped_when_the_device_goes() -> None:
    house = House()
    session = house.open()
    session.deliver([message(1, qos=0), message(2)])
    house.sessions.close(session)
    assert house.dropped == {"offline": 1}
    assert topics(session) == ["t/2"]


def test_a_connected_device_is_pumped() -> None:
    session = House().open(expiry=0.0)
    session.device = device = Device()
    session.deliver([message(1)])
    assert device.pumps == 1


def test_a_full_queue_drops_the_newest_by_default() -> None:
    house = House(queue_messages=Count(2))
    session = house.open()
    session.deliver([message(n) for n in range(4)])
    assert house.dropped == {"queue_full": 2}
    assert topics(session) == ["t/0", "t/1"]


def test_a_full_queue_drops_the_oldest_if_that_is_set() -> None:
    house = House(queue_messages=Count(2), queue_when_full="drop_oldest")
    session = house.open()
    session.deliver([message(n) for n in range(4)])
    assert house.dropped == {"queue_full": 2}
    assert topics(session) == ["t/2", "t/3"]


def test_a_message_larger_than_the_queue_does_not_empty_it() -> None:
    house = House(queue_bytes=Bytes(10), queue_when_full="drop_oldest")
    session = house.open()
    session.deliver([message(1), message(2, size=11)])
    assert topics(session) == ["t/1"]


def test_a_queue_is_not_emptied_for_a_message_that_does_not_fit_because_of_others() -> None:
    house = House(queues_bytes=Bytes(2000), queue_when_full="drop_oldest")
    house.away("hog").deliver([message(1, size=1200)])
    session = house.away()
    session.deliver([message(2), message(3, size=500)])
    assert topics(session) == ["t/2"]


def test_all_queues_together_are_bounded() -> None:
    house = House(queues_bytes=Bytes(1000))
    for client_id in "abc":
        house.away(client_id).deliver([message(1, size=300)])
    assert house.dropped == {"queue_full": 2}
    assert house.sessions.ledger.queued_bytes <= 1000


def test_what_is_discarded_leaves_the_books() -> None:
    house = House()
    session = house.away()
    session.deliver([message(1), message(2)])
    house.open(clean=True)
    assert house.dropped == {"discarded": 2}
    assert house.sessions.ledger.queued_messages == 0
    assert house.sessions.ledger.queued_bytes == 0


def test_what_is_over_is_not_taken_and_makes_room_in_a_full_queue() -> None:
    house = House(queue_messages=Count(2))
    session = house.away()
    over = Timed("over", b"", 1, False, Properties(message_expiry_interval=10), 110.0)
    session.deliver([over, message(1)])
    house.clock.time = 110.0
    session.deliver([message(2)])
    assert house.dropped == {"expired": 1}
    session.deliver([])
    assert topics(session, now=110.0) == ["t/1", "t/2"]
    assert house.sessions.ledger.queued_messages == 2  # on their way, and not settled


@pytest.mark.parametrize("limits", [{"queue_messages": 3}, {"queue_bytes": 3}, {"queues_bytes": 650}])
def test_a_session_has_room_for_what_it_would_not_drop(limits: dict[str, Any]) -> None:
    house = House(**limits)
    session = house.away()
    session.deliver([message(1)])
    assert session.has_room_for([message(2), message(3)])
    assert not session.has_room_for([message(2), message(3), message(4)])
    session.deliver([message(2), message(3)])
    assert not house.dropped


async def test_what_is_over_is_swept_out_though_its_device_stays_away(autojump_clock: object) -> None:
    house = House()
    session = house.away()
    over = Timed("over", b"", 1, False, Properties(message_expiry_interval=10), 110.0)
    session.deliver([over, message(1)])
    await house.sessions.sweep()
    assert house.dropped == {}
    house.clock.time = 110.0
    await house.sessions.sweep()
    assert house.dropped == {"expired": 1}
    assert house.sessions.ledger.queued_messages == 1


def test_sessions_with_much_that_waits_are_discarded_a_few_at_a_time() -> None:
    house = House()
    for number in range(4):
        house.away(f"c{number}", expiry=5.0).deliver([message(n) for n in range(300)])
    house.clock.time += 10
    house.sessions.discard_due()
    assert len(house.sessions) == 2
    house.sessions.discard_due()
    assert len(house.sessions) == 0


@pytest.mark.parametrize("expiry", [0.0, 60.0])
def test_what_is_settled_leaves_the_books(expiry: float) -> None:
    house = House()
    session = house.open(expiry=expiry)
    session.deliver([message(1), message(2), message(3, qos=0)])
    session.settled([token for _, token in session.take(10, 1000, 100.0) if token is not None])
    assert (house.sessions.ledger.queued_messages, house.sessions.ledger.queued_bytes) == (0, 0)
    assert session.on_its_way == 0


def test_what_is_settled_leaves_the_books_once() -> None:
    house = House()
    session = house.open()
    session.deliver([message(1), message(2)])
    tokens = [token for _, token in session.take(10, 1000, 100.0)]
    session.settled(tokens[:1])
    session.settled(tokens[:1])
    assert house.sessions.ledger.queued_messages == 1


def test_what_waits_of_a_group_goes_to_another_member_when_the_session_is_over() -> None:
    house = House()
    first, second = house.away("a"), house.away("b")
    for session in first, second:
        house.table.subscribe(session, Subscription("$share/g/t/#", qos=1))
    waiting = [SharedMessage(f"t/{n}", b"", 1, shared_filter="$share/g/t/#") for n in range(2)]
    first.deliver(waiting)
    house.open("a", clean=True)
    assert not house.dropped
    assert topics(second) == ["t/0", "t/1"]


def test_qos_2_that_was_sent_to_a_member_goes_to_nobody_else() -> None:
    house = House()
    first, second = house.open("a"), house.away("b")
    for session in first, second:
        house.table.subscribe(session, Subscription("$share/g/t/#", qos=2))
    first.deliver([SharedMessage(f"t/{qos}", b"", qos, shared_filter="$share/g/t/#") for qos in (1, 2)])
    first.state.outgoing = dict(enumerate(first.take(10, 1000, 100.0), 1))
    house.open("a", clean=True)
    assert topics(second) == ["t/1"]


async def test_sessions_end_by_themselves(autojump_clock: object) -> None:
    sessions = Sessions(
        table=SubscriptionTable(), journal=Journal(None), limits=LimitSettings(), wall=lambda: trio.current_time() + 9.0
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.run)
        await trio.sleep(1)
        for number, expiry in enumerate((50.0, 20.0, 30.0)):
            sessions.close(sessions.open(str(number), clean_start=False, expiry=expiry)[0])
        await trio.sleep(20.5)
        assert [session.client_id for session in sessions] == ["0", "2"]
        await trio.sleep(30)
        assert len(sessions) == 0
        nursery.cancel_scope.cancel()
