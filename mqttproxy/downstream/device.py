"""One connected device: its task tree, its acknowledgements in arrival order, and what is on its way to it."""

from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from mqttproxy.downstream.premises import Premises
from mqttproxy.downstream.subscribing import Subscribing
from mqttproxy.handover import Ticket
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import Auth, Connect, Disconnect, Message, Publish, Subscribe, Unsubscribe
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.sessions import DeviceQueue
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.validation import Identity

# Bytes that may wait for the kernel to take them before no more is taken from the device's queue.
UNSENT_HIGH: Final = 256 * 1024
UNSENT_LOW: Final = 64 * 1024


class Device:
    """A device between CONNACK and the end of its connection. Whatever goes wrong here ends this connection only."""

    def __init__(
        self,
        premises: Premises,
        stream: ByteStream,
        connection: ServerConnection,
        connect: Connect,
        identity: Identity,
    ) -> None:
        limits = premises.limits
        self.identity: Identity = identity
        self.client_id = identity.client_id
        self.pending: deque[Ticket] = deque()
        self.gone = trio.Event()  # set when nothing of this device is left but closing its socket
        self.ended = ""  # why the connection ended: a label of bounded kind
        self.stream = stream
        self.connection = connection
        self._premises = premises
        self._metrics = premises.metrics
        self._pipeline = premises.pipeline
        self._will = connect.will
        self._queue = DeviceQueue(max_messages=limits.queue_messages, max_bytes=limits.queue_bytes)
        self._subscribing = Subscribing(premises, self, connection)
        self._reading = trio.CancelScope()
        self._scope = trio.CancelScope()
        self._unacknowledged = 0  # payload bytes
        self._room: trio.Event | None = None  # somebody waits for `pending` to become shorter
        self._paused_until = 0.0
        self._draining_queue = False
        self._nursery: trio.Nursery | None = None

    # life.

    async def run(self) -> None:
        """Serve the device until its connection ends; never raises what a device can cause."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self.stream.flush_with(nursery.start_soon)
                    self._premises.keep_alive.watch(self)
                    with self._reading:
                        await self._read()
                    if self._reading.cancelled_caught:
                        await self._finish_acknowledging()
                        self.disconnect(ReasonCode.SERVER_SHUTTING_DOWN, "the proxy is shutting down")
                    nursery.cancel_scope.cancel()
        finally:
            self._leave()

    def stop_reading(self) -> None:
        """Take no more from this device; it is told goodbye once everything taken is acknowledged."""
        self._reading.cancel()

    def disconnect(self, reason: ReasonCode, words: str = "") -> None:
        """End the connection, telling an MQTT 5 device why."""
        if not self.ended:
            self.ended = reason.name.lower()
            self.connection.disconnect(reason, words or None)
            self._flush()
            self._scope.cancel()

    def expire(self) -> None:
        """Hear that nothing came for 1.5 times the keep alive. [MQTT-3.1.2-22]."""
        self.disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)

    def rehome(self) -> None:
        """Ask the upstreams again, after a reload."""
        self._subscribing.rehome()

    @property
    def deadline(self) -> float:
        """When the device must have sent a packet; time in which we did not read is not held against it."""
        if self.ended:
            return float("inf")
        return max(self.connection.deadline, self._paused_until + 1.5 * self.connection.keep_alive)

    def _leave(self) -> None:
        if not self.ended:
            self.ended = "connection_lost"
        self._subscribing.forget_all()
        self.pending.clear()  # the tickets refer to this device: the circle is opened here
        if self._will is not None and self.ended != "disconnect":
            will, self._will = self._will, None
            publish = Publish(will.topic, will.payload, will.qos, will.retain, will.properties)
            self._premises.publish_late(self, publish)
        self.gone.set()

    # up.

    async def _read(self) -> None:
        connection, receive = self.connection, self.stream.receive
        try:
            await self._handle_all(trio.current_time())  # what came right behind CONNECT
            while not self.ended:
                data = await receive()
                if not data:
                    return
                now = trio.current_time()
                self._metrics.bytes_in += len(data)
                connection.receive_data(data, now)
                await self._handle_all(now)
        except RemoteProtocolError as error:
            self._metrics.protocol_errors.add(error.reason.name.lower())
            self._premises.alerts.info(
                "protocol_error", "protocol_error", client_id=self.client_id, reason=error.reason.name.lower(),
                error=str(error), peer=str(self.stream.peer),
            )  # fmt: skip
            self.ended = error.reason.name.lower()
            connection.fail(error)
            self._flush()
        except TransportError as error:
            self._premises.alerts.info("connection_lost", "connection_lost", client_id=self.client_id, error=str(error))

    async def _handle_all(self, now: float) -> None:
        while batch := self.connection.next_batch(now):
            publishes: list[Publish] = []
            for event in batch:
                if type(event) is Publish:
                    publishes.append(event)
                    continue
                if publishes:
                    await self._carry(publishes, now)
                    publishes = []
                await self._handle(event)
            if publishes:
                await self._carry(publishes, now)
        self._flush()

    async def _carry(self, publishes: Sequence[Publish], now: float) -> None:
        """Carry what was read, never more at once than the device may have unacknowledged."""
        limits = self._premises.limits
        pending = self.pending
        while publishes:
            room = limits.receive_maximum - len(pending)
            if room <= 0 or self._unacknowledged >= limits.unacknowledged_bytes:
                self._flush()
                await self._wait_for_room()
                continue
            part, publishes = publishes[:room], publishes[room:]
            self._unacknowledged += sum([len(publish.payload) for publish in part if publish.qos])
            backlog = self._pipeline.carry_up(self, part, now)
            if backlog is not None:
                self._flush()
                try:
                    await self._pipeline.clear(backlog)
                finally:
                    self._paused_until = trio.current_time()

    async def _wait_for_room(self) -> None:
        self._room = trio.Event()
        try:
            await self._room.wait()
        finally:
            self._room = None
            self._paused_until = trio.current_time()

    async def _finish_acknowledging(self) -> None:
        while self.pending:
            await self._wait_for_room()

    async def _handle(self, event: Event) -> None:
        kind = type(event)
        if kind is Settled:
            self.pump()
        elif isinstance(event, Subscribe):
            await self._subscribing.subscribe(event)
        elif isinstance(event, Unsubscribe):
            self._subscribing.unsubscribe(event)
        elif isinstance(event, Disconnect):
            if event.reason is not ReasonCode.DISCONNECT_WITH_WILL:
                self._will = None
            self.ended = "disconnect"
            self._scope.cancel()
            await trio.lowlevel.checkpoint()
        elif isinstance(event, Auth):
            raise RemoteProtocolError("AUTH without an authentication method", ReasonCode.PROTOCOL_ERROR)

    def acknowledge(self) -> None:
        """Acknowledge, in arrival order, every ticket at the head of `pending` that is done. [MQTT-4.6.0-2]."""
        if self.ended:
            return
        pending, connection, latency = self.pending, self.connection, self._metrics.latency_seconds
        now = trio.current_time()
        successes: list[tuple[int, int]] = []
        read_at = 0.0
        of_one_read = 0
        while pending and pending[0].done:
            ticket = pending.popleft()
            self._unacknowledged -= ticket.size
            if ticket.received_at != read_at:
                if of_one_read:
                    latency.observe(now - read_at, of_one_read)
                read_at, of_one_read = ticket.received_at, 0
            of_one_read += 1
            if ticket.reason:
                connection.acknowledge_all(successes)
                successes = []
                connection.acknowledge(ticket.packet_id, ticket.qos, ticket.reason, ticket.properties)
            else:
                successes.append((ticket.packet_id, ticket.qos))
        if of_one_read:
            latency.observe(now - read_at, of_one_read)
            connection.acknowledge_all(successes)
            self._flush()
            if self._room is not None:
                self._room.set()

    # down.

    def deliver(self, messages: Sequence[Message]) -> None:
        """Queue messages for this device and send what it can take; what does not fit is dropped and counted."""
        dropped = self._queue.put(messages)
        if dropped:
            self._metrics.dropped_down.add("queue_full", dropped)
        self.pump()

    def pump(self) -> None:
        """Send from the queue, as far as the device's Receive Maximum and its socket allow."""
        while len(self._queue) and not self.ended:
            if self.stream.unsent > UNSENT_HIGH:
                self._pump_when_drained()
                return
            messages = self._queue.take(self.connection.send_quota, UNSENT_HIGH)
            if not messages:
                return
            sent = self.connection.publish([(message, None) for message in messages])
            if sent.too_large:
                self._metrics.dropped_down.add("too_large", len(sent.too_large))
            self._metrics.delivered_down += len(messages) - len(sent.too_large)
            self._flush()

    def _pump_when_drained(self) -> None:
        if self._draining_queue or self._nursery is None:
            return
        self._draining_queue = True
        self._nursery.start_soon(self._drain_then_pump)

    async def _drain_then_pump(self) -> None:
        try:
            await self.stream.wait_drained(UNSENT_LOW)
        except TransportError:
            return  # the reader is told as well, and ends the connection
        finally:
            self._draining_queue = False
        self.pump()

    def _flush(self) -> None:
        data = self.connection.data_to_send()
        if data:
            self._metrics.bytes_out += len(data)
            self.stream.send_nowait(data)
