"""One proxy for all rows, and what each of them must leave as it was."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field

from mqttproxy.transport.stream import ByteStream, TransportError
from tests.bad_input.bounds import BOUNDED, STRICT
from tests.bad_input.rows import Row
from tests.bad_input.wire import V5, connect, frames, publish, without_reasons
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.waiting import PATIENCE

SETTINGS = """
[limits]
connect_deadline = "2s"
connections_per_address = 2000
flapping_connects = 0

[[policies]]
name = "numbers"
topics = ["n/#"]
schema = "number@1"
on_failure = ["refuse"]
"""
GOOD_ID = 77
LONG = 2000  # bytes: longer rows are not sent byte by byte


@define(eq=False)
class Victim:
    """The proxy, and its numbers after the row before."""

    proxy: RunningProxy
    known: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(factory=dict)

    def moved(self) -> dict[str, float]:
        """Return how much each number of interest has moved since the last call; labels are joined to the name."""
        now = self.proxy.metrics()
        moved: dict[str, float] = {}
        for (name, labels), value in now.items():
            change = value - self.known.get((name, labels), 0.0)
            if change:
                key = ":".join([name, *(text for _, text in sorted(labels))])
                moved[key] = change
        self.known = now
        return moved


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("bad_input")
    file = write_settings(folder, SETTINGS, transports=("tcp", "tls", "ws"))
    (folder / "schemas" / "number").mkdir(parents=True)
    (folder / "schemas" / "number" / "1.json").write_text('{"type": "number"}')
    with running_proxy(file) as proxy:
        yield Victim(proxy)


@contextmanager
def proxy_with(folder: Path, settings: str, *transports: str) -> Iterator[Victim]:
    """Run a proxy that is killed in the end: what waits for the dead upstream would be waited for."""
    with running_proxy(write_settings(folder, settings, transports=transports)) as proxy:
        yield Victim(proxy)
        proxy.check_unharmed()
        proxy.kill()


@pytest.fixture(scope="session")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with proxy_with(tmp_path_factory.mktemp("bounded"), BOUNDED, "tcp", "tls", "ws") as victim:
        yield victim


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with proxy_with(tmp_path_factory.mktemp("strict"), STRICT, "tcp", "ws") as victim:
        yield victim


@asynccontextmanager
async def dialled(victim: Victim, transport: str = "tcp") -> AsyncIterator[ByteStream]:
    """Connect, write in the background, cut at the end."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            stream = await victim.proxy.dial(transport)
        stream.flush_with(nursery.start_soon)
        try:
            yield stream
        finally:
            stream.abort()
            nursery.cancel_scope.cancel()


async def receive_until(stream: ByteStream, end: bytes | None) -> bytes:
    """Return what comes until these bytes are at the end of it; None: until the connection is closed."""
    data = b""
    with trio.fail_after(PATIENCE):
        while end is None or not data.endswith(end):
            try:
                more = bytes(await stream.receive())
            except TransportError:
                more = b""  # reset
            if not more:
                assert end is None, f"closed after {data.hex(' ')}"
                break
            data += more
    return data


def whole_frames(data: bytes) -> list[bytes]:
    """Cut what came before the end into packets, of which none may be cut short."""
    found = frames(data)
    assert b"".join(found) == data
    return found


async def receive_frames(stream: ByteStream, count: int) -> list[bytes]:
    """Return so many packets."""
    data = b""
    with trio.fail_after(PATIENCE):
        while len(found := frames(data)) < count:
            more = bytes(await stream.receive())
            assert more, f"closed after {data.hex(' ')}"
            data += more
    assert len(found) == count
    return found


async def let_in(stream: ByteStream, version: int, client_id: str = "row") -> None:
    """Send CONNECT and wait for CONNACK."""
    stream.send_nowait(connect(version, client_id))
    data = b""
    with trio.fail_after(PATIENCE):
        while not data or len(data) < 2 + data[1]:
            more = bytes(await stream.receive())
            assert more
            data += more
    assert data[0] == 0x20
    assert data[3] == 0


async def send(stream: ByteStream, data: bytes, *, cut: bool) -> None:
    """Send, in one piece or byte by byte."""
    if not cut:
        stream.send_nowait(data)
        return
    for position in range(len(data)):
        stream.send_nowait(data[position : position + 1])
        await trio.lowlevel.checkpoint()


async def play(victim: Victim, row: Row, transport: str = "tcp", *, cut: bool = False) -> list[bytes]:
    """Play one row; return the packets that came, without those that answer the good ones before."""
    async with dialled(victim, transport) as stream:
        if row.state == "new":
            await send(stream, row.send, cut=cut)
            return whole_frames(await receive_until(stream, None))
        await let_in(stream, row.version)
        good = publish(row.version, "good", b"1", qos=1, packet_id=GOOD_ID)
        data = good + row.send
        await send(stream, data, cut=cut)
        if row.expected != "answer":
            answers = whole_frames(await receive_until(stream, None))
        else:
            stream.send_nowait(b"\xc0\x00")
            answers = await receive_frames(stream, 2 + len(frames(row.answer)))
            answers.remove(b"\xd0\x00")  # it may come before an acknowledgement, which is another matter
        assert answers[:1] == [bytes([0x40, 2, 0, GOOD_ID])], "the good message before was not acknowledged"
        return answers[1:]


async def bystander(victim: Victim, stream: ByteStream) -> float:
    """Ask, on a connection that does nothing wrong, how long the loop is held; returns seconds."""
    began = trio.current_time()
    stream.send_nowait(b"\xc0\x00")
    await receive_until(stream, b"\xd0\x00")
    return trio.current_time() - began


def check_answer(row: Row, answers: list[bytes]) -> None:
    """Hold what came against what the row demands."""
    match row.expected:
        case "closed":
            assert answers == [], "a connection that must just be closed was told something"
        case "answer" if row.reasons:
            (refusal,) = answers
            assert (refusal[0], refusal[2:4], refusal[4]) == (row.answer[0], row.answer[2:4], row.reasons[0])
        case "answer":
            assert b"".join(map(without_reasons, answers) if row.version == V5 else answers) == row.answer
        case "connack":
            (connack,) = answers
            assert connack[0] == 0x20
            assert connack[3] == row.reasons[0], f"{connack[3]:#04x}"
        case "disconnect":
            (disconnect,) = answers
            assert disconnect[0] == 0xE0
            assert row.version == V5
            assert disconnect[2] == row.reasons[0], f"{disconnect[2]:#04x}"


async def suffer(victim: Victim, row: Row, transport: str = "tcp") -> None:
    """Play a row over a transport and look at everything that the catalogue demands for each."""
    victim.moved()
    async with dialled(victim) as other:
        await let_in(other, V5, "bystander")
        check_answer(row, await play(victim, row, transport))
        assert await bystander(victim, other) < 1.0  # on an idle machine below 0.05, which is measured elsewhere
    if transport == "tcp" and len(row.send) < LONG:
        check_answer(row, await play(victim, row, transport, cut=True))
        plays = 2
    else:
        plays = 1
    moved = victim.moved()
    received = sum(value for name, value in moved.items() if name.startswith("mqtt_messages_received_total"))
    assert received == plays * (row.received + (row.state == "open"))
    if row.expected != "answer":
        counted = sum(value for name, value in moved.items() if name.startswith("mqtt_proxy_protocol_errors_total"))
        refused = sum(value for name, value in moved.items() if name.startswith("mqtt_proxy_connections_refused_total"))
        assert max(counted, refused) == plays, moved
    victim.proxy.check_unharmed()
