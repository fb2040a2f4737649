"""One upstream: keeps a link to its broker, and its messages through all links that fail.

A link's failure keeps everything: what was in flight stays in the session and is sent again first, in order; what
waits stays in the outbox. While the breaker is open, nothing is dialled and nothing more is taken.
"""

import random
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, NoReturn

import trio

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.logs import Log, get_log
from mqttproxy.transport.dial import dial as dial_broker
from mqttproxy.upstream.adopting import take_up
from mqttproxy.upstream.announcing import Announcements
from mqttproxy.upstream.bell import Bell
from mqttproxy.upstream.books import Books
from mqttproxy.upstream.breaker import BreakerState
from mqttproxy.upstream.callbacks import Callbacks, Refusal
from mqttproxy.upstream.connect import Account, Dial, account_of, connect, suits_the_same_link
from mqttproxy.upstream.errors import LINK_FAILURES, LinkError, as_link_error
from mqttproxy.upstream.interest import HIGHEST_NUMBER, Interest
from mqttproxy.upstream.link import Link
from mqttproxy.upstream.mapping import topic_map
from mqttproxy.upstream.naming import Naming
from mqttproxy.upstream.outbox import Item, Outbox
from mqttproxy.upstream.pause import Pause
from mqttproxy.upstream.poison import PoisonWatch
from mqttproxy.upstream.prospects import Prospects
from mqttproxy.upstream.status import UpstreamStatus, as_snapshot

LAST_RELEASES: Final = 1.0  # seconds for exchanges that the broker has begun: after a restart we know nothing of them


