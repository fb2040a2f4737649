import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from mqttproxy.downstream.keepalive import KeepAliveWatch


class FakeDevice:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired_at: float | None = None

    def expire(self) -> None:
        self.expired_at = trio.current_time()


async def test_each_device_expires_at_its_own_deadline(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    watch = KeepAliveWatch()
    devices = [FakeDevice(90.0), FakeDevice(15.0), FakeDevice(60.0)]
    for device in devices:
        watch.watch(device)
    nursery.start_soon(watch.run)
    await trio.sleep(100)
    assert [device.expired_at for device in devices] == [90.0, 15.0, 60.0]


async def test_a_deadline_that_moved_is_looked_at_again_and_not_expired_early(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    watch, device = KeepAliveWatch(), FakeDevice(15.0)
    watch.watch(device)
    nursery.start_soon(watch.run)
    await trio.sleep(14)
    device.deadline = 29.0
    await trio.sleep(10)
    assert device.expired_at is None
    await trio.sleep(10)
    assert device.expired_at == 29.0


async def test_after_the_process_stood_still_what_devices_said_meanwhile_is_read_first(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    watch, device, silent = KeepAliveWatch(), FakeDevice(15.0), FakeDevice(15.0)
    watch.watch(device)
    watch.watch(silent)
    nursery.start_soon(watch.run)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(40)
    await trio.testing.wait_all_tasks_blocked()
    device.deadline = 55.0  # it has been read
    mock_clock.jump(1)
    await trio.testing.wait_all_tasks_blocked()
    assert (device.expired_at, silent.expired_at) == (None, 41.0)


async def test_a_sooner_device_that_comes_later_is_not_missed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    watch, late, soon = KeepAliveWatch(), FakeDevice(1000.0), FakeDevice(5.0)
    watch.watch(late)
    nursery.start_soon(watch.run)
    await trio.sleep(1)
    watch.watch(soon)
    await trio.sleep(10)
    assert soon.expired_at == 5.0


async def test_a_device_whose_deadline_became_infinite_is_forgotten(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    watch, device = KeepAliveWatch(), FakeDevice(5.0)
    watch.watch(device)
    nursery.start_soon(watch.run)
    device.deadline = float("inf")
    await trio.sleep(10)
    assert device.expired_at is None
    assert not watch._due


async def test_those_that_ended_are_let_go_of_at_once_and_their_places_before_they_are_many(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    watch = KeepAliveWatch()
    stays = FakeDevice(5000.0)
    watch.watch(stays)
    nursery.start_soon(watch.run)
    for number in range(1000):
        one = watch.watch(FakeDevice(4000.0 + number))
        watch.end(one)
        watch.end(one)  # once more does nothing
        assert one.device is None
    assert len(watch._due) <= 250
    await trio.sleep(6000)
    assert stays.expired_at == 5000.0
    assert not watch._due
    assert watch._ended == 0


async def test_X25_after_a_pause_of_the_process_what_devices_have_sent_is_read_before_they_are_called_silent(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    watch, heard, silent = KeepAliveWatch(), FakeDevice(15.0), FakeDevice(15.0)
    for device in (heard, silent):
        watch.watch(device)
    nursery.start_soon(watch.run)
    await wait_all_tasks_blocked()
    mock_clock.jump(20)  # nothing ran meanwhile
    await wait_all_tasks_blocked()
    assert silent.expired_at is None
    heard.deadline = 35.0  # it was read
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    assert silent.expired_at == 21.0
    assert heard.expired_at is None
