"""Cancelled at any step of a publish, a reconnect or a reload, nothing is lost, leaked or acknowledged too soon."""

import pytest
import trio

from tests.faults.simulation.sweep import SCENE, Scene, Scripted, sweep
from tests.faults.simulation.world import World


async def nothing(world: World) -> None:
    await trio.lowlevel.checkpoint()


async def publish(world: World) -> None:
    for device in world.devices:
        assert isinstance(device, Scripted)
        device.go.set()
    await trio.sleep(SCENE)


async def in_flight(world: World) -> None:
    """Have messages at a broker that says nothing."""
    world.brokers["a"].is_mute = True
    await publish(world)


async def reconnect(world: World) -> None:
    broker = world.brokers["a"]
    broker.is_mute = False
    broker.restart(forget=False)
    await trio.sleep(SCENE)


def the_device(world: World) -> None:
    device = world.incarnation.proxy.door.premises.devices.get("d")
    if device is not None:
        device._scope.cancel()  # type: ignore[attr-defined] # a `Device`


def the_links(world: World) -> None:
    for upstream in world.incarnation.proxy.pool.values():
        upstream._round.cancel()


def the_process(world: World) -> None:
    world.incarnation.scope.cancel()


def dead(world: World) -> None:
    world.crash(silently=False)


TARGETS = {"device": the_device, "links": the_links, "process": the_process, "killed": dead}


def check(scene: Scene) -> None:
    steps, faults = sweep(scene)
    assert steps > 20
    assert not faults, f"at {list(faults)} of {steps} steps, such as {next(iter(faults.items()))}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_through_the_spool_is_cancelled(target: str, qos: int) -> None:
    script = (("s", qos), ("s", qos), ("all", qos), ("n", qos))
    check(Scene(nothing, publish, TARGETS[target], restarts=target in ("process", "killed"), script=script))


@pytest.mark.parametrize("target", TARGETS)
def test_a_reconnect_is_cancelled(target: str) -> None:
    check(Scene(in_flight, reconnect, TARGETS[target], restarts=target in ("process", "killed")))
