"""The same conversation with two servers over sockets: bytes by hand, and a request behind each step as its fence."""

import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import zip_longest
from typing import Final

from attrs import define, field, frozen

from tests.bad_input.wire import unsubscribe
from tests.conformance.packets import Kind, Packet, Prop
from tests.differential.bent import Bent, Together, Turn, Verdict, bent_bytes, judged
from tests.model.peer import Peer
from tests.model.play import moves
from tests.model.steps import Again, Answer, Connect, Cut, Leave, Publish, Release, Subscribe, Unsubscribe, Wait
from tests.waiting import PATIENCE

FENCE: Final = 65_000  # a packet identifier
WILL_TAKES: Final = 0.01  # seconds; nothing tells when the proxy is about to publish one
STALLED: Final = 1.0  # seconds without a word, after bytes that a server may take for half a packet
QUIET: Final = 0.05  # seconds without a word, after half a packet; whatever is owed has come then
CLOSED: Final = "closed"  # said by who closes first


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


def answers_to(peer: Peer, step: Turn) -> int:
    """Return how many answers there are to a step, messages apart."""
    match step:
        case Release() | Again():
            return len(peer.unreleased)
        case Answer():
            return sum(kind is Kind.PUBREC for kind, _ in peer.owed[: step.count])
        case Publish():
            return step.times if step.qos else 0
    return isinstance(step, Connect | Subscribe | Unsubscribe)


def answers(heard: list[Packet]) -> list[Packet]:
    """Return all but messages."""
    return [packet for packet in heard if packet.kind is not Kind.PUBLISH]


def _is_fence(packet: Packet) -> bool:
    return packet.kind is Kind.UNSUBACK and packet.packet_id == FENCE


