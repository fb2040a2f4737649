"""What a broker has sent and we have not acknowledged yet, over one link."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import trio
from attrs import define

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.mqtt.client import ClientConnection
from mqttproxy.mqtt.packets import ProtocolVersion, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.callbacks import Arrival, Done


@define(eq=False)
class _Read:
    """What one read brought and the broker must hear of: in the order in which it came, whoever is done first."""

    packet_ids: list[tuple[int, int]]  # with the QoS of each
    size: int  # payload bytes
    arrivals: Sequence[Arrival]
    is_done: bool = False
    refused: Mapping[int, ReasonCode] | None = None  # by place among the arrivals


class Receipts:
    """Acknowledges in order of arrival what is done in any order."""

    def __init__(self, conn: ClientConnection, written: Callable[[], None]) -> None:
        """Begin with nothing.

        Args:
            conn: of the link.
            written: called when something was written to it.

        """
        self._conn = conn
        self._written = written
        self._reads: deque[_Read] = deque()
        self._bytes = 0
        self._room = trio.lowlevel.ParkingLot()

    def expect(self, arrived: Sequence[Publish], arrivals: Sequence[Arrival]) -> Done:
        """Note what one read brought, and what is to be done with it; returns what is called when that is done."""
        packet_ids = [(publish.packet_id, publish.qos) for publish in arrived if publish.qos]
        read = _Read(packet_ids, sum([len(publish.payload) for publish in arrived if publish.qos]), arrivals)
        if packet_ids:
            self._reads.append(read)
            self._bytes += read.size
        return partial(self._done, read)

    def owes_much(self, settings: UpstreamSettings) -> bool:
        """Say whether to read no more. An MQTT 5 broker holds to the Receive Maximum itself; for 3.1.1 this does."""
        return self._bytes >= settings.receive_bytes or (
            self._conn.version is ProtocolVersion.V311 and self._conn.unacknowledged >= settings.receive_maximum
        )

    async def wait(self) -> None:
        """Wait until something was acknowledged."""
        await self._room.park()

    def _done(self, read: _Read, refused: Mapping[int, ReasonCode] | None = None) -> None:
        read.is_done, read.refused = True, refused
        reads = self._reads
        if not reads or not reads[0].is_done:
            return
        while reads and reads[0].is_done:
            self._acknowledge(reads.popleft())
        self._room.unpark_all()
        self._written()

    def _acknowledge(self, read: _Read) -> None:
        """Tell the broker. After the end of the link only the session learns of it: a QoS 2 message is known again."""
        self._bytes -= read.size
        conn = self._conn
        if not read.refused:
            conn.acknowledge_all(read.packet_ids)
            return
        refused = {read.arrivals[place].publish.packet_id: reason for place, reason in read.refused.items()}
        for packet_id, qos in read.packet_ids:
            conn.acknowledge(packet_id, qos, refused.get(packet_id, ReasonCode.SUCCESS))
