"""One connected device: its task tree, its acknowledgements in arrival order, and what is on its way to it."""

from functools import partial
from math import inf
from typing import Final

import trio

from mqttproxy.access.credentials import NOBODYS
from mqttproxy.downstream.absent import give_up_waiting, hand_over, leave_behind, take_up
from mqttproxy.downstream.carrying import Carrying
from mqttproxy.downstream.departed import pending_will
from mqttproxy.downstream.premises import Premises, forget_frames
from mqttproxy.downstream.reauthenticating import Reauthenticating
from mqttproxy.downstream.rights import end_at_expiry
from mqttproxy.downstream.subscribing import Subscribing
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event, Sent, Settled
from mqttproxy.mqtt.packets import Auth, Disconnect, Publish, Subscribe, Unsubscribe
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.sessions import Session
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.validation import Identity

UNSENT_MOST: Final = 1024 * 1024  # answers are sent whatever waits; who takes none of them is not read until it does
UNSENT_LOW: Final = 64 * 1024  # then it is read again


class Device(Carrying):
    """A device between CONNACK and the end of its connection. Whatever goes wrong here ends this connection only."""

    def __init__(
        self,
        premises: Premises,
        stream: ByteStream,
        connection: ServerConnection,
        identity: Identity,
        session: Session,
    ) -> None:
        super().__init__(premises, stream, connection, identity, session)
        self.client_id = identity.client_id
        self.admission = NOBODYS  # by what it was let in
        self._will = None if connection.connect is None else connection.connect.will
        self._said_goodbye = False
        self._expiry: float | None = None  # of the session, if DISCONNECT said one
        self._reauthenticating: Reauthenticating | None = None
        self._subscribing = Subscribing(premises, session, connection, identity)
        self._reading = trio.CancelScope()
        self._is_paused = False  # something is waited for, and nothing read
        self._paused_until = 0.0

    def begin(self, resumed: Sent, *, is_present: bool) -> None:
        """Go to work, after CONNACK: the session delivers to this device from now on.

        Args:
            resumed: what became of the messages that are sent again.
            is_present: the session was kept from an earlier connection.

        """
        session, wills = self.session, self._premises.wills
        session.device = self
        wills.back(self.client_id, resumed=is_present)  # that of the earlier one
        if is_present:
            self.connection.expect(take_up(self, self._premises.absent))
        if self._will is not None and session.expiry:
            wills.hold(pending_will(self.identity, self._will, session.expiry))
        if resumed.too_large:
            self._metrics.dropped_down.add("too_large", len(resumed.too_large))
        session.settled([*resumed.done, *resumed.too_large])
        self._flush()

    async def run(self) -> None:
        """Serve the device until its connection ends; never raises what a device can cause."""
        watch = self._premises.keep_alive.watch(self)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self._subscribing.spawn = nursery.start_soon
                    self.pump()
                    if self.admission.expires_at < inf:
                        nursery.start_soon(end_at_expiry, self._premises, self)
                    # It goes on while the connection is being closed, so it must outlive this nursery.
                    self.stream.flush_with((self._premises.nursery or nursery).start_soon)
                    with self._reading:
                        await self._read()
                    if self._reading.cancelled_caught:
                        while self.pending:
                            await self._wait_for_acknowledgement()
                        await self._wait_released()
                        self.dismiss()
                    nursery.cancel_scope.cancel()
        except Exception:
            self.ended = self.ended or "internal_error"
            raise
        finally:
            self._premises.keep_alive.end(watch)
            try:
                self._leave()
            finally:  # whatever happened: somebody may wait to take over
                self.gone.set()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def stop_reading(self) -> None:
        """Take no more from this device; it is told goodbye once everything taken is acknowledged."""
        self._reading.cancel()

    def expire(self) -> None:
        """Hear that nothing came for 1.5 times the keep alive. [MQTT-3.1.2-22]."""
        self.disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)

    @property
    def deadline(self) -> float:
        """When the device must have sent a packet; time in which we did not read is not held against it."""
        if self.ended:
            return float("inf")
        since = trio.current_time() if self._is_paused else self._paused_until
        return max(self.connection.deadline, since + 1.5 * self.connection.keep_alive)

    def _leave(self) -> None:
        if not self.ended:
            self.ended = "connection_lost"
        if self.is_gathered:
            self._pipeline.carry_gathered()  # not at the end of the turn: what is unfinished is known by id from now on
        # Circles are opened here: a device that is gone must not wait for the garbage collector.
        self._wait_for = self._nursery = self._subscribing.spawn = self._reauthenticating = None
        if self._backlog is not None and not self._is_clearing:
            self._pipeline.give_up(self._backlog)
        session, premises = self.session, self._premises
        session.device = None
        expiry = session.expiry if self._expiry is None else self._expiry
        if expiry:
            leave_behind(self, self._backlog, session, premises.absent)
            if not premises.is_closing:
                hand_over(session, self._pipeline.table)
        give_up_waiting(self)
        if self._will is not None and self._said_goodbye:
            premises.wills.cancel(self.client_id)
        elif self._will is not None:
            premises.wills.arm(pending_will(self.identity, self._will, expiry))
        premises.sessions.close(session, expiry=self._expiry)

    # up.

    async def _read(self) -> None:
        try:
            while not self.ended:
                await self._go_on()
                if not await self.stream.receive_each(self._take):
                    return
        except RemoteProtocolError as error:
            reason = error.reason.name.lower()
            self._metrics.protocol_errors.add(reason)
            self._premises.alerts.info(
                "protocol_error", "protocol_error", client_id=self.client_id, reason=reason, error=str(error),
                peer=str(self.stream.peer),
            )  # fmt: skip
            self.ended = reason
            self._flush()
            self.connection.fail(error)
            self._say_goodbye()
            forget_frames(error)
        except TransportError as error:
            self._premises.alerts.info("connection_lost", "connection_lost", client_id=self.client_id, error=str(error))
            forget_frames(error)

    async def _go_on(self) -> None:
        """Wait for what must be waited for, then handle what is left, until the socket can be read again."""
        while True:
            if self._wait_for is not None:
                await self._wait()
            left, self._left = self._left, []
            now = trio.current_time()
            if self._proceed(left or self.connection.next_batch(now), now):  # at first: what came right behind CONNECT
                return

    def _take(self, data: bytes | memoryview, now: float) -> bool:
        """Handle one read of the socket; False: something must be waited for before the next."""
        self._metrics.bytes_in += len(data)
        connection = self.connection
        events = connection.receive(data, now)
        if len(events) == 1 and type(events[0]) is Publish and self._gather(events, now):  # type: ignore[arg-type] # as said
            if connection.is_idle:
                return True  # most devices, most of the time: there is nothing else to look at
            events = []
        return self._proceed(events, now)

    def _proceed(self, events: list[Event], now: float) -> bool:
        """Handle these events and all that is complete behind them; False: something must be waited for first.

        What is left then is in `_left`, and what must be waited for in `_wait_for`.
        """
        connection = self.connection
        while True:
            for event in events:
                if type(event) is not Publish:
                    if not self._handle_mixed(events, now):
                        return False
                    break
            else:
                # All are Publish.
                if events and not (self._gather(events, now) or self._carry(events, now)):  # type: ignore[arg-type] # as said
                    return False
            if not connection.has_unread or not (events := connection.next_batch(now)):
                break
        self._flush()
        if self.stream.unsent > UNSENT_MOST:
            self._wait_for = partial(self.stream.wait_drained, UNSENT_LOW)
            return False
        if self._held and len(self._held) > UNSENT_MOST:
            self._wait_for = self._wait_released
            return False
        return True

    def _handle_mixed(self, events: list[Event], now: float) -> bool:
        """Handle events in order, where not all of them are messages."""
        if self.is_gathered:
            self._pipeline.carry_gathered()
        rest = [event for event in events if type(event) is not Settled]
        if len(rest) < len(events):
            tokens = [event.token for event in events if type(event) is Settled and event.token is not None]
            if tokens:
                self.session.settled(tokens)
            self.pump()
        if self._wait_for is not None:
            self._left = rest
            return False
        while rest:
            first = next((index for index, event in enumerate(rest) if type(event) is not Publish), len(rest))
            publishes, rest = rest[:first], rest[first:]
            if publishes and not self._carry(publishes, now):  # type: ignore[arg-type] # all are Publish
                self._left += rest
                return False
            if rest and not self._handle(rest.pop(0)):
                self._left = rest
                return False
        return True

    async def _wait(self) -> None:
        """Wait for what keeps us from reading on. That time is not held against the device's keep alive."""
        wait_for, self._wait_for = self._wait_for, None
        self._flush()
        self._is_paused = True
        self.stream.tell_hangup(self._hung_up)
        try:
            if wait_for is not None:
                await wait_for()
        finally:
            self.stream.tell_hangup(None)
            self._is_paused = False
            self._paused_until = trio.current_time()

    def _hung_up(self, has_unread: bool) -> None:
        """Hear that the device is gone, though it is not being read.

        If it had said something before, which may be DISCONNECT, there is time to come to that: as long as for a device
        that has fallen silent just now.
        """
        if has_unread or self._left or self.connection.has_unread:
            self._is_paused = False
            self._paused_until = trio.current_time()
        else:
            self.ended = self.ended or "connection_lost"
            self._scope.cancel()

    def _handle(self, event: Event) -> bool:
        """Handle a packet that is no PUBLISH; False: something must be waited for before the next."""
        if isinstance(event, Subscribe):
            self._wait_for = partial(self._subscribing.subscribe, event)
            return False
        if isinstance(event, Unsubscribe):
            self._subscribing.unsubscribe(event)
        elif isinstance(event, Disconnect):
            self._said_goodbye = event.reason is ReasonCode.SUCCESS
            if event.properties.session_expiry_interval is not None:
                self._expiry = min(
                    float(event.properties.session_expiry_interval), self._premises.limits.session_expiry
                )
            self.ended = "disconnect"
            self._scope.cancel()
            return False
        elif isinstance(event, Auth):
            assert self._nursery is not None  # noqa: S101 # packets come while it runs
            self._reauthenticating = self._reauthenticating or Reauthenticating(self._premises, self)
            self._reauthenticating.take(event, self._nursery)
        return True

    def _queue_moved(self) -> None:
        self._subscribing.queue_moved()
