"""One seed from beginning to end: work and faults, healing, draining, and the ledger's word."""

from collections import Counter
from collections.abc import Callable
from typing import Final

import trio
import trio.testing
from attrs import define, field

from tests.faults.simulation.kinds import KINDS
from tests.faults.simulation.world import World

DRAINED: Final = 600.0  # seconds within which everything has gone where it belongs, once everything is healed
TIDIED: Final = 10.0  # seconds until nothing is on disk any more that everybody has
STOPPED: Final = 90.0  # seconds that an orderly end may take


@define(eq=False)
class Outcome:
    """What became of a seed. `simulated`: seconds; `trace`: the same for the same seed."""

    seed: int
    faults: list[str] = field(factory=list)
    kinds: Counter[str] = field(factory=Counter)
    messages: int = 0
    duplicates: int = 0
    simulated: float = 0.0
    drained_in: float = 0.0
    trace: str = ""


def play(seed: int, say: Callable[[str], None] | None = None) -> Outcome:
    """Play one seed."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # it is made to be changed
    trio._core._run._r.seed(seed)
    outcome = Outcome(seed)
    trio.run(_play, outcome, say, clock=trio.testing.MockClock(autojump_threshold=0))
    return outcome


async def _play(outcome: Outcome, say: Callable[[str], None] | None) -> None:
    async with trio.open_nursery() as nursery:
        world = World(outcome.seed, nursery, say)
        nursery.start_soon(world.keep_running)
        nursery.start_soon(world.subscriber.run)
        await _until(lambda: world.subscriber.has_subscribed)
        async with trio.open_nursery() as troubles:
            for device in world.devices:
                nursery.start_soon(device.run)
            await _trouble(world, outcome, troubles)
        world.tell("healed")
        world.heal()
        await drain(world, outcome)
        outcome.faults += world.ledger.faults
        outcome.messages, outcome.duplicates = len(world.ledger.messages), world.ledger.duplicates
        outcome.simulated, outcome.trace = trio.current_time(), world.trace.hexdigest()
        nursery.cancel_scope.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 # it depends on much, of which nothing tells when it changes
        await trio.sleep(0.25)


async def _trouble(world: World, outcome: Outcome, nursery: trio.Nursery) -> None:
    """Let some kinds of fault happen, one after the other or at once."""
    chance = world.chance
    lasts = 3.0 + 12.0 * chance.random()
    chosen = chance.sample(sorted(KINDS), chance.randint(1, 6))
    until = trio.current_time() + lasts
    while trio.current_time() < until:
        await trio.sleep(lasts / 5 * chance.random())
        kind, seconds = chance.choice(chosen), 0.1 + 7.0 * chance.random() ** 2
        world.tell("fault", kind, f"{seconds:.2f}")
        outcome.kinds[kind] += 1
        nursery.start_soon(KINDS[kind], world, seconds)


async def drain(world: World, outcome: Outcome, look: Callable[[World], None] = lambda _: None) -> None:
    """Wait until everything is where it belongs, look, end the process in order, and look at the books."""
    began = trio.current_time()
    with trio.move_on_after(DRAINED) as patience:
        await _until(lambda: world.is_drained)
    outcome.drained_in = trio.current_time() - began
    if patience.cancelled_caught:
        not_done = [device.name for device in world.devices if not device.is_done]
        missing = [f"{sent} at {place}" for sent, place in world.missing()[:3]]
        world.ledger.fault(f"not drained: {world.incarnation.left()}, devices {not_done}, missing {missing}")
    await trio.sleep(1.0)
    with trio.move_on_after(TIDIED):  # what is noted of it may be under way on a slow disk
        await _until(lambda: not world.disk.runs)
    if world.disk.runs and not patience.cancelled_caught:
        world.ledger.fault(f"{len(world.disk.runs)} runs are left on disk although everybody has them")
    look(world)
    world.tell("ending")
    world.is_over = True
    incarnation = world.incarnation
    if incarnation.serving is not None:
        world.nursery.start_soon(incarnation.proxy.drain, incarnation.serving)
        with trio.move_on_after(STOPPED) as patience:
            await incarnation.ended.wait()
        if patience.cancelled_caught:
            world.ledger.fault("the drain did not end")
        incarnation.check(world.ledger.fault)
    world.ledger.hold(world.disk.held.values())
    world.ledger.check(damaged=world.damaged)
