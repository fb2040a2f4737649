"""The door: accepts connections, bounds their number, gives each a task tree of its own, and closes up in order."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import trio

from mqttproxy.config.model import ListenerSettings
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.greeting import NotWelcome, greet
from mqttproxy.downstream.premises import Premises
from mqttproxy.transport.listen import Listener, listen
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.transport.tcp import TcpStream


class Door:
    """All listeners of the process."""

    def __init__(self, premises: Premises, listen: Callable[..., Awaitable[Listener]] = listen) -> None:
        self.premises = premises
        self._listen = listen
        self.listeners: list[Listener] = []
        self._by_address: Counter[str] = Counter()
        self._connections = 0
        self._accepting = trio.CancelScope()
        self._handshake_over = trio.lowlevel.ParkingLot()

    async def open(self, settings: Sequence[ListenerSettings]) -> None:
        """Bind every enabled listener.

        Raises:
            TransportError: one cannot be bound; none stays open.

        """
        limits = self.premises.limits
        try:
            for listener in settings:
                if listener.enabled:
                    opened = await self._listen(
                        listener,
                        write_timeout=limits.write_timeout,
                        max_frame_bytes=limits.packet_size + 8,
                        trouble=self._accept_failed,
                    )
                    self.listeners.append(opened)
        except TransportError:
            self._close_listeners()
            raise

    async def run(self) -> None:
        """Serve devices until cancelled."""
        async with trio.open_nursery() as nursery:
            self.premises.nursery = self.premises.publisher.nursery = nursery
            nursery.start_soon(self.premises.keep_alive.run)
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    for listener in self.listeners:
                        accepting.start_soon(self._accept, listener, nursery)
            self._close_listeners()  # not before: nobody accepts from a closed socket

    async def drain(self, deadline: float) -> None:
        """Accept no more, and let each device go once what it sent is acknowledged, at the deadline anyway."""
        self.premises.is_closing = True
        self._accepting.cancel()
        devices = list(self.premises.devices.values())
        for device in devices:
            device.stop_reading()
        with trio.move_on_at(deadline):
            for device in devices:
                await device.gone.wait()
        for device in list(self.premises.devices.values()):
            device.dismiss()

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()
            self.premises.metrics.listening[listener.settings.name] = 0

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        self.premises.metrics.listening[listener.settings.name] = 1
        while True:
            await self._wait_for_handshakes()
            raw = await listener.accept()
            if self._may_enter(raw):
                nursery.start_soon(self._connection, listener, raw)
            else:
                raw.abort()

    async def _wait_for_handshakes(self) -> None:
        """Accept no more while as many as may be are shaking hands: the kernel keeps those who come.

        After a restart all devices come at once. Closing the door on them would make each come again, at a moment of
        its own choosing and at the price of one more handshake; waiting brings them in as fast as it can be done.
        """
        metrics = self.premises.metrics
        if metrics.handshakes < self.premises.limits.handshakes:
            return
        metrics.handshake_waits += 1
        self.premises.alerts.warning("handshakes_wait", "handshakes_wait", handshakes=metrics.handshakes)
        while metrics.handshakes >= self.premises.limits.handshakes:
            await self._handshake_over.park()

    def _accept_failed(self, words: str) -> None:
        self.premises.metrics.connections_refused.add("accept_failed")
        self.premises.alerts.error("accept_failed", "accept_failed", error=words)

    def _may_enter(self, raw: TcpStream) -> bool:
        limits, metrics = self.premises.limits, self.premises.metrics
        host = raw.peer.host
        reason = ""
        if self._connections >= limits.connections:
            reason = "too_many_connections"
        elif self._by_address[host] >= limits.connections_per_address:
            reason = "too_many_from_address"
        if reason:
            metrics.connections_refused.add(reason)
            self.premises.alerts.warning(reason, reason, address=host)
            return False
        self._connections += 1
        self._by_address[host] += 1
        metrics.handshakes += 1
        return True

    async def _connection(self, listener: Listener, raw: TcpStream) -> None:
        """Live one connection, from accept to close. An error in here ends this connection and nothing else."""
        name, metrics = listener.settings.name, self.premises.metrics
        metrics.connections_opened.add(name)
        device: Device | None = None
        try:
            device = await self._welcome(listener, raw)
            if device is not None:
                await self._live(device, name)
        except Exception:  # our bug, in one device's tree: told loudly, counted, and kept to it
            if device is None:
                metrics.connections_closed.add("internal_error")
            self.premises.log.exception("internal_error", peer=str(raw.peer))
            raw.abort()
        finally:
            self._connections -= 1
            self._by_address[raw.peer.host] -= 1
            if not self._by_address[raw.peer.host]:
                del self._by_address[raw.peer.host]

    async def _welcome(self, listener: Listener, raw: TcpStream) -> Device | None:
        """Do the handshakes of transport and MQTT under one deadline; None: it did not come in."""
        metrics = self.premises.metrics
        stream: ByteStream = raw
        reason = "connect_deadline"
        device: Device | None = None
        try:
            with trio.move_on_after(self.premises.limits.connect_deadline):
                stream = await listener.handshake(raw)
                device = await greet(self.premises, stream, listener.settings.name)
                return device
        except NotWelcome as error:
            reason = error.label
            await stream.aclose()
        except TransportError as error:
            reason = "handshake_failed"
            self.premises.alerts.info(reason, reason, peer=str(raw.peer), error=str(error))
        finally:
            metrics.handshakes -= 1
            self._handshake_over.unpark_all()
            if device is None:
                stream.abort()
        metrics.connections_refused.add(reason)
        return None

    async def _live(self, device: Device, listener: str) -> None:
        metrics, devices = self.premises.metrics, self.premises.devices
        metrics.active_connections.add(listener)
        if self.premises.is_closing:
            device.stop_reading()
        try:
            await device.run()
        finally:
            if devices.get(device.client_id) is device:
                del devices[device.client_id]
            metrics.active_connections.add(listener, -1)
            metrics.connections_closed.add(device.ended)
            await device.stream.aclose()
