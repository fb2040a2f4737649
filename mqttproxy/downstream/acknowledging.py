"""What a connected device has sent and not had acknowledged: in arrival order, and bounded."""

from collections import deque

import trio

from mqttproxy.downstream.delivering import Delivering
from mqttproxy.downstream.premises import Premises
from mqttproxy.handover import Ticket
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.sessions import Session
from mqttproxy.transport.stream import ByteStream


class Acknowledging(Delivering):
    """See the module. `Device` has what is sent."""

    def __init__(self, premises: Premises, stream: ByteStream, connection: ServerConnection, session: Session) -> None:
        super().__init__(premises, stream, connection, session)
        self.pending: deque[Ticket] = deque()
        self.unacknowledged = 0  # payload bytes
        self._room: trio.Event | None = None  # somebody waits for `pending` to become shorter

    def acknowledge(self, now: float) -> None:
        """Acknowledge, in arrival order, every ticket at the head of `pending` that is done. [MQTT-4.6.0-2]."""
        pending = self.pending
        if self.ended or not pending:
            return
        try:
            connection, latency = self.connection, self._metrics.latency_seconds
            ticket = pending[0]
            if (
                len(pending) == 1 and ticket.done and ticket.qos == 1 and not ticket.reason
            ):  # most devices, most of the time
                pending.clear()
                self.unacknowledged -= ticket.size
                latency.observe(now - ticket.received_at)
                self._send(connection.acknowledge_one(ticket.packet_id))
                if self._room is not None:
                    self._room.set()
                return
            successes: list[tuple[int, int]] = []
            read_at = pending[0].received_at
            of_one_read = size = 0
            while pending and pending[0].done:
                ticket = pending.popleft()
                size += ticket.size
                if ticket.received_at != read_at:
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
                self.unacknowledged -= size
                latency.observe(now - read_at, of_one_read)
                connection.acknowledge_all(successes)
                self._flush()
                if self._room is not None:
                    self._room.set()
        except Exception as error:  # noqa: BLE001 # told by our own task: the caller may serve others
            self._fail(error)

    async def _wait_for_room(self) -> None:
        limits = self._premises.limits
        while len(self.pending) >= limits.receive_maximum or self.unacknowledged >= limits.unacknowledged_bytes:
            await self._wait_for_acknowledgement()

    async def _wait_for_acknowledgement(self) -> None:
        self._room = trio.Event()
        await self._room.wait()
