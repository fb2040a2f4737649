"""The way from the spool to one destination: straight from the commit while it keeps up, from the disk when it lags."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn, Protocol

import trio

from mqttproxy.mqtt.packets import Message
from mqttproxy.spool.entry import Entry, Share

Item = tuple[Message, Any]


class Destination(Protocol):
    """An upstream as its feed sees it."""

    def offer(self, items: Sequence[Item]) -> int:
        """Take the longest prefix that fits; return its length."""

    async def wait_room(self) -> None:
        """Return when an offer may be taken again."""


class Feed:
    """What one destination needs of the spool, in the order of the numbers.

    Attributes:
        number: its bit in masks.
        name: of the destination.
        destination: None: the settings do not have it at present; its messages wait until their time is over.
        cursor: no message up to this number is needed.
        given: the last number that was handed out, or passed over.
        tip: the number of the last committed message for it.
        messages, size: what is needed: committed, and not settled. Bytes of payloads.
        out: how many of these the destination has.
        pending: how many messages for it wait for their commit; they count as needed.
        is_lagging: what is committed is not handed out at once, but read from the disk, in order.
        appended: messages that came since the start, those found on disk included.
        is_inexact: damage has made counts too high, until they should be zero.

    """

    def __init__(self, number: int, name: str, cursor: int = 0, account: str = "") -> None:
        self.number = number
        self.name = name
        self.account = account
        self.destination: Destination | None = None
        self.given = self.tip = cursor
        self.messages = self.size = self.pending = 0
        self.appended = 0
        self.dropped: dict[str, int] = {}
        self.is_lagging = False
        self.is_stopped = False
        self.is_inexact = False
        self.is_paused = False  # for a time
        self.cursor_noted: Callable[[int], None] = lambda _: None  # told each cursor that is noted
        self.needs_note = False  # what is on disk about it is no longer true
        self.skip: set[int] = set()  # numbers behind `given` that are not to be handed out, or not again
        self.rest = 0.0  # seconds until the next read, as the last one says
        self.round = 0  # counts what makes items that were read ahead obsolete
        self.wake = trio.Event()
        self._out: deque[int] = deque()  # numbers handed out and not settled, and those settled behind them
        self._early: set[int] = set()  # settled, and not at the head of `_out`
        self._resumed: set[int] = set()  # handed out by the last process; their exchanges go on

    def __repr__(self) -> str:
        """Tell how it stands."""
        return f"<Feed {self.name} {self.messages} waiting, {'lagging' if self.is_lagging else 'live'}>"

    @property
    def cursor(self) -> int:
        """No message up to this number is needed."""
        cursor = self._out[0] - 1 if self._out else self.given
        return min(cursor, min(self._resumed) - 1) if self._resumed else cursor

    @property
    def out(self) -> int:
        """How many messages the destination has that are not settled."""
        return len(self._out) - len(self._early) + len(self._resumed)

    @property
    def on_disk(self) -> int:
        """How many messages it needs and does not have yet."""
        return self.messages - self.out

    def add(self, messages: int, size: int) -> None:
        """Count messages that it needs."""
        self.messages += messages
        self.size += size
        self.appended += messages

    def push(self, items: Sequence[Item]) -> None:
        """Take what was just committed, in order."""
        self.tip = max(self.tip, items[-1][1].number)
        self.pending -= len(items)
        if items[0][1].number <= self.given:  # it was read from the disk before we heard of its commit
            items = [item for item in items if item[1].number > self.given]
        if self.is_lagging or not items:
            return
        if self.is_stopped:
            self.lag()
            return
        taken = 0 if self.destination is None else self.destination.offer(items)
        self.gave(items[:taken])
        if taken < len(items):
            self.lag()

    def lag(self) -> None:
        """Go on from the disk."""
        self.is_lagging = True
        self.wake.set()

    def gave(self, items: Sequence[Item]) -> None:
        """Count what the destination has taken."""
        if items:
            self._out.extend([item[1].number for item in items])
            self.passed(self._out[-1])

    def passed(self, number: int) -> None:
        """Hand out nothing up to this number: there is nothing that should be."""
        self.given = max(self.given, number)
        self._forget_skipped()

    def _forget_skipped(self) -> None:
        if self.skip:
            cursor = self.cursor  # and not `given`, which may be set back to it
            self.skip = {skipped for skipped in self.skip if skipped > cursor}

    def resume(self, numbers: Iterable[int]) -> None:
        """Count as handed out what was in flight when the last process ended."""
        self._resumed = set(numbers)
        self.skip = set(self._resumed)

    def rewind(self) -> None:
        """Hear that the destination was removed, with all that it had: another one of this name gets it again."""
        self.skip |= self._early
        self.given = self.cursor
        self._out.clear()
        self._early.clear()
        self._resumed.clear()
        self.round += 1
        self.lag()

    def settled(self, entries: Sequence[Entry]) -> None:
        """Hear that the destination needs these no more."""
        out, early, resumed, number = self._out, self._early, self._resumed, self.number
        size = count = taken = taken_size = 0
        share = entries[0].share if entries else None
        for entry in entries:
            if entry.share is not share and share is not None:
                share.take(number, taken, taken_size)
                share, taken, taken_size = entry.share, 0, 0
            taken += 1
            count += 1
            taken_size += entry.size
            size += entry.size
            if out and out[0] == entry.number:
                out.popleft()
            elif entry.number in resumed:
                resumed.remove(entry.number)
            else:
                early.add(entry.number)
        while early and out and out[0] in early:
            early.remove(out.popleft())
        self._forget_skipped()
        if share is not None:
            share.take(number, taken, taken_size)
        self.messages -= count
        self.size -= size
        self.needs_note = True

    def passed_over(self, share: Share, messages: int, size: int, reason: str) -> None:
        """Count messages that it will never get, and that it does not have."""
        share.take(self.number, messages, size)
        self.messages -= messages
        self.size -= size
        self._drop(messages, reason)
        self.needs_note = True

    @property
    def lost(self) -> int:
        """How many messages it needs that were not on disk, where they should have been: seen once it is live."""
        return 0 if self.is_lagging else self.on_disk - self.pending

    def missing(self, messages: int) -> None:
        """Count messages that are not on disk although they should be."""
        self.messages -= messages
        self.is_inexact = True
        self._drop(messages, "missing")

    def count_dropped(self, messages: int, reason: str) -> None:
        """Count messages that were given up before they were taken."""
        self.appended += messages
        self._drop(messages, reason)

    def _drop(self, messages: int, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + messages

    async def run(self, read: Callable[["Feed"], Awaitable[list[Item]]]) -> NoReturn:
        """Feed the destination from the disk whenever it lags, until cancelled.

        Args:
            read: returns the next items behind `given`; none: all of them were passed over, and `given` was moved.

        """
        while True:
            self.wake = trio.Event()
            if self.destination is None or not self.is_lagging or self._is_held_up():
                await self.wake.wait()
            else:
                await self._catch_up(self.destination, self.round, read)

    async def _catch_up(
        self, destination: Destination, begun: int, read: Callable[["Feed"], Awaitable[list[Item]]]
    ) -> None:
        """Hand out what one read brings; go live when that was the last."""
        await destination.wait_room()
        if begun != self.round or self._is_held_up():
            return
        items = await read(self)
        while items and begun == self.round and not self._is_held_up():
            taken = destination.offer(items)
            self.gave(items[:taken])
            items = items[taken:]
            if items:
                await destination.wait_room()
        if begun == self.round and self.given >= self.tip:
            self.is_lagging = False
        else:
            await trio.sleep(self.rest)

    def _is_held_up(self) -> bool:
        return self.is_stopped or self.is_paused

    def carry_to(self, destination: Destination | None) -> None:
        """Feed this one from now on, None: nobody."""
        self.destination = destination
        self.round += 1
        self.wake.set()

    def pause(self) -> None:
        """Hand out nothing more for a time."""
        self.is_paused = True
        self.lag()

    def go_on(self) -> None:
        """Hand out again."""
        self.is_paused = False
        self.wake.set()

    def stop(self) -> None:
        """Hand out nothing more: the process is ending."""
        self.is_stopped = True
        self.wake.set()
