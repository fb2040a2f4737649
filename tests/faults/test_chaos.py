"""The chaos proxy does to bytes what it says, and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import frozen

from tests.faults.chaos import Chaos
from tests.waiting import PATIENCE

PATTERN = bytes(range(256)) * 40


@frozen
class Line:
    """Both ends of a connection through the chaos."""

    chaos: Chaos
    device: trio.SocketStream
    server: trio.SocketStream


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    """Connect a device to a server through a chaos that is well."""
    accepted, take = trio.open_memory_channel[trio.SocketStream](1)

    async def accept(stream: trio.SocketStream) -> None:
        await accepted.send(stream)
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, accept, [listener])
            chaos = await nursery.start(Chaos.serve, *listener.socket.getsockname())
            device = await trio.open_tcp_stream("127.0.0.1", chaos.port)
            async with device:
                yield Line(chaos, device, await take.receive())
            nursery.cancel_scope.cancel()


async def receive(stream: trio.SocketStream, count: int) -> bytes:
    """Receive until so many bytes are there, or the end."""
    data = b""
    while len(data) < count and (more := await stream.receive_some()):
        data += more
    return data


async def hears_nothing(stream: trio.SocketStream) -> bool:
    """Tell whether nothing arrives and nothing ends for a moment."""
    with trio.move_on_after(0.1):
        await stream.receive_some()
        return False
    return True


@pytest.mark.parametrize("single", [False, True])
async def test_bytes_go_through_both_ways_and_so_does_the_end(single: bool) -> None:
    async with line() as it:
        it.chaos.up.set(single=single)
        await it.device.send_all(PATTERN)
        assert await receive(it.server, len(PATTERN)) == PATTERN
        await it.server.send_all(b"answer")
        assert await receive(it.device, 6) == b"answer"
        await it.device.send_eof()
        assert await it.server.receive_some() == b""
        assert (it.chaos.up.carried, it.chaos.down.carried) == (len(PATTERN), 6)


@pytest.mark.parametrize("at", [0, 1, 100, len(PATTERN) - 1])
async def test_one_byte_is_flipped(at: int) -> None:
    async with line() as it:
        it.chaos.up.set(flip_at=at)
        await it.device.send_all(PATTERN)
        received = await receive(it.server, len(PATTERN))
        assert [place for place, (a, b) in enumerate(zip(received, PATTERN, strict=True)) if a != b] == [at]


@pytest.mark.parametrize("at", [0, 1, 100])
async def test_after_a_cut_exactly_so_many_bytes_have_come_and_then_the_end(at: int) -> None:
    async with line() as it:
        it.chaos.up.set(cut_at=at)
        await it.device.send_all(PATTERN[:200])
        assert await receive(it.server, 200) == PATTERN[:at]


@pytest.mark.parametrize("at", [0, 1, 100])
async def test_a_reset_ends_both_sides(at: int) -> None:
    async with line() as it:
        it.chaos.down.set(reset_at=at)
        await it.server.send_all(PATTERN[:200])
        for stream in (it.device, it.server):
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - bytes before it may have come, and may not
                while await stream.receive_some():
                    pass


async def test_a_stall_closes_nothing_and_loses_nothing() -> None:
    async with line() as it:
        it.chaos.up.set(stalled=True)
        await it.device.send_all(b"late")
        assert await hears_nothing(it.server)
        await it.server.send_all(b"the other way")
        assert await receive(it.device, 13) == b"the other way"
        it.chaos.heal()
        assert await receive(it.server, 4) == b"late"


async def test_whoever_sends_into_a_stall_is_held_up_after_a_bounded_number_of_bytes() -> None:
    async with line() as it:
        it.chaos.stall()
        with trio.move_on_after(1) as scope:
            await it.device.send_all(bytes(20_000_000))
        assert scope.cancelled_caught


async def test_a_peer_that_has_vanished_takes_everything_and_says_nothing() -> None:
    async with line() as it:
        it.chaos.vanish()
        await it.device.send_all(bytes(1_000_000))
        await it.device.send_eof()
        assert await hears_nothing(it.server)
        assert await hears_nothing(it.device)


async def test_a_throttle_is_a_rate() -> None:
    async with line() as it:
        it.chaos.up.set(rate=20_000)
        began = trio.current_time()
        await it.device.send_all(PATTERN)
        await receive(it.server, len(PATTERN))
        assert trio.current_time() - began > 0.9 * len(PATTERN) / 20_000


async def test_a_delay_is_for_each_chunk() -> None:
    async with line() as it:
        it.chaos.up.set(delay=0.2)
        began = trio.current_time()
        await it.device.send_all(b"x")
        assert await receive(it.server, 1) == b"x"
        assert trio.current_time() - began > 0.19


async def test_every_connection_can_be_ended_and_new_ones_refused_until_it_is_healed() -> None:
    async with line() as it:
        it.chaos.cut()
        assert await it.device.receive_some() == b""
        it.chaos.refuses = True
        async with await trio.open_tcp_stream("127.0.0.1", it.chaos.port) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        it.chaos.heal()
        async with await trio.open_tcp_stream("127.0.0.1", it.chaos.port) as stream:
            assert await hears_nothing(stream)
            assert it.chaos.open_connections == 1
            it.chaos.reset()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        assert it.chaos.connections == 3


async def test_an_attribute_that_is_none_is_told() -> None:
    async with line() as it:
        with pytest.raises(AttributeError, match="dealy"):
            it.chaos.up.set(dealy=1.0)
