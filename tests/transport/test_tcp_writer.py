"""The writer that `flush_with` starts, when the nursery it lives in comes to its end."""

import socket

import trio

from mqttproxy.transport.stream import Peer, Spawn
from mqttproxy.transport.tcp import TcpStream


def pair() -> tuple[TcpStream, socket.socket]:
    ours, theirs = socket.socketpair()
    return TcpStream(ours, Peer("192.0.2.1", 1)), theirs


async def test_a_cancelled_writer_is_not_started_anew_for_ever() -> None:
    stream, theirs = pair()
    started = 0
    async with trio.open_nursery() as nursery:

        def spawn(*arguments: object) -> None:
            nonlocal started
            started += 1
            assert started < 10
            nursery.start_soon(*arguments)  # type: ignore[arg-type] # passed on as it came

        spawn_: Spawn = spawn
        stream.flush_with(spawn_)
        stream.send_nowait(bytes(10_000_000))  # the peer takes nothing
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert started == 1
    assert stream.unsent > 0
    stream.abort()
    theirs.close()


async def test_what_it_left_is_written_when_the_stream_is_closed() -> None:
    stream, theirs = pair()
    async with trio.open_nursery() as nursery:
        stream.flush_with(nursery.start_soon)
        stream.send_nowait(bytes(5_000_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        count = 0
        theirs.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(theirs)
            data = theirs.recv(1_000_000)
            if not data:
                break
            count += len(data)
        theirs.close()
    assert count == 5_000_000
