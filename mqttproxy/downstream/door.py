"""The door: accepts connections, bounds their number, gives each a task tree of its own, and closes up in order."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from mqttproxy.config.model import ListenerSettings
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.entrances import (
    SECURE,
    CannotOpenError,
    Entrance,
    ListenerChanges,
    Way,
    Ways,
    in_the_way,
    lets_stay,
    pair,
)
from mqttproxy.downstream.greeting import NotWelcome, greet
from mqttproxy.downstream.handshakes import Handshakes
from mqttproxy.downstream.premises import ConnectedDevice, Premises
from mqttproxy.downstream.rights import end_stay, watch_users
from mqttproxy.transport.addresses import counted_as
from mqttproxy.transport.listen import EXHAUSTED, BadIntroductionError, Listener, listen, load_terms
from mqttproxy.transport.revoked import Revoked
from mqttproxy.transport.stream import ByteStream, TransportError, words
from mqttproxy.transport.tcp import TcpStream


class Door:
    """All listeners of the process."""

    def __init__(self, premises: Premises, listen: Callable[..., Awaitable[Listener]] = listen) -> None:
        self.premises = premises
        self._listen = listen
        self._entrances: list[Entrance] = []
        self._by_address: Counter[str] = Counter()
        self._connections = 0
        self._accepting: trio.Nursery | None = None
        self._nursery: trio.Nursery | None = None
        self._handshakes = Handshakes(premises.limits, premises.metrics, premises.alerts)
        self._calmer = trio.lowlevel.ParkingLot()
        premises.shedding.calmer = self._calmer.unpark_all

    @property
    def listeners(self) -> list[Listener]:
        """Return those that are open, in the order of the file."""
        return [entrance.listener for entrance in self._entrances]

    def connected(self) -> dict[str, int]:
        """Return how many devices each listener has let in."""
        return {entrance.settings.name: len(entrance.devices) for entrance in self._entrances}

    def add(self, listener: Listener) -> None:
        """Accept from a listener that is open already, once `run` runs."""
        self._entrances.append(Entrance(listener, listener.settings))
        self._label()

    async def open(self, settings: Sequence[ListenerSettings]) -> None:
        """Bind every enabled listener.

        Raises:
            CannotOpenError: one cannot be bound; none stays open.

        """
        self.use(await self.prepare(settings), grace=0.0)

    async def prepare(self, settings: Sequence[ListenerSettings]) -> Ways:
        """Bind what is new and read all certificates, so that `use` cannot fail. Nothing that is open is touched.

        Raises:
            CannotOpenError: one cannot be bound; what was opened is closed again.

        """
        wanted = [(position, one) for position, one in enumerate(settings) if one.enabled]
        found = pair(self._entrances, [one for _, one in wanted])
        ways: list[Way] = []
        try:
            for (position, one), entrance in zip(wanted, found, strict=True):
                ways.append(await self._open(position, one) if entrance is None else _keep(position, one, entrance))
        except BaseException:
            Ways(tuple(ways), ()).discard()
            raise
        return Ways(tuple(ways), tuple(entrance for entrance in self._entrances if entrance not in found))

    async def _open(self, position: int, settings: ListenerSettings) -> Way:
        limits = self.premises.limits
        try:
            opened = await self._listen(
                settings,
                write_timeout=limits.write_timeout,
                max_frame_bytes=limits.packet_size + 8,
                trouble=self._accept_failed,
                hung_up=self._hung_up,
            )
        except TransportError as error:
            if isinstance(error.__cause__, TransportError) or not isinstance(error.__cause__, OSError):
                raise CannotOpenError(position, "certificate", str(error)) from error
            raise CannotOpenError(position, "bind", str(error) + in_the_way(self._entrances, settings)) from error
        return Way(settings, Entrance(opened, settings), is_new=True)

    def use(self, ways: Ways, *, grace: float) -> ListenerChanges:
        """Have these listeners from now on, and no others; those who may not stay have `grace` seconds. Cannot fail."""
        changes = ways.changes()
        self._entrances = [self._go_through(way, grace) for way in ways.ways]
        self._label()
        for entrance in ways.gone:
            entrance.accepting.cancel()
            if self._accepting is None:  # else its task closes it: nobody may accept from a closed socket
                entrance.listener.close()
            self.premises.metrics.listening.pop(entrance.settings.name, None)
            self._send_away(entrance, grace)
        if self._accepting is not None:
            self._show_open()
        return changes

    def _go_through(self, way: Way, grace: float) -> Entrance:
        entrance = way.entrance
        if way.is_new:
            if self._accepting is not None:
                self._accepting.start_soon(self._accept, entrance.listener, entrance.accepting)
            return entrance
        if entrance.settings == way.settings and way.terms is None:
            return entrance
        if way.terms is not None:
            entrance.listener.use(way.settings, way.terms)
            if way.terms.revoked is not None and not way.sends_away and self._nursery is not None:
                self._nursery.start_soon(self._send_away_revoked, list(entrance.devices), way.terms.revoked)
        if not way.sends_away:
            entrance.settings = way.settings
            return entrance
        self.premises.metrics.listening.pop(entrance.settings.name, None)
        self._send_away(entrance, grace)
        return Entrance(entrance.listener, way.settings, entrance.accepting)

    def _send_away(self, entrance: Entrance, grace: float) -> None:
        entrance.is_closed = True
        if self._nursery is not None and entrance.devices:
            self._nursery.start_soon(self._let_go, list(entrance.devices), trio.current_time() + grace)

    async def _send_away_revoked(self, devices: Iterable[Device], revoked: Revoked) -> None:
        """End the connections of devices whose certificates have been revoked since they came in."""
        for device in devices:
            await trio.lowlevel.checkpoint()  # reading many certificates takes its time
            if (der := device.stream.peer.der) and revoked.has(der):
                self.premises.log.info("certificate_revoked", client_id=device.client_id, peer=str(device.stream.peer))
                rule = f"listener {device.identity.listener}"
                end_stay(self.premises, device, "revoked", "the certificate was revoked", rule)

    async def run(self) -> None:
        """Serve devices until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self.premises.nursery = self.premises.publisher.nursery = self._nursery
            self._nursery.start_soon(self.premises.keep_alive.run)
            self._nursery.start_soon(watch_users, self.premises)
            self._nursery.start_soon(self._handshakes.run)
            async with trio.open_nursery() as self._accepting:
                for entrance in self._entrances:
                    self._accepting.start_soon(self._accept, entrance.listener, entrance.accepting)
                self._show_open()
                await trio.sleep_forever()
            self._close_listeners()

    async def drain(self, deadline: float) -> None:
        """Accept no more, and let each device go once what it sent is acknowledged, at the deadline anyway."""
        self.premises.is_closing = True
        if self._accepting is not None:
            self._accepting.cancel_scope.cancel()
        await self._let_go(list(self.premises.devices.values()), deadline)
        for device in list(self.premises.devices.values()):
            device.dismiss()

    async def _let_go(self, devices: Iterable[ConnectedDevice], deadline: float) -> None:
        devices = list(devices)
        for device in devices:
            device.stop_reading()
        with trio.move_on_at(deadline):
            for device in devices:
                await device.gone.wait()
        for device in devices:
            device.dismiss()

    def _label(self) -> None:
        self.premises.labels = {one.settings.name: one.settings.attributes for one in self._entrances}
        lists = ((one.settings.name, one.listener.revoked) for one in self._entrances)
        self.premises.revoked = {name: revoked for name, revoked in lists if revoked is not None}

    def _show_open(self) -> None:
        self.premises.metrics.listening.update({entrance.settings.name: 1 for entrance in self._entrances})

    def _close_listeners(self) -> None:
        for entrance in self._entrances:
            entrance.listener.close()
            self.premises.metrics.listening[entrance.settings.name] = 0

    async def _accept(self, listener: Listener, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while True:
                    await self._wait_for_calm()
                    raw = await listener.accept()
                    if self._may_enter(listener, raw):
                        self._let_in(listener, raw)
                    else:
                        raw.abort()
        finally:
            listener.close()  # not before: nobody accepts from a closed socket

    def _let_in(self, listener: Listener, raw: TcpStream) -> None:
        entrance = next((one for one in self._entrances if one.listener is listener), None)
        if entrance is None or self._nursery is None:  # closed a moment ago
            self._leave(raw.peer.host)
            raw.abort()
        else:
            self._nursery.start_soon(self._connection, entrance, raw)

    async def _wait_for_calm(self) -> None:
        """Accept no more under overload: the kernel keeps those who come. Some who say nothing make room for them."""
        while self.premises.shedding.closes_door:
            self._handshakes.make_room()
            await self._calmer.park()

    def _accept_failed(self, error: OSError) -> None:
        self.premises.metrics.connections_refused.add("accept_failed")
        self.premises.alerts.error("accept_failed", "accept_failed", error=words(error))
        if error.errno in EXHAUSTED:
            self._handshakes.make_room()

    def _hung_up(self) -> None:
        self.premises.metrics.connections_refused.add("closed_before_connect")

    def _may_enter(self, listener: Listener, raw: TcpStream) -> bool:
        limits, metrics = self.premises.limits, self.premises.metrics
        host = raw.peer.host
        reason = ""
        if self._connections >= limits.connections and not self._handshakes.make_room():
            reason = "too_many_connections"
        elif self._handshakes.has_line and raw.has_hung_up:  # or each of thousands would cost the work for a device
            reason = "closed_before_connect"
        elif listener.is_behind_balancers:  # who is there will be told: see `_introduce`
            reason = "" if listener.believes(host) else "not_a_balancer"
        else:
            reason = self._why_no_more_from(host)
        if reason:
            metrics.connections_refused.add(reason)
            self.premises.alerts.warning(reason, reason, address=host)
            return False
        self._connections += 1
        self._by_address[counted_as(host)] += 1
        return True

    def _why_no_more_from(self, host: str) -> str:
        """Return why an address may not have one more connection; empty: it may."""
        limits = self.premises.limits
        most = limits.connections_per_address
        return "too_many_from_address" if self._by_address[counted_as(host)] >= most else ""

    async def _connection(self, entrance: Entrance, raw: TcpStream) -> None:
        """Live one connection, from accept to close. An error in here ends this connection and nothing else."""
        name, metrics = entrance.settings.name, self.premises.metrics
        metrics.connections_opened.add(name)
        device: Device | None = None
        try:
            device = await self._welcome(entrance.listener, raw, name)
            if device is not None:
                await self._live(device, entrance, name)
        except Exception:  # our bug, in one device's tree: told loudly, counted, and kept to it
            if device is None:
                metrics.connections_closed.add("internal_error")
            self.premises.log.exception("internal_error", peer=str(raw.peer))
            raw.abort()
        finally:
            self._leave(raw.peer.host)

    def _leave(self, host: str) -> None:
        self._connections -= 1
        self._count_out(host)

    def _count_out(self, host: str) -> None:
        address = counted_as(host)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    async def _introduce(self, listener: Listener, raw: TcpStream) -> None:
        """Learn who is there from a load balancer: that address counts from now on, and not the balancer's.

        Raises:
            NotWelcome: it may not have one more connection, or there is nobody.
            TransportError: the load balancer does not say it.

        """
        balancer = raw.peer.host
        if not await listener.introduce(raw):
            raise NotWelcome("closed_before_connect")
        host, introduction = raw.peer.host, raw.peer.introduction
        self._count_out(balancer)
        is_client = introduction is not None and introduction.header.source is not None
        reason = self._why_no_more_from(host) if is_client else ""
        self._by_address[counted_as(host)] += 1
        if reason:
            self.premises.alerts.warning(reason, reason, address=host)
            raise NotWelcome(reason)

    async def _welcome(self, listener: Listener, raw: TcpStream, name: str) -> Device | None:
        """Do the handshakes of transport and MQTT under one deadline; None: it did not come in."""
        metrics = self.premises.metrics
        stream: ByteStream = raw
        reason = "connect_deadline"
        device: Device | None = None
        try:
            with self._handshakes.begun(raw) as handshake:
                if listener.is_behind_balancers:
                    await self._introduce(listener, raw)
                await self._handshakes.take_place(handshake)
                stream = await listener.handshake(raw)
                self._handshakes.step_done(handshake)
                device = await greet(self.premises, stream, name)
                self._handshakes.came_in(handshake)
                return device
            if handshake.is_sent_away:
                reason = "slow_handshake"
                self.premises.alerts.info(reason, reason, peer=str(raw.peer))
        except NotWelcome as error:
            reason = error.label
            await stream.aclose()
        except TransportError as error:
            if raw.peer.is_the_balancer:  # it breaks off once it has seen that we live
                reason = "closed_before_connect"
            else:
                reason = "bad_introduction" if isinstance(error, BadIntroductionError) else "handshake_failed"
                self.premises.alerts.info(reason, reason, peer=str(raw.peer), error=str(error))
        finally:
            if device is None:
                stream.abort()
        metrics.connections_refused.add(reason)
        return None

    async def _live(self, device: Device, entrance: Entrance, name: str) -> None:
        metrics, devices = self.premises.metrics, self.premises.devices
        metrics.active_connections.add(name)
        entrance.devices.add(device)
        if self.premises.is_closing or entrance.is_closed:
            device.stop_reading()
        try:
            await device.run()
        finally:
            entrance.devices.discard(device)
            if devices.get(device.client_id) is device:
                del devices[device.client_id]
            metrics.active_connections.add(name, -1)
            metrics.connections_closed.add(device.ended)
            await device.stream.aclose()


def _keep(position: int, settings: ListenerSettings, entrance: Entrance) -> Way:
    """Return how a listener goes on with its socket. What its files hold may have changed though their names have not.

    Raises:
        CannotOpenError: they cannot be used.

    """
    if settings == entrance.settings and settings.transport not in SECURE and settings.crl is None:
        return Way(settings, entrance)
    try:
        terms = load_terms(settings)
    except TransportError as error:
        raise CannotOpenError(position, "certificate", str(error)) from error
    return Way(settings, entrance, terms=terms, sends_away=not lets_stay(entrance.settings, settings))
