"""One proxy for all rows, and what each of them must leave as it was."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Final

import pytest
import trio
from attrs import define, field

from mqttproxy.transport.stream import ByteStream, TransportError
from tests.bad_input.bounds import BOUNDED, STRICT
from tests.bad_input.caller import Caller
from tests.bad_input.rows import Play, Row
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
ABREAST = 4  # rows that are played at once

_numbers = count(1)


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


async def let_in(stream: ByteStream, version: int, client_id: str = "") -> None:
    """Send CONNECT and wait for CONNACK; by default under a name that nobody else has."""
    stream.send_nowait(connect(version, client_id or f"row-{next(_numbers)}"))
    data = b""
    with trio.fail_after(PATIENCE):
        while not data or len(data) < 2 + data[1]:
            more = bytes(await stream.receive())
            assert more
            data += more
    assert data[0] == 0x20
    assert data[3] == 0


def play(victim: Victim, row: Row, transport: str, *, cut: bool = False) -> list[bytes]:
    """Play one row; return the packets that came, without those that answer the good ones before."""
    with Caller.dial(victim.proxy, transport) as caller:
        if row.state == "open":
            caller.send(connect(row.version, f"row-{next(_numbers)}"))
            assert until(caller, bool)[0][:1] == b"\x20"
            caller.send(publish(row.version, "good", b"1", qos=1, packet_id=GOOD_ID) + (b"" if cut else row.send))
        elif not cut:
            caller.send(row.send)
        if cut:
            for position in range(len(row.send)):
                caller.send(row.send[position : position + 1])
        if row.state == "new":
            return until(caller, None)
        if row.expected != "answer":
            answers = until(caller, None)
        else:
            caller.send(b"\xc0\x00")
            wanted = 2 + len(frames(row.answer))
            answers = until(caller, lambda found: len(found) == wanted)
            answers.remove(b"\xd0\x00")  # it may come before an acknowledgement, which is another matter
        assert answers[:1] == [bytes([0x40, 2, 0, GOOD_ID])], "the good message before was not acknowledged"
        return answers[1:]


def until(caller: Caller, is_enough: Callable[[list[bytes]], bool] | None) -> list[bytes]:
    """Return the packets that come, until there are enough of them; None: until the connection is closed."""
    data = b""
    while is_enough is None or not is_enough(frames(data)):
        more = caller.receive()
        if not more:
            assert is_enough is None, f"closed after {data.hex(' ')}"
            break
        data += more
    return whole_frames(data)


# Seconds; on an idle machine it is below 0.05, which is measured elsewhere. A loop that is held is held for longer.
HELD_UP: Final = 5.0


async def bystander(victim: Victim, stream: ByteStream) -> float:
    """Ask, on a connection that does nothing wrong, how long the loop is held; returns seconds."""
    began = trio.current_time()
    stream.send_nowait(b"\xc0\x00")
    await receive_until(stream, b"\xd0\x00")
    return trio.current_time() - began


def check_answer(row: Row, answers: list[bytes]) -> None:
    """Hold what came against what the row demands."""
    told = row.reasons if row.any_of else row.reasons[:1]
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
            assert connack[3] in told, f"{connack[3]:#04x}"
        case "disconnect":
            (disconnect,) = answers
            assert disconnect[0] == 0xE0
            assert row.version == V5
            assert disconnect[2] in told, f"{disconnect[2]:#04x}"


def play_all(victim: Victim, plays: Sequence[Play], transport: str) -> list[str]:
    """Play them, some at once; return what was wrong with whom."""

    def check(one: Play) -> str | None:
        try:
            check_answer(one.row, play(victim, one.row, transport, cut=one.cut))
        except (AssertionError, OSError, ValueError, IndexError) as error:
            return f"{one}: {error!r}"
        return None

    with ThreadPoolExecutor(ABREAST) as threads:
        return [fault for fault in threads.map(check, plays) if fault]


def suffer(victim: Victim, plays: Sequence[Play], transport: str) -> None:
    """Play rows over a transport, and look at everything that the catalogue demands for each."""
    victim.moved()
    for state in ("new", "open"):
        some = [one for one in plays if one.row.state == state]
        with watched_loop(victim):
            faults = play_all(victim, some, transport)
        assert not faults, "\n".join(faults)
        moved = victim.moved()
        received = sum(one.row.received + (state == "open") for one in some)
        assert total(moved, "mqtt_messages_received_total") == received
        ended = sum(one.row.expected != "answer" for one in some)
        counter = "mqtt_proxy_protocol_errors_total" if state == "open" else "mqtt_proxy_connections_refused_total"
        assert total(moved, counter) == ended, moved
    victim.proxy.check_unharmed()


@contextmanager
def watched_loop(victim: Victim) -> Iterator[None]:
    """Ask again and again meanwhile, on a connection that does nothing wrong, how long the loop is held."""
    with Caller.dial(victim.proxy, "tcp") as other:
        other.send(connect(V5, "bystander"))
        until(other, bool)
        is_over, slowest = Event(), 0.0

        def watch() -> None:
            nonlocal slowest
            while not is_over.wait(0.2):
                began = monotonic()
                other.send(b"\xc0\x00")
                until(other, bool)
                slowest = max(slowest, monotonic() - began)

        thread = Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
    assert slowest < HELD_UP


def total(moved: Mapping[str, float], counter: str) -> float:
    """Return how much a counter has moved under all labels."""
    return sum(change for name, change in moved.items() if name.startswith(counter))