class Upstream:
    """See the module.

    Attributes:
        is_live: a link is up.
        books: counters.

    Args:
        dial, chance, log: for tests; `chance` as `random.random`.
        session: what an earlier process left; without it we go on with what the broker may have kept, see `connect`.

    Raises:
        OSError: the password file cannot be read.

    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        proxy_id: str,
        callbacks: Callbacks,
        dial: Dial = dial_broker,
        chance: Callable[[], float] = random.random,
        log: Log | None = None,
        session: SessionState | None = None,
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.books = Books()
        self.is_live = False
        self._proxy_id = proxy_id
        self._callbacks = callbacks
        self._dial = dial
        self._prospects = Prospects(settings, chance)
        self._pause = Pause(ceiling=settings.backoff_ceiling, chance=chance)
        self._ended: Link | None = None  # what came of it is to be looked at
        self._announce = Announcements((log or get_log()).bind(upstream=settings.name))
        self._account = account_of(settings, proxy_id)
        self._session = session or SessionState()
        self._knows_session = None if session is None else True
        bell = Bell()
        self._outbox = Outbox(messages=settings.queue_messages, payload_bytes=settings.queue_bytes, bell=bell)
        self._interest = Interest(bell, int(chance() * HIGHEST_NUMBER))
        self._naming = Naming(
            self._interest, topic_map(settings), self._account.client_id, shared=settings.version == "5"
        )
        self._poison = PoisonWatch(self._session, self._naming, self.books)
        self._link: Link | None = None
        self._round = trio.CancelScope()
        self._accepts = True  # the breaker lets us take messages
        self._accepting = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()
        self._is_retired = False
        self._since = -inf
        self._linked_at: float | None = None
        self._is_dialling = False

    def __repr__(self) -> str:
        """Say what a person wants to know first."""
        state = "live" if self.is_live else "down"
        return f"<Upstream {self.name} {state} queued={self.queued} in_flight={self.in_flight}>"

    @property
    def account(self) -> str:
        """Whose session at which broker we have: what is in flight belongs to it."""
        return f"{self.settings.url} {self.settings.version} {self._account.client_id}"

    def adopt(self, session: SessionState) -> None:
        """Use this session, which may hold what an earlier process left. To be called before `run`."""
        take_up(session, self.name, self._naming, self.books, self._callbacks)
        self._session = session
        self._poison = PoisonWatch(session, self._naming, self.books)

    # For the pipeline

    @property
    def queued(self) -> int:
        """Messages that wait for the link."""
        return len(self._outbox)

    @property
    def in_flight(self) -> int:
        """Messages sent at QoS 1 or 2, over this link or an earlier one, and not yet acknowledged."""
        return len(self._session.outgoing)

    def offer(self, items: Sequence[Item]) -> int:
        """Take the longest prefix that fits, and return how many that is: 0 if full or if the breaker is open."""
        if not self._accepts:
            return self._drop_removed(items) if self._is_retired else 0
        taken = self._outbox.offer(items)
        self.books.offered += taken
        return taken

    def force_oldest(self, items: Sequence[Item], may_drop: Callable[[Item], bool] = lambda _: True) -> list[object]:
        """Take all; drop the oldest waiting ones that may be, even while the breaker is open; return their tokens."""
        if self._is_retired:
            self._drop_removed(items)
            return []
        gone = self._outbox.force(items, may_drop)
        self.books.offered += len(items)
        self.books.drop(len(gone), "drop_oldest")
        return [token for _, token in gone if token is not None]

    def count_dropped(self, messages: int, reason: str) -> None:
        """Count messages for this upstream that the caller gave up, such as the newest, or QoS 0 without patience."""
        self.books.offered += messages
        self.books.drop(messages, reason)

    async def wait_room(self) -> None:
        """Wait until an offer that was not taken whole is worth repeating."""
        while True:
            await self._outbox.wait_room()
            if self._accepts or self._is_retired:
                return
            await self._accepting.park()

    def subscribe(
        self, topic_filter: str, qos: int, *, retained_for: object | None = None, as_published: bool = False
    ) -> None:
        """Count one more device that wants this filter, and ask the broker for it.

        Args:
            topic_filter: as the device gave it, `$share/group/filter` too.
            qos: the device's.
            retained_for: the session that what is retained shall go to, and to nobody else. None: it wants none.
            as_published: it wants the retain flag as it was published.

        """
        self._naming.add(topic_filter, qos, retained_for=retained_for, as_published=as_published)

    def unsubscribe(self, topic_filter: str, *, as_published: bool = False) -> None:
        """Count one device less, with the flag of its `subscribe`; the last one ends the subscription."""
        self._naming.remove(topic_filter, as_published=as_published)

    async def wait_subscribed(self, topic_filter: str) -> ReasonCode:
        """Wait for the broker's answer to the askings so far, over as many links as it takes: give it a deadline."""
        return await self._naming.wait(topic_filter)

    async def drain(self, deadline: float) -> bool:
        """Wait until nothing waits and nothing is in flight, or the deadline on trio's clock; say which it was."""
        with trio.move_on_at(deadline):
            while self._outbox or self._session.outgoing:
                await self._idle.park()
            with trio.move_on_after(LAST_RELEASES):
                while self._link is not None and self._link.is_receiving:  # noqa: ASYNC110 # nobody tells each PUBREL
                    await trio.sleep(LAST_RELEASES / 50)
        return not self._outbox and not self._session.outgoing

    # For people and metrics

    def status(self) -> UpstreamStatus:
        """Return a snapshot."""
        is_waiting = not self.is_live and not self._is_dialling
        now = trio.current_time()
        is_settled = self.is_live and now >= self._since + self.settings.backoff_reset
        return UpstreamStatus(
            name=self.name,
            url=self.settings.url,
            connected=self.is_live,
            since=self._since,
            last_error=self._prospects.last_error,
            last_trouble=self._prospects.last_trouble,
            next_try=self._prospects.due(now) if is_waiting else None,
            breaker=self._prospects.breaker(),
            contested=self._prospects.is_contested and not is_settled,
            paused=self._pause.reason,
            resumes=None if self._pause.reason is None else self._pause.until,
            suspects=len(self._poison.suspects),
            insecure=self.settings.insecure_skip_verify,
            queued=self.queued,
            in_flight=self.in_flight,
        )

    def snapshot(self) -> DestinationSnapshot:
        """Return the numbers that metrics tell."""
        return as_snapshot(
            self.status(),
            self.books,
            now=trio.current_time(),
            queued_bytes=self._outbox.queued_bytes,
            unplaced=self._naming.unplaced,
            unclaimed=self._naming.unclaimed,
        )

    def check_books(self) -> None:
        """Raise AssertionError unless every message that was taken is accounted for. For tests."""
        self.books.check(queued=self.queued, in_flight=self.in_flight)

    # Supervision

    async def run(self) -> NoReturn:
        """Keep the broker linked until cancelled; then say goodbye to it."""
        self._since = trio.current_time()
        while True:
            with trio.CancelScope() as self._round:  # a change of settings ends a round
                while True:
                    await self._wait_turn()
                    await self._try_once()

    async def _wait_turn(self) -> None:
        while True:
            now = trio.current_time()
            if self._prospects.admit(now):
                break
            await trio.sleep_until(self._prospects.due(now))
        self._update_accepts()

    async def _try_once(self) -> None:
        try:
            await self._link_up()
        except* LINK_FAILURES as group:
            self._failed(as_link_error(group))
        finally:
            self._is_dialling = False

    async def _link_up(self) -> NoReturn:
        settings = self.settings
        self._is_dialling, self._ended = True, None
        trial = self._prospects.trial_ends
        with trio.fail_at(trial):
            opened = await connect(
                settings, self._account, self._session, self._dial, knows_session=self._knows_session
            )
        self._is_dialling = False
        self._knows_session = True
        opened.conn.alone = self._poison.suspects
        self._link = Link(
            opened,
            settings,
            outbox=self._outbox,
            interest=self._interest,
            naming=self._naming,
            books=self.books,
            callbacks=self._callbacks,
            owner=self,
            pause=self._pause,
            announce=self._announce,
            proxy_id=self._proxy_id,
            trial_ends=trial,
        )
        self._came_up()
        try:
            await self._link.run()
        finally:
            self._went_down()

    def _came_up(self) -> None:
        self.is_live = True
        self._since = self._linked_at = trio.current_time()
        self.books.connects += 1
        self._update_accepts()
        self._announce.connected(self.settings)

    def _went_down(self) -> None:
        self.is_live = False
        self._ended, self._link = self._link, None
        self._since = trio.current_time()
        self._update_accepts()

    def _failed(self, error: LinkError) -> None:
        now = trio.current_time()
        lasted = 0.0 if self._linked_at is None else now - self._linked_at
        self._linked_at = None
        self.books.failures += 1
        self._look_for_poison(error)
        before, was_contested = self._prospects.state, self._prospects.is_contested
        self._prospects.failed(error, lasted, now)
        self._announce.failed(error, lasted)
        if self._prospects.is_contested and not was_contested:
            self._announce.contested(self._account.client_id)
        self._breaker_moved(before)

    def _look_for_poison(self, error: LinkError) -> None:
        if self._ended is not None and (found := self._poison.ended(self._ended.in_flight, error)):
            self._announce.poison(found)
            self._callbacks.refused(self.name, found)

    def link_proved(self) -> None:
        """Take the link's word that it works."""
        before = self._prospects.state
        self._prospects.proved(trio.current_time())
        self._breaker_moved(before)

    def _breaker_moved(self, before: BreakerState) -> None:
        after = self._prospects.breaker()
        if after.state is not before:
            self._announce.breaker(after)
        self._update_accepts()

    def nothing_left(self) -> None:
        """Wake whoever drains."""
        if self._idle:
            self._idle.unpark_all()

    def _update_accepts(self) -> None:
        state = self._prospects.state
        # A trial that has come as far as a link needs messages to prove itself with.
        accepts = not self._is_retired and (
            state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and self.is_live)
        )
        if accepts and not self._accepts:
            self._accepting.unpark_all()
        self._accepts = accepts

    # Reload

    def change(self, settings: UpstreamSettings, account: Account) -> bool:
        """Take new settings and say whether they differ. What waits and is in flight stays.

        The link is renewed only if they ask for it.
        """
        before, known = self.settings, self._account
        if settings == before and account == known:
            return False
        self.settings, self._account = settings, account
        moved = (settings.url, settings.version, account.client_id) != (before.url, before.version, known.client_id)
        if moved and self._knows_session:
            self._knows_session = False  # whatever session is there, it is not the one we know
        if (settings.topics, account.client_id) != (before.topics, known.client_id):
            self._naming.use(topic_map(settings), account.client_id)
        self._outbox.set_bounds(messages=settings.queue_messages, payload_bytes=settings.queue_bytes)
        self._prospects.begin_anew(settings)
        self._poison.begin_anew()
        self._update_accepts()
        if self._link is not None and suits_the_same_link(settings, before) and account == known:
            self._link.settings = settings
        else:
            self._round.cancel()
        return True

    def retire(self) -> None:
        """Take nothing more, because the upstream was removed: what is offered from now on is dropped and refused."""
        self._is_retired = True
        self._update_accepts()
        self._outbox.wake_all()
        self._accepting.unpark_all()

    def abandon(self) -> None:
        """Drop what is still there, after `run` has ended."""
        sent = [(self._naming.local(message), token) for message, token in self._session.outgoing.values()]
        items = [*sent, *self._outbox.take_all()]
        self._session.abandon()
        self._session = SessionState()
        self.books.in_flight_bytes = 0
        self._refuse_removed(items)

    def _drop_removed(self, items: Sequence[Item]) -> int:
        self.books.offered += len(items)
        self._refuse_removed(items)
        return len(items)

    def _refuse_removed(self, items: Sequence[Item]) -> None:
        if items:
            self.books.drop(len(items), "removed")
            refused: list[Refusal] = [(token, message, ReasonCode.ADMINISTRATIVE_ACTION) for message, token in items]
            self._callbacks.refused(self.name, refused)
