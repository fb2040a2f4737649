"""The kinds of fault. Each begins, lasts, and ends; a seed chooses which, when and for how long."""

import errno
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.reload import put_in_force
from tests.faults.simulation.brokers import Broker
from tests.faults.simulation.network import Wire
from tests.faults.simulation.routes import QUEUE, files_of
from tests.faults.simulation.world import World

Kind = Callable[[World, float], Awaitable[None]]


def _broker(world: World) -> Broker:
    return world.brokers[world.chance.choice("abc")]


def _wires(world: World, name: str = "") -> list[Wire]:
    wires = world.network.open_wires(name)
    return [world.chance.choice(wires)] if wires else []


# The process.


async def kill(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    world.crash(silently=False)


async def power_loss(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    world.crash(silently=True)


async def stop_and_start(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    incarnation = world.incarnation
    if incarnation.serving is not None and not incarnation.is_crashed:
        world.ledger.is_volatile = True  # the grace may be over before everything has gone
        incarnation.is_stopping = True
        world.nursery.start_soon(incarnation.proxy.drain, incarnation.serving)


async def reload(world: World, _seconds: float) -> None:
    """Read a file with other bounds, and with another keep alive, which asks for new links."""
    await trio.lowlevel.checkpoint()
    incarnation = world.incarnation
    if incarnation.tasks is not None and not incarnation.is_crashed and not incarnation.is_stopping:
        queue, keep_alive = world.chance.choice((QUEUE, QUEUE // 2)), world.chance.choice((10, 10, 7))
        incarnation.proxy.path = files_of(queue, keep_alive)
        incarnation.tasks.start_soon(put_in_force, incarnation.proxy)


# The disk.


async def disk_error(world: World, seconds: float) -> None:
    world.disk.journal.before = errno.EIO, world.chance.random()
    await trio.sleep(seconds)
    world.disk.journal.before = None


async def disk_in_doubt(world: World, seconds: float) -> None:
    world.disk.journal.after = errno.EIO, world.chance.random()
    await trio.sleep(seconds)
    world.disk.journal.after = None


async def disk_full(world: World, seconds: float) -> None:
    world.disk.journal.before = world.disk.quarantine.before = errno.ENOSPC, 1.0
    await trio.sleep(seconds)
    world.disk.journal.before = world.disk.quarantine.before = None


async def disk_slow(world: World, seconds: float) -> None:
    world.disk.latency = world.chance.choice((0.05, 0.3, 2.0))
    await trio.sleep(seconds)
    world.disk.latency = 0.001


async def disk_unreadable(world: World, seconds: float) -> None:
    world.disk.journal.reads = 0.3 + 0.7 * world.chance.random()
    await trio.sleep(seconds)
    world.disk.journal.reads = 0.0


async def quarantine_error(world: World, seconds: float) -> None:
    trouble = world.disk.quarantine
    trouble.before, trouble.after = (errno.EIO, world.chance.random()), (errno.EIO, world.chance.random() / 2)
    await trio.sleep(seconds)
    trouble.before = trouble.after = None


async def damaged_record(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    for payload in world.disk.damage():
        world.ledger.messages[payload].damaged = True


# Brokers.


async def broker_away(world: World, seconds: float) -> None:
    broker = _broker(world)
    broker.is_away = True
    broker.restart(forget=False)
    await trio.sleep(seconds)
    broker.is_away = False


async def broker_restarts(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    _broker(world).restart(forget=False)


async def broker_forgets(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    _broker(world).restart(forget=True)


async def broker_refuses_us(world: World, seconds: float) -> None:
    broker = _broker(world)
    broker.refuses = world.chance.choice((ReasonCode.SERVER_UNAVAILABLE, ReasonCode.NOT_AUTHORIZED))
    broker.restart(forget=False)
    await trio.sleep(seconds)
    broker.refuses = None


async def broker_hangs(world: World, seconds: float) -> None:
    broker = _broker(world)
    broker.hangs = True
    broker.restart(forget=False)
    await trio.sleep(seconds)
    broker.hangs = False


async def slow_acknowledgements(world: World, seconds: float) -> None:
    broker = _broker(world)
    broker.patience = world.chance.choice((0.05, 0.5, 2.0))
    await trio.sleep(seconds)
    broker.patience = 0.0


async def lost_acknowledgements(world: World, seconds: float) -> None:
    broker = _broker(world)
    broker.is_mute = True
    await trio.sleep(seconds)
    broker.is_mute = False


async def transient_refusals(world: World, seconds: float) -> None:
    await _refuse(world, seconds, ReasonCode.QUOTA_EXCEEDED)


async def permanent_refusals(world: World, seconds: float) -> None:
    await _refuse(world, seconds, ReasonCode.PAYLOAD_FORMAT_INVALID)


async def _refuse(world: World, seconds: float, reason: ReasonCode) -> None:
    broker, chance = _broker(world), world.chance.random() / 2
    broker.rejects = lambda _: reason if world.chance.random() < chance else None
    await trio.sleep(seconds)
    broker.rejects = lambda _: None


# The network.


async def link_cut(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    for wire in _wires(world, world.chance.choice("abc")):
        wire.cut()


async def link_stalled(world: World, seconds: float) -> None:
    await _stall(world, seconds, world.chance.choice("abc"))


async def link_half_open(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    for wire in _wires(world, world.chance.choice("abc")):
        wire.lose()


async def device_cut(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    for wire in _wires(world, "d"):
        wire.cut()


async def device_stalled(world: World, seconds: float) -> None:
    await _stall(world, seconds, "d")


async def device_half_open(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    for wire in _wires(world, "d"):
        wire.lose()


async def _stall(world: World, seconds: float, name: str) -> None:
    wires = _wires(world, name)
    for wire in wires:
        wire.stall(stalled=True)
    await trio.sleep(seconds)
    for wire in wires:
        wire.stall(stalled=False)


async def delays(world: World, seconds: float) -> None:
    most = world.chance.choice((0.02, 0.2, 1.0))
    world.network.shape = lambda wire: wire.delay(most * world.network.chance.random())
    for wire in world.network.open_wires():
        world.network.shape(wire)
    await trio.sleep(seconds)
    world.network.shape = lambda _: None


async def pieces(world: World, seconds: float) -> None:
    size = world.chance.choice((1, 1, 3, 10))
    world.network.shape = lambda wire: wire.crumble(size)
    for wire in world.network.open_wires():
        world.network.shape(wire)
    await trio.sleep(seconds)
    world.network.shape = lambda _: None


# Devices.


async def device_hangs_up(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    world.chance.choice(world.devices).cut()


async def device_forgets(world: World, _seconds: float) -> None:
    await trio.lowlevel.checkpoint()
    world.chance.choice(world.devices).forget()


async def takeover(world: World, _seconds: float) -> None:
    """A device comes back while its last connection seems to be there, and keeps sending over neither."""
    await trio.lowlevel.checkpoint()
    device = world.chance.choice(world.devices)
    for wire in world.network.open_wires(device.name):
        wire.theirs.break_with("network is unreachable")
        wire.ours.is_void = True


async def subscriber_away(world: World, seconds: float) -> None:
    world.subscriber.is_away = True
    world.subscriber.cut()
    await trio.sleep(seconds)
    world.subscriber.is_away = False


KINDS: Final[dict[str, Kind]] = {
    kind.__name__: kind
    for kind in (
        kill, power_loss, stop_and_start, reload,
        disk_error, disk_in_doubt, disk_full, disk_slow, disk_unreadable, quarantine_error, damaged_record,
        broker_away, broker_restarts, broker_forgets, broker_refuses_us, broker_hangs, slow_acknowledgements,
        lost_acknowledgements, transient_refusals, permanent_refusals,
        link_cut, link_stalled, link_half_open, device_cut, device_stalled, device_half_open, delays, pieces,
        device_hangs_up, device_forgets, takeover, subscriber_away,
    )
}  # fmt: skip
