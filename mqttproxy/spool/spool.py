"""The spool: between the acknowledgement and the destinations. What was acknowledged is on disk until all have it.

A batch is noted in the journal, and so in one commit with whatever else waits. After the commit its devices are
acknowledged, and it goes straight into the outboxes of its destinations; the disk is read only for one that lags.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import trio
from attrs import frozen

from mqttproxy.config.model import MOST_DESTINATIONS, SpoolSettings
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message
from mqttproxy.spool.encoding import Batch, Sender
from mqttproxy.spool.entry import DROPPABLE, Entry, Share
from mqttproxy.spool.feed import Feed, Item
from mqttproxy.spool.rows import ConsumedRow, DestinationRow, RunRow

WOKEN_AT_ONCE: Final = 16  # of those who wait for room: each of them may fill it


class TooManyDestinationsError(Exception):
    """No number is left for one more destination."""


def _nobody(_tickets: list[Any]) -> None:
    pass


@frozen
class _Run:
    """What is noted, until its commit. `tickets`: of those who wait for it."""

    share: Share
    entries: Sequence[Item]
    size: int
    tickets: Sequence[Any]


class Spool:
    """One for the process. `Feeding` brings back what is on disk and feeds who lags.

    Plain attributes for metrics: `pending` messages and `pending_bytes` wait for their commit, `committed_total`
    counts those that had it since the start.
    """

    def __init__(self, journal: Journal, settings: SpoolSettings) -> None:
        self.settings = settings
        self.pending = 0
        self.pending_bytes = 0
        self.committed_total = 0
        self.number = 0  # the last one that was given to a message, spooled or not
        self.feeds: dict[str, Feed] = {}
        self.quotas: dict[str, int] = {}  # bytes that may wait for a destination, where the settings say
        self.acknowledged: Callable[[list[Any]], None] = _nobody  # told the tickets that a commit settles, in order
        self.lost: Callable[[list[Any]], None] = _nobody  # told the tickets of what a destination will never get
        self.accepted: Callable[[list[Any]], None] = _nobody  # told the tickets that have waited long enough
        self._journal: Final = journal
        self._by_number: dict[int, Feed] = {}
        self._shares: dict[int, Share] = {}  # by mask
        self._runs: list[_Run] | None = None  # noted for the journal's next commit
        self._durable = 0  # the last number that was committed
        self._batch = -1  # which commit of the journal that is
        self._waiting: dict[int, Entry] = {}  # of messages whose devices wait for destinations, by number
        self._patience: dict[float, deque[tuple[float, Sequence[Item]]]] = {}  # when which of them need wait no more
        self._room: Final[dict[Share, trio.lowlevel.ParkingLot]] = {}  # who waits for it

    def __repr__(self) -> str:
        """Tell what is in it."""
        return f"<Spool {self.size} bytes, {self.pending} messages pending, {list(self.feeds.values())}>"

    # Destinations.

    @property
    def epoch(self) -> int:
        """Which process this is: with the number of a message it tells it from all others of this node."""
        return self._journal.epoch

    def feed(self, name: str) -> Feed:
        """Return the feed of a destination, made if there is none.

        Raises:
            TooManyDestinationsError: there is none, and `free_numbers` are none.

        """
        found = self.feeds.get(name)
        if found is None:
            free = self.free_numbers
            if not free:
                waiting = sum(1 for feed in self.feeds.values() if feed.messages)
                raise TooManyDestinationsError(
                    f"no place in the spool for upstream {name}: it has {len(self.feeds)} already, "
                    f"for {waiting} of which messages wait, those of removed ones included"
                )
            found = Feed(free[0], name, self.number)
            self.add_feed(found)
            found.needs_note = True
        return found

    @property
    def free_numbers(self) -> list[int]:
        """The numbers that destinations to come may have."""
        return [number for number in range(MOST_DESTINATIONS) if number not in self._by_number]

    def add_feed(self, feed: Feed) -> None:
        """Take in a feed."""
        self.feeds[feed.name] = self._by_number[feed.number] = feed

    def forget(self, feed: Feed) -> None:
        """Let another destination have the number of one that is gone. At the start: no share has it yet."""
        del self.feeds[feed.name], self._by_number[feed.number]
        self._journal.remove(DestinationRow, feed.number)

    def share_of(self, names: Iterable[str], *, may_drop: bool = False) -> Share:
        """Return what these destinations have in common. `may_drop`: the oldest of it, when there is no room."""
        mask = sum(1 << self.feed(name).number for name in dict.fromkeys(names))
        return self.share(mask | DROPPABLE if may_drop else mask)

    def share(self, mask: int) -> Share:
        """Return the share of a mask."""
        found = self._shares.get(mask)
        if found is None:
            found = self._shares[mask] = Share(mask)
        return found

    # Bounds.

    @property
    def size(self) -> int:
        """Payload bytes on disk, and on their way there."""
        return sum([share.size for share in self._shares.values()])

    @property
    def messages(self) -> int:
        """The same in messages."""
        return sum([share.count for share in self._shares.values()])

    @property
    def is_busy(self) -> bool:
        """As much waits for its commit as may. One batch more may pass the bound."""
        settings = self.settings
        return self.pending >= settings.queue_messages or self.pending_bytes >= settings.queue_bytes

    def why_full(self, share: Share | None = None, slack: float = 1.0) -> str | None:
        """Say for people why nothing more may be taken, None: there is room. One batch more may pass each bound.

        Args:
            share: asked for; None: any destination.
            slack: how much more may be there than the settings say.

        """
        settings = self.settings
        size = self.size
        if size >= settings.max_bytes * slack:
            slowest = max(self.feeds.values(), key=lambda feed: feed.size, default=None)
            name = "nobody" if slowest is None else slowest.name
            return f"{size} of {settings.max_bytes} bytes are in use, most of them wait for {name}"
        for feed in self.over_quota(share, slack):
            return f"{feed.size} of {self.quotas[feed.name]} bytes wait for {feed.name}"
        return None

    def over_quota(self, share: Share | None = None, slack: float = 1.0) -> list[Feed]:
        """Return destinations, of a share or all, for which as much waits as may."""
        if not self.quotas:
            return []
        return [
            feed
            for name, quota in self.quotas.items()
            if (feed := self.feeds.get(name)) is not None
            and (share is None or feed.number in share.numbers)
            and feed.size >= quota * slack
        ]

    async def wait_room(self, share: Share) -> None:
        """Wait until it is worth asking again whether there is room for messages to these destinations."""
        await self._room.setdefault(share, trio.lowlevel.ParkingLot()).park()

    def room_was_made(self) -> None:
        """Let some of those who wait for room that there is look again, the longest waiting first.

        The commit of what they append lets the next ones look: never all at once, when most would find it full again.
        """
        if not self._room or self.is_busy:
            return
        for share, lot in list(self._room.items()):
            if self.why_full(share) is None:
                lot.unpark(count=WOKEN_AT_ONCE)
                if not lot:
                    del self._room[share]

    def count_dropped(self, number: int, messages: int, reason: str) -> None:
        """Count messages that a destination, by its number, will not get because they were never taken."""
        self._by_number[number].count_dropped(messages, reason)

    # Messages.

    def append(
        self,
        items: Sequence[tuple[Message, Any]],
        share: Share,
        *,
        waits: bool = False,
        patience: float | None = None,
        now: float = 0.0,
    ) -> None:
        """Note messages for the next commit.

        Args:
            items: with their tickets, whose `origin` sent them.
            share: their destinations, at least one.
            waits: the devices are acknowledged by the destinations; False: by the commit.
            patience: seconds after which the commit is enough all the same, if it waits.
            now: monotonic seconds.

        """
        first = self.number + 1
        entries, senders, size = self._enter(items, share, waits=waits)
        count = len(entries)
        self.number = first + count - 1
        journal = self._journal
        batch = Batch(entries, senders, journal.wall_of(0.0))
        journal.add(RunRow(first, self.number, share.mask, self.epoch, journal.wall(), count, size, batch))
        self.note_cursors()
        self.pending += count
        self.pending_bytes += size
        share.add(count, size)
        for number in share.numbers:
            feed = self._by_number[number]
            feed.add(count, size)
            feed.pending += count
        if waits and patience is not None:
            self._patience.setdefault(patience, deque()).append((now + patience, entries))
        run = _Run(share, entries, size, () if waits else [ticket for _, ticket in items])
        runs = self._runs
        if runs is None or self._batch != journal.batches:
            self._batch, self._runs = journal.batches, [run]
            journal.when_durable(partial(self._committed, self._runs))
        else:
            runs.append(run)

    def _enter(
        self, items: Sequence[tuple[Message, Any]], share: Share, *, waits: bool
    ) -> tuple[list[Item], list[tuple[int, Sender]], int]:
        """Return the items for destinations, from which on messages are whose, and the payload bytes."""
        epoch, first, waiting = self.epoch, self.number + 1, self._waiting
        senders: list[tuple[int, Sender]] = []
        entries: list[Item] = []
        for start, end, origin in _by_origin(items):
            who = origin.identity
            senders.append((start, Sender(who.client_id, who.username, who.address, who.listener, who.attributes)))
            entries += [
                (message, Entry(number, len(message.payload), share, who, None, epoch))
                for number, (message, _) in enumerate(items[start:end], first + start)
            ]
        for ticket in [ticket for message, ticket in items if message.qos == 2]:
            ticket.origin.promise(ticket.packet_id)
        if waits:
            for (_, entry), (_, ticket) in zip(entries, items, strict=True):
                entry.ticket = ticket
                waiting[entry.number] = entry
        return entries, senders, sum([entry.size for _, entry in entries])

    def _committed(self, runs: list[_Run]) -> None:
        """Acknowledge and hand out what is on disk now."""
        if runs is self._runs:
            self._runs = None
        done: list[Any] = []
        given: dict[int, list[Item]] = {}
        for run in runs:
            self._durable = run.entries[-1][1].number
            self.pending -= len(run.entries)
            self.pending_bytes -= run.size
            self.committed_total += len(run.entries)
            done += run.tickets
            for number in run.share.numbers:
                given.setdefault(number, []).extend(run.entries)
        if done:
            self.acknowledged(done)
        for number, items in given.items():
            self._by_number[number].push(items)
        self.room_was_made()

    def waiting_entry(self, number: int) -> Entry | None:
        """Return the entry of a message whose device waits for its destinations."""
        return self._waiting.get(number)

    def lose(self, numbers: Iterable[int]) -> None:
        """Hear that a destination will never get these messages; their devices may still wait for it."""
        entries = [entry for number in numbers if (entry := self._waiting.get(number)) is not None]
        if tickets := [entry.ticket for entry in entries if entry.ticket is not None]:
            self.lost(tickets)

    def release(self, entry: Entry) -> None:
        """Hear that the device of a message was acknowledged, or is gone."""
        entry.ticket = None
        self._waiting.pop(entry.number, None)

    def settled(self, name: str, entries: Sequence[Entry]) -> None:
        """Hear that a destination has these messages, or will never need them."""
        feed = self.feeds[name]
        feed.settled(entries)
        self.needs_less(feed)

    def needs_less(self, feed: Feed) -> None:
        """Hear that a destination needs less than before; forget what damage left counted once that is nothing."""
        if feed.is_inexact and not feed.messages:
            feed.is_inexact = False
            feed.size = 0
            for share in self._shares.values():
                share.clear(feed.number)
        self.room_was_made()

    # Housekeeping.

    def note_cursors(self) -> None:
        """Note how far destinations have come, where that has changed."""
        for feed in self.feeds.values():
            if feed.needs_note:
                feed.needs_note = False
                cursor = feed.cursor
                self._journal.put(DestinationRow(feed.number, feed.name, cursor, feed.account))
                feed.cursor_noted(cursor)

    def note_consumed(self) -> None:
        """Have removed what none of its destinations needs any more."""
        for share in self._shares.values():
            feeds = [self._by_number[number] for number in share.numbers]
            upto = min(feed.cursor for feed in feeds)
            if upto > share.purged and share.has_consumed:
                # What is settled behind a cursor that another share's message holds back goes when that has moved on.
                share.purged, share.has_consumed = upto, any(feed.given > upto for feed in feeds)
                self._journal.put(ConsumedRow(share.mask, upto))

    def look_at_patience(self, now: float) -> None:
        """Accept what has waited long enough for its destinations; let go of what nobody waits for any more."""
        tickets: list[Any] = []
        for queue in self._patience.values():
            while queue and queue[0][0] <= now and queue[0][1][-1][1].number <= self._durable:
                for _, entry in queue.popleft()[1]:
                    if entry.number in self._waiting and entry.ticket is not None:
                        tickets.append(entry.ticket)
                        self.release(entry)
        if tickets:
            self.accepted(tickets)
        for entry in [entry for entry in self._waiting.values() if entry.ticket is None or entry.ticket.done]:
            self.release(entry)


def _by_origin(items: Sequence[tuple[Message, Any]]) -> list[tuple[int, int, Any]]:
    """Return from where to where messages are from one sender, and which."""
    starts: list[int] = []
    origin: Any = None
    for place, (_, ticket) in enumerate(items):
        if ticket.origin is not origin:
            origin = ticket.origin
            starts.append(place)
    return [(start, end, items[start][1].origin) for start, end in zip(starts, [*starts[1:], len(items)], strict=True)]
