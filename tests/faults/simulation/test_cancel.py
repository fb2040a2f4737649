"""Cancelled at any step of a publish, a reconnect or a reload, nothing is lost, leaked or acknowledged too soon.

The short form takes some of the steps, the long one each of them.
"""

from pathlib import Path

import pytest
import trio

from mqttproxy.app import Proxy
from mqttproxy.reload import put_in_force
from tests.faults.forms import LONG
from tests.faults.simulation.routes import QUEUE, text_of, write_files
from tests.faults.simulation.sweep import SCENE, Scene, Scripted, sweep
from tests.faults.simulation.world import World

EVERY = 1 if LONG else 13


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


class Reload:
    """A reload in the middle of a publish. It changes a bound of all upstreams, and asks for new links."""

    def __init__(self, folder: Path) -> None:
        self.path = write_files(folder, text_of(QUEUE - 5, keep_alive=7))
        self.scope = trio.CancelScope()

    async def prepare(self, world: World) -> None:
        world.incarnation.proxy.path = self.path
        self.scope = trio.CancelScope()
        await in_flight(world)

    async def act(self, world: World) -> None:
        world.brokers["a"].is_mute = False
        proxy, tasks = world.incarnation.proxy, world.incarnation.tasks
        assert tasks is not None
        tasks.start_soon(self._reload, proxy)
        await trio.sleep(SCENE)
        is_new = proxy.config.upstreams[0].queue_messages != QUEUE
        facts = {
            "generation": proxy.pipeline.ruleset.generation.number == 1 + is_new,
            "metric": proxy.metrics.generation == 1 + is_new and proxy.metrics.reloads == is_new,
            "ruleset": proxy.pipeline.ruleset.config.upstreams == proxy.config.upstreams,
            "upstreams": [one.settings for one in proxy.pool.values()] == list(proxy.config.upstreams),
        }
        for what, holds in facts.items():
            if not holds:
                world.ledger.fault(f"a reload that was cancelled is half done: {what}")

    async def _reload(self, proxy: Proxy) -> None:
        with self.scope:
            await put_in_force(proxy)

    def target(self, _world: World) -> None:
        self.scope.cancel()


TARGETS = {"device": the_device, "links": the_links, "process": the_process, "killed": dead}


def check(scene: Scene) -> None:
    steps, faults = sweep(scene, EVERY)
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


@pytest.mark.parametrize("target", ["reload", *TARGETS])
def test_a_reload_is_cancelled(target: str, tmp_path: Path) -> None:
    reload = Reload(tmp_path)
    call = reload.target if target == "reload" else TARGETS[target]
    check(Scene(reload.prepare, reload.act, call, restarts=target in ("process", "killed")))
