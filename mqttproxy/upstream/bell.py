"""A bell that wakes one task, once for any number of rings in a turn of the scheduler."""

from collections.abc import Callable

import trio


class Bell:
    """Rung by whoever has work for a link: the outbox, the interest in topics, the reader that freed room."""

    def __init__(self) -> None:
        self._rung = False
        self._defer: Callable[[Callable[[], None]], bool] | None = None
        self._answer: Callable[[], bool] | None = None
        self._lot = trio.lowlevel.ParkingLot()

    def ring(self) -> None:
        """Wake the waiting task; heard later if nobody waits now."""
        if not self._rung:
            self._rung = True
            if self._defer is None or not self._defer(self._answer_quickly):
                self._lot.unpark_all()

    def answer_with(
        self, answer: Callable[[], bool] | None, defer: Callable[[Callable[[], None]], bool] | None
    ) -> None:
        """Let rings be answered without waking the task, where that can be put off to the end of a turn.

        Args:
            answer: does what a ring asks for, without waiting; returns whether the task must go on with it. None: no
                such way any more.
            defer: takes a function to be called soon, and returns whether it will be.

        """
        self._answer, self._defer = answer, defer

    def _answer_quickly(self) -> None:
        if self._rung and self._answer is not None:
            self._rung = self._answer()
        if self._rung:
            self._lot.unpark_all()

    async def wait(self) -> None:
        """Wait for a ring and take it. Always lets other tasks run first, so that all rings of a turn are one."""
        if self._rung:
            await trio.lowlevel.checkpoint()
        while not self._rung:
            await self._lot.park()
        self._rung = False
