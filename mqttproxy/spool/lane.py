"""The way into the spool for messages with the same destinations: one of the corridor's lanes."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import trio

from mqttproxy.mqtt.packets import Message
from mqttproxy.spool.entry import Share
from mqttproxy.spool.feeding import SLACK
from mqttproxy.spool.spool import Spool

Item = tuple[Message, Any]


class SpoolLane:
    """Takes messages of QoS 1 and 2 for some destinations, as long as the spool has room.

    Attributes:
        waiting: messages in the hands of devices, until there is.
        waits: destinations acknowledge, not the commit.

    """

    def __init__(self, spool: Spool, share: Share, *, waits: bool, patience: float | None) -> None:
        """Make one.

        Args:
            spool: where to.
            share: the destinations.
            waits: destinations acknowledge, not the commit.
            patience: seconds after which the commit is enough all the same.

        """
        self.waiting = 0
        self.waits: Final = waits
        self._spool: Final = spool
        self._share: Final = share
        self._patience: Final = patience

    def place(self, items: Sequence[Item], when_full: str) -> tuple[Sequence[Item], Iterable[Any]]:
        """Offer items; return those that must wait, and the tickets of those dropped."""
        spool, share = self._spool, self._share
        # With `drop_oldest` the oldest go within a second; until then a little more is taken than may be there.
        is_full = spool.why_full(share, SLACK if when_full == "drop_oldest" else 1.0) is not None
        if not is_full and not spool.is_busy:
            self._append(items)
            return (), ()
        if is_full and when_full == "drop_newest":
            for number in share.numbers:
                spool.count_dropped(number, len(items), "spool_full")
            return (), [ticket for _, ticket in items]
        self.waiting += len(items)
        return items, ()

    def put_nowait(self, items: Sequence[Item]) -> None:
        """Put all of them in.

        Raises:
            trio.WouldBlock: there is no room; see `wait_room`.

        """
        if not self.has_room:
            raise trio.WouldBlock
        self._append(items)

    async def wait_room(self) -> None:
        """Return when there is room."""
        while not self.has_room:
            await self._spool.wait_room(self._share)

    @property
    def has_room(self) -> bool:
        """Whether `put_nowait` would take something."""
        return not self._spool.is_busy and self._spool.why_full(self._share) is None

    async def wait_and_place(self, items: Sequence[Item]) -> None:
        """Wait until there is room, and put all of them in."""
        try:
            await self.wait_room()
            self._append(items)
        except BaseException:
            self.give_up(len(items))  # the device is gone: what it was not acknowledged for it will send again
            raise
        self.waiting -= len(items)

    def give_up(self, count: int) -> None:
        """Drop messages that were waiting, because nobody waits for them any more."""
        self.waiting -= count
        for number in self._share.numbers:
            self._spool.count_dropped(number, count, "connection_lost")

    def _append(self, items: Sequence[Item]) -> None:
        self._spool.append(items, self._share, waits=self.waits, patience=self._patience, now=trio.current_time())
