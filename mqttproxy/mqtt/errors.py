"""Whose fault it is: the peer's, or ours."""

from mqttproxy.mqtt.reasons import ReasonCode


class ProtocolError(Exception):
    """MQTT was broken. `reason` is what an MQTT 5 peer is told."""

    def __init__(self, message: str, reason: ReasonCode = ReasonCode.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.reason = reason


class RemoteProtocolError(ProtocolError):
    """The peer broke MQTT: answer with `reason`, close, count it. Never a traceback in the log."""


class LocalProtocolError(ProtocolError):
    """We asked our own state machine for something MQTT forbids: a bug here. Let it propagate."""
