"""The receiving half of a connected device: its messages on their way up."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from mqttproxy.downstream.acknowledging import Acknowledging
from mqttproxy.downstream.premises import Premises
from mqttproxy.groups import Backlog
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import Publish
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.sessions import Session
from mqttproxy.transport.stream import ByteStream
from mqttproxy.validation import Identity


class Carrying(Acknowledging):
    """See the module. What is too much for now is in `_left`, and what must be waited for in `_wait_for`."""

    def __init__(
        self,
        premises: Premises,
        stream: ByteStream,
        connection: ServerConnection,
        identity: Identity,
        session: Session,
    ) -> None:
        super().__init__(premises, stream, connection, session)
        self.identity: Identity = identity
        self.gone = trio.Event()  # set when nothing of this device is left but closing its socket
        self.is_gathered = False
        self._pipeline = premises.pipeline
        self._shedding = premises.shedding
        self._pace = premises.rates.pace(identity, trio.current_time())
        self._backlog: Backlog | None = None  # what has no place yet
        self._is_clearing = False  # that is being waited for
        self._left: list[Event] = []  # decoded, and not handled yet
        self._wait_for: Callable[[], Awaitable[None]] | None = None  # what must be waited for before reading on

    def _gather(self, publishes: list[Publish], now: float) -> bool:
        """Leave what was read to the end of the turn, if one is on and it surely fits."""
        limits = self._premises.limits
        return (
            len(publishes) + len(self.pending) <= limits.receive_maximum
            and self.unacknowledged < limits.unacknowledged_bytes
            and not self.is_gathered
            and not (self._shedding.is_on and self._shedding.concerns(self.identity.client_id, publishes))
            and (self._pace is None or self._pace.room(publishes, now) == len(publishes))
            and not (self._pipeline.asking.has_plugins and self._pipeline.asking.concerns(publishes))
            and self._pipeline.gather(self, publishes)
            and (self._pace is None or self._pace.take(publishes, now))
        )

    def hold_up(self, backlog: Backlog) -> None:
        """Hear what must be waited for, of what was gathered."""
        if self.gone.is_set():
            self._pipeline.give_up(backlog)
            return
        self._backlog = backlog  # if the connection is ending, `_leave` gives it up
        self._wait_for = partial(self._clear, backlog)
        self.stream.interrupt()

    def _carry(self, publishes: list[Publish], now: float) -> bool:
        """Carry what was read, never more at once than the device may have unacknowledged; False: wait first."""
        if self.is_gathered:  # in the same turn: that came first
            self._pipeline.carry_gathered()
            if self._wait_for is not None:
                self._left = [*publishes]
                return False
        if self._shedding.is_on:
            publishes = self._shedding.keep(publishes)
        limits = self._premises.limits
        is_full = self.unacknowledged >= limits.unacknowledged_bytes
        room = 0 if is_full else max(0, limits.receive_maximum - len(self.pending))
        if self._pace is not None:
            room = self._pace.room(publishes[:room], now)
        if self._pipeline.asking.has_plugins and (ask := self._pipeline.asking.must_wait(self, publishes[:room])):
            self._left, self._wait_for = [*publishes], ask
            return False
        if self._pace is not None:
            self._pace.take(publishes[:room], now)
        if len(publishes) <= room:
            backlog = self._pipeline.carry_up(self, publishes, now) if publishes else None
            if backlog is None:
                return not (self._shedding.is_on and self._is_shed())
            self._left = []
        else:
            backlog = self._pipeline.carry_up(self, publishes[:room], now) if room else None
            self._left = [*publishes[room:]]
        self._backlog = backlog
        self._wait_for = self._wait_for_room if backlog is None else partial(self._clear, backlog)
        return False

    def _is_shed(self) -> bool:
        """Return whether this device is not read now because of overload."""
        if not self._shedding.holds(self.identity.client_id):
            return False
        self._left, self._wait_for = [], partial(self._shedding.wait, self.identity.client_id)
        return True

    async def _clear(self, backlog: Backlog) -> None:
        self._is_clearing = True
        await self._pipeline.clear(backlog)
        self._is_clearing, self._backlog = False, None

    async def _wait_for_room(self) -> None:
        await super()._wait_for_room()
        if self._pace is not None:
            await self._pace.wait(self._left)
