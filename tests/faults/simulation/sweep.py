"""Cancelling at every step: the same quiet scene again and again, and each time something is cancelled one step later.

A step is one run of one task between two checkpoints. What may be cancelled in the middle of the real proxy is a
device, a link, a reload and the process itself; whichever it is, the rest must go on, or end and begin anew.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
import trio.testing
from attrs import define

from mqttproxy.mqtt.client import ClientConnection, State
from mqttproxy.mqtt.packets import Message, ProtocolVersion
from tests.faults.simulation.chance import chance_of
from tests.faults.simulation.devices import Device
from tests.faults.simulation.ledger import Sent
from tests.faults.simulation.network import SimulatedStream
from tests.faults.simulation.play import Outcome, drain
from tests.faults.simulation.routes import ROUTES
from tests.faults.simulation.world import World

SCENE: Final = 1.0  # seconds in which a scene that nobody disturbs is over


class Scripted(Device):
    """Sends these messages, each a route and a QoS, in one write when it is told to."""

    def __init__(self, name: str, world: World, script: list[tuple[str, int]]) -> None:
        super().__init__(
            name,
            ProtocolVersion.V5,
            network=world.network,
            disk=world.disk,
            ledger=world.ledger,
            chance=chance_of(1),
            messages=len(script),
        )
        self.go = trio.Event()
        self._script = list(script)

    async def _publish(self, conn: ClientConnection, stream: SimulatedStream) -> None:
        await self.go.wait()
        while conn.state is not State.OPEN:  # noqa: ASYNC110 # CONNACK comes at once, and has no event
            await trio.sleep(0.05)
        items: list[tuple[Message, object]] = [self._next() for _ in range(self.left)]
        self.left = 0
        if items:
            conn.publish(items)
            stream.send_nowait(conn.data_to_send())

    def _next(self) -> tuple[Message, Sent]:
        name, qos = self._script.pop(0)
        route = next(route for route in ROUTES if route.name == name)
        topic = f"{name}/{self.name}"
        sent = self._ledger.send(self.name, topic, qos, owed=route.to, needed=route.needed, form=route.form)
        return Message(topic, sent.payload, qos), sent


class CancelAt(trio.abc.Instrument):
    """Calls something before step number `step` of those that are counted. `step` 0: never."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.steps = 0
        self.is_counting = False
        self.call: Callable[[], None] = lambda: None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.is_counting:
            self.steps += 1
            if self.steps == self.step:
                self.call()


@define(eq=False)
class Scene:
    """What is played, and what of it is cancelled.

    Attributes:
        prepare: is done before steps count.
        act: what is swept, about `SCENE` seconds.
        target: cancels something.
        restarts: the target is the process.

    """

    prepare: Callable[[World], Awaitable[None]]
    act: Callable[[World], Awaitable[None]]
    target: Callable[[World], None]
    restarts: bool = False
    script: tuple[tuple[str, int], ...] = (("s", 1), ("s", 2), ("all", 1), ("all", 2), ("n", 2))


def sweep(scene: Scene, every: int = 1) -> tuple[int, dict[int, list[str]]]:
    """Play a scene once for each of its steps, or every so many; returns how many there are, and the faults by step."""
    steps, faults = play_scene(scene, 0)
    found = {0: faults} if faults else {}
    for step in range(1, steps + 1, every):
        _, faults = play_scene(scene, step)
        if faults:
            found[step] = faults
    return steps, found


def play_scene(scene: Scene, step: int, say: Callable[[str], None] | None = None) -> tuple[int, list[str]]:
    """Play a scene with one step at which its target is cancelled; returns how many steps it had, and the faults."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # it is made to be changed
    trio._core._run._r.seed(0)
    instrument = CancelAt(step)
    faults: list[str] = trio.run(
        _play,
        scene,
        instrument,
        say,
        clock=trio.testing.MockClock(autojump_threshold=0),
        instruments=[instrument],
    )
    return instrument.steps, faults


async def _play(scene: Scene, instrument: CancelAt, say: Callable[[str], None] | None) -> list[str]:
    async with trio.open_nursery() as nursery:
        world = World(0, nursery, say)
        world.ledger.is_volatile = scene.restarts
        world.devices = [Scripted("d", world, list(scene.script)), Scripted("other", world, [("s", 1)])]
        nursery.start_soon(world.keep_running)
        for device in world.devices:
            nursery.start_soon(device.run)
        await trio.sleep(1.3)  # all have connected then
        await scene.prepare(world)
        instrument.call = lambda: scene.target(world)
        instrument.is_counting = True
        await scene.act(world)
        instrument.is_counting = False
        for device in world.devices:
            device.go.set()  # type: ignore[attr-defined] # all are `Scripted`
        world.heal()
        await drain(world, Outcome(0), leaks)
        nursery.cancel_scope.cancel()
    return world.ledger.faults


def leaks(world: World) -> None:
    """Look for what is left behind, once everything has gone where it belongs."""
    proxy = world.incarnation.proxy
    spool, journal, pipeline = proxy.keeping.spool, proxy.keeping.journal, proxy.pipeline
    left: dict[str, Any] = {
        "messages whose device waits": spool._waiting,
        "messages in the hands of devices": pipeline.spool_lanes.waiting,
        "messages that wait for an outbox": sum(lane.waiting for lane in pipeline.lanes.values()),
        "tasks that wait for room in the spool": sum(map(len, spool._room.values())),
        "rows that wait for their commit": journal.pending,
        "calls that wait for a commit": [*journal._calls, *journal._writing_calls],
        "messages refused by upstreams": [*proxy.refusal._of_upstreams, *proxy.refusal._down],
        "what was gathered": pipeline._gathered,
        "messages that wait in all": proxy.metrics.waiting + proxy.metrics.waiting_down,
        "handshakes": proxy.metrics.handshakes,
        "connections too many": proxy.door._connections - len(proxy.door.premises.devices),
        "devices that are away and are waited for": proxy.door.premises.absent,
    }  # fmt: skip
    for name, upstream in proxy.pool.items():
        session, link = upstream._session, upstream._link
        left |= {
            f"bytes in flight to {name}": upstream.books.in_flight_bytes,
            f"commits that {name} waits for": session.holds - session.committed,
            f"bytes held back from {name}": [] if link is None else link._withheld._held,
            f"tasks that wait for {name}": upstream._accepting.statistics().tasks_waiting,
        }
    for device in proxy.door.premises.devices.values():
        left |= {f"unacknowledged of {device}": device.unacknowledged or device.pending}  # type: ignore[attr-defined] # a `Device`
    for what, value in left.items():
        if value:
            world.ledger.fault(f"leaked: {what}: {value}")
