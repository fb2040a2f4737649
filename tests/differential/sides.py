"""The same conversation with two servers over sockets: bytes by hand, and a request behind each step as its fence."""

import socket
import time
from collections import defaultdict
from typing import Final

from attrs import define, field, frozen

from tests.bad_input.wire import unsubscribe
from tests.conformance.packets import Kind, Packet, Prop
from tests.model.peer import Peer
from tests.model.play import moves
from tests.model.steps import Again, Answer, Connect, Cut, Leave, Publish, Release, Step, Subscribe, Unsubscribe, Wait
from tests.waiting import PATIENCE

FENCE: Final = 65_000  # a packet identifier
WILL_TAKES: Final = 0.01  # seconds; nothing tells when the proxy is about to publish one


@frozen(order=True)
class Said:
    """A packet that is no message; `says`: its reason codes, or of CONNACK whether a session is present as well."""

    kind: str
    says: tuple[int, ...] = ()


@frozen(order=True)
class Got:
    """A message. Packet identifiers are the server's own business."""

    topic: str
    qos: int
    payload: bytes
    retain: bool
    dup: bool
    identifiers: tuple[int, ...]


@define
class Heard:
    """What one client heard in one step. Order counts among answers, and among messages of one topic and QoS."""

    answers: list[Said] = field(factory=list)
    messages: list[Got] = field(factory=list)


def answers_to(peer: Peer, step: Step) -> int:
    """Return how many answers there are to a step, messages apart."""
    match step:
        case Release() | Again():
            return len(peer.unreleased)
        case Answer():
            return sum(kind is Kind.PUBREC for kind, _ in peer.owed[: step.count])
        case Publish():
            return step.times if step.qos else 0
    return isinstance(step, Connect | Subscribe | Unsubscribe)


@define(eq=False)
class Line:
    """One connection."""

    peer: Peer
    _socket: socket.socket

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def cut(self) -> None:
        """End it without DISCONNECT; the other end is still heard."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> list[Packet]:
        """Return what came next; nothing: the server has closed."""
        heard: list[Packet] = []
        while not heard and (data := self._receive()):
            heard = self.peer.hear(data)
        return heard

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""

    def fence(self, owed: int = 0, *, rounds: int = 1) -> list[Packet]:
        """Return everything that the server had for us, up to the answer to a request that it gets now.

        No PINGREQ: that may be answered before a message that came with it is dealt with.

        Args:
            owed: answers that must come before. The proxy gives some only after a commit to disk, others overtake them.
            rounds: how many requests.

        """
        heard: list[Packet] = []
        while sum(packet.kind is not Kind.PUBLISH for packet in heard) < owed:
            heard += self._must_receive(heard)
        for _ in range(rounds):  # what was read in one turn of the proxy's loop is dealt with by the next
            self.send(unsubscribe(self.peer.version, "nothing", packet_id=FENCE))
            while not any(packet.packet_id == FENCE and packet.kind is Kind.UNSUBACK for packet in heard):
                heard += self._must_receive(heard)
            heard = [packet for packet in heard if packet.packet_id != FENCE or packet.kind is not Kind.UNSUBACK]
        return heard

    def _must_receive(self, before: list[Packet]) -> list[Packet]:
        came = self.receive()
        assert came, f"{self.peer.name}: closed by the server, after {before}"
        return came

    def rest(self) -> list[Packet]:
        """Return all that comes until the server closes."""
        heard: list[Packet] = []
        while came := self.receive():
            heard += came
        self.close()
        return heard


@define(eq=False)
class Side:
    """One server's part in a conversation.

    Attributes:
        prefix: of this conversation's topics and clients.

    """

    name: str
    port: int
    prefix: str
    peers: dict[str, Peer] = field(factory=dict)
    last: dict[str, Connect] = field(factory=dict)
    _lines: dict[str, Line] = field(factory=dict)

    @property
    def online(self) -> list[str]:
        return [name for name, peer in self.peers.items() if peer.is_open]

    def play(self, step: Step, number: int) -> dict[str, Heard]:
        """Take one step; return what each client heard."""
        packets: dict[str, list[Packet]] = defaultdict(list)
        for move in moves(step):
            for client, heard in self._play(move, number).items():
                packets[client] += heard
        return {client: self._told(packets[client]) for client in sorted(packets)}

    def close(self) -> None:
        for line in self._lines.values():
            line.close()

    def _play(self, step: Step, number: int) -> dict[str, list[Packet]]:
        assert not isinstance(step, Wait), "time is real here"
        peer = self.peers.setdefault(step.client, Peer(step.client, self.prefix))
        heard: dict[str, list[Packet]] = {}
        if peer.is_open or isinstance(step, Connect):
            before = self._lines[step.client] if peer.is_open and isinstance(step, Connect) else None
            if isinstance(step, Connect):
                self._dial(peer, before)
                self.last[step.client] = step
            line = self._lines[step.client]
            owed = answers_to(peer, step)
            if isinstance(step, Cut):
                peer.write(step, number)
                line.cut()
            else:
                line.send(peer.write(step, number))
            if before is not None:
                heard["the older " + step.client] = before.rest()
            heard[step.client] = line.rest() if isinstance(step, Leave | Cut) else line.fence(owed, rounds=2)
            if isinstance(step, Leave | Cut) or before is not None:
                time.sleep(WILL_TAKES)
        for client in self.online:
            heard[client] = heard.get(client, []) + self._lines[client].fence()
        return heard

    def _dial(self, peer: Peer, before: Line | None) -> None:
        if before is not None:
            before.peer = Peer(peer.name, self.prefix, peer.version)
        dialled = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines[peer.name] = Line(peer, dialled)

    def _told(self, packets: list[Packet]) -> Heard:
        heard = Heard()
        for packet in packets:
            if packet.kind is Kind.PUBLISH:
                identifiers = tuple(sorted(packet.all_of(Prop.SUBSCRIPTION_IDENTIFIER)))
                topic = packet.topic.removeprefix(self.prefix)
                heard.messages.append(Got(topic, packet.qos, packet.payload, packet.retain, packet.dup, identifiers))
            else:
                present = (int(packet.session_present),) if packet.kind is Kind.CONNACK else ()
                heard.answers.append(Said(packet.kind.name, packet.reasons + present))
        heard.messages.sort(key=lambda one: (one.topic, one.qos))
        return heard
