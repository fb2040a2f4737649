"""Brokers of the simulation: `ServerConnection` behind memory streams, with sessions, and with moods."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

import trio

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import Connect, Disconnect, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits, State
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.stream import TransportError
from tests.faults.simulation.ledger import Ledger
from tests.faults.simulation.network import Network, SimulatedStream

_LIMITS: Final = ServerLimits(receive_maximum=20, qos2_awaiting_release=65_535)


class Broker:
    """Takes ownership of a message with PUBLISH, as the standard lets it (4.3.3, method B for its receiver).

    Attributes:
        is_away: nobody listens. `hangs`: the connection never comes about.
        refuses: CONNECT is answered with this.
        is_mute: acknowledgements are lost on their way; `patience`: seconds that they take.
        rejects: the reason with which a message is refused, from its payload; None: it is taken.

    """

    def __init__(self, name: str, network: Network, ledger: Ledger, chance: Random, nursery: trio.Nursery) -> None:
        self.name = name
        self._network = network
        self._ledger = ledger
        self._chance = chance
        self._nursery = nursery
        self._lines: dict[str, SimulatedStream] = {}
        self.sessions: dict[str, SessionState] = {}
        self.heal()

    def heal(self) -> None:
        """Behave from now on."""
        self.is_away = self.hangs = self.is_mute = False
        self.refuses: ReasonCode | None = None
        self.patience = 0.0
        self.rejects: Callable[[bytes], ReasonCode | None] = lambda _: None

    async def dial(self, owner: object, write_timeout: float) -> SimulatedStream:
        await trio.sleep(0.002 * self._chance.random())
        if self.hangs:
            await trio.sleep_forever()
        if self.is_away:
            raise TransportError(f"{self.name}: connection refused")
        wire = self._network.pair(self.name, owner, inward=True, write_timeout=write_timeout)
        self._nursery.start_soon(self._serve, wire.theirs)
        return wire.ours

    def restart(self, *, forget: bool) -> None:
        """Be killed, and be there again at once."""
        for wire in self._network.open_wires(self.name):
            wire.theirs.abort()
        if forget:
            self.sessions.clear()
            self._ledger.forgetful.add(self.name)

    async def _serve(self, stream: SimulatedStream) -> None:
        conn = ServerConnection(_LIMITS, trio.current_time())
        answers: deque[tuple[float, bytes | bytearray]] = deque()
        wake = trio.Event()

        async def answer() -> None:
            nonlocal wake
            while True:
                wake = trio.Event()
                if not answers:
                    await wake.wait()
                due, data = answers.popleft()
                await trio.sleep_until(due)
                stream.send_nowait(data)

        async with trio.open_nursery() as nursery:
            stream.flush_with(nursery.start_soon)
            nursery.start_soon(answer)
            try:
                while conn.state is not State.CLOSED and (data := await stream.receive()):
                    is_mute = self._take(conn, data, stream)
                    if (out := conn.data_to_send()) and not is_mute:
                        answers.append((trio.current_time() + self.patience, out))
                        wake.set()
            except (TransportError, RemoteProtocolError) as error:
                if isinstance(error, RemoteProtocolError):
                    self._ledger.fault(f"the proxy broke MQTT towards {self.name}: {error}")
            finally:
                if out := conn.data_to_send():
                    stream.send_nowait(out)
                await stream.aclose()
                nursery.cancel_scope.cancel()

    def _take(self, conn: ServerConnection, data: bytes | memoryview, stream: SimulatedStream) -> bool:
        """React to what one read brought; True: what we answer is lost."""
        now = trio.current_time()
        conn.receive_data(data, now)
        carried = False
        while events := conn.next_batch(now):
            for event in events:
                carried |= isinstance(event, Publish)
                self._react(conn, event, stream)
        return self.is_mute and carried

    def _react(self, conn: ServerConnection, event: Event, stream: SimulatedStream) -> None:
        match event:
            case Connect():
                self._greet(conn, event, stream)
            case Publish():
                self._accept(conn, event)
            case Subscribe():
                conn.send(SubAck(event.packet_id, tuple(ReasonCode(one.qos) for one in event.subscriptions)))
            case Unsubscribe():
                conn.send(UnsubAck(event.packet_id, tuple(ReasonCode.SUCCESS for _ in event.topic_filters)))
            case Disconnect():
                pass

    def _greet(self, conn: ServerConnection, connect: Connect, stream: SimulatedStream) -> None:
        if self.refuses is not None:
            conn.refuse(self.refuses)
            return
        name = connect.client_id
        if (former := self._lines.get(name)) is not None:
            former.abort()  # takeover
        self._lines[name] = stream
        if connect.clean_start:
            self.sessions.pop(name, None)
        present = name in self.sessions
        conn.accept(self.sessions.setdefault(name, SessionState()), session_present=present, client_id=name)

    def _accept(self, conn: ServerConnection, publish: Publish) -> None:
        reason = self.rejects(publish.payload) if publish.qos and conn.version.value == 5 else None
        if reason is None:
            self._ledger.receive(self.name, publish.topic, publish.payload, publish.qos)
        else:
            self._ledger.refuse(self.name, publish.payload)
        if publish.qos:
            conn.acknowledge(publish.packet_id, publish.qos, reason or ReasonCode.SUCCESS)


def dial_any(brokers: dict[str, Broker], owner: object) -> Any:
    """Return a `Dial` for the brokers of these names."""

    async def dial(url: str, *, write_timeout: float, **_: object) -> SimulatedStream:
        return await brokers[url.removeprefix("mqtt://").partition(":")[0]].dial(owner, write_timeout)

    return dial
