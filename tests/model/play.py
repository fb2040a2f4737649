"""Conversations with the proxy of `tests/house.py`, and with the model beside it."""

from collections.abc import Iterable, Iterator

import trio
from attrs import define, evolve, field

from mqttproxy.transport.stream import TransportError
from tests.conformance.packets import V5, Kind, Packet
from tests.fakes import MemoryByteStream
from tests.house import House
from tests.model.peer import Peer
from tests.model.reference import SESSION_TAKEN_OVER, Model, Said
from tests.model.steps import (
    Answer,
    Connect,
    Cut,
    Publish,
    Release,
    Step,
    Wait,
    finale,
)


def moves(step: Step) -> Iterator[Step]:
    """Cut a step where a client must have heard something before it can go on."""
    if isinstance(step, Publish) and step.qos == 2 and step.is_released:
        yield evolve(step, is_released=False)
        yield Release(step.client)
    else:
        yield step


def said(packets: Iterable[Packet]) -> list[Said]:
    """Return what the model says of these packets, messages apart."""
    found: list[Said] = []
    for packet in packets:
        match packet.kind:
            case Kind.PUBLISH:
                pass
            case Kind.CONNACK:
                assert packet.reason == 0
                found.append((Kind.CONNACK, packet.session_present))
            case Kind.PUBREL:
                found.append((Kind.PUBREL, packet.packet_id))
            case _:
                found += [(packet.kind, reason) for reason in packet.reasons or (0,)]
    return found


@define(eq=False)
class Line:
    """One connection, read as it comes."""

    stream: MemoryByteStream
    heard: bytes = b""
    is_ended: bool = False

    async def read(self) -> None:
        try:
            while data := await self.stream.receive():
                self.heard += data
        except TransportError:
            pass
        self.is_ended = True

    def take(self) -> bytes:
        data, self.heard = self.heard, b""
        return data


@define(eq=False)
class Conversation:
    """Plays steps to the proxy and to the model, and holds them together after each."""

    house: House
    model: Model = field(factory=Model)
    peers: dict[str, Peer] = field(factory=dict)
    lines: dict[str, Line] = field(factory=dict)
    last: dict[str, Connect] = field(factory=dict)
    steps: list[Step] = field(factory=list)  # that were played

    @property
    def online(self) -> list[str]:
        """The clients that are connected."""
        return [name for name, peer in self.peers.items() if peer.is_open]

    async def play(self, *steps: Step) -> None:
        """Play these steps."""
        for step in steps:
            self.steps.append(step)
            for move in moves(step):
                await self._play(move, len(self.steps))

    async def finish(self) -> None:
        """Bring to light what sessions hold, and whether all that had to came."""
        await self.play(*finale(self.last))
        self.model.check_handouts()

    async def _play(self, step: Step, number: int) -> None:
        if isinstance(step, Wait):
            await self._wait(step)
            told = self.model.play(step, number, (), ())
        else:
            peer = self.peers.setdefault(step.client, Peer(step.client))
            if not peer.is_open and not isinstance(step, Connect):
                return
            packet_ids = [*peer.unreleased]
            owed = peer.owed[: step.count] if isinstance(step, Answer) else []
            before = self.lines.get(step.client) if peer.is_open else None
            was = peer.version
            data = peer.write(step, number)
            if isinstance(step, Publish):
                packet_ids = [*peer.unreleased][len(packet_ids) :]
            told = self.model.play(step, number, packet_ids, owed)
            if isinstance(step, Connect):
                await self._dial(step.client)
                self.last[step.client] = step
            await self._send(peer, step, data)
            if before is not None and isinstance(step, Connect):
                self._check_taken_over(before, was)
        self._check(told)

    async def _dial(self, client: str) -> None:
        line = self.lines[client] = Line(self.house.arrive())
        self.house.nursery.start_soon(line.read)

    async def _send(self, peer: Peer, step: Step, data: bytes) -> None:
        line = self.lines[peer.name]
        if isinstance(step, Cut):
            line.stream.abort()
        else:
            line.stream.send_nowait(data)
        await self._settle()
        assert line.is_ended == (not peer.is_open), f"{peer.name}: {line.heard.hex(' ')}"

    async def _wait(self, step: Wait) -> None:
        await trio.sleep(step.seconds)
        await self._settle()

    async def _settle(self) -> None:
        """Let everything happen, commits of the journal among it."""
        await self.house.settle()
        while self.house.journal.commits:
            self.house.journal.commit()
            await self.house.settle()

    def _check_taken_over(self, line: Line, version: int) -> None:
        """The older connection is told why it ends, and nothing else."""
        heard = Peer("taken over", version=version).hear(line.take())
        assert said(heard) == [(Kind.DISCONNECT, SESSION_TAKEN_OVER)] * (version == V5)
        assert line.is_ended

    def _check(self, told: dict[str, list[Said]]) -> None:
        """What came is what the model says, and all of it."""
        for client, line in self.lines.items():
            heard = self.peers[client].hear(line.take())
            assert said(heard) == told[client], client
            for packet in heard:
                if packet.kind is Kind.PUBLISH:
                    self.model.hear(client, packet)
        self.model.check_quiet()
