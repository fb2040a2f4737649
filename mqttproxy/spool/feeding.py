"""What of the spool waits: reading it back from the disk at the start and for who lags, and keeping it tidy."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import takewhile
from typing import Final, NoReturn, Protocol, TypeVar

import trio

from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.config.model import MOST_DESTINATIONS
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message, Timed
from mqttproxy.spool.encoding import Record, Sender
from mqttproxy.spool.entry import Entry, Share
from mqttproxy.spool.feed import Destination, Feed, Item
from mqttproxy.spool.reader import Reader, Run
from mqttproxy.spool.rows import ConsumedRow, DestinationRow, InFlightRow
from mqttproxy.spool.spool import Spool
from mqttproxy.sqlite import DISK_TROUBLE, words
from mqttproxy.telemetry.logs import get_log

T = TypeVar("T")

SLICE: Final = 32 * 1024  # bytes read for a lagging destination at once
# Between two such reads others have their turns: seconds at least, and so many times what the read took, which is the
# longer the less time there is.
REST: Final = 0.005
REST_RATIO: Final = 2.0
TIDY_EVERY: Final = 0.1  # seconds between two looks at how far destinations have come
AGE_EVERY: Final = 1.0  # the same at how old and how much it is
SLACK: Final = 1.25  # what may be dropped passes its bound by this much, until the next look
_RETRY: Final = 1.0  # seconds after the disk could not be read
_LOG: Final = get_log(component="spool")


class Upstreams(Protocol):
    """Destinations by name."""

    def get(self, name: str, /) -> Destination | None:
        """Return the destination of this name, None: there is none now."""


class Feeding:
    """See the module. One for the process.

    Plain attributes for metrics: `damaged_total` (records whose checksum did not fit) and `missing_total` (that are
    not where they should be) count since the start; `trouble` says why the disk cannot be read, None: it can.
    """

    def __init__(
        self, spool: Spool, journal: Journal, reader: Reader, *, to_thread: ToThread = IN_THREAD, rest: float = REST
    ) -> None:
        """Make it.

        Args:
            spool: to be fed from.
            journal: has what was on record at the start.
            reader: reads messages again.
            to_thread: as `trio.to_thread.run_sync`; simulations have no threads.
            rest: seconds between two reads for a destination, at least.

        """
        self._rest: Final = rest
        self.damaged_total = 0
        self.missing_total = 0
        self.trouble: str | None = None
        self._spool: Final = spool
        self._journal: Final = journal
        self._reader: Final = reader
        self._to_thread: Final = to_thread
        self._thread: Final = trio.CapacityLimiter(1)
        self._nursery: trio.Nursery | None = None
        self.left: dict[str, list[int]] = {}  # packet identifiers at QoS 2 whose messages are gone, by destination
        self._fed: set[str] = set()

    # The start.

    async def restore(self, accounts: Mapping[str, str]) -> dict[str, list[tuple[InFlightRow, Item]]]:
        """Bring back what was on disk, however often it must be asked.

        Args:
            accounts: of the destinations that there are; what was in flight to another account is sent anew.

        Returns:
            what was in flight at QoS 2, by destination and in order.

        """
        spool, reader = self._spool, self._reader
        rows: list[DestinationRow] = self._journal.take_loaded(DestinationRow)
        for row in rows:
            spool.add_feed(Feed(row.number, row.name, row.cursor, row.account))
            if accounts.get(row.name) == row.account:
                self.left[row.name] = []
        highest = await self._patiently(reader.highest)
        spool.number = max([highest, *(row.cursor for row in rows)])
        masks = await self._patiently(reader.masks)
        for mask in masks:
            await self._restore_mask(mask)
        for feed in list(spool.feeds.values()):
            if feed.name not in accounts and not any(mask >> feed.number & 1 for mask in masks):
                spool.forget(feed)
        in_flight = await self._restore_exchanges()
        for feed in spool.feeds.values():
            feed.resume(exchange.message for exchange, _ in in_flight.get(feed.name, ()))
            if feed.given < feed.tip:
                feed.lag()
        return in_flight

    async def _restore_exchanges(self) -> dict[str, list[tuple[InFlightRow, Item]]]:
        in_flight: dict[str, list[tuple[InFlightRow, Item]]] = {}
        by_number = {feed.number: feed for feed in self._spool.feeds.values()}
        exchanges: list[InFlightRow] = self._journal.take_loaded(InFlightRow)
        for exchange in sorted(exchanges, key=lambda row: row.message):
            feed = by_number.get(exchange.destination)
            if feed is None or feed.name not in self.left:
                self._journal.remove(InFlightRow, exchange.key)
            elif exchange.message > feed.cursor and (item := await self._find(feed, exchange.message)) is not None:
                in_flight.setdefault(feed.name, []).append((exchange, item))
            else:  # the broker may wait for PUBREL; which message that was does not matter any more
                self.left[feed.name].append(exchange.packet_id)
                self._journal.put(InFlightRow(feed.number, exchange.packet_id, 0, exchange.released))
        return in_flight

    async def _restore_mask(self, mask: int) -> None:
        """Count what waits for the destinations of a mask; damage may have made it one of nobody."""
        known = {feed.number for feed in self._spool.feeds.values()}
        numbers = [number for number in range(MOST_DESTINATIONS) if mask >> number & 1]
        unknown = [number for number in numbers if number not in known]
        if unknown or not numbers:
            found = await self._patiently(partial(self._reader.total, mask, 0))
            self.damaged_total += found.messages
            _LOG.error("spooled messages are damaged: their destinations are not known", messages=found.messages)
        for number in unknown:  # they stay until their time is over
            self._spool.add_feed(Feed(number, f"unknown-{number}"))
        if numbers:
            await self._restore_share(self._spool.share(mask))
        else:
            self._journal.put(ConsumedRow(mask, self._spool.number))

    async def _restore_share(self, share: Share) -> None:
        for feed in self._spool.feeds.values():
            if feed.number not in share.numbers:
                continue
            found = await self._patiently(partial(self._reader.total, share.mask, feed.cursor))
            messages, size = found.messages, found.size
            for run in await self._patiently(partial(self._reader.runs, 1 << feed.number, feed.cursor, 1)):
                if run.first <= feed.cursor and run.mask == share.mask:  # the first of it are over
                    over = run.decode()[: feed.cursor + 1 - run.first]
                    messages -= len(over)
                    feed.is_inexact |= None in over
                    size -= sum(len(pair[0].payload) for pair in over if pair is not None)
            share.messages[feed.number], share.bytes[feed.number] = messages, size
            feed.tip = max(feed.tip, min(found.last, self._spool.number))
            feed.add(messages, size)

    async def _find(self, feed: Feed, number: int) -> Item | None:
        for run in await self._patiently(partial(self._reader.runs, 1 << feed.number, number - 1, 1)):
            if run.first <= number <= run.last:
                found = run.decode(number - run.first)[0]
                if found is not None:
                    return self._item(run, number, *found)
        return None

    # Its work.

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Feed destinations that lag, and keep the spool tidy, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            for name in self._spool.feeds:
                self._start(name)
            task_status.started()
            looked = trio.current_time()
            while True:
                await trio.sleep(TIDY_EVERY)
                now = trio.current_time()
                self._look_for_gaps()
                self._spool.look_at_patience(now)
                self._spool.note_cursors()
                self._spool.note_consumed()
                if now >= looked + AGE_EVERY:
                    looked = now
                    await self._make_room()

    def use(self, upstreams: Upstreams, accounts: Mapping[str, str]) -> None:
        """Feed these destinations from now on; what waits for others stays until its time is over.

        Args:
            upstreams: by name.
            accounts: whose session at which broker each of them has.

        """
        for name, account in accounts.items():
            feed = self._spool.feed(name)
            if feed.account != account:
                feed.account, feed.needs_note = account, True
            if name not in self._fed:
                self._start(name)
        for name, feed in self._spool.feeds.items():
            destination = upstreams.get(name)
            if destination is not feed.destination:
                feed.carry_to(destination)
                if destination is None and feed.messages:
                    _LOG.warning("spooled messages have no destination", upstream=name, messages=feed.messages)

    def stop(self) -> None:
        """Hand out nothing more: the process is ending."""
        for feed in self._spool.feeds.values():
            feed.stop()

    def _start(self, name: str) -> None:
        if self._nursery is not None:
            self._fed.add(name)
            self._nursery.start_soon(self._spool.feeds[name].run, self._read)

    async def _read(self, feed: Feed) -> list[Item]:
        """Return the next items behind `given`; none: all there was is over, and `given` has moved."""
        begun, tip, started = feed.round, feed.tip, trio.current_time()
        try:
            runs = await self._call(partial(self._reader.runs, 1 << feed.number, feed.given, SLICE))
        except DISK_TROUBLE as error:
            self._set_trouble(f"spooled messages cannot be read: {words(error)}")
            await trio.sleep(_RETRY)
            return []
        self._set_trouble(None)
        feed.rest = max(self._rest, REST_RATIO * (trio.current_time() - started))
        if begun != feed.round or feed.is_stopped:
            return []
        if not runs:
            feed.passed(tip)  # what was committed meanwhile is behind it
        items: list[Item] = []
        for run in runs:
            if not self._take(feed, run, items):
                break
        return items

    def _take(self, feed: Feed, run: Run, items: list[Item]) -> bool:
        """Add what is to be handed out of a run; False: that is all for now.

        What is passed over is not counted before all in front of it was handed out: items may be thrown away, and are
        read again then.
        """
        skip = max(0, feed.given + 1 - run.first)
        found = list(enumerate(run.decode(skip), run.first + skip))
        is_old = run.at < self._journal.wall() - self._spool.settings.max_age
        if not items:
            front = list(takewhile(lambda pair: is_old or pair[1] is None or pair[0] in feed.skip, found))
            self._leave_out(feed, run, front)
            found = found[len(front) :]
        for number, pair in found:
            if is_old or pair is None or number in feed.skip:
                return False
            items.append(self._item(run, number, *pair))
        return True

    def _leave_out(self, feed: Feed, run: Run, front: list[tuple[int, tuple[Record, Sender] | None]]) -> None:
        """Pass over what comes next and is damaged, too old, or not to be handed out again."""
        wanted = [(number, pair) for number, pair in front if number not in feed.skip]
        share = self._spool.share(run.mask)
        damaged = [number for number, pair in wanted if pair is None]
        self._spool.lose(number for number, _ in wanted)
        if damaged:
            self._damaged(feed, share, run, damaged)
        old = [len(pair[0].payload) for _, pair in wanted if pair is not None]
        if old:
            feed.passed_over(share, len(old), sum(old), "spool_age")
        if front:
            feed.passed(front[-1][0])
            self._spool.needs_less(feed)

    def _item(self, run: Run, number: int, record: Record, sender: Sender) -> Item:
        message: Message
        if record.expires_at is None:
            message = Message(record.topic, record.payload, record.qos, record.retain, record.properties)
        else:
            over = self._journal.to_monotonic(record.expires_at)
            message = Timed(record.topic, record.payload, record.qos, record.retain, record.properties, over)
        entry = self._spool.waiting_entry(number)
        if entry is None:
            share = self._spool.share(run.mask)
            entry = Entry(number, len(record.payload), share, sender, None, run.epoch)
        return message, entry

    def _damaged(self, feed: Feed, share: Share, run: Run, numbers: list[int]) -> None:
        self.damaged_total += len(numbers)
        feed.is_inexact = True
        whole = run.decode()
        size = 0
        if whole.index(None) + run.first == numbers[0]:  # what is not known of their sizes counts for the first
            size = run.size - sum(len(pair[0].payload) for pair in whole if pair is not None)
        feed.passed_over(share, len(numbers), size, "damaged")
        _LOG.error(
            "spooled messages are damaged", upstream=feed.name, messages=len(numbers), first=numbers[0],
            last=numbers[-1], run=run.first,
        )  # fmt: skip

    def _look_for_gaps(self) -> None:
        """Count what was not on disk where it should have been."""
        for feed in self._spool.feeds.values():
            missing = feed.lost
            if missing > 0:
                self.missing_total += missing
                _LOG.error("spooled messages are missing", upstream=feed.name, messages=missing)
                feed.missing(missing)
                self._spool.needs_less(feed)

    # Bounds.

    async def _make_room(self) -> None:
        """Drop what is too old, and the oldest of what may be dropped where there is too much."""
        spool = self._spool
        try:
            for feed in list(spool.feeds.values()):
                if feed.is_lagging or feed.destination is None:
                    await self._drop_old(feed)
            for feed in spool.over_quota():
                await self._drop_oldest(feed, feed.size - spool.quotas[feed.name])
            if spool.size > spool.settings.max_bytes:
                slowest = max(spool.feeds.values(), key=lambda feed: feed.size)
                await self._drop_oldest(slowest, spool.size - spool.settings.max_bytes)
        except DISK_TROUBLE as error:
            self._set_trouble(f"spooled messages cannot be read: {words(error)}")

    async def _drop_old(self, feed: Feed) -> None:
        limit = self._journal.wall() - self._spool.settings.max_age
        oldest = await self._call(partial(self._reader.oldest, 1 << feed.number, feed.given))
        if oldest is not None and oldest < limit:
            await self._pass_over(feed, "spool_age", lambda run: run.at < limit)

    async def _drop_oldest(self, feed: Feed, excess: int) -> None:
        """Pass over the oldest, as long as they may be dropped, until so many bytes are gone."""
        goal = feed.size - excess
        await self._pass_over(feed, "spool_full", lambda run: feed.size > goal and self._spool.share(run.mask).may_drop)

    async def _pass_over(self, feed: Feed, reason: str, condition: Callable[[Run], bool]) -> None:
        dropped = 0
        while True:
            begun, given = feed.round, feed.given
            runs = await self._call(partial(self._reader.runs, 1 << feed.number, given, SLICE))
            if (begun, given) != (feed.round, feed.given):
                continue  # it was fed meanwhile
            chosen = []
            for run in runs:
                if not condition(run):
                    break
                chosen.append(run)
                left = run.decode(max(0, feed.given + 1 - run.first))
                numbers = range(run.last + 1 - len(left), run.last + 1)
                gone = [(number, pair) for number, pair in zip(numbers, left, strict=True) if number not in feed.skip]
                size = sum(len(pair[0].payload) for _, pair in gone if pair is not None)
                feed.passed_over(self._spool.share(run.mask), len(gone), size, reason)
                self._spool.lose(number for number, _ in gone)
                feed.passed(run.last)
                dropped += len(gone)
            if chosen:
                feed.round += 1  # what was read ahead is obsolete
            if not runs or len(chosen) < len(runs):
                break
        if dropped:
            feed.wake.set()
            self._spool.needs_less(feed)
            _LOG.error("spooled messages were dropped", upstream=feed.name, messages=dropped, reason=reason)

    async def _patiently(self, call: Callable[[], T]) -> T:
        while True:
            try:
                found = await self._call(call)
            except DISK_TROUBLE as error:
                self._set_trouble(f"spooled messages cannot be read: {words(error)}")
                await trio.sleep(_RETRY)
            else:
                self._set_trouble(None)
                return found

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble is not None:
                _LOG.error("spool_trouble", reason=trouble)

    async def _call(self, call: Callable[[], T]) -> T:
        found: T = await self._to_thread(call, abandon_on_cancel=True, limiter=self._thread)
        return found

    def close(self) -> None:
        """Close the reader, after `run` has ended."""
        if not self._thread.borrowed_tokens:
            self._reader.close()
