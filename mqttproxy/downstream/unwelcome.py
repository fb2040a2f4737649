"""How a connection ends before it has begun: the device is told, and the door counts why."""

from typing import NoReturn

from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.transport.stream import ByteStream


class NotWelcome(Exception):  # noqa: N818 # not an error of ours: the device is told, and counted by `label`
    """This connection ends before it has begun."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


def refuse(
    stream: ByteStream, connection: ServerConnection, reason: ReasonCode, words: str | None = None, label: str = ""
) -> NoReturn:
    """Tell a device that it may not come in. Raises NotWelcome."""
    connection.refuse(reason, words)
    stream.send_nowait(connection.data_to_send())
    raise NotWelcome(label or reason.name.lower())
