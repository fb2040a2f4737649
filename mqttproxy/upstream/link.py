"""One live connection to an MQTT broker: from CONNACK until it fails.

Three tasks end together: the reader, the writer, and the timer, which is the watchdog and sends PINGREQ. A fourth
belongs to the stream. Everything in one read, and everything that waits in one turn, is one batch: one encoding, one
write.
"""

from collections.abc import Sequence
from math import inf
from typing import Final, NoReturn

import trio

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event, Sent, Settled
from mqttproxy.mqtt.packets import (
    Disconnect,
    Publish,
    SubAck,
    UnsubAck,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.sender import OPEN
from mqttproxy.transport.poller import current_poller
from mqttproxy.upstream.announcing import Announcements
from mqttproxy.upstream.books import Books, size_of
from mqttproxy.upstream.callbacks import Callbacks, Owner, Refusal
from mqttproxy.upstream.connect import Opened
from mqttproxy.upstream.departures import Departures
from mqttproxy.upstream.errors import FIRST_FAILURE, LinkError, Trouble, dismissal
from mqttproxy.upstream.guard import stamp_of
from mqttproxy.upstream.interest import Interest
from mqttproxy.upstream.naming import Naming
from mqttproxy.upstream.outbox import Item, Outbox
from mqttproxy.upstream.pause import NO_LIMIT, TRANSIENT, Pause
from mqttproxy.upstream.receipts import Receipts
from mqttproxy.upstream.telling import tell, too_large
from mqttproxy.upstream.watchdog import Watchdog
from mqttproxy.upstream.withheld import Withheld, note_begun, note_ended

UNSENT_HIGH: Final = 256 * 1024  # bytes the kernel did not take; above it nothing new is published
UNSENT_LOW: Final = 64 * 1024
IN_FLIGHT_LIMIT: Final = 64_000  # of 65,535 packet identifiers; SUBSCRIBE needs some too
UNSENT_LIMIT: Final = 1024 * 1024  # above it the broker is not read either: what it sends makes us answer
TURN_BYTES: Final = 256 * 1024  # payload bytes encoded at once, so that no link holds the loop


class Link:
    """See the module. `settings` may be replaced while it runs, as far as they do not need a new link."""

    def __init__(
        self,
        opened: Opened,
        settings: UpstreamSettings,
        *,
        outbox: Outbox,
        interest: Interest,
        naming: Naming,
        books: Books,
        callbacks: Callbacks,
        owner: Owner,
        pause: Pause,
        announce: Announcements,
        proxy_id: str,
        trial_ends: float,
    ) -> None:
        self.settings = settings
        if settings.loop_guard:
            opened.conn.stamp = stamp_of(proxy_id)
        if settings.message_ids and settings.version == "5":
            opened.conn.identify = callbacks.identify
        self._opened = opened
        self._conn = opened.conn
        self._session = opened.conn.session
        self._stream = opened.stream
        self._outbox = outbox
        self._interest = interest
        self._naming = naming
        self._books = books
        self._callbacks = callbacks
        self._owner = owner
        self._departures = Departures(settings.name, naming, books, callbacks, lambda refused: self._tell([], refused))
        self._pause = pause
        self._announce = announce
        self._pausing: trio.Nursery | None = None  # our own
        self._trial_ends = trial_ends
        self._proved = False
        self._began = now = trio.current_time()
        self._withheld = Withheld(opened.conn.session, opened.stream)
        self._watchdog = Watchdog(opened.conn, now)
        self._receipts = Receipts(opened.conn, self._written)
        self._is_taking = False  # what one read brought; what is written meanwhile goes out after it

    @property
    def is_receiving(self) -> bool:
        """Something that the broker has sent is not over."""
        return bool(self._conn.unacknowledged or self._session.incoming_qos2)

    @property
    def in_flight(self) -> list[int]:
        """Packet identifiers of what went over this link, may have to go again, and was not answered."""
        return self._conn.in_flight

    async def run(self) -> NoReturn:
        """Carry until the link fails or is cancelled; then say goodbye.

        Raises:
            BaseExceptionGroup: of what `LINK_FAILURES` names.

        """
        try:
            async with trio.open_nursery() as nursery:
                self._session.on_commit = self._let_go
                self._pausing = nursery
                self._begin()
                poller = current_poller()
                self._outbox.bell.answer_with(self._fill, poller.at_end_of_turn if poller else None)
                nursery.start_soon(self._stream.run)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._write)
                await self._read()
        finally:
            self._session.on_commit = None
            self._outbox.bell.answer_with(None, None)
            await self._opened.close()

    def _begin(self) -> None:
        # In this order: what is in flight may come back on a subscription, and is older than what waits.
        self._naming.begin(self._conn.server)
        self._interest.begin(session_present=self._opened.connack.session_present)
        self._tell_interest()
        self._resume()
        self._wait_out_pause()
        now = trio.current_time()
        self._handle(self._opened.early, now)
        self._handle_all(b"", now)
        self._flush()

    async def _read(self) -> NoReturn:
        while await self._stream.receive_each(self._take):
            await self._stream.wait_drained(UNSENT_HIGH)
            await self._wait_acknowledged()
        raise LinkError(Trouble.LOST, "the broker closed the connection")

    async def _wait_acknowledged(self) -> None:
        """Wait until the broker may send more; meanwhile its silence is ours."""
        if not self._receipts.owes_much(self.settings):
            return
        self._watchdog.is_held = True
        try:
            while self._receipts.owes_much(self.settings):
                await self._receipts.wait()
        finally:
            self._watchdog.let_go(trio.current_time())

    def _written(self) -> None:
        if not self._is_taking:
            self._outbox.bell.ring()

    def _take(self, data: bytes | memoryview, now: float) -> bool:
        """Do everything that one read asks for. False: the broker must take our answers before it is read again."""
        self._is_taking = True
        self._handle_all(data, now)
        self._watchdog.read(now)
        self._is_taking = False
        if self._fill():
            self._outbox.bell.ring()
        return self._stream.unsent <= UNSENT_LIMIT and not self._receipts.owes_much(self.settings)

    async def _write(self) -> NoReturn:
        while True:
            if self._fill():
                await self._stream.wait_drained(UNSENT_LOW)
                await trio.lowlevel.checkpoint()
            else:
                await self._outbox.bell.wait()

    # What came

    def _handle_all(self, data: bytes | memoryview, now: float) -> None:
        conn = self._conn
        try:
            events = conn.receive(data, now)
            while True:
                if events:
                    self._handle(events, now)
                if not conn.has_unread or not (events := conn.next_batch(now)):
                    return
        except RemoteProtocolError as error:
            self._conn.fail(error)  # tell the broker why, before the link goes
            raise

    def _handle(self, events: Sequence[Event], now: float) -> None:
        settled: list[Settled] = []
        arrived: list[Publish] = []
        end: Disconnect | None = None
        for event in events:
            kind = type(event)
            if kind is Settled:
                settled.append(event)  # type: ignore[arg-type]  # `type() is` narrows nothing, and isinstance costs more
            elif kind is Publish:
                arrived.append(event)  # type: ignore[arg-type]  # as above
            elif isinstance(event, SubAck):
                self._interest.answered(event.packet_id, event.reasons[0])
            elif isinstance(event, UnsubAck):
                self._interest.answered(event.packet_id, ReasonCode.SUCCESS)
            elif isinstance(event, Disconnect):
                end = event
        if settled:
            self._settle(settled, now)
        if arrived:
            self._receive(arrived, now)
        if end is not None:
            raise dismissal(end.reason, end.properties)

    def _settle(self, settled: list[Settled], now: float) -> None:
        self._watchdog.progressed(now)
        refused: list[Refusal] = []
        not_now: list[Settled] = []
        tokens: list[object] = []
        size = refused_size = 0
        for event in settled:
            if event.reason < FIRST_FAILURE:
                tokens.append(event.token)
                size += len(event.message.payload)
            elif event.reason in TRANSIENT:
                not_now.append(event)
            else:
                refused.append((event.token, self._naming.local(event.message), event.reason))
                refused_size += len(event.message.payload)
        note_ended(self._session, settled)
        books = self._books
        books.delivered += len(tokens)
        books.delivered_bytes += size
        books.in_flight_bytes -= size + refused_size
        books.answers += 1
        if len(not_now) < len(settled) and self._pause.worked(now, len(self._session.outgoing)):
            self._announce.resumed()
        if not_now:
            self._put_back(not_now, now)
        self._tell(tokens, refused)
        if not self._proved:
            self._prove()

    def _put_back(self, refused: list[Settled], now: float) -> None:
        """Keep what the broker has refused for now: it goes first, in its order, after a pause."""
        books = self._books
        items: list[Item] = [(self._naming.local(event.message), event.token) for event in refused]
        books.in_flight_bytes -= sum([len(event.message.payload) for event in refused])
        books.put_back += len(items)
        is_new = self._pause.begin(refused[0].reason, now)
        self._outbox.put_back(items, behind_others=not is_new)
        if is_new:
            books.pauses += 1
            self._announce.paused(self._pause.reason)
            self._wait_out_pause()

    def _wait_out_pause(self) -> None:
        if self._pause.reason is not None and self._pausing is not None:
            self._pausing.start_soon(self._ring_at, self._pause.until)

    async def _ring_at(self, when: float) -> None:
        await trio.sleep_until(when)
        self._outbox.bell.ring()

    def _receive(self, arrived: list[Publish], now: float) -> None:
        self._books.received += len(arrived)
        self._books.received_bytes += sum([len(publish.payload) for publish in arrived])
        arrivals = self._naming.arrivals(arrived, now)
        done = self._receipts.expect(arrived, arrivals)
        if arrivals:
            self._callbacks.received(self.settings.name, arrivals, done)
        else:
            done()

    # What goes

    def _fill(self) -> bool:
        """Write what is new and may go now. Return whether more could go once the stream has taken this."""
        if self._conn.state is not OPEN:
            return False  # the reader has seen the end, and its siblings run once more before they are cancelled
        if self._interest.has_news:
            self._tell_interest()
        if not self._outbox:
            self._flush()
            return False
        is_blocked = self._stream.unsent > UNSENT_HIGH
        if not is_blocked and self._may_publish():
            self._publish()
        self._flush()
        return bool(self._outbox) and (is_blocked or (self._has_room() and self._may_publish()))

    def _flush(self) -> None:
        if data := self._conn.data_to_send():
            self._withheld.send(data)

    def _let_go(self) -> None:
        self._withheld.let_go()
        self._outbox.bell.ring()

    def _may_publish(self) -> bool:
        """Say whether anything new may go, QoS 0 too: not while a suspect is in flight, nor in a pause."""
        return not (self._conn.alone and self._conn.is_careful) and self._allowed() > 0

    def _allowed(self) -> int:
        if self._pause.reason is None:
            return NO_LIMIT
        return self._pause.allows(trio.current_time(), len(self._session.outgoing))

    def _quota(self) -> int:
        in_flight = min(self.settings.in_flight, IN_FLIGHT_LIMIT)
        return min(self._conn.send_quota, in_flight - len(self._session.outgoing), self._allowed())

    def _bytes_left(self) -> int:
        return self.settings.in_flight_bytes - self._books.in_flight_bytes

    def _has_room(self) -> bool:
        return self._bytes_left() > 0 and (self._quota() > 0 or not self._outbox.needs_quota)

    def _publish(self) -> None:
        outbox, outgoing = self._outbox, self._session.outgoing
        queued_bytes, in_flight = outbox.queued_bytes, len(outgoing)
        items = outbox.take(quota=self._quota(), payload_bytes=min(TURN_BYTES, self._bytes_left()))
        if not items:
            return
        size = queued_bytes - outbox.queued_bytes
        items, size = self._departures.ready(items, size, loop_guard=self.settings.loop_guard)
        sent = self._conn.publish(items)
        added = len(outgoing) - in_flight
        if added:
            note_begun(self._session, added)
        if added and not in_flight:
            self._watchdog.progressed(trio.current_time())
        if added == len(items):
            self._books.in_flight_bytes += size
        else:
            self._end_at_once(items, sent, added, size)

    def _end_at_once(self, items: list[Item], sent: Sent, added: int, size: int) -> None:
        """Account for a batch of which some is not in flight: written at QoS 0, or too large for the broker."""
        books = self._books
        refused = too_large(items, self._conn) if sent.too_large else []
        refused_bytes = sum([len(message.payload) for _, message, _ in refused])
        in_flight_bytes = 0
        if added:
            sent_away = {id(message) for _, message, _ in refused}
            in_flight_bytes = size_of(item for item in items if item[0].qos and id(item[0]) not in sent_away)
        books.in_flight_bytes += in_flight_bytes
        books.delivered += len(items) - added - len(refused)
        books.delivered_bytes += size - in_flight_bytes - refused_bytes
        self._tell(sent.done, [(token, self._naming.local(message), reason) for token, message, reason in refused])

    def _resume(self) -> None:
        """Send what is in flight again; a broker that came back with lower limits may end some of it at once."""
        outgoing = self._session.outgoing
        before = dict(outgoing)
        sent = self._conn.resume()
        gone = [item for packet_id, item in before.items() if packet_id not in outgoing]
        if gone:
            size = size_of(gone)
            self._books.in_flight_bytes -= size
            self._end_at_once(gone, sent, 0, size)

    def _tell(self, tokens: list[object], refused: list[Refusal]) -> None:
        name = self.settings.name
        if told := [token for token in tokens if token is not None]:
            self._callbacks.settled(name, told)
        if refused:
            self._books.refused += len(refused)
            self._callbacks.refused(name, refused)
        if not self._session.outgoing and not self._outbox:
            self._owner.nothing_left()

    def _tell_interest(self) -> None:
        tell(self._conn, self._interest, self._naming, trio.current_time())

    async def _watch(self) -> NoReturn:
        while True:
            now = trio.current_time()
            due = min(self._watchdog.look(now, self.settings.ack_timeout), self._look_at_trial(now))
            self._flush()
            await trio.sleep_until(due)

    def _look_at_trial(self, now: float) -> float:
        if self._proved:
            return inf
        lasts = self._began + self.settings.backoff_reset
        if now >= lasts:
            self._prove()
            return inf
        if now >= self._trial_ends:
            raise LinkError(Trouble.SILENT, "the trial came to no end")
        return min(lasts, self._trial_ends)

    def _prove(self) -> None:
        self._proved = True
        self._owner.link_proved()
