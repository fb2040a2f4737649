"""Authentication anew over a connection that is open, MQTT 5. [MQTT 5.0, 4.12.1]."""

from functools import partial
from typing import TYPE_CHECKING

import trio
from attrs import define

from mqttproxy.access.credentials import Allowed, Denied
from mqttproxy.downstream.admission import credentials_of, tell_denied
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import Auth, Properties
from mqttproxy.mqtt.reasons import ReasonCode

if TYPE_CHECKING:
    from mqttproxy.downstream.device import Device
    from mqttproxy.downstream.premises import Premises


@define(eq=False)
class Reauthenticating:
    """One device that proves again who it is. What else it sends meanwhile is served as before."""

    _premises: "Premises"
    _device: "Device"
    _answers: trio.MemorySendChannel[bytes] | None = None  # to the conversation that is on

    def take(self, packet: Auth, nursery: trio.Nursery) -> None:
        """Begin, or go on.

        Raises:
            RemoteProtocolError: it was not the device's turn.

        """
        data = packet.properties.authentication_data or b""
        if packet.reason is ReasonCode.REAUTHENTICATE:
            if self._answers is not None:
                raise RemoteProtocolError("authentication is to begin anew before it has ended")
            self._answers, inbox = trio.open_memory_channel[bytes](1)
            nursery.start_soon(self._run, data, inbox)
            return
        try:
            if self._answers is None:
                raise RemoteProtocolError("AUTH that nobody has asked for")
            self._answers.send_nowait(data)
        except trio.WouldBlock as error:
            raise RemoteProtocolError("AUTH that nobody has asked for") from error

    async def _run(self, data: bytes, inbox: trio.MemoryReceiveChannel[bytes]) -> None:
        premises, device = self._premises, self._device
        connect = device.connection.connect
        assert connect is not None  # noqa: S101 # it was let in
        peer, identity = device.stream.peer, device.identity
        credentials = credentials_of(connect, identity.client_id, identity.listener, peer, data=data)
        answer: Allowed | Denied = Denied("", "authentication anew took too long", ReasonCode.NOT_AUTHORIZED)
        with trio.move_on_after(premises.limits.connect_deadline):
            answer = await premises.gate.check(credentials, premises.access, partial(self._ask, inbox))
        self._answers = None
        if isinstance(answer, Allowed) and not self._is_same(answer):
            answer = Denied(answer.by, "authentication anew is another user's", ReasonCode.NOT_AUTHORIZED)
        if isinstance(answer, Denied):
            tell_denied(premises, credentials, answer, str(peer))
            device.disconnect(ReasonCode.NOT_AUTHORIZED)
            return
        device.admission = answer
        self._send(ReasonCode.SUCCESS, answer.data)

    def _is_same(self, allowed: Allowed) -> bool:
        before = self._device.admission
        return (allowed.by, allowed.username) == (before.by, before.username) and dict(allowed.attributes) == dict(
            before.attributes
        )

    async def _ask(self, inbox: trio.MemoryReceiveChannel[bytes], challenge: bytes) -> bytes:
        self._send(ReasonCode.CONTINUE_AUTHENTICATION, challenge)
        return await inbox.receive()

    def _send(self, reason: ReasonCode, data: bytes | None) -> None:
        connect = self._device.connection.connect
        method = None if connect is None else connect.properties.authentication_method
        self._device.answer(Auth(reason, Properties(authentication_method=method, authentication_data=data)))
