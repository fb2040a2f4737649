"""One session: what waits for its device, what is on its way, and what of it must be on disk before bytes go out.

Output commit: bytes that follow from a step of QoS 2, or of a subscription, tell the device that we remember it. So
they are written to the connection's buffer as always, but the session is *held* until the journal has committed the
step, and a held session's device flushes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from msgspec.structs import replace

from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message, Timed
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.sessions.ledger import Kept, Ledger, Token
from mqttproxy.sessions.queue import DeviceQueue, Item, weigh
from mqttproxy.sessions.records import IncomingRow


class Attached(Protocol):
    """The connected device of a session."""

    def pump(self) -> None:
        """Send what it can take."""

    def flush(self) -> None:
        """Write to the socket what was withheld while the session was held."""


class DurableState(SessionState):
    """Exchanges that survive a restart: each step of QoS 2 is noted, and the session held until it is on disk."""

    __slots__ = ("_session", "promised")

    def __init__(self, session: "Session") -> None:
        super().__init__()
        self._session = session
        self.promised: set[int] = set()

    def promise(self, packet_id: int) -> None:
        """Note PUBREC together with what the message itself has left in the journal: one commit for both, or none.

        Then a message that is sent again after a crash is either known or was never there. `keep` follows after that
        commit, and has nothing left to note.
        """
        self.promised.add(packet_id)
        self._session.journal.add(IncomingRow(self._session.number, packet_id))

    def keep(self, packet_id: int) -> None:
        """Note PUBREC, which must not go out before."""
        super().keep(packet_id)
        session = self._session
        if packet_id in self.promised:
            self.promised.remove(packet_id)
            return
        if not session.is_over:
            session.journal.add(IncomingRow(session.number, packet_id))
            session.hold()

    def refuse(self, packet_id: int) -> None:
        """Take a promise back: after the negative PUBREC the device uses the packet identifier for another message."""
        session = self._session
        if packet_id in self.promised and not session.is_over:
            self.promised.remove(packet_id)
            session.journal.remove(IncomingRow, (session.number, packet_id))
            session.hold()

    def forget(self, packet_id: int) -> None:
        """Note PUBREL: after PUBCOMP the device uses the packet identifier for another message."""
        super().forget(packet_id)
        session = self._session
        if not session.is_over:
            session.journal.remove(IncomingRow, (session.number, packet_id))
            session.hold()

    def release(self, packet_id: int) -> None:
        """Note PUBREC: after PUBREL the device would take the same PUBLISH for a new message."""
        super().release(packet_id)
        token = self.outgoing[packet_id][1]
        if isinstance(token, Kept) and not token.is_settled:
            token.row = replace(token.row, released=True)
            self._session.journal.put(token.row)
            self._session.hold()


class Session:
    """The session of one client identifier. `number` is its key on record.

    Attributes:
        expiry: seconds that it outlives its connection; 0: it ends with it.
        due: when it is over, monotonic seconds; while its device is connected it is not due, whatever stands here.
        is_held: nothing may be written to the device's socket at present.
        is_over: it was discarded; nothing of it is noted any more.
        may_receive: whether messages on a topic may be delivered; None: all.
        on_its_way: bytes of what was sent at QoS 1 and 2 and is not settled.
        owner: user name that an authenticator has vouched for, of whose it is; None: nobody's.

    """

    __slots__ = (
        "_held",
        "_ledger",
        "_state",
        "client_id",
        "device",
        "due",
        "expiry",
        "is_held",
        "is_on",
        "is_on_record",
        "is_over",
        "may_receive",
        "number",
        "on_its_way",
        "owner",
        "queue",
    )

    def __init__(self, client_id: str, ledger: Ledger, number: int, expiry: float, *, owner: str | None = None) -> None:
        """Make one without a device."""
        self.client_id = client_id
        self.number = number
        self.owner = owner
        self.expiry = expiry
        self.due = 0.0
        self.queue = DeviceQueue()
        self.on_its_way = 0
        self.device: Attached | None = None
        self.may_receive: Callable[[str], bool] | None = None
        self.is_held = False
        self.is_on = False  # opened, and not closed since
        self.is_on_record = False  # or was, so that something must be struck off
        self.is_over = False
        self._ledger = ledger
        self._held = 0
        self._state: SessionState | None = None  # made when it is asked for: it takes more than all the rest

    def __repr__(self) -> str:
        """Tell whose it is, and what waits."""
        return f"<Session {self.client_id!r} queued={len(self.queue)} {'on' if self.is_on else 'off'}>"

    @property
    def journal(self) -> Journal:
        """Where this session is on record."""
        return self._ledger.journal

    @property
    def is_durable(self) -> bool:
        """Whether it outlives its connection, and so this process."""
        return self.expiry > 0

    @property
    def is_connected(self) -> bool:
        """Whether its device is there now."""
        return self.device is not None

    @property
    def state(self) -> SessionState:
        """The unfinished exchanges."""
        if self._state is None:
            self._state = DurableState(self) if self.is_durable else SessionState()
        return self._state

    def has_promised(self, packet_id: int) -> bool:
        """Whether a QoS 2 message was taken for good, though it is not answered yet."""
        return isinstance(self._state, DurableState) and packet_id in self._state.promised

    def promise(self, packet_id: int) -> None:
        """See `DurableState.promise`; without a record there is nothing to promise."""
        if isinstance(self.state, DurableState) and not self.is_over:
            self.state.promise(packet_id)

    # Towards the device.

    def deliver(self, messages: Sequence[Message]) -> None:
        """Queue messages for the device, in order, and send what it can take; what does not fit is dropped and counted.

        QoS 0 is not kept for a device that is not there.
        """
        lost = 0
        if (may_receive := self.may_receive) is not None:
            kept = [message for message in messages if may_receive(message.topic)]
            if len(kept) < len(messages):
                self._ledger.dropped("not_authorized", len(messages) - len(kept))
            messages = kept
        for message in messages:
            if not message.qos and not self.is_on:
                lost += 1
            elif self._has_room(message):
                self._append(message)
            else:
                self._ledger.dropped("queue_full", 1)
        if lost:
            self._ledger.dropped("offline", lost)
        if self.device is not None:
            self.device.pump()

    def take(self, quota: int, max_bytes: int, now: float) -> list[Item]:
        """Remove from the queue and return what may be sent now, with tokens: None for QoS 0.

        Args:
            quota: how many of QoS 1 and 2 the device takes now; the settings may have it sent less.
            max_bytes: stop after about this many payload bytes.
            now: monotonic seconds.

        """
        limits = self._ledger.limits
        if self.on_its_way >= limits.in_flight_bytes:
            quota = 0
        elif self._state is not None:
            quota = min(quota, limits.in_flight - len(self._state.outgoing))
        taken, over = self.queue.take(quota, max_bytes, now)
        for message, token in taken:
            if type(token) is int:
                self.on_its_way += token
            elif isinstance(token, Kept):
                self.on_its_way += token.weight
            else:
                self._ledger.uncount(weigh(message))
        self._drop(over, "expired")
        return taken

    def sent(self) -> None:
        """Note the packet identifiers of what was just published. To be called right after `publish`."""
        if not self.is_durable or self.is_over or self._state is None:
            return
        fresh: list[Kept] = []
        is_exactly_once = False
        for packet_id, (message, token) in reversed(self._state.outgoing.items()):
            if not isinstance(token, Kept) or token.row.packet_id:
                break
            token.row = replace(token.row, packet_id=packet_id)
            fresh.append(token)
            is_exactly_once |= message.qos == 2
        for token in fresh:
            self.journal.put(token.row)
        if is_exactly_once:
            self.hold()

    def settled(self, tokens: Iterable[object]) -> None:
        """Let go of what was sent and the device has taken, or has refused for good, or can never take."""
        for token in tokens:
            if type(token) is int:
                self.on_its_way -= token
                self._ledger.uncount(token)
            elif isinstance(token, Kept) and not token.is_settled:
                self.on_its_way -= token.weight
                self._ledger.settle(token)

    def unacknowledged(self) -> list[Message]:
        """Return what others may still get, as it was delivered and in order: what waits, and of QoS 1 what was sent.

        Nobody else may get a message of QoS 2 that was. [MQTT-4.8.2-5].
        """
        left = [message for message, _ in self._outgoing() if message.qos == 1]
        return left + [message for message, token in self.queue if token is not None]

    def give_away(self, messages: Iterable[Message]) -> None:
        """Forget some of what is not acknowledged: others have it now. The device is not there."""
        given = {id(message) for message in messages}
        outgoing = {} if self._state is None else self._state.outgoing
        for packet_id in [packet_id for packet_id, (message, _) in outgoing.items() if id(message) in given]:
            _, token = outgoing.pop(packet_id)
            self.settled((token,))
        self._let_go_of(self.queue.remove(lambda message: id(message) in given))

    def drop(self, which: Callable[[Message], bool], reason: str) -> None:
        """Drop some of what waits, counted."""
        self._drop(self.queue.remove(which), reason)

    def sweep(self, now: float) -> None:
        """Drop what is over."""
        self._drop(self.queue.sweep(now), "expired")

    def hold(self) -> None:
        """Withhold what is written to the device from now on until all that is noted is on disk."""
        if not self.journal.is_clear:  # it must not flush now: this is called in the middle of writing
            self._held += 1
            self.is_held = True
            self.journal.when_durable(self._let_go)

    def _let_go(self) -> None:
        self._held -= 1
        if self._held:
            return
        self.is_held = False
        if self.device is not None:
            self.device.flush()

    # Bounds.

    def _has_room(self, message: Message) -> bool:
        """Return whether a message fits, after making room as the settings say."""
        if self._fits(message):
            return True
        self._drop(self.queue.sweep(self._ledger.now()), "expired")
        limits = self._ledger.limits
        if limits.queue_when_full == "drop_oldest" and self._can_make_room(message):
            while not self._fits(message) and len(self.queue):
                self._drop((self.queue.popleft(),), "queue_full")
        return self._fits(message)

    def _can_make_room(self, message: Message) -> bool:
        """Say whether to drop what waits would help: not if it is others that take the room."""
        limits = self._ledger.limits
        excess = self._ledger.queued_bytes + weigh(message) - limits.queues_bytes
        waiting = iter(self.queue)
        while excess > 0 and (item := next(waiting, None)) is not None:
            excess -= weigh(item[0])
        return excess <= 0 and len(message.payload) <= limits.queue_bytes

    def has_room_for(self, messages: Sequence[Message]) -> bool:
        """Say whether all of them would fit, without dropping anything."""
        queue, limits = self.queue, self._ledger.limits
        return (
            len(queue) + len(messages) <= limits.queue_messages
            and queue.size + sum(len(message.payload) for message in messages) <= limits.queue_bytes
            and self._ledger.queued_bytes + sum(map(weigh, messages)) <= limits.queues_bytes
        )

    def _fits(self, message: Message) -> bool:
        queue, limits = self.queue, self._ledger.limits
        return (
            len(queue) < limits.queue_messages
            and queue.size + len(message.payload) <= limits.queue_bytes
            and self._ledger.queued_bytes + weigh(message) <= limits.queues_bytes
        )

    def _append(self, message: Message) -> None:
        weight = weigh(message)
        self._ledger.count(weight)
        token: Token | None = None
        if message.qos:
            token = self._ledger.keep(self.number, message, weight) if self.is_durable else weight
        self.queue.append(message, token)

    def _drop(self, items: Sequence[Item], reason: str) -> None:
        if items:
            self._let_go_of(items)
            self._ledger.dropped(reason, len(items))

    def _let_go_of(self, items: Iterable[Item]) -> None:
        for message, token in items:
            if isinstance(token, Kept):
                self._ledger.settle(token)
            else:
                self._ledger.uncount(weigh(message))

    # Its end, told by `Sessions`.

    def disconnected(self) -> None:
        """Forget what is not kept for an absent device."""
        self.device = None
        self.is_on = False
        self._drop(self.queue.remove(lambda message: not message.qos), "offline")

    def discarded(self) -> list[Message]:
        """Strike everything off the record. Returns what others may still get, see `unacknowledged`, and QoS 0."""
        left = [message for message, _ in self._outgoing() if message.qos == 1]
        left += [message for message, _ in self.queue]
        self.settled(token for _, token in self._outgoing())
        self._let_go_of(self.queue.remove(lambda _: True))
        if isinstance(self._state, DurableState):
            for packet_id in self._state.incoming_qos2 | self._state.promised:
                self.journal.remove(IncomingRow, (self.number, packet_id))
        self.is_over = True
        self.is_on = False
        self.device = None
        return left

    def _outgoing(self) -> Iterator[Item]:
        return iter(() if self._state is None else self._state.outgoing.values())

    # Its return from disk, told by `Sessions`.

    def restore(self, items: Sequence[tuple[Message, Kept]], incoming_qos2: Sequence[int]) -> None:
        """Put back what was on record, in the order of delivery."""
        outgoing: dict[int, Item] = {}
        now = self._ledger.now()
        for message, kept in items:
            self._ledger.count(kept.weight)
            packet_id = kept.row.packet_id
            if packet_id:
                outgoing[packet_id] = (message, kept)
                self.on_its_way += kept.weight
            elif isinstance(message, Timed) and message.expires_at <= now:
                self._drop(((message, kept),), "expired")
            else:
                self.queue.append(message, kept)
        if outgoing or incoming_qos2:
            released = [kept.row.packet_id for _, kept in items if kept.row.released]
            self.state.restore(outgoing, released, incoming_qos2)
