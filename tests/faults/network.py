"""Scenes for faults of the network: an upstream of ours, or the whole proxy, and the chaos between it and Mosquitto."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any, Final

import trio
from attrs import define, field

from mqttproxy.mqtt.packets import Message
from mqttproxy.upstream.callbacks import Callbacks
from mqttproxy.upstream.supervisor import Upstream
from tests.faults.chaos import Chaos
from tests.faults.ledger import Ledger, Stream
from tests.faults.peers import Ear
from tests.scenarios.mosquitto import Mosquitto
from tests.upstream.broker import Notes, settings

PATIENCE: Final = 120.0  # seconds for a whole test
NUMBERS: Final = count()
STREAMS: Final = [Stream("device", "t/one", 1), Stream("device", "t/two", 2)]


async def until(look: Callable[[], object]) -> None:
    """Wait for another process: nothing tells us."""
    while not look():  # noqa: ASYNC110  # as it says
        await trio.sleep(0.005)


@define(eq=False)
class LinkScene:
    """An upstream whose link goes through the chaos; its ledger hears of acknowledgements and arrivals."""

    chaos: Chaos
    ledger: Ledger
    log: Notes
    upstream: Upstream = field(init=False)
    offered: int = 0
    settled: int = 0

    def callbacks(self) -> Callbacks:
        def settle(_: str, tokens: list[object]) -> None:
            self.settled += len(tokens)
            for token in tokens:
                assert isinstance(token, bytes)
                self.ledger.acknowledge(token)

        def never(*_: object) -> None:
            raise AssertionError("refused, dropped or received")

        return Callbacks(settled=settle, refused=never, dropped=never, received=never)

    async def offer(self, number: int) -> None:
        """Hand over so many messages, QoS 1 and 2 in turn, as room is made for them."""
        for _ in range(number):
            stream = STREAMS[self.offered % 2]
            payload = self.ledger.send(stream)
            while not self.upstream.offer([(Message(stream.topic, payload, stream.qos), payload)]):
                await self.upstream.wait_room()
            self.offered += 1

    async def settle(self) -> None:
        """Wait until everything is acknowledged and has arrived."""
        await until(lambda: self.settled == self.offered and not any(self.ledger.missing))


@asynccontextmanager
async def link_scene(broker: Mosquitto, **changes: Any) -> AsyncIterator[LinkScene]:
    """Link an upstream to the broker through a chaos that is well; the ear has a road of its own."""
    ledger = Ledger(["a"])
    name = f"gw-{next(NUMBERS)}"
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            chaos = await nursery.start(Chaos.serve, "127.0.0.1", broker.port)
            scene = LinkScene(chaos, ledger, Notes())
            changes = {"backoff_first": 0.01, "backoff_ceiling": 0.02, "breaker_failures": 10_000} | changes
            scene.upstream = Upstream(
                settings(url=f"mqtt://127.0.0.1:{chaos.port}", client_id=name, breaker_ratio=2.0, **changes),
                proxy_id="gw",
                callbacks=scene.callbacks(),
                log=scene.log,
            )
            chance = Random(1)
            ear = Ear(broker.url, f"ear-{name}", chance, destination="a", ledger=ledger, filter="t/#")
            nursery.start_soon(ear.run)
            await until(lambda: ear.is_listening)
            nursery.start_soon(scene.upstream.run)
            await until(lambda: scene.upstream.is_live)
            yield scene
            scene.upstream.check_books()
            nursery.cancel_scope.cancel()
