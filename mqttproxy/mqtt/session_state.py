"""What of an MQTT session outlives its connection: the exchanges of QoS 1 and 2 that are not over."""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import ClassVar, Final

from mqttproxy.mqtt.errors import LocalProtocolError
from mqttproxy.mqtt.packets import Message

PACKET_ID_MAX: Final = 65_535


class SessionState:
    """Unfinished exchanges of both directions. Each connection of the session is given the same object, one at a time.

    The directions have separate packet identifiers and tables:

    - `outgoing`: what we sent, or will send again, and the peer has not settled: packet identifier to the very
      `(message, token)` that was given to `publish`, in the order of sending.
    - `released`: those of `outgoing` whose PUBREC came; they wait for PUBCOMP.
    - `incoming_qos2`: QoS 2 messages that we acknowledged with PUBREC; they wait for PUBREL.
    - `doubtful`: a flag for each packet identifier under which the peer may hold a QoS 2 message that we know nothing
      of; None: there is none. See `doubt`.

    `keep`, `forget` and `release` are the steps of QoS 2 that must not be lost: a session that outlives the process
    overrides them to note each step on disk, and lets `restore` put them back. One towards a broker does the same with
    `begin` and `end` (its `is_durable` is true): what is written while `committed` is less than `holds` must not leave
    before that many commits were made.
    """

    __slots__ = (
        "committed", "connections", "doubtful", "holds", "incoming_qos2", "last_packet_id", "on_commit", "outgoing",
        "released",
    )  # fmt: skip

    packet_ids: ClassVar = PACKET_ID_MAX  # how many there are
    is_durable: ClassVar = False  # `begin` and `end` are to be called

    def __init__(self) -> None:
        self.outgoing: dict[int, tuple[Message, object]] = {}
        self.released: set[int] = set()
        self.incoming_qos2: set[int] = set()
        self.doubtful: bytearray | None = None
        self.holds = self.committed = 0
        self.on_commit: Callable[[], None] | None = None  # called when `committed` has grown
        self.connections = 0  # how many had this session; the last one owns it
        self.last_packet_id = 0  # that was allocated; they go round

    def __repr__(self) -> str:
        """Tell how much is unfinished."""
        return (
            f"<SessionState outgoing={len(self.outgoing)} released={len(self.released)}"
            f" incoming_qos2={len(self.incoming_qos2)}>"
        )

    def attach(self) -> int:
        """Count one more connection and return its number: only the one with the highest may change the session."""
        self.connections += 1
        return self.connections

    def keep(self, packet_id: int) -> None:
        """Note that an incoming QoS 2 message is acknowledged with PUBREC: sent again, it is the same one."""
        self.incoming_qos2.add(packet_id)

    def refuse(self, packet_id: int) -> None:
        """Note that an incoming QoS 2 message is answered in the negative: its packet identifier is free."""

    def forget(self, packet_id: int) -> None:
        """Note that PUBREL came: from now on the packet identifier stands for a new message."""
        self.incoming_qos2.remove(packet_id)

    def release(self, packet_id: int) -> None:
        """Note that PUBREC came for a message of ours: never again is it sent, only PUBREL."""
        self.released.add(packet_id)

    def begin(self, packet_ids: Iterable[int]) -> None:
        """Hear that messages of QoS 2 are about to go under these packet identifiers."""

    def end(self, packet_ids: Iterable[int], *, accepted: bool) -> None:
        """Hear that their exchanges are over. `accepted`: the peer has the messages."""

    def abandon(self) -> None:
        """Hear that nobody will go on with what is outgoing."""

    def restore(
        self, outgoing: Mapping[int, tuple[Message, object]], released: Iterable[int], incoming_qos2: Iterable[int]
    ) -> None:
        """Put back what was on disk, before the first connection. All of it counts as sent before.

        Args:
            outgoing: in the order of sending.
            released: those of `outgoing` whose PUBREC had come.
            incoming_qos2: what we had acknowledged with PUBREC, and no PUBREL had come.

        """
        self.outgoing = dict(outgoing)
        self.released = set(released)
        self.incoming_qos2 = set(incoming_qos2)
        # Identifiers go on from where they stood: one that was just used stays unused for as long as possible.
        self.last_packet_id = next(reversed(self.outgoing), 0)

    def forget_progress(self) -> None:
        """Begin anew, because the peer has lost its half: all that is outgoing will be sent as if never sent before."""
        self.released.clear()
        self.incoming_qos2.clear()
        self.doubtful = None

    def doubt(self) -> None:
        """Go on with a session whose other half the peer kept, while ours was lost with an earlier process.

        The peer may hold QoS 2 messages that wait for PUBREL. It would take a new message with the same packet
        identifier for one of these, sent again; so each identifier is released before its first use at QoS 2.
        """
        self.doubtful = bytearray(b"\1") * (PACKET_ID_MAX + 1)

    def give_up(self, packet_id: int) -> tuple[Message, object]:
        """Forget a message that went out and has no answer, between two connections, and return it.

        At QoS 2 the peer may hold it and wait for PUBREL, so the packet identifier is in doubt as in `doubt`.
        """
        item = self.outgoing.pop(packet_id)
        if item[0].qos == 2:
            self.doubtful = self.doubtful or bytearray(PACKET_ID_MAX + 1)
            self.doubtful[packet_id] = 1
        return item

    def allocate(self, taken: Container[int]) -> int:
        """Return the next packet identifier that is neither in flight nor in `taken`, 1 to 65,535.

        They go round, so that one is used again as late as possible.

        Raises:
            LocalProtocolError: all are in use.

        """
        outgoing = self.outgoing
        packet_id = self.last_packet_id % self.packet_ids + 1
        first = packet_id
        while packet_id in outgoing or packet_id in taken:
            packet_id = packet_id % self.packet_ids + 1
            if packet_id == first:
                raise LocalProtocolError("all packet identifiers are in use")
        self.last_packet_id = packet_id
        return packet_id
