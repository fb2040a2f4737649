"""Wills: messages that are published when the connection of their device has ended and it does not come back in time.

The life of a will, and who tells it:

1. CONNECT was accepted: `back`, for the will of the connection before, then `hold` for the new one. It is on record
   now, so that it is published after the next start if this process dies first.
2. The connection ended, not by a DISCONNECT with reason 0x00: `arm`. By one: `cancel`.
3. The session is over, whatever ended it: `end`.
4. It is due: `fire` gets it, and answers with `settled` once nothing of it can be lost any more.

A will is due once its delay is over, or its session if that is sooner. What is due when the device comes back is
published all the same [MQTT-3.1.2-8]: so takeover, with and without a delay, clean start and resumption need no rules
beyond these calls, made in the order in which things happen.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NoReturn

import trio
from msgspec import Struct
from msgspec.structs import replace

from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties, Publish, Will

NEVER: Final = float("inf")
SLICE: Final = 0.05  # seconds between two handfuls of a storm; nothing holds the loop for longer than one takes
# What a will costs beside its payload and topic, roughly, so that a million empty ones are not free.
OVERHEAD: Final = 500
SPARE: Final = 1000  # cancelled ones that may lie about before they are swept out


class PendingWill(Struct, frozen=True, gc=False):
    """A will and whose it is.

    `delay` in seconds; `due` by the monotonic clock, `NEVER`: its connection is on. `number` is its key on record and
    given there, 0: it has none.
    """

    client_id: str
    username: str | None
    address: str
    listener: str
    message: Will
    delay: float = 0.0
    due: float = NEVER
    number: int = 0
    attributes: Mapping[str, str] = {}  # of the device, as its will was judged at CONNECT
    grants: tuple[tuple[str, str], ...] = ()  # of its credentials; they are not kept on disk


def delay_of(will: Will, expiry: float) -> float:
    """Return the seconds that a will waits after the connection's end.

    Args:
        will: as in CONNECT.
        expiry: of the session; the one from a DISCONNECT, if it said one.

    """
    return min(float(will.properties.will_delay_interval or 0), expiry)


def as_published(will: Will) -> Publish:
    """Return what is published: a will without its delay. Its message expiry counts from now."""
    properties = will.properties
    if properties.will_delay_interval is not None:
        properties = replace(properties, will_delay_interval=None)
        if properties == Properties():
            properties = NO_PROPERTIES
    return Publish(will.topic, will.payload, will.qos, will.retain, properties)


class _Armed:
    """A will that waits for its time. `will` is None once it was cancelled: it is still in the heap, but dead."""

    __slots__ = ("due", "is_ours", "turn", "will")

    def __init__(self, will: PendingWill, turn: int, *, is_ours: bool) -> None:
        self.will: PendingWill | None = will
        self.due = will.due
        self.turn = turn  # of those that are due at the same time
        self.is_ours = is_ours  # it was the proxy that ended the connection, by ending itself

    def __lt__(self, other: "_Armed") -> bool:
        return (self.due, self.turn) < (other.due, other.turn)


def _no_note(_number: int, _will: PendingWill | None) -> None:
    pass


class Wills:
    """All wills of one process: those on record, those armed, those being published."""

    def __init__(
        self,
        *,
        fire: Callable[[Sequence[PendingWill]], None],
        per_second: int,
        most: int,
        most_bytes: int,
        grace: float,
        note: Callable[[int, PendingWill | None], None] = _no_note,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """Make it.

        Args:
            fire: publishes what is due, in order; never waits. It calls `settled` for each, at once or later.
            per_second: how many are published when very many are due; a lone one never waits.
            most: how many may be armed or not settled.
            most_bytes: the same in bytes.
            grace: seconds after a restart in which devices may come back before wills of that time are published.
            note: told what must survive a restart: what stands under a number from now on, None: nothing.
            now: monotonic seconds, of the clock that `run` sleeps by.

        """
        self._fire = fire
        self._per_second = per_second
        self._most = most
        self._most_bytes = most_bytes
        self._grace = grace
        self._note = note
        self._now = now
        self._heap: list[_Armed] = []
        self._dead = 0  # of those in the heap
        self._turn = 0
        self._number = 0  # the last one that was given
        self._held: dict[str, PendingWill] = {}  # by client identifier: its connection is on
        self._armed: dict[str, _Armed] = {}  # by client identifier, the last one of each
        self._unsettled: dict[int, PendingWill] = {}  # by number
        self._budget = float(max(1, int(per_second * SLICE)))
        self._budget_at = now()
        self._woken = trio.Event()
        self._is_deferring = False
        self.pending = 0  # armed or not settled
        self.size = 0  # bytes of those
        self.fired = 0
        self.cancelled = 0  # armed, but the device came back in time
        self.early = 0  # published before their time, because a bound was reached

    # What happens to a device.

    def hold(self, will: PendingWill) -> None:
        """Put the will of a new connection on record."""
        self._held[will.client_id] = self._put_on_record(replace(will, due=NEVER))

    def arm(self, will: PendingWill) -> None:
        """Start the delay of a will: its connection has ended just now. It may have been held before, or not."""
        held = self._held.pop(will.client_id, None)
        number = 0 if held is None else held.number
        if self._is_deferring:
            self._put_on_record(replace(will, due=NEVER, number=number))
        else:
            self._arm(replace(will, due=self._now() + will.delay, number=number))

    def back(self, client_id: str, *, resumed: bool) -> None:
        """Hear that a device was let in again. [MQTT-3.1.3-9].

        After a restart of ours it need not come back to a session: it was not the device that went away.
        """
        armed = self._armed.get(client_id)
        if resumed or (armed is not None and armed.is_ours):
            self.cancel(client_id)
        else:
            self.end(client_id)

    def cancel(self, client_id: str) -> None:
        """Forget the will of this client, unless it is due already: it said goodbye, or came back in time."""
        held = self._held.pop(client_id, None)
        if held is not None:
            self._note(held.number, None)
        armed = self._armed.get(client_id)
        if armed is not None and armed.due > self._now():
            will = self._kill(armed)
            self._let_go(will)
            self.cancelled += 1

    def end(self, client_id: str) -> None:
        """Hear that the session of this client is over: its will waits no longer. [MQTT-3.1.2-8]."""
        armed = self._armed.get(client_id)
        if armed is not None and armed.due > self._now() and not self._is_deferring:
            will = self._kill(armed)
            self.pending -= 1
            self.size -= _size(will)
            self._arm(replace(will, due=self._now()))

    def settled(self, will: PendingWill) -> None:
        """Hear that a fired will is where nothing can lose it, or was given up; more than once does no harm."""
        if self._unsettled.pop(will.number, None) is not None:
            self._let_go(will)

    # The process.

    def restore(self, wills: Iterable[PendingWill]) -> None:
        """Arm what was on record when the last process ended, before any device comes in.

        Devices get `grace` to come back, since they could not while there was no proxy. A will that was due at its
        connection's end waits no more, nor does one that is followed by another: its device was back, and too late.

        Args:
            wills: as they were noted last, with `due` by the present clock.

        """
        now = self._now()
        wills = sorted(wills, key=lambda will: will.number)
        last = {will.client_id: will.number for will in wills}
        for will in wills:
            if will.due == NEVER:
                due = now + max(will.delay, self._grace)
            elif will.delay and will.number == last[will.client_id]:
                due = max(will.due, now + self._grace)
            else:
                due = now
            self._number = max(self._number, will.number)
            self._arm(replace(will, due=due), is_ours=will.due == NEVER)

    def defer(self) -> None:
        """Fire nothing more, because the process ends: the next one will, if the devices do not come back to it."""
        self._is_deferring = True

    async def run(self) -> NoReturn:
        """Fire what is due, until cancelled."""
        while True:
            self._woken = trio.Event()
            with trio.move_on_at(self.fire_due()):
                await self._woken.wait()

    def fire_due(self) -> float:
        """Fire what is due and what the pace allows. Returns when to come again, unless another is armed before."""
        now = self._now()
        if self._is_deferring:
            return NEVER
        # The budget never holds more than one slice's worth, so that a quiet hour does not pay for a storm.
        full = max(1.0, self._per_second * SLICE)
        self._budget = min(full, self._budget + (now - self._budget_at) * self._per_second)
        self._budget_at = now
        batch: list[PendingWill] = []
        while (first := self._first()) is not None and first.due <= now and self._budget >= 1.0:
            self._budget -= 1.0
            batch.append(self._pop(first))
        if batch:
            self._unsettled.update((will.number, will) for will in batch)
            self.fired += len(batch)
            self._fire(batch)
        first = self._first()
        if first is None:
            return NEVER
        return first.due if first.due > now else now + max(SLICE, (1.0 - self._budget) / self._per_second)

    # Inside.

    def _arm(self, will: PendingWill, *, is_ours: bool = False) -> None:
        if self.pending >= self._most or self.size + _size(will) > self._most_bytes:
            self._fire_early(will)
            return
        self._turn += 1
        armed = _Armed(self._put_on_record(will), self._turn, is_ours=is_ours)
        heappush(self._heap, armed)
        self._armed[will.client_id] = armed
        self.pending += 1
        self.size += _size(will)
        if self._heap[0] is armed:
            self._woken.set()

    def _fire_early(self, will: PendingWill) -> None:
        """Publish what there is no room to keep. Better too early than never; who ends connections sets the pace."""
        self.early += 1
        self.fired += 1
        if will.number:
            self._note(will.number, None)
        self._fire((will,))

    def _first(self) -> _Armed | None:
        while self._heap and self._heap[0].will is None:
            heappop(self._heap)
            self._dead -= 1
        return self._heap[0] if self._heap else None

    def _pop(self, first: _Armed) -> PendingWill:
        """Take the first of the heap out of it; it is still pending."""
        heappop(self._heap)
        will = first.will
        assert will is not None  # noqa: S101 # `_first` gives no dead ones
        if self._armed.get(will.client_id) is first:
            del self._armed[will.client_id]
        return will

    def _kill(self, armed: _Armed) -> PendingWill:
        """Leave a will in the heap as a dead one; sweep when more are dead than alive."""
        will, armed.will = armed.will, None
        assert will is not None  # noqa: S101 # what is in `_armed` is alive
        del self._armed[will.client_id]
        self._dead += 1
        if self._dead > SPARE + len(self._armed):
            self._heap = [armed for armed in self._heap if armed.will is not None]
            heapify(self._heap)
            self._dead = 0
        return will

    def _let_go(self, will: PendingWill) -> None:
        self.pending -= 1
        self.size -= _size(will)
        self._note(will.number, None)

    def _put_on_record(self, will: PendingWill) -> PendingWill:
        if not will.number:
            self._number += 1
            will = replace(will, number=self._number)
        self._note(will.number, will)
        return will


def _size(will: PendingWill) -> int:
    properties = will.message.properties
    size = OVERHEAD + len(will.message.topic) + len(will.message.payload)
    if properties is not NO_PROPERTIES:
        size += len(properties.correlation_data or b"") + len(properties.content_type or "")
        size += len(properties.response_topic or "")
        size += sum(len(key) + len(value) for key, value in properties.user_properties)
    return size
