"""Runs the devices of a fleet, until so many messages are sent or so much time is over."""

from collections.abc import Sequence
from random import Random
from typing import Final

import trio

from mqttproxy.sim.device import Device, Identity, Orders
from mqttproxy.sim.instances import Json, Maker
from mqttproxy.sim.tally import Tally

MOST_DEVICES: Final = 100_000
START_RATE: Final = 200.0  # devices that connect in a second


class Fleet:
    """See the module.

    Attributes:
        tally: what was sent so far, and what became of it.
        started: devices so far.
        stopping: set it to end early: devices wait for their answers, and leave.

    """

    def __init__(
        self,
        orders: Orders,
        identities: Sequence[Identity],
        schema: Json,
        *,
        seed: int,
        seconds: float | None = None,
        messages: int | None = None,
    ) -> None:
        """Muster it; `seconds` and `messages` bound what it does, None: nothing does.

        Raises:
            UnusableSchemaError: no payload can be made.

        """
        self.tally = Tally(Random(seed))  # noqa: S311 - no secret hangs on it
        self.started = 0
        self.stopping = trio.Event()
        self._orders, self._identities = orders, identities
        self._seed, self._seconds, self._left = seed, seconds, messages
        self._maker = Maker(schema, Random(seed))  # noqa: S311 - the same
        self._maker.good()

    async def run(self) -> None:
        """Run it to its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_in_time)
            for identity in self._identities:
                if self.stopping.is_set():
                    break
                # Each has a chance of its own: what it sends does not hang on what the others do.
                chance = Random(f"{self._seed} {identity.number}")  # noqa: S311 - the same
                device = Device(
                    self._orders,
                    identity,
                    maker=self._maker.again(chance),
                    tally=self.tally,
                    take=self._take,
                    stopping=self.stopping,
                    spawn=nursery.start_soon,
                )
                nursery.start_soon(device.run)
                self.started += 1
                await trio.sleep(1 / START_RATE)

    def _take(self) -> bool:
        """Tell whether one more message may be sent; with the last one the end begins."""
        if self._left is None:
            return True
        if not self._left:
            return False
        self._left -= 1
        if not self._left:
            self.stopping.set()
        return True

    async def _stop_in_time(self) -> None:
        with trio.move_on_after(float("inf") if self._seconds is None else self._seconds):
            await self.stopping.wait()
        self.stopping.set()
