"""What a network does to the proxy, on loopback: resets, black holes, slowness, storms."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
import trio

from tests.faults.chaos import Chaos
from tests.faults.forms import LONG
from tests.faults.ledger import Ledger
from tests.faults.network import PATIENCE, link_scene, until
from tests.faults.peers import Client, Device, Ear
from tests.faults.storm import storm
from tests.harness import running_proxy, write_settings
from tests.scenarios.contracts import route, upstream
from tests.scenarios.mosquitto import Mosquitto, running_brokers

# Up: all of CONNECT, then PUBLISH, DUP, PUBREL and PINGREQ. Down: CONNACK, then PUBACK, PUBREC and PUBCOMP.
OFFSETS = {"up": [*range(60), *range(60, 400, 7)], "down": range(80)}
UNDER_WAY = 30  # messages, so that each connection has little to send again
KEEP_ALIVE = 2.0  # seconds
SLACK = 5.0  # seconds that a busy machine may add to a deadline; without keep alive it would take 30


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with running_brokers(tmp_path_factory.mktemp("network"), "a") as (one,):
        yield one


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_X2_a_reset_after_any_byte_loses_nothing_and_keeps_the_order(
    broker: Mosquitto, direction: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many resets in a row look like a message that kills every link; here none does.
    monkeypatch.setattr("mqttproxy.upstream.suspects.SUSPECT_AFTER", 1_000_000)
    async with link_scene(broker, version=version, in_flight=10) as it:
        way = getattr(it.chaos, direction)
        for offset in OFFSETS[direction]:
            before = it.chaos.connections
            way.set(reset_at=offset)
            it.chaos.reset()
            while it.chaos.connections < before + 2:  # the next one has been reset at its byte
                if it.offered - it.settled < UNDER_WAY:
                    await it.offer(2)
                await trio.sleep(0.003)  # the next message, soon
            it.chaos.heal()
            await until(lambda: it.upstream.is_live)
        await it.settle()
        report = it.ledger.report()
        report.check(repeats=(1,))
        assert report.sent == report.acknowledged == it.offered


@pytest.mark.parametrize("ways", [("up", "down"), ("up",), ("down",)], ids=["both", "up", "down"])
async def test_X3_a_black_hole_is_noticed_within_one_and_a_half_keep_alives(
    broker: Mosquitto, ways: tuple[str, ...]
) -> None:
    async with link_scene(broker, keep_alive=KEEP_ALIVE, ack_timeout=30.0) as it:
        await it.offer(10)
        await it.settle()
        began = trio.current_time()
        for way in ways:
            getattr(it.chaos, way).set(swallows=True)
        await it.offer(10)
        await until(lambda: it.log.times("upstream lost"))
        assert it.log.times("upstream lost")[0] - began < 1.5 * KEEP_ALIVE + SLACK
        assert "did not answer a ping" in str(it.upstream.status().last_error)
        it.chaos.heal()
        it.chaos.cut()
        await it.settle()
        it.ledger.report().check(repeats=(1,))


async def test_X4_a_broker_behind_a_slow_road_slows_down_nobody_else(tmp_path: Path) -> None:
    with ExitStack() as stack:
        a, b = stack.enter_context(running_brokers(tmp_path, "a", "b"))
        async with trio.open_nursery() as nursery:
            chaos: Chaos = await nursery.start(Chaos.serve, "127.0.0.1", b.port)
            tables = upstream("a", a.url) + upstream("b", f"mqtt://127.0.0.1:{chaos.port}")
            tables += route("fast/#", "a") + route("slow/#", "b", more='ack = "all"')
            proxy = stack.enter_context(running_proxy(write_settings(tmp_path, tables)))
            await trio.to_thread.run_sync(proxy.wait_linked, "a", "b")
            ledgers = {"fast": Ledger(["a"]), "slow": Ledger(["b"])}
            devices = {}
            for (topic, ledger), at in zip(ledgers.items(), (a, b), strict=True):
                place, chance = ledger.destinations[0], Random(1)
                ear = Ear(at.url, "ear", chance, destination=place, ledger=ledger, filter=f"{topic}/#")
                devices[topic] = Device(proxy.url(), topic, chance, ledger=ledger, topic=topic)
                nursery.start_soon(ear.run)
                nursery.start_soon(devices[topic].run)
                with trio.fail_after(PATIENCE):
                    await until(lambda: ear.is_listening and devices[topic].is_connected)  # noqa: B023  # called at once
            chaos.up.set(rate=1000.0, delay=0.5)
            before = proxy.rss()
            with trio.fail_after(PATIENCE):
                await publish(devices["slow"], 64)  # takes seconds; meanwhile:
                assert ledgers["slow"].report().acknowledged < 64
                await publish(devices["fast"], 2000)
                await until(lambda: not devices["fast"].session.outgoing and ledgers["fast"].missing == [0])
                assert devices["slow"].session.outgoing
                assert proxy.rss() < before + 20_000_000
                chaos.heal()
                await until(lambda: not devices["slow"].session.outgoing and ledgers["slow"].missing == [0])
            for ledger in ledgers.values():
                ledger.report().check()
            nursery.cancel_scope.cancel()


async def publish(device: Device, count: int) -> None:
    """Publish so many, as there is room."""
    while count:
        count -= device.publish(count)
        await trio.sleep(0.001)  # there may be no room: nothing tells when there is


async def test_X30_a_reader_that_is_stalled_holds_up_nobody_and_goes_on_afterwards(tmp_path: Path) -> None:
    with running_proxy(write_settings(tmp_path)) as proxy:
        ledger, chance = Ledger(["well", "stalled"]), Random(1)
        async with trio.open_nursery() as nursery:
            chaos: Chaos = await nursery.start(Chaos.serve, "127.0.0.1", proxy.port())
            device = Device(proxy.url(), "device", chance, ledger=ledger)
            well = Ear(proxy.url(), "well", chance, destination="well", ledger=ledger)
            url = f"mqtt://127.0.0.1:{chaos.port}"
            stalled = Ear(url, "stalled", chance, destination="stalled", ledger=ledger)
            clients: list[Client] = [device, well, stalled]
            for client in clients:
                nursery.start_soon(client.run)
            with trio.fail_after(PATIENCE):
                await until(lambda: device.is_connected and well.is_listening and stalled.is_listening)
                chaos.stall()
                await publish(device, 1500)
                await until(lambda: not device.session.outgoing and ledger.missing[0] == 0)
                assert ledger.missing[1] > 0
                chaos.heal()
                await until(lambda: ledger.missing[1] == 0)  # all of it fits into its queue and in flight
            assert stalled.connections == 1
            nursery.cancel_scope.cancel()
        ledger.report().check()


async def test_X31_after_a_restart_a_storm_of_devices_is_back_and_none_is_turned_away(tmp_path: Path) -> None:
    count = 1000 if LONG else 200
    result = await storm(tmp_path, count)
    assert result.back < 60.0
    assert result.kept == count


async def test_X25_devices_that_spoke_while_the_proxy_stood_still_are_not_taken_for_silent(tmp_path: Path) -> None:
    with ExitStack() as stack:
        (a,) = stack.enter_context(running_brokers(tmp_path, "a"))
        proxy = stack.enter_context(running_proxy(write_settings(tmp_path, upstream("a", a.url, "keep_alive = 1"))))
        await trio.to_thread.run_sync(proxy.wait_linked, "a")
        ledger, chance = Ledger(["a"]), Random(1)
        ear = Ear(a.url, "ear", chance, destination="a", ledger=ledger, filter="load/#")
        devices = [Device(proxy.url(), f"device-{number}", chance, ledger=ledger, keep_alive=1) for number in range(50)]
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ear.run)
                await until(lambda: ear.is_listening)
                for device in devices:
                    nursery.start_soon(device.run)
                await until(lambda: all(device.is_connected for device in devices))
                for turn in range(16):  # of a quarter of a second
                    if turn == 2:
                        proxy.process.send_signal(signal.SIGSTOP)
                    if turn == 14:  # twice what a device may be silent
                        proxy.process.send_signal(signal.SIGCONT)
                    for device in devices:
                        device.publish(1)
                    await trio.sleep(0.25)  # real seconds: it is another process that stands still
                assert [device.connections for device in devices] == [1] * len(devices)
                await until(lambda: not any(device.session.outgoing for device in devices) and ledger.missing == [0])
                nursery.cancel_scope.cancel()
        ledger.report().check(repeats=(1,))
