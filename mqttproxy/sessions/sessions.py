"""All sessions of the process: opened by CONNECT, closed with the connection, over when their time has come."""

import gc
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, NoReturn

import trio
from msgspec.structs import replace

from mqttproxy.config.model import LimitSettings
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message, Subscription, Timed
from mqttproxy.sessions.ledger import Kept, Ledger, Stored
from mqttproxy.sessions.queue import weigh
from mqttproxy.sessions.records import IncomingRow, MessageRow, QueuedRow, SessionRow, SubscriptionRow
from mqttproxy.sessions.session import Session
from mqttproxy.sessions.table import SharedMessage, SubscriptionTable, by_group

SLICE: Final = 500  # sessions that are discarded, with what waits for them, or swept before others get a turn
SPARE: Final = 1000  # timers that may lie about before those without a use are swept out


class SessionsFull(Exception):  # noqa: N818 - it is no error of ours: CONNACK 0x97
    """There are as many sessions as may be."""


def _no_dropping(_reason: str, _count: int) -> None:
    pass


def _no_discarding(_session: Session, _filters: tuple[str, ...]) -> None:
    pass


class Sessions:
    """Every session, by client identifier.

    Attributes:
        on_discard: told each session that is over, and the filters it had; set by the door.
        disconnected: how many have no connection.
        discarded_total: how many were discarded since the start.
        ledger: of their queues, with `queued_messages` and `queued_bytes`.

    """

    def __init__(
        self,
        *,
        table: SubscriptionTable,
        journal: Journal,
        limits: LimitSettings,
        now: Callable[[], float] = trio.current_time,
        wall: Callable[[], float],
        dropped: Callable[[str, int], None] = _no_dropping,
    ) -> None:
        """Make it, empty.

        Args:
            table: of subscriptions.
            journal: where to note what must not be lost.
            limits: of sessions and queues.
            now: monotonic seconds, of the clock that `run` sleeps by.
            wall: seconds since 1970.
            dropped: told why and how many messages were dropped: `queue_full`, `expired`, `offline` (QoS 0 for an
                absent device) or `discarded` (with their session).

        """
        self.on_discard: Callable[[Session, tuple[str, ...]], None] = _no_discarding
        self.disconnected = 0
        self.discarded_total = 0
        self.ledger: Final = Ledger(journal, limits, now=now, dropped=dropped)
        self._table: Final = table
        self._journal: Final = journal
        self._now: Final = now
        self._wall: Final = wall
        self._dropped: Final = dropped
        self._by_client: Final[dict[str, Session]] = {}
        self._last_number = 0
        self._timers: list[tuple[float, int, Session]] = []  # a heap; what does not agree with its session is dead
        self._woken = trio.Event()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_client)

    def __iter__(self) -> Iterator[Session]:
        """Go through all of them."""
        return iter(self._by_client.values())

    def get(self, client_id: str) -> Session | None:
        """Return the session of a client, None: it has none."""
        return self._by_client.get(client_id)

    def apply(self, limits: LimitSettings) -> None:
        """Use other limits from now on; what is there stays."""
        self.ledger.limits = limits

    # Their life.

    def open(
        self, client_id: str, *, clean_start: bool, expiry: float, owner: str | None = None
    ) -> tuple[Session, bool]:
        """Return the session for a new connection, and whether it was there before. An older one has been closed.

        Whether it may have a session that is there is for the caller to say, see `Session.owner`.

        Args:
            client_id: of the CONNECT.
            clean_start: discard what there is.
            expiry: seconds that it is to outlive the connection, within `limits.session_expiry`.
            owner: whose it is from now on; None: nobody's, if it is new, and otherwise whose it was.

        Raises:
            SessionsFull: there is none for this client, and no room for a new one.

        """
        session = self._by_client.get(client_id)
        was_on_record = False
        if session is not None and (clean_start or not session.is_durable):
            was_on_record = session.is_on_record
            self._discard(session)
            session = None
        is_present = session is not None
        if session is None:
            if len(self._by_client) >= self.ledger.limits.sessions:
                raise SessionsFull
            self._last_number += 1
            session = self._by_client[client_id] = Session(client_id, self.ledger, self._last_number, expiry)
            if was_on_record:
                session.hold()  # once CONNACK has said that it is gone, no crash may bring it back
        elif not session.is_on:
            self.disconnected -= 1
        if owner is not None:
            session.owner = owner
        session.expiry = expiry
        session.is_on = True
        if is_present or session.is_durable:
            self._note(session, None, is_new=not is_present)
        return session, is_present

    def close(self, session: Session, *, expiry: float | None = None) -> None:
        """Hear that the connection of a session has ended; once for each `open`. It may be over already.

        Args:
            session: as `open` gave it.
            expiry: another one, from DISCONNECT. It cannot make a session outlive its connection that was not to.

        """
        if session.is_over or not session.is_on:
            return
        if expiry is not None and session.is_durable:
            session.expiry = expiry
        if not session.is_durable:
            self._discard(session)
            return
        session.disconnected()
        self.disconnected += 1
        self._note(session, self._wall())
        self._start_timer(session, self._now() + session.expiry)

    def subscribed(
        self, session: Session, subscription: Subscription, identifier: int = 0, *, is_new: bool = False
    ) -> None:
        """Note what the table was told. Nothing is written to the device before it is on disk: SUBACK promises it.

        Args:
            session: whose.
            subscription: as it was given.
            identifier: as it was given.
            is_new: as the table has answered.

        """
        if session.is_durable:
            row = SubscriptionRow(session.number, subscription, identifier)
            if is_new:
                self._journal.add(row)
            else:
                self._journal.put(row)
            session.hold()

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """Note the same of its end. What waits already is still delivered."""
        if session.is_durable:
            self._journal.remove(SubscriptionRow, (session.number, topic_filter))
            session.hold()

    async def run(self) -> NoReturn:
        """Discard sessions when their time has come, until cancelled."""
        while True:
            self._woken = trio.Event()
            with trio.move_on_at(self.discard_due()):
                await self._woken.wait()
            await trio.lowlevel.checkpoint()

    async def sweep(self) -> None:
        """Drop what is over of all that waits. Otherwise it would be dropped, and counted, when its device is back."""
        for index, session in enumerate([*self._by_client.values()]):
            session.sweep(self._now())
            if index % SLICE == 0:
                await trio.lowlevel.checkpoint()

    def discard_due(self) -> float:
        """Discard what is due, some at a time. Returns when to come again, unless a timer is started before."""
        now = self._now()
        left = SLICE
        while self._timers and left > 0:
            due, _, session = self._timers[0]
            if not _is_alive(due, session):
                heappop(self._timers)
            elif due > now:
                break
            else:
                heappop(self._timers)
                left -= 1 + len(session.queue)
                self._discard(session)
        return self._timers[0][0] if self._timers else inf

    def _start_timer(self, session: Session, due: float) -> None:
        session.due = due
        heappush(self._timers, (due, session.number, session))
        if self._timers[0][2] is session:
            self._woken.set()
        if len(self._timers) > SPARE + 2 * self.disconnected:
            self._timers = [timer for timer in self._timers if _is_alive(timer[0], timer[2])]
            heapify(self._timers)

    def _note(self, session: Session, ended_at: float | None, *, is_new: bool = False) -> None:
        session.is_on_record = True
        row = SessionRow(session.number, session.client_id, session.expiry, ended_at, session.owner)
        if is_new:
            self._journal.add(row)
        else:
            self._journal.put(row)

    def _discard(self, session: Session) -> None:
        """End a session: its subscriptions, what waits for it, and its record."""
        self.disconnected -= not session.is_on
        del self._by_client[session.client_id]
        self.discarded_total += 1
        filters = self._table.filters_of(session.client_id)
        for topic_filter in filters:
            self._table.unsubscribe(session.client_id, topic_filter)
            if session.is_on_record:
                self._journal.remove(SubscriptionRow, (session.number, topic_filter))
        left = session.discarded()
        if session.is_on_record:
            self._journal.remove(SessionRow, session.number)
        lost = len(left)
        for shared_filter, messages in by_group(left).items():
            lost -= len(messages) - len(self._table.redispatch(shared_filter, messages, session.client_id))
        if lost:
            self._dropped("discarded", lost)
        self.on_discard(session, filters)

    # The start.

    def restore(self) -> None:
        """Bring back what the journal has loaded, before the doors open. What is over by now is discarded.

        A session whose connection was on when the last process died has as much time as if it had ended now.
        """
        collects = gc.isenabled()
        gc.disable()  # all that is made here stays; to look for garbage in it again and again takes most of the time
        try:
            self._restore()
        finally:
            if collects:
                gc.enable()

    def _restore(self) -> None:
        journal = self._journal
        rows = journal.take_loaded(SessionRow)
        by_number: dict[int, Session] = {}
        now, wall = self._now(), self._wall()
        for row in rows:
            session = Session(row.client_id, self.ledger, row.number, row.expiry, owner=row.owner)
            session.is_on_record = True
            by_number[row.number] = self._by_client[row.client_id] = session
            ended_at = wall if row.ended_at is None else min(row.ended_at, wall)
            session.due = now + row.expiry - (wall - ended_at)
            if row.ended_at is None:
                self._note(session, wall)
        self.disconnected = len(self._by_client)
        self._last_number = max(by_number, default=0)
        self._timers = [(session.due, session.number, session) for session in by_number.values()]
        heapify(self._timers)
        for subscribed in journal.take_loaded(SubscriptionRow):
            self._table.subscribe(by_number[subscribed.session], subscribed.subscription, subscribed.identifier)
        self._restore_messages(by_number)
        while self.discard_due() <= now:
            pass

    def _restore_messages(self, by_number: dict[int, Session]) -> None:
        messages = {row.number: row for row in self._journal.take_loaded(MessageRow)}
        stored = {number: Stored(number) for number in messages}
        queued: dict[int, list[tuple[Message, Kept]]] = {}
        for row in self._journal.take_loaded(QueuedRow):
            message = self._message(messages[row.message], row)
            kept = Kept(row, stored[row.message], weigh(message))
            kept.stored.references += 1
            queued.setdefault(row.session, []).append((message, kept))
            self.ledger.last_queued = row.number
        self.ledger.last_message = max(messages, default=0)
        incoming: dict[int, list[int]] = {}
        for entry in self._journal.take_loaded(IncomingRow):
            incoming.setdefault(entry.session, []).append(entry.packet_id)
        for number in queued.keys() | incoming.keys():
            by_number[number].restore(queued.get(number, ()), incoming.get(number, ()))

    def _message(self, shared: MessageRow, row: QueuedRow) -> Message:
        properties = shared.properties
        if row.identifiers:
            properties = replace(properties, subscription_identifiers=row.identifiers)
        over = self._journal.to_monotonic(shared.expires_at)
        topic, payload = shared.topic, shared.payload
        if row.shared_filter:
            return SharedMessage(topic, payload, row.qos, row.retain, properties, over, row.shared_filter)
        if over < inf:
            return Timed(topic, payload, row.qos, row.retain, properties, over)
        return Message(topic, payload, row.qos, row.retain, properties)


def _is_alive(due: float, session: Session) -> bool:
    return session.due == due and not session.is_on and not session.is_over
