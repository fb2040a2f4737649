"""Before a connection has begun: what a device says, and how it ends there: it is told, and the door counts why."""

import trio

from mqttproxy.downstream.premises import Premises, forget_frames
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.transport.stream import ByteStream


class NotWelcome(Exception):  # noqa: N818 # not an error of ours: the device is told, and counted by `label`
    """This connection ends before it has begun."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


async def read_early(premises: Premises, stream: ByteStream, connection: ServerConnection) -> Event:
    """Return the next packet of a device that was not let in yet. The caller gives the deadline.

    Raises:
        NotWelcome: it hung up, or broke MQTT, and was told so.
        TransportError: the connection broke.

    """
    while True:
        try:
            batch = connection.next_batch(trio.current_time())
            if not batch:
                data = await stream.receive()
                if not data:
                    raise NotWelcome("closed_before_connect")
                premises.metrics.bytes_in += len(data)
                connection.receive_data(data, trio.current_time())
        except RemoteProtocolError as error:
            connection.fail(error)
            stream.send_nowait(connection.data_to_send())
            premises.metrics.protocol_errors.add(error.reason.name.lower())
            premises.alerts.info("bad_connect", "bad_connect", peer=str(stream.peer), error=str(error))
            forget_frames(error)
            raise NotWelcome(error.reason.name.lower()) from None
        if batch:
            return batch[0]
