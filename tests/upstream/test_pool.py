from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, evolve
from trio.testing import MockClock

from mqttproxy.config.model import Count
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.pool import Changes, Pool
from tests.upstream.broker import FakeBroker, Heard, messages, settings

A, B = settings(name="a"), settings(name="b")


@define
class House:
    pool: Pool
    broker: FakeBroker
    heard: Heard


@asynccontextmanager
async def running() -> AsyncIterator[House]:
    heard = Heard()
    async with trio.open_nursery() as nursery:
        broker = FakeBroker(nursery)
        pool = Pool(proxy_id="gw", callbacks=heard.callbacks(), drain_grace=10.0, dial=broker.dial, chance=lambda: 0.5)
        assert pool.apply([A]) == Changes(("a",), (), ())
        await nursery.start(pool.run)
        await trio.testing.wait_all_tasks_blocked()
        yield House(pool, broker, heard)
        nursery.cancel_scope.cancel()


async def test_a_reload_adds_and_leaves_the_unchanged_untouched(autojump_clock: MockClock) -> None:
    async with running() as house:
        before = house.pool["a"]
        assert house.pool.apply([B, A]) == Changes(("b",), (), ())
        await trio.testing.wait_all_tasks_blocked()
        assert list(house.pool) == ["b", "a"]
        assert house.pool["a"] is before
        assert [connect.client_id for connect in house.broker.connects] == ["gw-a", "gw-b"]
        assert [status.connected for status in house.pool.statuses()] == [True, True]


async def test_a_changed_upstream_gets_a_new_link_and_keeps_its_messages(autojump_clock: MockClock) -> None:
    async with running() as house:
        upstream = house.pool["a"]
        house.broker.is_mute = True
        upstream.offer(messages(3))
        await trio.testing.wait_all_tasks_blocked()
        house.broker.is_mute = False
        assert house.pool.apply([evolve(A, username="u")]) == Changes((), (), ("a",))
        await trio.testing.wait_all_tasks_blocked()
        assert house.pool["a"] is upstream
        assert [connect.username for connect in house.broker.connects] == [None, "u"]
        assert house.heard.tokens == [0, 1, 2]
        assert [end.reason for end in house.broker.ends] == [ReasonCode.SUCCESS]


async def test_a_change_of_bounds_leaves_the_link_alone(autojump_clock: MockClock) -> None:
    async with running() as house:
        house.broker.is_mute = True
        house.pool.apply([evolve(A, in_flight=Count(1), queue_messages=Count(2))])
        for number in range(5):
            house.pool["a"].offer(messages(1, start=number))
            await trio.testing.wait_all_tasks_blocked()
        assert len(house.broker.connects) == 1
        assert (house.pool["a"].queued, house.pool["a"].in_flight) == (2, 1)


async def test_another_broker_under_the_same_name_gets_a_clean_session(autojump_clock: MockClock) -> None:
    async with running() as house:
        house.broker.is_mute = True
        house.pool["a"].offer(messages(2, qos=2))
        await trio.testing.wait_all_tasks_blocked()
        house.broker.is_mute = False
        house.pool.apply([evolve(A, url="mqtt://other:1883")])
        await trio.testing.wait_all_tasks_blocked()
        assert [connect.clean_start for connect in house.broker.connects] == [False, False, True]
        assert house.heard.tokens == [0, 1]


async def test_a_removed_upstream_still_carries_what_it_holds(autojump_clock: MockClock) -> None:
    async with running() as house:
        upstream = house.pool["a"]
        house.broker.is_mute = True
        upstream.offer(messages(2))
        await trio.testing.wait_all_tasks_blocked()
        assert house.pool.apply([evolve(A, enabled=False)]) == Changes((), ("a",), ())
        assert "a" not in house.pool
        await trio.sleep(5)
        house.broker.release()
        await trio.testing.wait_all_tasks_blocked()
        assert house.heard.tokens == [0, 1]
        assert not upstream.is_live
        upstream.check_books()


async def test_what_a_removed_upstream_cannot_carry_in_its_grace_is_dropped_and_told(
    autojump_clock: MockClock,
) -> None:
    async with running() as house:
        upstream = house.pool["a"]
        house.broker.is_mute = True
        upstream.offer(messages(2))
        await trio.testing.wait_all_tasks_blocked()
        house.pool.apply([])
        assert upstream.offer(messages(1, start=2)) == 1  # whoever still holds it is not left waiting
        await upstream.wait_room()
        assert upstream.force_oldest(messages(1, start=3)) == []
        await trio.sleep(11)
        assert [(token, reason) for token, _, reason in house.heard.refused] == [
            (token, ReasonCode.ADMINISTRATIVE_ACTION) for token in (2, 3, 0, 1)
        ]
        assert upstream.books.dropped == {"removed": 4}
        upstream.check_books()


async def test_an_upstream_that_comes_back_takes_the_place_of_the_one_that_still_drains(
    autojump_clock: MockClock,
) -> None:
    async with running() as house:
        former = house.pool["a"]
        house.broker.is_mute = True
        former.offer(messages(1))
        await trio.testing.wait_all_tasks_blocked()
        house.pool.apply([])
        house.broker.is_mute = False
        house.pool.apply([A])
        await trio.sleep(3)
        assert not former.is_live
        assert house.pool["a"].is_live
        house.pool["a"].offer(messages(1, start=5))
        await trio.testing.wait_all_tasks_blocked()
        assert house.heard.tokens == [5]
        assert await house.pool.drain(trio.current_time() + 1)


async def test_a_password_file_that_cannot_be_read_changes_nothing(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running() as house:
        with pytest.raises(OSError, match="No such file"):
            house.pool.apply([B, evolve(A, username="u", password_file=tmp_path / "none")])
        assert list(house.pool) == ["a"]
        (tmp_path / "some").write_bytes(b"secret\r\n")
        house.pool.apply([evolve(A, username="u", password_file=tmp_path / "some")])
        await trio.testing.wait_all_tasks_blocked()
        assert house.broker.connects[-1].password == b"secret"


async def test_what_goes_wrong_in_an_upstream_that_no_broker_can_cause_ends_the_pool(
    autojump_clock: MockClock,
) -> None:
    heard = Heard()

    async def dial(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    pool = Pool(proxy_id="gw", callbacks=heard.callbacks(), dial=dial)  # type: ignore[arg-type]  # a bug on purpose
    pool.apply([A])
    with pytest.raises(BaseExceptionGroup) as caught:
        await pool.run()
    assert caught.group_contains(ZeroDivisionError)


async def test_drain_tells_whether_all_was_carried(autojump_clock: MockClock) -> None:
    async with running() as house:
        house.broker.is_mute = True
        house.pool["a"].offer(messages(1))
        assert not await house.pool.drain(trio.current_time() + 2)
        assert trio.current_time() == 2.0
        assert [snapshot.in_flight for snapshot in house.pool.snapshots()] == [1]