@define(eq=False)
class Line:
    """One connection."""

    peer: Peer
    _socket: socket.socket
    is_stranger: bool = False  # who has bent its CONNECT: in which version it is refused nobody knows

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
            data = self._socket.recv(65536)
        except ConnectionResetError:
            return b""
        is_refused = self.is_stranger and len(data) > 3 and data[0] == 0x20 and data[3]
        return b"" if is_refused else data

    def fence(self, owed: int = 0, *, rounds: int = 1) -> list[Packet]:
        """Return everything that the server had for us, up to the answer to a request that it gets now.

        No PINGREQ: that may be answered before a message that came with it is dealt with.

        Args:
            owed: answers that must come before. The proxy gives some only after a commit to disk, others overtake them.
            rounds: how many requests.

        """
        heard: list[Packet] = []
        while len(answers(heard)) < owed:
            heard += self._must_receive(heard)
        for _ in range(rounds):  # what was read in one turn of the proxy's loop is dealt with by the next
            self.send(unsubscribe(self.peer.version, "nothing", packet_id=FENCE))
            while not any(map(_is_fence, heard)):
                heard += self._must_receive(heard)
            heard = [packet for packet in heard if not _is_fence(packet)]
        return heard

    def _must_receive(self, before: list[Packet]) -> list[Packet]:
        came = self.receive()
        assert came, f"{self.peer.name}: closed by the server, after {before}"
        return came

    def probe(self, owed: int, *, is_whole: bool) -> tuple[list[Packet], bool]:
        """Return what came after bent bytes, and whether the server has closed because of them; then end it.

        Args:
            owed: as for `fence`, unless the server closes.
            is_whole: nothing of the bytes is left over that would swallow a fence.

        """
        heard: list[Packet] = []
        is_closed = False
        if is_whole:
            with suppress(OSError):  # it has closed already
                self.send(unsubscribe(self.peer.version, "nothing", packet_id=FENCE))
        while not is_closed and not (is_whole and len(answers(heard)) > owed and any(map(_is_fence, heard))):
            self._socket.settimeout(STALLED if is_whole or len(answers(heard)) < owed else QUIET)
            try:
                came = self.receive()
            except TimeoutError:
                break
            heard += came
            is_closed = not came
        self._socket.settimeout(PATIENCE)
        with suppress(OSError):
            self.cut()
        heard += self.rest()
        return [packet for packet in heard if not _is_fence(packet)], is_closed

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
        packets: that clients have heard.
        verdict: on the bent packet of the last step.

    """

    name: str
    port: int
    prefix: str
    peers: dict[str, Peer] = field(factory=dict)
    last: dict[str, Connect] = field(factory=dict)
    packets: int = 0
    verdict: Verdict | None = None
    _lines: dict[str, Line] = field(factory=dict)
    _closers: set[str] = field(factory=set)  # clients whose bytes have made the server close in this step

    @property
    def online(self) -> list[str]:
        return [name for name, peer in self.peers.items() if peer.is_open]

    def play(self, step: Turn, number: int) -> dict[str, Heard]:
        """Take one step; return what each client heard."""
        packets: dict[str, list[Packet]] = defaultdict(list)
        self._closers.clear()
        self.verdict = None
        if isinstance(step, Together):
            for phase in zip_longest(*(_phases(one) for one in step.steps)):
                together = [(one, number * 10 + place) for place, one in enumerate(phase) if one is not None]
                _add(packets, self._play(together))
        else:
            for move in _phases(step):
                _add(packets, self._play([(move, number)]))
        self.packets += sum(map(len, packets.values()))
        return {client: self._told(client, packets[client], step) for client in sorted(packets)}

    def close(self) -> None:
        for line in self._lines.values():
            line.close()

    def _play(self, turns: list[tuple[Turn, int]]) -> dict[str, list[Packet]]:
        """Send what belongs to some steps, of a client each, at once; then hear what comes of them."""
        ends = [end for step, number in turns if (end := self._begin(step, number)) is not None]
        heard: dict[str, list[Packet]] = defaultdict(list)
        for end in ends:
            _add(heard, end())
        for client in self.online:
            heard[client] += self._lines[client].fence()
        return heard

    def _begin(self, step: Turn, number: int) -> Callable[[], dict[str, list[Packet]]] | None:
        """Send what belongs to a step; return what hears what comes of it, None: its client is not there."""
        assert not isinstance(step, Wait | Together), "time is real here"
        peer = self.peers.setdefault(step.client, Peer(step.client, self.prefix))
        dials = isinstance(step, Connect) or (isinstance(step, Bent) and isinstance(step.packet, Connect))
        if not peer.is_open and not dials:
            return None
        before = self._lines[step.client] if peer.is_open and dials else None
        if dials:
            self._dial(peer, before)
        if isinstance(step, Connect):
            self.last[step.client] = step
        line = self._lines[step.client]
        if isinstance(step, Bent):
            return self._bend(step, number, line)
        owed = answers_to(peer, step)
        if isinstance(step, Cut):
            peer.write(step, number)
            line.cut()
        else:
            line.send(peer.write(step, number))

        def end() -> dict[str, list[Packet]]:
            heard = {}
            if before is not None:
                heard["the older " + step.client] = before.rest()
            heard[step.client] = line.rest() if isinstance(step, Leave | Cut) else line.fence(owed, rounds=2)
            if isinstance(step, Leave | Cut) or before is not None:
                time.sleep(WILL_TAKES)
            return heard

        return end

    def _bend(self, step: Bent, number: int, line: Line) -> Callable[[], dict[str, list[Packet]]]:
        data = bent_bytes(step, line.peer, number)
        verdict = self.verdict = judged(step, line.peer.version, data)
        if isinstance(step.packet, Connect):
            line.peer.version, line.is_stranger = verdict.version, True
        line.peer.write(Cut(step.client), number)
        with suppress(OSError):
            line.send(data)

        def end() -> dict[str, list[Packet]]:
            heard, is_closed = line.probe(verdict.owed, is_whole=verdict.is_whole)
            if is_closed:
                self._closers.add(step.client)
            time.sleep(WILL_TAKES)
            return {step.client: heard}

        return end

    def _dial(self, peer: Peer, before: Line | None) -> None:
        if before is not None:
            before.peer = Peer(peer.name, self.prefix, peer.version)
        dialled = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines[peer.name] = Line(peer, dialled)

    def _told(self, client: str, packets: list[Packet], step: Turn) -> Heard:
        heard = Heard()
        for packet in packets:
            if packet.kind is Kind.PUBLISH:
                identifiers = tuple(sorted(packet.all_of(Prop.SUBSCRIPTION_IDENTIFIER)))
                topic = packet.topic.removeprefix(self.prefix)
                heard.messages.append(Got(topic, packet.qos, packet.payload, packet.retain, packet.dup, identifiers))
            else:
                present = (int(packet.session_present),) if packet.kind is Kind.CONNACK else ()
                heard.answers.append(Said(packet.kind.name, packet.reasons + present))
        if client in self._closers:
            heard.answers.append(Said(CLOSED))
        if isinstance(step, Together):  # of each sender in its order
            heard.messages.sort(key=lambda one: (one.topic, one.qos, one.payload.partition(b".")[0]))
            if any(isinstance(one, Bent) and one.client == client for one in step.steps):
                heard.messages.clear()  # it may have subscribed before or after the others published
        else:
            heard.messages.sort(key=lambda one: (one.topic, one.qos))
        return heard


def _phases(step: Turn) -> Iterator[Turn]:
    """Cut a step where its client must have heard something before it can go on."""
    if isinstance(step, Bent | Together):
        yield step
    else:
        yield from moves(step)


def _add(heard: dict[str, list[Packet]], more: dict[str, list[Packet]]) -> None:
    for client, packets in more.items():
        heard[client] += packets
