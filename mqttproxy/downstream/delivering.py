"""The sending half of a connected device: what is on its way to it, and how its connection is ended by us."""

from typing import Final

import trio

from mqttproxy.downstream.premises import Premises
from mqttproxy.mqtt.packets import NO_PROPERTIES, Auth, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.sessions import Session
from mqttproxy.transport.stream import ByteStream, TransportError

# Bytes that may wait for the kernel, or for a commit, before no more is taken from the device's queue: an equal part of
# `limits.unsent_bytes`, within these bounds.
UNSENT_HIGH: Final = 256 * 1024
UNSENT_LEAST: Final = 16 * 1024
CONNACK: Final = b"\x20"  # its first byte


class Delivering:
    """See the module. `Device` is the other half.

    Everything here is called while others are being served: by who publishes, by destinations that acknowledge, by
    the sessions' commits. An error must not be theirs (promise P5), so none is raised: see `_fail`.
    """

    def __init__(self, premises: Premises, stream: ByteStream, connection: ServerConnection, session: Session) -> None:
        self.stream = stream
        self.connection = connection
        self.session = session
        self.ended = ""  # why the connection ended: a label of bounded kind
        self._premises = premises
        self._metrics = premises.metrics
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._error: Exception | None = None  # a bug, to be told by this device's own task
        self._draining_queue = False
        self._held = bytearray()  # must not leave before the session's commit
        self._released: trio.Event | None = None  # somebody waits for that

    # Its end.

    def disconnect(self, reason: ReasonCode, words: str = "", properties: Properties = NO_PROPERTIES) -> None:
        """End the connection, telling an MQTT 5 device why."""
        if not self.ended:
            self.ended = reason.name.lower()
            self._flush()
            self.connection.disconnect(reason, words or None, properties)
            self._say_goodbye()
            self._scope.cancel()

    def dismiss(self) -> None:
        """End the connection because the proxy or its listener is ending, naming another server if there is one."""
        if not self._premises.is_closing:
            self.disconnect(ReasonCode.ADMINISTRATIVE_ACTION, "the listener was closed or changed")
        elif reference := self._premises.server_reference:
            self.disconnect(ReasonCode.USE_ANOTHER_SERVER, properties=Properties(server_reference=reference))
        else:
            self.disconnect(ReasonCode.SERVER_SHUTTING_DOWN, "the proxy is shutting down")

    def _say_goodbye(self) -> None:
        """Send the last words, which follow from nothing that must be on disk first; what is held back never goes."""
        held, self._held = self._held, bytearray()
        data = self.connection.data_to_send()
        if data and held[:1] != CONNACK:  # before it nothing may be said
            self._metrics.bytes_out += len(data)
            self.stream.send_nowait(data)

    def _fail(self, error: Exception) -> None:
        """End this connection because of a bug that showed while somebody else was being served.

        Whoever called has nothing to do with it, so the error is raised in this device's own task.
        """
        if self._error is None:
            self._error = error
        self.ended = self.ended or "internal_error"
        self._scope.cancel()

    # From its queue.

    def promise(self, packet_id: int) -> None:
        """Hear that a QoS 2 message is on disk with the next commit: its packet identifier goes with it."""
        self.session.promise(packet_id)

    def pump(self) -> None:
        """Send from the queue, as far as the device's Receive Maximum and its socket allow."""
        try:
            self._pump()
        except Exception as error:  # noqa: BLE001 # told by our own task: the caller may serve others
            self._fail(error)

    def _pump(self) -> None:
        session, connection, metrics = self.session, self.connection, self._metrics
        most = self._most_unsent
        while len(session.queue) and not self.ended:
            if self.stream.unsent > most:
                self._pump_when_drained()
                return
            if len(self._held) > most:
                return  # `flush` goes on
            items = session.take(connection.send_quota, most, trio.current_time())
            if not items:
                break
            sent = connection.publish(items)
            session.sent()
            if sent.too_large:
                metrics.dropped_down.add("too_large", len(sent.too_large))
                session.settled([token for token in sent.too_large if token is not None])
            metrics.delivered_down += len(items) - len(sent.too_large)
            self._flush()
        self._queue_moved()

    @property
    def _most_unsent(self) -> int:
        premises = self._premises
        part = premises.limits.unsent_bytes // (len(premises.devices) or 1)
        return min(max(part, UNSENT_LEAST), UNSENT_HIGH)

    def _queue_moved(self) -> None:
        """Hear that the queue may have become shorter."""

    def _pump_when_drained(self) -> None:
        if self._draining_queue or self._nursery is None:
            return
        self._draining_queue = True
        self._nursery.start_soon(self._drain_then_pump)

    async def _drain_then_pump(self) -> None:
        try:
            await self.stream.wait_drained(self._most_unsent // 4)
        except TransportError:
            return  # the reader is told as well, and ends the connection
        finally:
            self._draining_queue = False
        self.pump()

    # To its socket.

    def flush(self) -> None:
        """Hear that the session has committed: what was held back may go.

        A commit that took no time tells so while something is being written; nothing was held back then, and whoever
        writes will send it.
        """
        if self.session.is_held or not (self._held or self._released):
            return
        try:
            data, self._held = self._held, bytearray()
            if data:
                self._send(data)
            if self._released is not None:
                self._released.set()
                self._released = None
            self._pump()
        except Exception as error:  # noqa: BLE001 # told by our own task: the caller serves all sessions
            self._fail(error)

    async def _wait_released(self) -> None:
        """Wait until nothing is held back."""
        while self.session.is_held:
            self._released = self._released or trio.Event()
            await self._released.wait()

    def answer(self, packet: Auth) -> None:
        """Send a packet that answers one of the device's."""
        if not self.ended:
            self.connection.send(packet)
            self._flush()

    def _flush(self) -> None:
        data = self.connection.data_to_send()
        if data:
            self._send(data)

    def _send(self, data: bytes | bytearray) -> None:
        if self.session.is_held:  # it may follow from a change that is not on disk yet
            self._held += data
            return
        self._metrics.bytes_out += len(data)
        self.stream.send_nowait(data)
