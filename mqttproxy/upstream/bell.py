"""A bell that wakes one task, once for any number of rings in a turn of the scheduler."""

import trio


class Bell:
    """Rung by whoever has work for a link: the outbox, the interest in topics, the reader that freed room."""

    def __init__(self) -> None:
        self._rung = False
        self._lot = trio.lowlevel.ParkingLot()

    def ring(self) -> None:
        """Wake the waiting task; heard later if nobody waits now."""
        if not self._rung:
            self._rung = True
            self._lot.unpark_all()

    async def wait(self) -> None:
        """Wait for a ring and take it. Always lets other tasks run first, so that all rings of a turn are one."""
        if self._rung:
            await trio.lowlevel.checkpoint()
        while not self._rung:
            await self._lot.park()
        self._rung = False
