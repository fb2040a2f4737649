"""The spool: between the acknowledgement and the destinations. What was acknowledged is on disk until all have it.

A batch is noted in the journal, and so in one commit with whatever else waits. After the commit its devices are
acknowledged, and it goes straight into the outboxes of its destinations; the disk is read only for one that lags.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import trio

from mqttproxy.config.model import SpoolSettings
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message, Timed
from mqttproxy.spool.encoding import Batch, Sender
from mqttproxy.spool.entry import DROPPABLE, Entry, Share
from mqttproxy.spool.feed import Feed, Item
from mqttproxy.spool.rows import ConsumedRow, DestinationRow, RunRow

MOST_DESTINATIONS: Final = 62  # bits of a mask


def _nobody(_tickets: list[Any]) -> None:
    pass


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
        self._batches: list[tuple[Share, Sequence[Item]]] | None = None  # noted for the journal's next commit
        self._batch = -1  # which commit of the journal that is
        self._waiting: dict[int, Entry] = {}  # of messages whose devices wait for destinations, by number
        self._patience: dict[float, deque[tuple[float, Sequence[Item]]]] = {}  # when which of them need wait no more
        self._room: Final = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        """Tell what is in it."""
        return f"<Spool {self.size} bytes, {self.pending} messages pending, {list(self.feeds.values())}>"

    # Destinations.

    @property
    def epoch(self) -> int:
        """Which process this is: with the number of a message it tells it from all others of this node."""
        return self._journal.epoch

    def feed(self, name: str) -> Feed:
        """Return the feed of a destination, made if there is none."""
        found = self.feeds.get(name)
        if found is None:
            free = (number for number in range(MOST_DESTINATIONS) if number not in self._by_number)
            found = Feed(next(free), name, self.number)
            self.add_feed(found)
            found.needs_note = True
        return found

    def add_feed(self, feed: Feed) -> None:
        """Take in a feed."""
        self.feeds[feed.name] = self._by_number[feed.number] = feed

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

    def why_full(self, share: Share | None = None, slack: float = 1.0) -> str | None:
        """Say for people why nothing more may be taken, None: there is room. One batch more may pass each bound.

        Args:
            share: asked for; None: any destination.
            slack: how much more may be there than the settings say, but for what waits for its commit.

        """
        settings = self.settings
        if self.pending >= settings.queue_messages or self.pending_bytes >= settings.queue_bytes:
            return f"{self.pending} messages wait for the disk"
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

    async def wait_room(self) -> None:
        """Wait until it is worth asking again whether there is room."""
        await self._room.park()

    def room_was_made(self) -> None:
        """Let everybody who waits for room look again."""
        if self._room:
            self._room.unpark_all()

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
        records, senders, entries, size = self._note(items, share)
        self.number = first + len(items) - 1
        run = RunRow(
            first, self.number, share.mask, self.epoch, self._journal.wall(), len(items), size, Batch(records, senders)
        )
        self._journal.add(run)
        self.note_cursors()
        self.pending += len(items)
        self.pending_bytes += size
        share.add(len(items), size)
        for number in share.numbers:
            self._by_number[number].add(len(items), size)
        if waits:
            self._waiting.update((entry.number, entry) for _, entry in entries)
            if patience is not None:
                self._patience.setdefault(patience, deque()).append((now + patience, entries))
        batches = self._batches
        if batches is None or self._batch != self._journal.batches:
            self._batch, self._batches = self._journal.batches, [(share, entries)]
            self._journal.when_durable(partial(self._committed, self._batches))
        else:
            batches.append((share, entries))

    def _note(
        self, items: Sequence[tuple[Message, Any]], share: Share
    ) -> tuple[list[tuple[Message, int, float | None]], list[Sender], list[Item], int]:
        """Return the records of messages, who sent them, the items for destinations, and the payload bytes."""
        to_wall, epoch, number = self._journal.to_wall, self.epoch, self.number
        records: list[tuple[Message, int, float | None]] = []
        senders: list[Sender] = []
        entries: list[Item] = []
        who = None
        size = 0
        for message, ticket in items:
            number += 1
            origin = ticket.origin
            if origin.identity is not who:
                who = origin.identity
                senders.append(Sender(who.client_id, who.username, who.address, who.listener))
            weight = len(message.payload)
            size += weight
            records.append((message, len(senders) - 1, to_wall(message) if type(message) is Timed else None))
            entries.append((message, Entry(number, weight, share, who, ticket, epoch)))
            if message.qos == 2:
                origin.promise(ticket.packet_id)
        return records, senders, entries, size

    def _committed(self, batches: list[tuple[Share, Sequence[Item]]]) -> None:
        """Acknowledge and hand out what is on disk now."""
        if batches is self._batches:
            self._batches = None
        waiting = self._waiting
        done: list[Any] = []
        given: dict[int, list[Item]] = {}
        for share, entries in batches:
            self.pending -= len(entries)
            self.committed_total += len(entries)
            for _, entry in entries:
                self.pending_bytes -= entry.size
                if entry.number not in waiting:
                    done.append(entry.ticket)
                    entry.ticket = None
            for number in share.numbers:
                given.setdefault(number, []).extend(entries)
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
        self.feeds[name].settled(entries)
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
            while queue and queue[0][0] <= now:
                for _, entry in queue.popleft()[1]:
                    if entry.number in self._waiting and entry.ticket is not None:
                        tickets.append(entry.ticket)
                        self.release(entry)
        if tickets:
            self.accepted(tickets)
        for entry in [entry for entry in self._waiting.values() if entry.ticket is None or entry.ticket.done]:
            self.release(entry)
